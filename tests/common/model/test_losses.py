"""The loss of a row: of its label, and of its answer's tokens."""

import torch

from common.model.losses import IGNORED, answer_losses, label_losses


def test_a_label_loses_its_negative_log_probability():
    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    torch.testing.assert_close(label_losses(logits, labels), -logits.log_softmax(-1)[torch.arange(4), labels])


def test_an_answer_loses_the_sum_over_its_tokens():
    logits, tokens = torch.randn(6, 7), torch.tensor([[4, 6, IGNORED], [1, 2, 3]])
    places = torch.tensor([[2, 0, 0], [5, 1, 4]])  # rows of the logits
    logs = logits.log_softmax(-1)
    wanted = torch.stack([-logs[2, 4] - logs[0, 6], -logs[5, 1] - logs[1, 2] - logs[4, 3]])
    torch.testing.assert_close(answer_losses(logits, places, tokens), wanted)
    means = torch.stack([-logs[[2, 0]].mean(-1).sum(), -logs[[5, 1, 4]].mean(-1).sum()])
    torch.testing.assert_close(answer_losses(logits, places, tokens, 0.3), 0.7 * wanted + 0.3 * means)


def test_label_smoothing_spreads_a_share_over_all_classes():
    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    wanted = 0.7 * label_losses(logits, labels) - 0.3 * logits.log_softmax(-1).mean(dim=-1)
    torch.testing.assert_close(label_losses(logits, labels, 0.3), wanted)
