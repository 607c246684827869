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


def answer_losses(logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Return the cross-entropy of every row's answer, summed over its tokens (B,), natural log.

    ℓ = -Σ_t log p(answer_t | prompt, answer_<t)

    Args:
        logits: (B, K, V), float32, at the positions that predict the K last tokens.
        targets: token ids (B, K); `IGNORED` where a position belongs to the prompt.
        label_smoothing: share of every target spread evenly over the V tokens.
    """
    losses = F.cross_entropy(
        logits.transpose(1, 2), targets, reduction="none", ignore_index=IGNORED, label_smoothing=label_smoothing
    )
    return losses.sum(dim=1)
