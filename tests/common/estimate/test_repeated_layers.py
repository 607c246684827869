"""Skipped layers: which are skipped, and that the figures are to the byte those of a model whose layers all run."""

import pytest
from marks import slow_except
from peft_cases import OPTIONS
from transformers import BertConfig, Gemma2Config, GraniteSWAConfig, LlamaConfig, ModernBertConfig

from common.config import catalog
from common.estimate import memory, repeated_layers
from common.estimate.repeated_layers import RepeatedLayers, find_repeats

LABELS = "stance-sample"
SIZES = {
    "vocab_size": 50,
    "hidden_size": 64,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "num_labels": 3,
    "pad_token_id": 0,
}
CONFIGS = {
    "bert": BertConfig(num_hidden_layers=9, **SIZES),
    "llama": LlamaConfig(num_hidden_layers=9, num_key_value_heads=2, **SIZES),
    "gemma": Gemma2Config(num_hidden_layers=13, num_key_value_heads=2, head_dim=32, sliding_window=8, **SIZES),
    "granite": GraniteSWAConfig(
        num_hidden_layers=10,
        num_key_value_heads=2,
        layer_types=["full_attention"] * 10,
        layer_rope_theta=[0] * 4 + [10000.0] * 6,
        **SIZES,
    ),
    "modernbert": ModernBertConfig(
        num_hidden_layers=16, global_attn_every_n_layers=3, local_attention=8, cls_token_id=1, sep_token_id=2, **SIZES
    ),
}
LORA = {"name": "lora", "r": 4, "modules_to_save": None}
ONE_LAYER = {**LORA, "target_modules": ["q_proj", "v_proj"], "layers_to_transform": [2], "layers_pattern": "layers"}
NF4 = {"quantization": "nf4", "double_quantization": True}
PROMPT = {"head": "prompt"}


def skipped(kinds: str) -> list[int]:
    return [index for repeat in find_repeats(kinds) for index in repeat.skipped]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ("aaa", []),
        ("aaaa", [3]),
        ("aaaaaa", [3, 4, 5]),
        ("abab", []),
        ("ababa", [4]),
        ("abababab", [4, 5, 6, 7]),
        ("aaaaaabbbbbb", [3, 4, 5, 9, 10, 11]),
        ("aaalaaalaaaaaaa", [8, 9, 10, 14]),
        ("abcabcabcabcabc", [6, 7, 8, 9, 10, 11, 12, 13, 14]),
        ("abcdefghij", []),
    ],
)
def test_which_layers_are_skipped(kinds, expected):
    assert skipped(kinds) == expected


@pytest.fixture(scope="module")
def deep_job(tmp_path_factory):
    """`deep_job("llama", method)` is a job on a small model with many layers, of which only the config is there."""
    folder = tmp_path_factory.mktemp("configs")
    for kind, config in CONFIGS.items():
        config.save_pretrained(folder / kind)

    def job(kind: str, method: dict, **changes: object):
        small = {"model": str(folder / kind), "max_length": 16, "training.token_budget": 64, "quantization": "none"}
        small |= {"runtime.score_token_budget": 128, "double_quantization": False}
        small |= {"runtime.activation_checkpointing": False, "dtype": "float32", "precision": "float32"}
        return catalog.load_job("qwen2.5-3b-instruct-classification", {"method": method, **small, **changes})[0]

    return job


