"""Bottleneck adapters from scratch: a small trainable network with a skip connection after a frozen sublayer.

Sources: Houlsby et al. (2019), "Parameter-Efficient Transfer Learning for NLP", section 2.1,
https://arxiv.org/abs/1902.00751; Pfeiffer et al. (2021), "AdapterFusion", https://arxiv.org/abs/2005.00247.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from common.config.methods import Adapters
from common.core.errors import ModelError
from common.methods.modules import freeze_backbone, wrap_linears

# The names of each sublayer's last linear layer in the families of models: (attention, feed-forward).
_SUBLAYERS = (
    ("attention.output.dense", "output.dense"),  # BERT, RoBERTa, ELECTRA, DeBERTa
    ("attention.out_lin", "ffn.lin2"),  # DistilBERT
    ("attn.Wo", "mlp.Wo"),  # ModernBERT
    ("self_attn.o_proj", "mlp.down_proj"),  # Llama, Mistral, Qwen, Gemma
)


class Adapter(nn.Module):
    """A frozen linear layer and a bottleneck after it:  y = h + W_up relu(W_down h + b_down) + b_up,  h = W x + b.

    x (…, in), h and y (…, d) are in the dtype of the frozen W (d, in) and b (d); W_down (m, d), b_down (m), W_up (d, m)
    and b_up (d) train, in float32: 2 m d + m + d parameters. W_up and b_up start at zero, so training starts at the
    base model.

    Args:
        base: the layer with W and b, the last of a sublayer; it is kept and frozen, and may be quantised.
        size: width m of the bottleneck, from 1.
    """

    def __init__(self, base: nn.Linear, size: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        device, width = base.weight.device, base.out_features
        self.down = nn.Linear(width, size, device=device, dtype=torch.float32)
        self.up = nn.Linear(size, width, device=device, dtype=torch.float32)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y (…, d) for x (…, in)."""
        h = self.base(x)  # (…, d)
        return h + self.up(F.relu(self.down(h.to(self.down.weight.dtype)))).to(h.dtype)


def add_adapters(model: PreTrainedModel, method: Adapters) -> PreTrainedModel:
    """Put adapters after sublayers of every layer of the backbone, before the residual is added, in place.

    Args:
        model: a freshly loaded base with its head.
        method: the adapters' width, and their placement: "houlsby" is after the attention and after the feed-forward
            sublayer, "pfeiffer" after the feed-forward sublayer alone.

    Returns:
        The same model, in which the adapters, a classification head and `modules_to_save` train.

    Raises:
        ModelError: the model's sublayers have none of the known names, or `modules_to_save` names no module.
    """
    names = {name for name, module in model.base_model.named_modules() if isinstance(module, nn.Linear)}
    for attention, feed_forward in _SUBLAYERS:
        in_attention = {name for name in names if name.endswith(f".{attention}")}
        in_feed_forward = {name for name in names if name.endswith(f".{feed_forward}")} - in_attention
        if in_attention and in_feed_forward:
            freeze_backbone(model, method.modules_to_save)
            chosen = in_feed_forward | (in_attention if method.placement == "houlsby" else set())
            wrap_linears(model, sorted(chosen), lambda linear: Adapter(linear, method.size))
            return model
    raise ModelError(f"method adapters: the sublayers of {type(model).__name__} have none of the known names.")
