"""Decoders with a classification head are pooled at the last real token, also if it is the pad token."""

import dataclasses

import numpy as np
import pytest
import torch
from toy_runs import dataset
from transformers import set_seed

from common.data.rows import Row
from common.evaluation import inference
from common.model.batching import Encoded
from common.model.build import build_head

DATASET = dataset(labels=["con", "neu", "pro"])
FAMILIES = ["gemma", "qwen", "mistral", "llama"]


@pytest.fixture(params=FAMILIES)
def head(request, prompt_job):
    set_seed(6)
    built = build_head(prompt_job(request.param, head="classification", method={"name": "none"}), DATASET)
    built.model.eval()
    return built


def rows(head) -> list[Row]:
    end = head.encoder.tokenizer.eos_token
    texts = ["good idea", f"good idea{end}", f"bad{end}{end}", "a much longer sentence " * 5, f"{end} starts"]
    return [Row(f"r{index}", ("Claim.", text), None) for index, text in enumerate(texts)]


def encoded_rows(head) -> list[Encoded]:
    """Return rows of which some begin or end with the token that ends texts, which no text can spell."""
    end = [head.encoder.tokenizer.eos_token_id]
    texts = ["good idea", "good idea", "bad", "a much longer sentence " * 5, " starts"]
    rows = head.encoder.encode([Row(f"r{index}", ("Claim.", text), None) for index, text in enumerate(texts)])
    around = [([], []), ([], end), ([], end * 2), ([], []), (end, [])]
    return [
        dataclasses.replace(row, input_ids=before + row.input_ids + after)
        for row, (before, after) in zip(rows, around, strict=True)
    ]


def alone(head, encoded) -> torch.Tensor:
    """Return the logits at the last token of an unpadded row, from the model's parts."""
    with torch.no_grad():
        hidden = head.model.base_model(input_ids=torch.tensor([encoded.input_ids])).last_hidden_state
        return head.model.score(hidden[:, -1])


def test_the_last_real_token_counts_also_where_it_is_the_pad_token(head):
    encoded = encoded_rows(head)
    if head.pad_token_id == head.encoder.tokenizer.eos_token_id:
        assert encoded[1].input_ids[-1] == head.pad_token_id
    expected = torch.cat([alone(head, row) for row in encoded])
    with torch.no_grad():
        together = head.logits(head.scoring_batch(encoded))
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 1e-4  # the end of text does count


def test_it_is_what_the_models_own_head_says_of_a_row_without_padding(head):
    encoded = encoded_rows(head)
    for row in (encoded[0], encoded[3]):
        with torch.no_grad():
            own = head.model(input_ids=torch.tensor([row.input_ids])).logits
        torch.testing.assert_close(alone(head, row), own, rtol=0, atol=1e-6)


def test_scores_do_not_depend_on_the_batch(head):
    together = inference.score(head, rows(head), 100_000, "test")
    one_by_one = np.concatenate([inference.score(head, [row], 100_000, "test") for row in rows(head)])
    np.testing.assert_allclose(together, one_by_one, atol=1e-5)


@pytest.mark.parametrize("max_length", [20, 33])
def test_three_texts_are_cut_in_the_longest(prompt_job, max_length):
    three = dataset(text=["claim", "context", "sentence"])
    encoder = build_head(prompt_job("llama", head="classification", max_length=max_length), three).encoder
    long = Row("r", ("good idea", "really " * 60, "bad"), 0)
    [encoded] = encoder.encode([long])
    assert encoded.truncated and max_length - 2 <= len(encoded.input_ids) <= max_length
    shown = encoder.tokenizer.decode(encoded.input_ids)
    assert shown.startswith("<s>good idea<s>really") and shown.endswith("\nbad")
