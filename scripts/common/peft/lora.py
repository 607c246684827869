"""LoRA from scratch: a frozen linear layer plus a trainable update of low rank.

    y = W x + b + (alpha / r) B A dropout(x)        W (out, in) frozen, A (r, in) and B (out, r) trained

B starts at zero, so training starts at the base model; A starts as torch starts a linear layer. A layer adds
r (in + out) parameters. Merging writes W + (alpha / r) B A, after which nothing of LoRA is left to compute.

Source: Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1,
https://arxiv.org/abs/2106.09685.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from common.methods import LoraFromScratch
from common.peft.wrapping import freeze_backbone, wrap_linears


class LoraLinear(nn.Module):
    """One linear layer with its update; x (…, in) → y (…, out), in the dtype of the frozen layer.

    Args:
        base: the layer to adapt; it is kept and frozen, and may be 4-bit.
        r: rank of the update.
        alpha: the update is scaled by alpha / r.
        dropout: share of x's entries dropped before A, in training alone.
    """

    def __init__(self, base: nn.Linear, r: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        # float32 whatever the base is: small updates would vanish in bfloat16's 8 bits.
        device = base.weight.device
        self.A = nn.Parameter(torch.empty(r, base.in_features, device=device, dtype=torch.float32))
        self.B = nn.Parameter(torch.zeros(base.out_features, r, device=device, dtype=torch.float32))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.scale = alpha / r
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the adapted layer's output."""
        y = self.base(x)
        update = F.linear(F.linear(self.dropout(x).to(self.A.dtype), self.A), self.B)  # (…, in) → (…, r) → (…, out)
        return y + (self.scale * update).to(y.dtype)

    def merged(self) -> nn.Linear:
        """Return the frozen layer with the update written into its weight."""
        with torch.no_grad():
            self.base.weight += (self.scale * self.B @ self.A).to(self.base.weight.dtype)
        return self.base


def add_lora_from_scratch(model: PreTrainedModel, method: LoraFromScratch) -> PreTrainedModel:
    """Adapt linear layers of the backbone in place; the head trains, too.

    Raises:
        ModelError: `target_modules` names no linear layer.
    """
    freeze_backbone(model, method.modules_to_save)
    wrap_linears(
        model, method.target_modules, lambda linear: LoraLinear(linear, method.r, method.alpha, method.dropout)
    )
    return model


def merge_lora(model: PreTrainedModel) -> PreTrainedModel:
    """Replace every adapted layer by its merged one, in place; outputs stay the same up to rounding.

    Raises:
        TypeError: a base is quantised; dequantise it first, merging into rounded weights would lose the update.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLinear):
            if not module.base.weight.is_floating_point():
                raise TypeError(f"{name}: the base is quantised, so its weight cannot take an update")
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, module.merged())
    return model
