"""Pool the hidden states (B, L, d) of a row's tokens to one vector (B, d), and the linear head on top of it."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from common.core.errors import ModelError
from common.methods.modules import head_modules

_OUTPUTS = ("score", "classifier")  # what transformers calls the last layer of decoders and of encoders


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Return one vector per row (B, d) in float32.

    Args:
        hidden: states (B, L, d) of rows that are padded on the right.
        mask: 1 for tokens, 0 for padding (B, L).
        pooling: "cls", the first token; "mean", of all tokens; "last", the last token.
    """
    if pooling == "cls":
        return hidden[:, 0].float()
    lengths = mask.sum(dim=1)  # (B,)
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1].float()
    return (hidden.float() * mask[..., None]).sum(dim=1) / lengths[:, None]


def is_causal(model: PreTrainedModel) -> bool:
    """Return whether a token of the model sees only those before it, so that only the last one knows the whole row."""
    kind = model.config.model_type
    # BERT has a causal class, too; XLNet's tokens see each other in another way.
    is_encoder = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES or kind == "xlnet"
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not is_encoder


def output_layer(model: PreTrainedModel) -> nn.Module | None:
    """Return the layer that makes logits (…, C) of pooled states (…, d); None where the model has no such layer."""
    return next((getattr(model, name) for name in _OUTPUTS if getattr(model, name, None) is not None), None)


def set_pooling(model: PreTrainedModel, pooling: str) -> None:
    """Replace a model's own head, and the backbone's pooler, by one new linear layer, in place.

    Pooling "default" changes nothing, and "last" nothing in a decoder, whose own head is that.

    Args:
        model: a sequence-classification model, with weights or on the meta device.
        pooling: of the job.

    Raises:
        ModelError: the pooling does not suit the model.
    """
    if pooling == "default":
        return
    if is_causal(model) and pooling == "cls":
        raise ModelError(
            "pooling cls takes the first token, which in this model sees no other; set pooling: last or mean."
        )
    if output_layer(model) is None:
        raise ModelError(f"pooling {pooling} is not supported for {type(model).__name__}; set pooling: default.")
    config: Any = model.config.get_text_config()
    std = getattr(config, "initializer_range", 0.02)
    if getattr(model, "score", None) is not None:
        if pooling != "last":
            nn.init.normal_(model.score.weight, std=std)  # type: ignore[union-attr, arg-type]
        return
    for name in head_modules(model):
        setattr(model, name, None)
    backbone: Any = model.base_model
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None  # it reads [CLS] alone
    model.classifier = nn.Linear(config.hidden_size, int(model.config.num_labels or 0), device=model.device)
    nn.init.normal_(model.classifier.weight, std=std)
    nn.init.zeros_(model.classifier.bias)
