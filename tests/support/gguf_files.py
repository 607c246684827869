"""Write a tiny Llama as a GGUF file, as llama.cpp's converter does: its names of tensors, its order of q and k rows."""

import json
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import tiny_causal
from safetensors.numpy import load_file
from transformers import AutoConfig

LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write(file: Path, folder: Path, without: Sequence[str] = (), **fields: int | str) -> dict[str, np.ndarray]:
    """Write a GGUF file of a tiny Llama, and return its weights by transformers' names, as the file rounds them.

    Args:
        file: to write; its linear layers have 8 bits (Q8_0).
        folder: for the Llama that is written.
        without: names of tensors to leave out.
        fields: further metadata.
    """
    tiny_causal.make("llama-instruct", folder)
    config, tokenizer = AutoConfig.from_pretrained(folder), json.loads((folder / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    words = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    special = {token["content"] for token in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    kinds = (gguf.TokenType.NORMAL, gguf.TokenType.CONTROL)
    writer.add_token_types([int(kinds[word in special]) for word in words])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(words.index("<|begin_of_text|>"))
    writer.add_eos_token_id(words.index("<|eot_id|>"))
    writer.add_chat_template(tiny_causal.FAMILIES["llama-instruct"][0])
    rounded = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        kind = gguf.GGMLQuantizationType.F32
        if weight.ndim == 2 and weight.shape[1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
        stored = gguf.quants.quantize(_permuted(name, weight, config), kind)
        back = gguf.quants.dequantize(stored, kind).reshape(weight.shape)
        rounded[name] = _permuted(name, back, config, inverse=True)
        if _name(name) not in without:
            writer.add_tensor(_name(name), stored, raw_dtype=kind)
    for field, value in fields.items():
        writer.add_string(field, value) if isinstance(value, str) else writer.add_uint16(field, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return rounded


def _name(name: str) -> str:
    top = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm", "lm_head.weight": "output"}
    if name in top:
        return f"{top[name]}.weight"
    _, _, number, rest = name.split(".", 3)
    return f"blk.{number}.{LAYER[rest.removesuffix('.weight')]}.weight"


def _permuted(name: str, weight: np.ndarray, config, inverse: bool = False) -> np.ndarray:
    """Return the rows of q and k in llama.cpp's order, in which the two halves of a rotation alternate."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return weight
    half = weight.shape[0] // heads // 2
    shape = (heads, half, 2, -1) if inverse else (heads, 2, half, -1)
    return np.ascontiguousarray(weight.reshape(shape).swapaxes(1, 2).reshape(weight.shape))
