"""The methods from scratch on bitsandbytes' 4-bit and 8-bit linear layers."""

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from torch import nn

from common.methods.adapters import Adapter
from common.methods.lora import LoraLinear, merge_lora

IN, OUT, R = 64, 128, 4


def quantized(kind: str, compute: torch.dtype) -> nn.Linear:
    torch.manual_seed(0)
    plain = nn.Linear(IN, OUT)
    if kind == "nf4":
        layer = Linear4bit(IN, OUT, compute_dtype=compute, quant_type="nf4")
        # On a CPU bitsandbytes packs weights for inference after an evaluation; packed ones pass no gradients on.
        layer.support_avx512bf16_for_cpu = False
    else:
        layer = Linear8bitLt(IN, OUT, has_fp16_weights=False)
    layer.load_state_dict(plain.state_dict())
    return layer.to("cpu")


WRAPS = {
    "lora": lambda base: LoraLinear(base, r=R, alpha=8.0, dropout=0.0),
    "adapter": lambda base: Adapter(base, size=R),
}
EVERY = pytest.mark.parametrize(
    ("kind", "wrap", "compute"),
    [(k, w, c) for k in ("nf4", "int8") for w in WRAPS for c in (torch.float32, torch.bfloat16)],
    ids=str,
)


def run(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        return module(x)


@EVERY
def test_it_starts_at_the_base_and_only_its_own_weights_train(kind, wrap, compute):
    base = quantized(kind, compute)
    x = torch.randn(3, 5, IN, generator=torch.Generator().manual_seed(1)).to(compute)
    before = run(base, x)
    module = WRAPS[wrap](base)
    open_ = {name: p for name, p in module.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in open_} == ({"A", "B"} if wrap == "lora" else {"down", "up"})
    assert {parameter.dtype for parameter in open_.values()} == {torch.float32}
    x.requires_grad_(True)
    y = run(module, x)
    assert y.dtype == before.dtype and y.shape == (3, 5, OUT)
    assert torch.equal(y, before)

    stored = module.base.weight.detach().clone()
    optimizer = torch.optim.SGD(open_.values(), lr=0.1)
    losses = []
    for _ in range(5):
        loss = run(module, x).float().pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert x.grad is not None and x.grad.abs().sum() > 0  # layers below learn, too
    assert torch.equal(module.base.weight, stored)
    assert all(parameter.grad is not None for parameter in open_.values())


@EVERY
def test_moving_it_and_a_state_dict_keep_its_outputs(kind, wrap, compute):
    x = torch.randn(2, IN, generator=torch.Generator().manual_seed(2)).to(compute)
    module = WRAPS[wrap](quantized(kind, compute))
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    expected = run(module, x)
    trained = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}
    again = WRAPS[wrap](quantized(kind, compute))
    again.load_state_dict(trained, strict=False)
    assert torch.equal(run(again, x), expected)
    assert torch.equal(run(again.to("cpu"), x), expected)
    moved = again.to(torch.bfloat16)  # what is stored in bytes stays; the rest is rounded
    assert not moved.base.weight.is_floating_point()
    torch.testing.assert_close(run(moved, x).float(), expected.float(), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_rounded_weights_take_no_update(kind):
    model = nn.Sequential(LoraLinear(quantized(kind, torch.float32), r=R, alpha=8.0, dropout=0.0))
    stored = model[0].base.weight.detach().clone()
    with pytest.raises(TypeError, match="0: the base is quantised, so its weight cannot take an update"):
        merge_lora(model)
    assert isinstance(model[0], LoraLinear) and torch.equal(model[0].base.weight, stored)
