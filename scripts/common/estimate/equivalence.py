"""Check that two ways to do the same work have the same results, before their times are compared."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from common.core.errors import ModelError

# Largest difference by the largest value. In bfloat16 a number has 8 bits, and the ways round at different places.
_BOUND, _BOUND_16_BITS = 1e-5, 0.1


def bound(precision: str) -> float:
    """Return the largest difference that rounding makes, by the largest value."""
    return _BOUND if precision == "float32" else _BOUND_16_BITS


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Turn dropout layers off: what they drop is drawn anew in every pass."""
    before = {module: module.p for module in model.modules() if isinstance(module, nn.Dropout)}
    for module in before:
        module.p = 0.0
    try:
        yield
    finally:
        for module, p in before.items():
            module.p = p


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the gradients of the trained parameters by name, and set them to None."""
    found = {name: p.grad.float() for name, p in model.named_parameters() if p.requires_grad and p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def check_close(what: str, ours: torch.Tensor, theirs: torch.Tensor, precision: str) -> float:
    """Return the largest difference by the largest value.

    Raises:
        ModelError: it is above the bound of `precision`, so the ways do not do the same work.
    """
    largest = theirs.abs().max().item()
    difference = (ours.cpu() - theirs.cpu()).abs().max().item() / max(largest, 1e-30)
    if not difference <= bound(precision):  # also where it is nan
        raise ModelError(
            f"{what} differ by {difference:.1e} of the largest, allowed is {bound(precision):g} in {precision}: "
            "times of different work are not compared."
        )
    return difference


def check_gradients(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], precision: str) -> float:
    """Return by how much the gradients differ at most, by the largest of all.

    Raises:
        ModelError: other parameters train, or they differ by more than the bound.
    """
    if set(ours) != set(theirs) or not ours:
        raise ModelError(
            f"the plain script trains {len(theirs)} parameters, the job {len(ours)}: "
            f"{sorted(set(ours) ^ set(theirs))[:3]}; times of different work are not compared."
        )
    names = sorted(ours)
    own, others = (torch.cat([found[name].flatten() for name in names]) for found in (ours, theirs))
    return check_close("gradients", own, others, precision)


def check_predictions(what: str, ours: np.ndarray, theirs: np.ndarray, precision: str) -> int:
    """Return the number of rows, all of which have the same prediction.

    Args:
        what: the other way.
        ours: scores (N, C).
        theirs: scores (N, C).
        precision: of the computation; two labels as close as its bound may change places.

    Raises:
        ModelError: a row has another prediction.
    """
    top = np.sort(ours, axis=1)
    is_close = top[:, -1] - top[:, -2] <= 2 * bound(precision) * np.abs(ours).max()
    differ = (ours.argmax(axis=1) != theirs.argmax(axis=1)) & ~is_close
    if differ.any():
        raise ModelError(
            f"{what}: {int(differ.sum())} of {len(ours)} predictions differ; times of different work are not compared."
        )
    return len(ours)
