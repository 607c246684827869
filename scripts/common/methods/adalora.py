"""Save and load the state of AdaLoRA's rank schedule, so that a resumed run prunes the same ranks.

Source: Zhang et al. (2023), https://arxiv.org/abs/2303.10512; the schedule is the peft library's.
"""

from typing import cast

import torch
from peft import AdaLoraConfig, AdaLoraModel, PeftModel
from torch import nn

_AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


def allocator(model: nn.Module) -> AdaLoraModel | None:
    """Return the model whose `update_and_allocate` prunes AdaLoRA's ranks after a step, None for other methods."""
    inner = model.base_model if isinstance(model, PeftModel) else None
    return inner if isinstance(inner, AdaLoraModel) else None


def allocator_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state of AdaLoRA's schedule between two steps as tensors on the CPU, {} for other methods."""
    found = allocator(model)
    if found is None:
        return {}
    state = {
        f"{part}:{name}": value.detach().cpu().clone()
        for part in _AVERAGES
        for name, value in getattr(found.rankallocator, part).items()
    }
    pattern = _active(found).rank_pattern or {}
    return state | {f"rank_pattern:{name}": torch.tensor(kept) for name, kept in pattern.items()}


def load_allocator_state(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load a state that `allocator_state` returned, in place; do nothing for other methods."""
    found = allocator(model)
    if found is None:
        return
    device = next(model.parameters()).device
    pattern = {}
    for key, value in state.items():
        part, _, name = key.partition(":")
        if part == "rank_pattern":
            pattern[name] = value.tolist()
        else:
            getattr(found.rankallocator, part)[name] = value.to(device)
    _active(found).rank_pattern = pattern or None


def _active(model: AdaLoraModel) -> AdaLoraConfig:
    return cast(AdaLoraConfig, model.peft_config["default"])
