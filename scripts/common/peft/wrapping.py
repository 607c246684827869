"""Put a module around chosen linear layers of a model: what the methods written here have in common."""

from collections.abc import Callable, Sequence

from torch import nn
from transformers import PreTrainedModel

from common.errors import ModelError, choices


def wrap_linears(
    model: PreTrainedModel, targets: Sequence[str] | str, wrap: Callable[[nn.Linear], nn.Module]
) -> list[nn.Module]:
    """Replace linear layers of the backbone by `wrap(layer)`, in place.

    Args:
        model: a base with its head; the head's own layers are never wrapped.
        targets: ends of module names ("query", "output.dense"), or "all-linear".
        wrap: makes the new module, which holds the old one.

    Returns:
        The new modules, in the order of the model.

    Raises:
        ModelError: a target names no linear layer.
    """
    # bitsandbytes' 4-bit and 8-bit layers are subclasses of nn.Linear: they are found, too.
    linears = {name: module for name, module in model.base_model.named_modules() if isinstance(module, nn.Linear)}
    ends = list(linears) if isinstance(targets, str) else list(targets)
    for end in ends:
        if not any(_ends_with(name, end) for name in linears):
            named = sorted({name.rsplit(".", 1)[-1] for name in linears})
            raise ModelError(
                f"method.target_modules: '{end}' names no linear layer. This model's end in: {choices(named)}."
            )
    wrapped = []
    for name, linear in linears.items():
        if any(_ends_with(name, end) for end in ends):
            parent, _, last = name.rpartition(".")
            module = wrap(linear)
            setattr(model.base_model.get_submodule(parent), last, module)
            wrapped.append(module)
    return wrapped


def _ends_with(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def freeze_backbone(model: PreTrainedModel) -> None:
    """Freeze everything below the head; the head trains."""
    model.requires_grad_(True)
    model.base_model.requires_grad_(False)
