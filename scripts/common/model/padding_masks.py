"""Attention masks of padded rows that are made without reading them: on a GPU the CPU would wait for it.

In every forward pass transformers reads the mask of a batch, because attention needs none where no row is padded. On a
GPU that stops the CPU, once or twice for each micro-batch, until the GPU has done all that was asked of it before.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import AttentionMaskInterface
from transformers.masking_utils import eager_mask, sdpa_mask

_FORMS: dict[str, Callable[..., Any]] = {"sdpa": sdpa_mask, "eager": eager_mask}
_ALWAYS = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}


def never_read() -> None:
    """Let all models of this process that run on a GPU make masks of the padding that they are given, unread."""
    for attention in _FORMS:
        AttentionMaskInterface.register(attention, _unread(attention))


def _unread(attention: str) -> Callable[..., Any]:
    """Return the function that makes the masks of an attention; on a CPU, or without padding, transformers' own."""

    def mask(*, device: Any = "cpu", attention_mask: torch.Tensor | None = None, **options: Any) -> Any:
        on_cpu = torch.device(device).type == "cpu"
        always = {} if on_cpu or attention_mask is None else _ALWAYS
        return _FORMS[attention](device=device, attention_mask=attention_mask, **options | always)

    return mask
