"""Merge what a method has trained into the weights of the base, for good: transformers' own layers remain."""

import warnings
from collections import Counter
from typing import Any

from peft import PeftModel, PeftType
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedModel

from common.core.errors import ModelError
from common.methods.lora import merge_lora


def merge(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model with the trained updates in its weights; outputs stay the same up to rounding.

    Args:
        model: with any method, or none; its base is not quantised. It is changed in place.

    Raises:
        ModelError: the method cannot be merged. Outputs are still the same: a layer is either merged or as it was.
    """
    if not isinstance(model, PeftModel):
        return merge_lora(model)  # type: ignore[arg-type]  # a method of our own wraps layers, not the model
    kind = PeftType(model.peft_config["default"].peft_type)
    # Virtual tokens and adaption_prompt are no BaseTuner; shadow refuses only after it has removed its hooks.
    if not isinstance(model.base_model, BaseTuner) or kind == PeftType.SHADOW:
        raise ModelError(f"method {kind.value.lower()} cannot be merged: it changes no weight of the base.")
    _separate_shared_weights(model)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="(?s).*(tie_word_embeddings|no longer tied)")  # they may differ
            merged: Any = model.merge_and_unload(safe_merge=True)
    # What peft raises for an update that depends on the row (aLoRA, Arrow), for a layer that cannot take its update
    # (beft and lora_bias, where the layer has no bias), and for weights that are not finite.
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"method {kind.value.lower()} cannot be merged into the base's weights: {reason}") from error
    _unwrap_whole_modules(merged)
    return merged


def _unwrap_whole_modules(model: nn.Module) -> None:
    """Put each module that was trained whole, such as the head, in the place of its wrapper: ln_tuning leaves these."""
    wrapped = [(name, module) for name, module in model.named_modules() if isinstance(module, ModulesToSaveWrapper)]
    for name, module in wrapped:
        whole = module.unload_and_optionally_merge_module(merge=True, safe_merge=True, adapter_names=None)
        model.set_submodule(name, whole)


def _separate_shared_weights(model: nn.Module) -> None:
    """Give every layer that a method has changed a weight of its own, in place.

    A language-model head often has the weight of the embedding. Merged into that, an update would change both.
    """
    uses = Counter(id(weight) for layer in model.modules() for weight in layer.parameters(recurse=False))
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            base: Any = layer.get_base_layer()
            if isinstance(weight := getattr(base, "weight", None), nn.Parameter) and uses[id(weight)] > 1:
                base.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
