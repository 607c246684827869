"""Score with LoRA's updates added to the weights, and restore the weights afterwards.

y = W x + (alpha / r) B A x  =  (W + (alpha / r) B A) x. While nothing trains, the right side is one product instead of
three and two sums over all tokens: a sixth of the time of a small encoder. In float32 both sides are equal up to
rounding; with weights of fewer bits a small update would be lost, so those are left alone.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import nn

from common.methods.lora import LoraLinear

_MOST_BYTES = 2**30  # of weights that are there twice meanwhile


@contextlib.contextmanager
def merged_lora(model: nn.Module, precision: str) -> Iterator[None]:
    """Add LoRA's updates to the weights of linear layers, on a CPU; the old weights are back afterwards, bit by bit.

    Args:
        model: with any method, or none.
        precision: of the computation; in bfloat16 nothing is merged.
    """
    layers = [layer for layer in model.modules() if _can_merge(layer)] if precision == "float32" else []
    if sum(_weight(layer).nbytes for layer in layers) > _MOST_BYTES:
        layers = []
    before = [_weight(layer) for layer in layers]
    try:
        with torch.no_grad():
            for layer, weight in zip(layers, before, strict=True):
                # Of its own: the old one may be that of another layer, too (a language-model head and the embedding).
                _base(layer).weight = nn.Parameter(weight + _update(layer), requires_grad=False)
                _mark(layer, True)
        yield
    finally:
        for layer, weight in zip(layers, before, strict=True):
            _base(layer).weight = weight
            _mark(layer, False)


def _can_merge(layer: nn.Module) -> bool:
    if isinstance(layer, LoraLinear):
        plain = not layer.is_merged
    elif type(layer) is Linear:
        others = layer.merged or layer.disable_adapters or layer.lora_variant or any(layer.lora_bias.values())
        plain = not others and len(layer.active_adapters) == 1 and layer.active_adapters[0] in layer.lora_A
    else:
        return False
    weight = _weight(layer)
    return plain and type(weight.data) is torch.Tensor and weight.dtype == torch.float32 and weight.device.type == "cpu"


def _base(layer: nn.Module) -> Any:
    return layer.base if isinstance(layer, LoraLinear) else layer.get_base_layer()  # type: ignore[operator]


def _weight(layer: nn.Module) -> nn.Parameter:
    weight: nn.Parameter = _base(layer).weight
    return weight


def _update(layer: nn.Module) -> torch.Tensor:
    if isinstance(layer, LoraLinear):
        return layer.update()
    assert isinstance(layer, Linear)
    return layer.get_delta_weight(layer.active_adapters[0])


def _mark(layer: nn.Module, is_merged: bool) -> None:
    if isinstance(layer, LoraLinear):
        layer.is_merged = is_merged
    elif isinstance(layer, Linear):
        layer.merged_adapters = list(layer.active_adapters) if is_merged else []
