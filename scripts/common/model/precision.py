"""Which numbers are float32, bfloat16 or quantised: the dtype policy of weights and computation."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from common.config.job import Job
from common.core.errors import ModelError


def keep_float32(module: nn.Module) -> None:
    """Make a module compute in float32, also inside autocast.

    Raises:
        ModelError: its weights are not float32 (a head must never be quantised).
    """
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            raise ModelError(f"the head's weight {name} is {parameter.dtype}; a head must be float32.")
    forward = module.forward

    def in_float32(hidden: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return forward(hidden.float(), *args, **kwargs)

    module.forward = in_float32


def keep_norms_float32(model: nn.Module, job: Job) -> None:
    """Upcast the norms' few weights, in place: they are sums over many numbers.

    Where the base is bfloat16, so is what comes out of them: quantised layers answer in the dtype they are asked in,
    and all saved activations would take twice the memory.
    """
    for module in model.modules():
        if is_norm(module):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.float()
            if job.dtype == "bfloat16":
                module.register_forward_hook(_to_bfloat16)


def is_norm(module: nn.Module) -> bool:
    """Return whether a module is a LayerNorm, an RMSNorm or the like."""
    return "norm" in type(module).__name__.lower()


def _to_bfloat16(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return output.to(torch.bfloat16)


class Float32Product(torch.autograd.Function):
    """hidden (…, d) times a frozen weight (V, d) of fewer bits, in float32, some rows of the weight at a time.

    A vocabulary of 256,000 words in float32 would take 3.7 GB at Gemma 2's width.
    """

    ROWS = 16_384

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return hidden @ weight.T (…, V) in float32."""
        ctx.save_for_backward(weight)
        ctx.hidden_dtype = hidden.dtype
        return torch.cat([F.linear(hidden.float(), rows.float()) for rows in weight.split(Float32Product.ROWS)], dim=-1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the gradient of hidden; the weight is frozen."""
        (weight,) = ctx.saved_tensors
        parts = zip(gradient.split(Float32Product.ROWS, dim=-1), weight.split(Float32Product.ROWS), strict=True)
        return torch.stack([part @ rows.float() for part, rows in parts]).sum(dim=0).to(ctx.hidden_dtype), None


def keep_logits_float32(output: nn.Module) -> None:
    """Make a language-model head give float32 logits, also inside autocast: bfloat16 makes close answers equal."""
    if not isinstance(output, nn.Linear):
        return  # wrapped by a method, which casts in its own way

    def in_float32(hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            if output.weight.dtype == torch.float32:
                return F.linear(hidden.float(), output.weight, output.bias)
            logits = Float32Product.apply(hidden, output.weight)
            return logits if output.bias is None else logits + output.bias.float()

    output.forward = in_float32  # type: ignore[assignment]
