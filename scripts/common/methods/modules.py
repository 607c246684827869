"""Find, freeze and wrap the modules of a model: what the methods from scratch have in common."""

from collections.abc import Callable, Sequence

from torch import nn
from transformers import PreTrainedModel

from common.core.errors import ModelError, choices


def wrap_linears(
    model: PreTrainedModel, targets: Sequence[str] | str, wrap: Callable[[nn.Linear], nn.Module]
) -> list[nn.Module]:
    """Replace linear layers of the backbone by `wrap(layer)`, in place, and return the new modules.

    Args:
        model: a base with its head, after `freeze_backbone`; only frozen layers of the backbone are wrapped.
        targets: ends of module names ("query", "output.dense"), or "all-linear".
        wrap: makes the new module, which contains the old one.

    Returns:
        The new modules, in the order of the model.

    Raises:
        ModelError: a target names no frozen linear layer.
    """
    # bitsandbytes' 4-bit and 8-bit layers are subclasses of nn.Linear: they are found, too.
    # A layer that trains as a whole (modules_to_save) needs no update beside it.
    linears = {
        name: module
        for name, module in model.base_model.named_modules()
        if isinstance(module, nn.Linear) and not module.weight.requires_grad
    }
    ends = list(linears) if isinstance(targets, str) else list(targets)
    for end in ends:
        if not any(name_ends_with(name, end) for name in linears):
            named = sorted({name.rsplit(".", 1)[-1] for name in linears})
            raise ModelError(
                f"method.target_modules: '{end}' names no linear layer. This model's end in: {choices(named)}."
            )
    wrapped = []
    for name, linear in linears.items():
        if any(name_ends_with(name, end) for end in ends):
            parent, _, last = name.rpartition(".")
            module = wrap(linear)
            setattr(model.base_model.get_submodule(parent), last, module)
            wrapped.append(module)
    return wrapped


def name_ends_with(name: str, end: str) -> bool:
    """Return whether a module's dotted name ends in `end`, compared part by part, as peft matches targets.

    Args:
        name: "encoder.layer.0.output.dense".
        end: "dense" or "output.dense", but not "put.dense".
    """
    return name == end or name.endswith(f".{end}")


def head_modules(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Return the modules on top of the backbone that have weights (`classifier`, `score`, `lm_head`), by name.

    Args:
        model: a transformers model with a head, without peft's wrapper.
    """
    return {
        name: child
        for name, child in model.named_children()
        if name != model.base_model_prefix and any(True for _ in child.parameters())
    }


def freeze_backbone(model: PreTrainedModel, modules_to_save: Sequence[str]) -> None:
    """Freeze the backbone and a language-model head, in place; the named modules and a classification head train.

    Args:
        model: a freshly loaded base with its head.
        modules_to_save: ends of names of the backbone's modules ("pooler") that train as a whole.

    Raises:
        ModelError: one of `modules_to_save` names nothing.
    """
    model.requires_grad_(False)
    if model.get_output_embeddings() is None:  # a language-model head is the base's own, a classification head is new
        for head in head_modules(model).values():
            head.requires_grad_(True)
    for end in modules_to_save:
        found = [module for name, module in model.base_model.named_modules() if name_ends_with(name, end)]
        if not found:
            named = sorted(name for name, _ in model.base_model.named_children())
            raise ModelError(f"method.modules_to_save: '{end}' names no module. On top there are: {choices(named)}.")
        for module in found:
            module.requires_grad_(True)
