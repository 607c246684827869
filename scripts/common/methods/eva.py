"""EVA: initialise LoRA from the main directions of its layers' inputs, computed on train batches before training.

Source: Paischer et al. (2024), https://arxiv.org/abs/2410.07170; the computation is the peft library's.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel, initialize_lora_eva_weights
from torch import nn

from common.core.errors import ModelError

Batch = dict[str, torch.Tensor]
_BATCHES = 200  # most batches to read, unless three times the data is more


def needs_batches(model: nn.Module) -> bool:
    """Return whether a model's LoRA is to be initialised by `initialise`."""
    return isinstance(model, PeftModel) and getattr(model.peft_config["default"], "init_lora_weights", True) == "eva"


def initialise(
    model: nn.Module, batches: Sequence[Batch], device: torch.device, forward: Callable[[Batch], Any]
) -> None:
    """Set LoRA's matrices A to the main directions of their layers' inputs, in place, and redistribute the ranks.

    Layers whose inputs need more directions get a higher rank. The result depends on the base, the batches and their
    order alone, so that a resumed run gets the same shapes.

    Args:
        model: with LoRA attached.
        batches: of train rows, with attention_mask (B, L); read until the directions converge.
        device: of the model.
        forward: runs the model on a batch.

    Raises:
        ModelError: a layer's input is not one vector a token, or its directions do not converge.
    """
    model.eval()
    moved = [{key: value.to(device) for key, value in batch.items()} for batch in batches]
    limit, seen = max(_BATCHES, 3 * len(moved)), 0

    def bounded_forward(_: Any, batch: Batch) -> None:
        nonlocal seen
        seen += 1
        if seen > limit:  # peft would never stop
            raise ModelError(
                f"EVA's directions have not converged after {limit} batches; lower method.r or eva_config.tau."
            )
        forward(batch)

    initialize_lora_eva_weights(
        model,
        moved,
        forward_fn=bounded_forward,
        prepare_model_inputs_fn=lambda batch, _: batch["attention_mask"].bool().nonzero(),  # real tokens only
        prepare_layer_inputs_fn=_tokens,
        show_progress_bar=False,
    )
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # peft replaces layers of another rank, in the base's dtype


def _tokens(layer_input: Any, where: torch.Tensor, name: str) -> torch.Tensor:
    """Return a layer's inputs (N, d) at the real tokens."""
    hidden = layer_input[0] if isinstance(layer_input, tuple) else layer_input  # (B, L, d)
    if hidden.dim() != 3:
        last = name.rsplit(".", 2)[-2]
        raise ModelError(
            f"EVA needs one input vector a token, and the layer {name} gets one a row: "
            f"set method.exclude_modules to ['{last}.{name.rsplit('.', 1)[-1]}']."
        )
    return hidden[where[:, 0], where[:, 1]]
