"""Look into a model: the transformers model inside peft's wrapper, and the numbers of parameters."""

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel


def inner_model(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model, without peft's wrapper."""
    return model.get_base_model() if isinstance(model, PeftModel) else model  # type: ignore[return-value]


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Return params_total_count and params_trainable_count, counted as peft counts: every parameter once.

    A byte of a 4-bit weight holds two parameters; the shape in its `quant_state` gives their number.
    """
    counts = [(getattr(parameter, "quant_state", None) or parameter).shape.numel() for parameter in model.parameters()]
    trains = [parameter.requires_grad for parameter in model.parameters()]
    return {
        "params_total_count": sum(counts),
        "params_trainable_count": sum(n for n, is_trained in zip(counts, trains, strict=True) if is_trained),
    }
