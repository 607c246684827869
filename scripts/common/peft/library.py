"""Methods of the peft library, by their own option names."""

from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from common.config import Lora
from common.errors import ModelError


def add_lora(model: PreTrainedModel, method: Lora) -> PeftModel:
    """Add trainable low-rank updates to linear layers; the base is frozen, the head trains.

    y = W x + (alpha / r) B A x, with A (r, in) and B (out, r), B zero at the start, so training begins at the base.

    Source: Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models", https://arxiv.org/abs/2106.09685.

    Raises:
        ModelError: `target_modules` names no layer of the model.
    """
    options = method.model_dump(exclude={"name"})
    # The task decides what stays as it is: a classification head trains, a language-model head is left alone.
    task = TaskType.CAUSAL_LM if model.can_generate() else TaskType.SEQ_CLS
    if task == TaskType.SEQ_CLS:
        # peft knows the last layer of a head by its name; DeBERTa's pooler and ModernBERT's head are new, too.
        heads = {
            name: child
            for name, child in model.named_children()
            if name != model.base_model_prefix and any(True for _ in child.parameters())
        }
        options["modules_to_save"] = sorted({*heads, *(method.modules_to_save or [])})
        if method.target_modules == "all-linear":
            options["exclude_modules"] = [name for name, child in heads.items() if isinstance(child, nn.Linear)]
    try:
        return get_peft_model(model, LoraConfig(task_type=task, **options))
    except ValueError as error:
        names = sorted(
            {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if hasattr(module, "in_features")}
        )
        raise ModelError(
            f"method.target_modules is {method.target_modules}: {error} Linear layers of this model: "
            f"{', '.join(names)}."
        ) from error
