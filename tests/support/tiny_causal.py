"""Tiny random causal language models with small tokenizers and chat templates, for tests.

The families differ where renderers fail: Gemma begins with BOS, has no system turn, and a line break after the end of
turn. Qwen has a system turn and no BOS. Mistral drops the system turn and begins answers with a space. Llama, a base
model, has no template, and its tokenizer no pad token; instructed Llama has headers with an empty line after them.
"""

import json
from pathlib import Path
from typing import Any

from common.smoke import chat_templates

GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + "
    "'\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + '[/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
# family: (chat template, BOS, EOS, pad, all special tokens, end of turn)
FAMILIES: dict[str, tuple[str | None, str | None, str, str | None, list[str], str]] = {
    "gemma": (
        GEMMA,
        "<bos>",
        "<eos>",
        "<pad>",
        ["<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"],
        "<end_of_turn>",
    ),
    "qwen": (CHATML, None, "<|im_end|>", "<pad>", ["<pad>", "<|im_start|>", "<|im_end|>"], "<|im_end|>"),
    "mistral": (MISTRAL, "<s>", "</s>", None, ["<s>", "</s>", "[INST]", "[/INST]"], "</s>"),
    "llama": (None, "<s>", "</s>", None, ["<s>", "</s>"], "</s>"),
    "llama-instruct": (
        chat_templates.LLAMA3,
        "<|begin_of_text|>",
        "<|eot_id|>",
        None,
        ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "<|eot_id|>",
    ),
}
# Texts to train the tokenizers on: con, neu and pro become one token; against, favor and pro-choice several.
TEXTS = [
    "Is the sentence an argument for the claim (pro), against it (con), or neither (neu)? Answer with one word.",
    "You are an assistant that classifies arguments.\nClaim: Claim 1.\nSentence: bad harmful wrong idea number really",
    "maybe unclear open good useful right pro-choice pro-life pro con neu",
] * 9


def overrides(family: str, folder: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a job with the prompt head on a tiny model: keys of SET with plain values."""
    return {
        "model": str(folder),
        "head": "prompt",
        "attention": "eager" if family == "gemma" else "sdpa",  # soft-capping is not for sdpa
        "model_config_overrides": {},
        "method": {"name": "lora", "r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
        **changes,
    }


def words(family: str, folder: Path, **changes: Any) -> list[str]:
    """Return `overrides` as the words after `--set`; in `changes`, two underscores stand for a key's dot."""
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return [f"{key}={json.dumps(value)}" for key, value in overrides(family, folder, dotted).items()]


def make(family: str, folder: Path, **config: Any) -> Path:
    """Save a tiny model and its tokenizer to a folder, and return the folder.

    Args:
        family: of `FAMILIES`.
        folder: made anew.
        config: changed keys of the model's config.
    """
    import torch
    import transformers

    tokenizer = make_tokenizer(family)
    torch.manual_seed(0)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "initializer_range": 0.1,  # wide enough for different scores
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    own = {"gemma": {"sliding_window": 32}, "qwen": {"tie_word_embeddings": True}}.get(family, {})
    name = {"gemma": "Gemma2", "qwen": "Qwen2", "mistral": "Mistral"}.get(family, "Llama")
    settings = getattr(transformers, f"{name}Config")(**shape | own | config)
    getattr(transformers, f"{name}ForCausalLM")(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer(family: str) -> Any:
    """Return a byte-level BPE tokenizer of some 500 words with the family's special tokens and template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    template, bos, eos, pad, special, _ = FAMILIES[family]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    if bos is not None:  # as the published tokenizers do
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.chat_template = template
    return tokenizer
