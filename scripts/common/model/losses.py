"""The loss of a row: cross-entropy of its label, or of its answer's tokens.

`StepTrainer.training_step` in train/trainer.py takes the weighted mean over the rows of an optimizer step.
"""

import torch
import torch.nn.functional as F

IGNORED = -100  # a target that torch's cross-entropy leaves out


def label_losses(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Return the cross-entropy of every row's label (B,), natural log:  ℓ = -log softmax(logits)[label].

    Args:
        logits: (B, C), float32.
        labels: class indices (B,).
        label_smoothing: share of the target spread evenly over the C classes.
    """
    return F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)


def answer_losses(
    logits: torch.Tensor, places: torch.Tensor, tokens: torch.Tensor, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Return the cross-entropy of answers, summed over their tokens (…), natural log.

    ℓ = -Σ_t log p(answer_t | prompt, answer_<t)

    Args:
        logits: (N, V), float32.
        places: (…, K), the row of `logits` that predicts each token.
        tokens: ids of the answers' tokens (…, K); `IGNORED` where an answer has no further token.
        label_smoothing: share of every target spread evenly over the V tokens.
    """
    is_token = tokens != IGNORED
    gold = logits[places, tokens.where(is_token, 0)]
    if label_smoothing:
        gold = (1 - label_smoothing) * gold + label_smoothing * logits.mean(dim=-1)[places]
    return ((logits.logsumexp(dim=-1)[places] - gold) * is_token).sum(dim=-1)
