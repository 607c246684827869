"""Fine-tuning methods behind one function: `attach(model, method)` sets which parameters train.

A new method needs a schema in `config/methods.py`, a function in this package that takes and returns the model, and a
line in `_METHODS`. Exactly the parameters that train have `requires_grad`.
"""

from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from common.config.methods import (
    Adapters,
    Full,
    LastLayers,
    Lora,
    LoraFromScratch,
    Method,
    OtherLibraryMethod,
    Untrained,
)
from common.methods.adapters import add_adapters
from common.methods.last_layers import train_last_layers
from common.methods.lora import add_lora_from_scratch
from common.methods.peft_library import add_library_method


def _train_all(model: PreTrainedModel, method: Full) -> nn.Module:
    return model.requires_grad_(True)


def _train_nothing(model: PreTrainedModel, method: Untrained) -> nn.Module:
    return model.requires_grad_(False)


_METHODS: dict[type, Callable[[PreTrainedModel, Any], nn.Module]] = {
    Lora: add_library_method,
    OtherLibraryMethod: add_library_method,
    LoraFromScratch: add_lora_from_scratch,
    Adapters: add_adapters,
    LastLayers: train_last_layers,
    Full: _train_all,
    Untrained: _train_nothing,
}


def attach(model: PreTrainedModel, method: Method) -> nn.Module:
    """Return `model` with the parameters of `method`, in which the right parameters have `requires_grad`.

    Args:
        model: a freshly loaded base with its head.
        method: the validated method of a job.

    Returns:
        The model to train: the same object, or a wrapper around it.

    Raises:
        ModelError: the method names layers that the model lacks.
    """
    return _METHODS[type(method)](model, method)