CASES = {
    "llama-lora": ("llama", LORA, {}),
    "llama-dora": ("llama", {**LORA, "use_dora": True}, {}),
    "llama-kasa": ("llama", {**LORA, "kasa_config": {}}, {}),  # its first pass replaces the weights
    "llama-shadow": ("llama", {"name": "shadow"}, PROMPT),
    "granite": ("granite", {"name": "full"}, {**PROMPT, "attention": "eager"}),
    "llama-bfloat16": ("llama", LORA, {"dtype": "bfloat16", "precision": "bfloat16"}),
    "llama-checkpointing": ("llama", LORA, {"runtime.activation_checkpointing": True}),
    "llama-prompt": ("llama", LORA, PROMPT),
    "llama-generate": ("llama", LORA, {**PROMPT, "decoding": "generate"}),
    "llama-one-layer": ("llama", ONE_LAYER, {}),
    "llama-rank-pattern": ("llama", {**LORA, "rank_pattern": {"layers.2.self_attn.q_proj": 2}}, {}),
    "llama-last-layers": ("llama", {"name": "last-layers", "k": 2}, {}),
    "llama-full": ("llama", {"name": "full"}, {}),
    "llama-adalora": ("llama", {"name": "adalora", **OPTIONS["adalora"]}, {}),
    "llama-vera": ("llama", {"name": "vera"}, {}),
    "llama-ia3": ("llama", {"name": "ia3"}, {}),
    "llama-adaption-prompt": ("llama", {"name": "adaption_prompt", "adapter_len": 4, "adapter_layers": 7}, PROMPT),
    "llama-nf4": ("llama", LORA, NF4),
    "llama-int8": ("llama", LORA, {"quantization": "int8"}),
    "gemma-lora": ("gemma", LORA, {"attention": "eager"}),
    "gemma-checkpointing": ("gemma", LORA, {"attention": "eager", "runtime.activation_checkpointing": True, **NF4}),
    "gemma-generate": ("gemma", LORA, {"attention": "eager", **PROMPT, "decoding": "generate"}),
    "modernbert-lora": ("modernbert", LORA, {}),
    "modernbert-last-layers": ("modernbert", {"name": "last-layers", "k": 6}, {}),
    "bert-adapters": ("bert", {"name": "adapters", "size": 4}, {}),
    "bert-full": ("bert", {"name": "full"}, {}),
    "bert-lora-checkpointing": ("bert", LORA, {"runtime.activation_checkpointing": True}),
}

# The input of the first adapted layer has no gradient, so that layer frees less than the second one; shadow's layers
# return an object.
FALLS_BACK = {"llama-adaption-prompt", "llama-shadow"}


@pytest.mark.parametrize("name", slow_except(["llama-lora", "bert-adapters"], CASES))
def test_the_figures_are_those_of_all_layers(deep_job, monkeypatch, name):
    kind, method, changes = CASES[name]
    job, dataset = deep_job(kind, method, **changes), catalog.load_dataset(LABELS)
    seen = []

    class Seen(RepeatedLayers):
        def __init__(self, model, every_layer=False):
            super().__init__(model, every_layer)
            seen.append(sum(len(repeat.skipped) for repeat in self.repeats))

    monkeypatch.setattr(memory, "RepeatedLayers", Seen)
    found = memory.estimate(job, dataset)
    assert seen[0] > 0  # layers were skipped
    assert len(seen) == (2 if name in FALLS_BACK else 1)  # it did not start again with all of them
    assert found["memory_estimate_bytes"] is not None
    assert found == memory.estimate(job, dataset, every_layer=True)


@pytest.mark.parametrize("method", slow_except(["prompt_tuning"], ["prefix_tuning", "prompt_tuning", "p_tuning"]))
def test_all_layers_run_where_a_method_gives_each_its_own_input(deep_job, method):
    job, dataset = deep_job("bert", {"name": method, **OPTIONS[method]}), catalog.load_dataset(LABELS)
    assert memory.estimate(job, dataset) == memory.estimate(job, dataset, every_layer=True)


@pytest.mark.slow
def test_all_layers_run_where_neighbouring_periods_differ(deep_job, monkeypatch):
    job, dataset = deep_job("llama", LORA), catalog.load_dataset(LABELS)
    expected = memory.estimate(job, dataset, every_layer=True)
    # Layers of two kinds that are taken for one.
    monkeypatch.setattr(repeated_layers, "layer_kind", lambda layer, index: "same")
    uneven = deep_job("llama", ONE_LAYER)
    assert memory.estimate(uneven, dataset) == memory.estimate(uneven, dataset, every_layer=True)
    assert memory.estimate(job, dataset) == expected
