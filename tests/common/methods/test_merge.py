"""Merged for good, a model computes what it did with its method beside the weights, also after it was saved."""

import peft_cases
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig, set_seed

from common.core.errors import ModelError
from common.methods import attach
from common.methods.merge import merge
from common.methods.merged import merged_lora

IDS = torch.tensor([[5, 6, 7, 8], [9, 3, 4, 4]])


def trained(name: str, tied: bool = False, **options: object) -> nn.Module:
    """A tiny decoder with a method, as if it had been trained; `tied`: its head has the weight of its embedding."""
    set_seed(0)
    config = LlamaConfig(num_key_value_heads=2, tie_word_embeddings=tied, **peft_cases.SIZES)
    model = attach(AutoModelForCausalLM.from_config(config), peft_cases.method(name, **options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def logits(model: nn.Module) -> torch.Tensor:
    return model(input_ids=IDS).logits


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings:UserWarning")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lora", {"target_modules": ["lm_head", "q_proj"]}),
        ("lora", {"target_modules": ["embed_tokens"]}),
        ("trainable_tokens", {}),
    ],
)
def test_an_update_reaches_its_own_layer_alone(name, options, tmp_path):
    model = trained(name, tied=True, **options)
    expected = logits(model)
    with merged_lora(model, "float32"):
        torch.testing.assert_close(logits(model), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(logits(model), expected)
    found = merge(model)
    torch.testing.assert_close(logits(found), expected, rtol=1e-5, atol=1e-5)
    found.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(again), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("adaption_prompt", {}, "changes no weight"),
        ("shadow", {}, "changes no weight"),
        ("beft", {}, "has no bias"),
        ("lora", {"lora_bias": True}, "has no bias"),
    ],
)
def test_what_cannot_be_merged_computes_what_it_did(name, options, reason):
    model = trained(name, **options)
    expected = logits(model)
    with pytest.raises(ModelError, match=f"method {name} cannot be merged.*{reason}"):
        merge(model)
    torch.testing.assert_close(logits(model), expected)


def test_weights_that_are_not_finite_are_not_merged():
    model = trained("lora")
    model.get_parameter("base_model.model.model.layers.1.self_attn.q_proj.lora_A.default.weight").data[0, 0] = torch.nan
    with pytest.raises(ModelError, match="NaN"):
        merge(model)


def test_a_merged_model_has_the_names_of_its_base(tmp_path):
    """ln_tuning leaves its wrapper around the head, which `from_pretrained` does not read."""
    base = peft_cases.tiny_model("bert")
    names = set(base.state_dict())
    model = attach(base, peft_cases.method("ln_tuning", "bert")).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    expected = logits(model)
    found = merge(model)
    assert set(found.state_dict()) == names
    found.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(again), expected, rtol=0, atol=0)
