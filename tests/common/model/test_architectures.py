"""Known architectures are configs as transformers reads them from a config.json, and are compared with loaded ones."""

import json

import pytest
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig

from common.core.errors import ModelError
from common.model import architectures

SMALL = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}


@pytest.mark.parametrize("model", architectures.names())
def test_known_shapes_are_those_of_a_config_file(model, tmp_path):
    """Written as the hub has it and read as a user's is read, a shape is the same."""
    known = architectures.known(model)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": known.model_type, **known.keys}))
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is type(architectures.config(model))
    architectures.check_config(model, loaded)
    assert known.weights_dtype in ("float32", "bfloat16", "float16")
    unknown = set(known.keys) - set(loaded.to_dict()) - set(architectures._RENAMED)
    assert not unknown, "transformers has no such key"


def test_no_two_configs_share_a_value():
    first = architectures.config("meta-llama/Llama-3.1-8B")
    first.rope_parameters["factor"] = 1.0
    assert architectures.config("meta-llama/Llama-3.1-8B").rope_parameters["factor"] == 8.0


def test_a_smaller_model_of_the_family():
    config = architectures.config("mistralai/Mistral-7B-v0.3", vocab_size=100, num_key_value_heads=1, **SMALL)
    model = AutoModelForSequenceClassification.from_config(config)
    assert len(model.model.layers) == 2 and model.model.layers[0].self_attn.k_proj.out_features == 16


def test_another_model_under_the_name():
    model = "mistralai/Mistral-7B-v0.3"
    found = architectures.config(model, vocab_size=32000, rope_theta=10000.0)
    with pytest.raises(ModelError) as raised:
        architectures.check_config(model, found)
    assert "vocab_size is 32000 (published: 32768)" in str(raised.value)
    assert "rope_parameters" in str(raised.value) and "hidden_size" not in str(raised.value)
    with pytest.raises(ModelError, match="its model_type is llama; published is mistral"):
        architectures.check_config(model, architectures.config("meta-llama/Meta-Llama-3-8B"))


def test_models_without_a_known_architecture():
    assert architectures.known("nobody/nothing") is None
    architectures.check_config("nobody/nothing", PretrainedConfig())
    with pytest.raises(ModelError, match=r"nobody/nothing: its architecture is not known here\. Known: Qwen/"):
        architectures.config("nobody/nothing")
