"""While rows are scored, LoRA's updates are in the weights: the same outputs, and the old weights again afterwards."""

import peft_cases
import pytest
import torch
from torch import nn
from transformers import set_seed

from common.config.methods import LoraFromScratch
from common.methods import attach, merged
from common.methods.lora import LoraLinear
from common.methods.merged import merged_lora

IDS = torch.tensor([[5, 6, 7, 8], [9, 3, 4, 4]])


@pytest.fixture
def trained():
    """`trained("lora", r=4)` → a tiny model with the method, as if it had been trained."""

    def make(name: str, **options: object) -> nn.Module:
        own = name == "lora-from-scratch"
        chosen = LoraFromScratch(name=name) if own else peft_cases.method(name, **options)
        model = attach(peft_cases.tiny_model("llama", "prompt"), chosen).eval()
        set_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return model

    return make


@pytest.mark.parametrize("name", ["lora", "lora-from-scratch"])
def test_outputs_are_the_same_and_the_weights_return(trained, name):
    model = trained(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    layers = [layer for layer in model.modules() if merged._can_merge(layer)]
    weights = [merged._weight(layer) for layer in layers]
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
        with pytest.raises(KeyboardInterrupt), merged_lora(model, "float32"):
            for layer in layers:
                own = layer.A if isinstance(layer, LoraLinear) else layer.lora_A["default"].weight
                own.data.zero_()  # the update is in the weights already
            found = model(input_ids=IDS).logits
            assert all(merged._weight(layer) is not weight for layer, weight in zip(layers, weights, strict=True))
            raise KeyboardInterrupt
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed and all("lora_A" in key or key.endswith(".A") for key in changed)
    with torch.no_grad():
        assert (model(input_ids=IDS).logits - expected).abs().max() > 1e-3  # without A there is no update any more


@pytest.mark.parametrize(
    ("name", "options", "precision"),
    [("lora", {}, "bfloat16"), ("lora", {"use_dora": True}, "float32"), ("ia3", {}, "float32")],
)
def test_what_is_left_alone(trained, name, options, precision):
    model = trained(name, **options)
    before = {key: value.data_ptr() for key, value in model.named_parameters()}
    with merged_lora(model, precision):
        assert {key: value.data_ptr() for key, value in model.named_parameters()} == before


def test_large_weights_are_left_alone(trained, monkeypatch):
    model = trained("lora")
    monkeypatch.setattr(merged, "_MOST_BYTES", 100)
    before = {key: value.data_ptr() for key, value in model.named_parameters()}
    with merged_lora(model, "float32"):
        assert {key: value.data_ptr() for key, value in model.named_parameters()} == before


@pytest.mark.parametrize("name", ["lora", "lora-from-scratch"])
def test_a_second_scoring_inside_merges_nothing_again(trained, name):
    model = trained(name)
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
        with merged_lora(model, "float32"):
            with merged_lora(model, "float32"):
                inside = model(input_ids=IDS).logits
            behind = model(input_ids=IDS).logits
        assert torch.equal(model(input_ids=IDS).logits, expected)
    torch.testing.assert_close(inside, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(inside, behind)


@pytest.mark.parametrize("name", ["lora", "lora-from-scratch"])
def test_an_error_while_merging_leaves_the_old_weights(trained, monkeypatch, name):
    model = trained(name)
    update, calls = merged._update, []

    def failing(layer):
        calls.append(layer)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return update(layer)

    monkeypatch.setattr(merged, "_update", failing)
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
        before = dict(model.named_parameters())
        with pytest.raises(KeyboardInterrupt), merged_lora(model, "float32"):
            pytest.fail("the third layer is not merged")
        assert torch.equal(model(input_ids=IDS).logits, expected)
    assert all(parameter is before[key] for key, parameter in model.named_parameters())
