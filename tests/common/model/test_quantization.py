"""Quantised bases: which weights have 4 or 8 bits and which dtype the others have; training and reloading."""

import numpy as np
import pytest
import tiny_causal
import torch
from marks import slow_except
from torch import nn
from toy_runs import dataset
from transformers import set_seed

from common.config.methods import LastLayers
from common.core.errors import ConfigError, ModelError
from common.data.rows import Row
from common.evaluation import inference
from common.hub import locate
from common.model import quantization, saved_model
from common.model.build import build_head, build_untuned, count_parameters
from common.model.inspect import inner_model, parameter_counts
from common.model.load import load_base, load_tokenizer
from common.train.trainer import StepTrainer

DATASET = dataset(labels=["con", "neu", "pro"], prompt={"user": "Claim: {claim}\nSentence: {sentence}\nStance:"})
ROWS = [Row(f"r{n}", (f"Claim {n}.", "bad idea " * (n * 5 % 7) + "really"), n % 3) for n in range(6)]
KINDS = {"int8": "Linear8bitLt", "nf4": "Linear4bit", "none": "Linear"}
LORA = {"name": "lora", "r": 4, "target_modules": "all-linear"}
METHODS = {
    "lora": LORA,
    "lora-from-scratch": {"name": "lora-from-scratch", "r": 4},
    "adapters": {"name": "adapters", "size": 4},
    "head alone": {"name": "last-layers", "k": 0},
}
# Layers that bitsandbytes can repack: whole blocks of 64 inputs and 32 outputs.
WIDE = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32, "num_key_value_heads": 2}
BFLOAT16 = {"dtype": "bfloat16", "precision": "bfloat16"}


def linears(model) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def trained(model) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def stored(parameter) -> torch.dtype:
    return parameter.data.dtype


# --- what is quantised -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", slow_except([{}], [{}, BFLOAT16]), ids=["float32", "bfloat16"])
@pytest.mark.parametrize("double", slow_except([True], [False, True]))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", ["prompt", "classification"])
def test_a_decoder(prompt_job, head, kind, double, options):
    if double and kind != "nf4":
        with pytest.raises(ConfigError, match="double_quantization goes with quantization nf4"):
            prompt_job("mistral", quantization=kind, double_quantization=True)
        return
    job = prompt_job("mistral", head=head, quantization=kind, double_quantization=double, **options)
    model = load_base(job, DATASET, 0)
    top = "lm_head" if head == "prompt" else "score"
    dtype = getattr(torch, job.dtype)
    for name, module in linears(model).items():
        assert type(module).__name__ == ("Linear" if name == top else KINDS[kind]), name
    assert len(linears(model)) == 2 * 7 + 1
    names = dict(model.named_parameters())
    # A new head is float32; the language-model head is a part of the base, with the dtype of its other weights.
    assert names[f"{top}.weight"].dtype == (torch.float32 if head == "classification" else dtype)
    assert names["model.embed_tokens.weight"].dtype == dtype
    norms = [parameter for name, parameter in names.items() if "norm" in name]
    assert len(norms) == 5 and all(parameter.dtype == torch.float32 for parameter in norms)
    if kind == "nf4":
        layer = model.model.layers[0].mlp.up_proj
        assert layer.weight.quant_state.nested == double and layer.weight.quant_type == "nf4"
        assert layer.compute_dtype == getattr(torch, job.precision)
    elif kind == "none":
        assert model.model.layers[0].mlp.up_proj.weight.dtype == dtype


