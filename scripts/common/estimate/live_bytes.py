"""A memory tracker: count the live bytes of a model's operations, which may be on tensors without memory.

It runs every operation of the model and counts storage by storage, so it needs no knowledge about kinds of layers.
"""

import contextlib
import dataclasses
import weakref
from collections.abc import Hashable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from common.estimate.shape_tensors import storage_of


@dataclasses.dataclass
class Block:
    """A part of the work in which bytes are allocated and freed.

    Attributes:
        label: names the part.
        changes: bytes allocated (above zero) or freed (below zero), and the number of the block that allocated them.
    """

    label: Hashable
    changes: list[tuple[int, int]] = dataclasses.field(default_factory=list)


class LiveBytes(TorchDispatchMode):
    """Count the bytes of every storage that is created inside the context, until it is freed.

    Args:
        model: its parameters and their gradients are not counted.

    Attributes:
        now: live bytes.
        peak: the most bytes that were live at one time.
        blocks: all changes of live bytes, in order.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.blocks = [Block("start")]
        self._sizes: dict[int, tuple[int, int]] = {}  # by storage: its bytes and the number of its block
        for parameter in model.parameters():
            self._leave_out(parameter)
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(self._leave_out_gradient)

    def begin_block(self, label: Hashable) -> None:
        """Record further changes in a new block."""
        self.blocks.append(Block(label))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count the storages of its results."""
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, torch.Tensor):
                self._count(storage_of(tensor))
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes(), len(self.blocks) - 1
            self._change(*self._sizes[key])
            weakref.finalize(storage, self._free, key)

    def _leave_out(self, tensor: torch.Tensor) -> None:
        storage = storage_of(tensor)
        self._free(storage._cdata)
        self._sizes[storage._cdata] = (0, 0)
        weakref.finalize(storage, self._free, storage._cdata)  # another storage may get its address

    def _leave_out_gradient(self, parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            self._leave_out(parameter.grad)

    def _free(self, key: int) -> None:
        size, block = self._sizes.pop(key, (0, 0))
        self._change(-size, block)

    def _change(self, size: int, block: int) -> None:
        if size:
            self.blocks[-1].changes.append((size, block))
            self.now += size
            self.peak = max(self.peak, self.now)


@contextlib.contextmanager
def gpu_kernels() -> Iterator[None]:
    """Make dropout and attention keep for the backward pass what the fused kernels of a GPU keep."""
    before = F.dropout, F.scaled_dot_product_attention
    # The functions are replaced because a dispatch mode is not active in layers that checkpointing recomputes.
    F.dropout, F.scaled_dot_product_attention = _dropout, _attention  # type: ignore[assignment]
    try:
        yield
    finally:
        F.dropout, F.scaled_dot_product_attention = before


def _dropout(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    return torch.native_dropout(x, p, True)[0] if training and p > 0 else x  # keeps a mask of one byte per entry


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    **options: Any,
) -> torch.Tensor:
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (x.to(torch.get_autocast_dtype("cpu")) for x in (query, key, value))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)  # every layer creates its own
    return _FusedAttention.apply(query, key, value, attn_mask)


class _FusedAttention(torch.autograd.Function):
    """The shapes of memory-efficient attention: (B, h, L, d) in and out, one log-sum per row is kept, no (L, L) matrix.

    Source: Rabe and Staats (2021), "Self-attention Does Not Need O(n²) Memory", https://arxiv.org/abs/2112.05682.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, mask, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None
