"""Fine-tune the last k layers; everything below them stays frozen.

Source: Lee, Tang and Lin (2019), "What Would Elsa Do? Freezing Layers During Transformer Fine-Tuning",
https://arxiv.org/abs/1911.03090.
"""

from torch import nn
from transformers import PreTrainedModel

from common.config.methods import LastLayers
from common.core.errors import ModelError


def train_last_layers(model: PreTrainedModel, method: LastLayers) -> PreTrainedModel:
    """Freeze the embeddings and all layers but the last k, in place.

    With layers h_1 … h_n on embeddings e(x), the model is  f(x) = head(h_n(… h_{n-k+1}(z) …)),  z = h_{n-k}(… e(x) …).
    z does not change in training.

    Args:
        model: a freshly loaded base with its head.
        method: k, from 0 to n; at 0 no layer trains.

    Returns:
        The same model, in which the last k layers, the modules after them (final norm, pooler) and the head train; a
        language-model head that is the embedding table (tied) does not.

    Raises:
        ModelError: the model has fewer than k layers or no stack of layers, or k is 0 and the head stays frozen.
    """
    layers = layer_stack(model)
    if method.k > len(layers):
        raise ModelError(
            f"method.k is {method.k}, but the model has {len(layers)} layers; allowed is 0 to {len(layers)}."
        )
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())  # quantised weights cannot train
    for module in _embedding_modules(model):
        module.requires_grad_(False)
    for layer in layers[: len(layers) - method.k]:
        layer.requires_grad_(False)
    head = model.get_output_embeddings()
    if method.k == 0 and head is not None and not head.weight.requires_grad:
        raise ModelError(
            f"method.k is 0, but the head of {type(model).__name__} is its embedding table (tie_word_embeddings), "
            "which stays frozen: only the final norm would train. Set method.k to 1 or more, or head: classification."
        )
    return model


def layer_stack(model: PreTrainedModel) -> nn.ModuleList:
    """Return the list of the model's layers: equal blocks, as many as its config says.

    Args:
        model: a transformers model, with or without a head.

    Raises:
        ModelError: the model has no such list.
    """
    depth = model.config.get_text_config().num_hidden_layers
    stacks = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth and len({type(block) for block in module}) == 1
    ]
    if not stacks:
        raise ModelError(
            f"{type(model).__name__} has no list of {depth} equal layers; last-layers cannot be used with it."
        )
    return stacks[0]


def _embedding_modules(model: PreTrainedModel) -> list[nn.Module]:
    """Return the modules before the layers: BERT's `embeddings`, and every embedding table outside the layers.

    Position tables are in one module with the token table (BERT), or directly in the backbone (GPT-2, OPT).
    """
    token_embedding = model.get_input_embeddings()
    layers = layer_stack(model)
    inside = set(layers.modules())
    return [
        module
        for module in model.modules()
        if (isinstance(module, nn.Embedding) and module not in inside)
        or (
            any(child is token_embedding for child in module.modules())
            and not any(child is layers for child in module.modules())
        )
    ]
