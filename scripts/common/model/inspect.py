"""What a model is made of: the model below peft's wrapper, its head's modules, its numbers of parameters."""

from peft import PeftModel
from torch import nn
from transformers import (
    PreTrainedModel,
)

from common.methods.modules import heads


def inner_model(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model, without peft's wrapper."""
    return model.get_base_model() if isinstance(model, PeftModel) else model  # type: ignore[return-value]


def head_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules on top of the backbone that have weights, by name; peft's wrapper is looked through."""
    return heads(inner_model(model))


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Return params_total_count and params_trainable_count, counted as peft counts: every parameter once.

    A 4-bit weight holds two parameters in a byte; its own shape tells how many they are.
    """
    counts = [(getattr(parameter, "quant_state", None) or parameter).shape.numel() for parameter in model.parameters()]
    trains = [parameter.requires_grad for parameter in model.parameters()]
    return {
        "params_total_count": sum(counts),
        "params_trainable_count": sum(n for n, is_trained in zip(counts, trains, strict=True) if is_trained),
    }
