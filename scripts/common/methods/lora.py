"""LoRA from scratch: a frozen linear layer plus a trainable update of low rank.

Source: Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1,
https://arxiv.org/abs/2106.09685.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from common.config.methods import LoraFromScratch
from common.methods.modules import freeze_backbone, wrap_linears


class LoraLinear(nn.Module):
    """A frozen linear layer and the update beside it:  y = W x + b + (alpha / r) B A dropout(x).

    x (…, in) and y (…, out) are in the dtype of the frozen W (out, in) and b (out); A (r, in) and B (out, r) train, in
    float32: r (in + out) parameters. B starts at zero, so training starts at the base model; A starts as the weight of
    torch's linear layer does.

    Args:
        base: the layer with W and b; it is frozen, and may be quantised.
        r: rank of the update, from 1.
        alpha: the update is scaled by alpha / r.
        dropout: probability that an entry of x is dropped before A in training, from 0 to below 1.
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
        self.is_merged = False  # whether W has the update in it (`methods/merged.py`)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y (…, out) for x (…, in)."""
        y = self.base(x)
        if self.is_merged:
            return y
        update = F.linear(F.linear(self.dropout(x).to(self.A.dtype), self.A), self.B)  # (…, in) → (…, r) → (…, out)
        return y + (self.scale * update).to(y.dtype)

    def update(self) -> torch.Tensor:
        """Return the update (alpha / r) B A of the weight (out, in)."""
        return self.scale * self.B @ self.A

    def merged(self) -> nn.Linear:
        """Return the frozen layer with the weight W + (alpha / r) B A, changed in place; it computes no update."""
        with torch.no_grad():
            self.base.weight += self.update().to(self.base.weight.dtype)
        return self.base


def add_lora_from_scratch(model: PreTrainedModel, method: LoraFromScratch) -> PreTrainedModel:
    """Replace every chosen linear layer of the backbone by a `LoraLinear`, in place.

    Args:
        model: a freshly loaded base with its head.
        method: the target layers, and the options of `LoraLinear`.

    Returns:
        The same model, in which A and B, a classification head and `modules_to_save` train.

    Raises:
        ModelError: `target_modules` names no linear layer, or `modules_to_save` no module.
    """
    freeze_backbone(model, method.modules_to_save)
    wrap_linears(
        model, method.target_modules, lambda linear: LoraLinear(linear, method.r, method.alpha, method.dropout)
    )
    return model


def merge_lora(model: PreTrainedModel) -> PreTrainedModel:
    """Replace every adapted layer by its merged one; outputs stay the same up to rounding.

    Args:
        model: with the layers of `add_lora_from_scratch`; it is changed in place.

    Returns:
        The same model, with the base's layers only.

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
