"""Tables of the peft library's methods for tests: which fit which tiny model, and the options they need there."""

import typing

from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    LlamaConfig,
    PreTrainedModel,
    set_seed,
)

from common.config import method_rules
from common.config.methods import Lora, OtherLibraryMethod
from common.core.schema import validate
from common.model.load import quiet_libraries

SIZES = {
    "vocab_size": 50,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "initializer_range": 0.2,  # wide enough for attention to distinguish tokens
    "num_labels": 3,
    "pad_token_id": 0,
}
CONFIGS = {
    "bert": BertConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **SIZES),
    "llama": LlamaConfig(num_key_value_heads=2, **SIZES),
}
# Options that the tiny models need instead of peft's defaults.
OPTIONS: dict[str, dict] = {
    "adalora": {"total_step": 100},
    "adaption_prompt": {"adapter_len": 4, "adapter_layers": 2},
    "c3a": {"block_size": 32},
    "fourierft": {"n_frequency": 50},
    "lora": {"r": 4},
    "oft": {"oft_block_size": 32, "r": 0},
    "osf": {"effective_rank": 8},
    "p_tuning": {"num_virtual_tokens": 4, "encoder_hidden_size": 32},
    "prefix_tuning": {"num_virtual_tokens": 4},
    "prompt_tuning": {"num_virtual_tokens": 4},
    "trainable_tokens": {"token_indices": [3, 4, 5]},
    "vblora": {"num_vectors": 8, "vector_length": 16, "topk": 2},
    "waveft": {"n_frequency": 50},
}
ON_BERT = {"ln_tuning": {"target_modules": ["LayerNorm"]}}
NAMES = ["lora", *typing.get_args(OtherLibraryMethod.model_fields["name"].annotation)]
# No job can use these, whatever the model: the job's schema refuses them.
UNUSABLE = {"cartridge", "cpt", "lily", "multitask_prompt_tuning", "poly", "xlora"}
WITHOUT_HEAD = {"adaption_prompt", "trainable_tokens"}
# (kind of model, method): the method does not fit this classifier, and `attach` refuses it.
MISFITS = {("bert", "shadow"), *(("llama", name) for name in ("prompt_tuning", "p_tuning", "prefix_tuning"))}
# Virtual tokens and random starts change the output before training; all other methods start at the base's output.
CHANGES_THE_START = {"c3a", "fourierft", "p_tuning", "prefix_tuning", "prompt_tuning", "unilora", "vblora"}
OF_WEIGHTS = ("adamss", "frod")  # the number of their parameters depends on the base's weights
# (kind of model, method) with a classification head.
POSSIBLE = [
    (kind, name)
    for kind in CONFIGS
    for name in sorted(set(NAMES) - UNUSABLE - WITHOUT_HEAD)
    if (kind, name) not in MISFITS
]
# Methods that work with a language-model head.
CAUSAL = sorted(set(NAMES) - UNUSABLE - set(method_rules.VIRTUAL_TOKENS))


def method(name: str, kind: str = "llama", **options: object) -> Lora | OtherLibraryMethod:
    """Return the validated method with the options that a tiny model of this kind needs."""
    schema = Lora if name == "lora" else OtherLibraryMethod
    chosen = {**OPTIONS.get(name, {}), **(ON_BERT.get(name, {}) if kind == "bert" else {}), **options}
    return validate(schema, {"name": name, **chosen}, "test")


def tiny_model(kind: str, head: str = "classification") -> PreTrainedModel:
    """Return a tiny random model of `CONFIGS`, the same at every call, in evaluation mode."""
    quiet_libraries()
    set_seed(0)
    auto = AutoModelForSequenceClassification if head == "classification" else AutoModelForCausalLM
    return auto.from_config(CONFIGS[kind]).eval()