@pytest.fixture(scope="module")
def encoders(tmp_path_factory, tiny_model):
    """Random encoders of every kind: name → (folder, names of the modules on top)."""
    import transformers as t

    tokenizer = load_tokenizer(locate.Base(str(tiny_model), None))
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
    }
    bert = {"vocab_size": len(tokenizer), "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    relative = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]}
    marks = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    kinds = {
        "bert": (t.BertModel, t.BertConfig(**shape), ["classifier"]),
        "roberta": (t.RobertaModel, t.RobertaConfig(**shape), ["classifier"]),
        "deberta": (t.DebertaV2Model, t.DebertaV2Config(**shape, **relative), ["pooler", "classifier"]),
        "modernbert": (t.ModernBertModel, t.ModernBertConfig(**shape, **marks), ["head", "classifier"]),
        "distilbert": (t.DistilBertModel, t.DistilBertConfig(**bert), ["pre_classifier", "classifier"]),
    }
    made = {}
    for name, (model, config, heads) in kinds.items():
        folder = tmp_path_factory.mktemp("encoders") / name
        torch.manual_seed(0)
        model(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        made[name] = (folder, heads)
    return made


@pytest.fixture(scope="module")
def encoder_job(encoders, tiny_job):
    def job(name: str, **overrides: object):
        options = {"model_config_overrides": {}, "max_length": 64, "method": LORA, **overrides}
        attention = "eager" if name == "deberta" else "sdpa"
        return tiny_job("minilm-lora", **{**options, "model": str(encoders[name][0]), "attention": attention})

    return job


ENCODERS = ["bert", "roberta", "deberta", "modernbert", "distilbert"]


@pytest.mark.parametrize("options", slow_except([{}], [{}, BFLOAT16]), ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize("name", slow_except(["bert"], ENCODERS))
def test_heads_of_encoders_are_neither_quantised_nor_bfloat16(encoders, encoder_job, name, kind, options):
    job = encoder_job(name, quantization=kind, **options)
    model = load_base(job, DATASET, 0)
    heads = tuple(encoders[name][1])
    on_top = {key: module for key, module in linears(model).items() if key.startswith(heads)}
    below = {key: module for key, module in linears(model).items() if key not in on_top}
    assert on_top and all(type(module) is nn.Linear for module in on_top.values())
    assert len(below) >= 8 and {type(module).__name__ for module in below.values()} == {KINDS[kind]}
    for key, parameter in model.named_parameters():
        if key.startswith(heads) or "norm" in key.lower():
            assert parameter.dtype == torch.float32, key
        elif "embeddings.weight" in key:
            assert parameter.dtype == getattr(torch, job.dtype), key


@pytest.mark.parametrize("method", slow_except(["lora"], METHODS))
@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize("name", slow_except(["bert"], ENCODERS))
def test_every_method_trains_beside_quantised_layers(encoder_job, name, kind, method):
    job = encoder_job(name, quantization=kind, method=METHODS[method], **BFLOAT16)
    set_seed(1)
    head = build_head(job, DATASET)
    assert parameter_counts(head.model) == count_parameters(job, DATASET)
    head.losses(head.training_batch(head.encoder.encode(ROWS))).sum().backward()
    parameters = trained(head.model)
    assert parameters
    for key, parameter in parameters.items():
        assert parameter.dtype == torch.float32 and parameter.grad is not None, key
    assert any(quantization.is_quantized(module) for module in head.model.modules())


@pytest.mark.parametrize("quantized", ["none", "nf4"])
@pytest.mark.parametrize("method", ["lora", "lora-from-scratch"])
def test_modules_that_train_whole_are_neither_quantised_nor_bfloat16(encoder_job, method, quantized):
    options = METHODS[method] | {"modules_to_save": ["pooler"]}
    job = encoder_job("bert", quantization=quantized, method=options, **BFLOAT16)
    head = build_head(job, DATASET)
    poolers = {key: parameter for key, parameter in trained(head.model).items() if "pooler" in key}
    assert {parameter.dtype for parameter in poolers.values()} == {torch.float32}
    assert sum(parameter.numel() for parameter in poolers.values()) >= 32 * 32 + 32
    assert parameter_counts(head.model) == count_parameters(job, DATASET)


def test_the_last_layers_of_a_bfloat16_base_train_in_float32(prompt_job):
    job = prompt_job("llama", method={"name": "last-layers", "k": 1}, **BFLOAT16)
    head = build_head(job, DATASET)
    assert {parameter.dtype for parameter in trained(head.model).values()} == {torch.float32}
    assert head.model.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="trains quantised layers, which cannot learn"):
        prompt_job("llama", method={"name": "last-layers", "k": 1}, quantization="nf4")
    assert isinstance(job.method, LastLayers)


def test_bfloat16_weights_are_not_multiplied_in_float32(prompt_job):
    with pytest.raises(ConfigError, match="dtype bfloat16 goes with precision bfloat16"):
        prompt_job("llama", dtype="bfloat16")


def test_a_model_without_linear_layers_is_refused(prompt_job):
    with pytest.raises(ModelError, match="no linear layers that quantization nf4 can store"):
        quantization.check_quantized(nn.Sequential(nn.Conv1d(1, 1, 1)), prompt_job("qwen", quantization="nf4"))
    quantization.check_quantized(nn.Sequential(), prompt_job("qwen"))


# --- training --------------------------------------------------------------------------------------------------------


def gradients(head) -> dict[str, torch.Tensor]:
    head.model.zero_grad()
    head.model.train()
    head.losses(head.training_batch(head.encoder.encode(ROWS))).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in trained(head.model).items()}


def with_updates(head):
    """Add noise to all trained parameters: LoRA's B is zero at the start."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in trained(head.model).values():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return head


@pytest.mark.parametrize("options", [{}, BFLOAT16], ids=["float32", "bfloat16"])
def test_training_after_an_evaluation_gets_the_same_gradients(prompt_job, tiny_causal_model, options):
    wide = tiny_causal_model("qwen", **WIDE)
    head = with_updates(build_head(prompt_job("qwen", wide, quantization="nf4", **options), DATASET))
    before = gradients(head)
    inference.score(head, ROWS, 500, "test")
    after = gradients(head)
    assert max(gradient.abs().max() for gradient in before.values()) > 1e-3
    for name, gradient in before.items():
        assert torch.equal(gradient, after[name]), name


def test_without_it_gradients_are_lost_on_a_cpu_with_avx512_bfloat16(prompt_job, tiny_causal_model, monkeypatch):
    from bitsandbytes.functional import has_avx512bf16

    if torch.cuda.is_available() or not has_avx512bf16():
        pytest.skip("needs a CPU with AVX512-BF16, and no GPU")
    monkeypatch.setattr("common.model.load.keep_trainable_on_cpu", lambda model: None)
    wide = tiny_causal_model("qwen", **WIDE)  # whole blocks of 64 weights
    head = with_updates(build_head(prompt_job("qwen", wide, quantization="nf4", **BFLOAT16), DATASET))
    before = gradients(head)
    inference.score(head, ROWS, 500, "test")
    try:
        after = gradients(head)
    except RuntimeError:
        return  # no gradient at all
    assert any(not torch.allclose(before[name], after[name], rtol=1e-2) for name in before)


@pytest.mark.parametrize("method", slow_except(["lora"], METHODS))
@pytest.mark.parametrize("kind", ["none", "nf4"])
def test_activation_checkpointing_changes_no_gradient(prompt_job, tmp_path, method, kind):
    found = []
    for checkpointing in (False, True):
        job = prompt_job(
            "mistral",
            quantization=kind,
            method=METHODS[method],
            **{"runtime.activation_checkpointing": checkpointing},
        )
        set_seed(2)
        head = with_updates(build_head(job, DATASET))
        trainer = StepTrainer(head, job, DATASET, ROWS, ROWS, tmp_path / "run" / "checkpoints", 1, [])
        if checkpointing:
            trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
            assert inner_model(head.model).is_gradient_checkpointing
        trainer.training_step(head.model, (trainer.encoded, trainer.micro_batches(trainer.encoded)))
        found.append({name: parameter.grad.clone() for name, parameter in trained(head.model).items()})
    assert max(gradient.abs().max() for gradient in found[0].values()) > 1e-4
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=1e-6, msg=name)


# --- saved and reloaded ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["none", "int8", "nf4"])
@pytest.mark.parametrize("method", slow_except(["lora"], METHODS))
@pytest.mark.parametrize("head_kind", ["prompt", "classification"])
def test_a_reloaded_model_scores_the_same(prompt_job, tmp_path, head_kind, method, kind):
    job = prompt_job("mistral", head=head_kind, quantization=kind, method=METHODS[method], **BFLOAT16)
    set_seed(4)
    head = with_updates(build_head(job, DATASET))
    saved_model.save(head, job, DATASET, tmp_path / "model")
    expected = inference.score(head_without_gradients(head), ROWS, 500, "test")
    again = saved_model.load(job, DATASET, tmp_path / "model")
    assert not trained(again.model)
    assert np.array_equal(inference.score(again, ROWS, 500, "test"), expected)


def head_without_gradients(head):
    head.model.requires_grad_(False)
    return head


@pytest.mark.parametrize("name", slow_except(["bert"], ENCODERS))
def test_a_reloaded_encoder_scores_the_same(encoder_job, tmp_path, name):
    method = LORA | ({"modules_to_save": ["pooler"]} if name == "bert" else {})
    job = encoder_job(name, quantization="nf4", method=method, **BFLOAT16)
    head = with_updates(build_head(job, DATASET))
    saved_model.save(head, job, DATASET, tmp_path / "model")
    expected = inference.score(head_without_gradients(head), ROWS, 500, "test")
    assert np.array_equal(
        inference.score(saved_model.load(job, DATASET, tmp_path / "model"), ROWS, 500, "test"), expected
    )


@pytest.mark.parametrize("family", slow_except(["qwen"], tiny_causal.FAMILIES))
def test_quantised_scores_come_close(prompt_job, family):
    exact = inference.score(build_untuned(prompt_job(family), DATASET), ROWS, 500, "test")
    for kind in ("int8", "nf4"):
        head = build_untuned(prompt_job(family, quantization=kind), DATASET)
        difference = np.abs(inference.score(head, ROWS, 500, "test") - exact).max()
        assert 1e-6 < difference < 2.0, kind
