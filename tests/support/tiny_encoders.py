"""Tiny random encoders of the families that jobs use, with MiniLM's tokenizer, for tests."""

from pathlib import Path

import torch
from toy_runs import SIZES
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
)

FAMILIES = {
    "bert": BertConfig,
    "roberta": RobertaConfig,
    "electra": ElectraConfig,
    "deberta": DebertaV2Config,
    "distilbert": DistilBertConfig,
    "modernbert": ModernBertConfig,
}


def make(family: str, folder: Path, tokenizer_of: Path) -> Path:
    """Write a model of `FAMILIES` into a folder, with the tokenizer of another folder, and return the folder."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    config = FAMILIES[family](vocab_size=len(tokenizer), max_position_embeddings=270, pad_token_id=0, **SIZES)
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    if family in ("roberta", "distilbert", "modernbert"):
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    return folder


def overrides(family: str, folder: Path) -> dict[str, object]:
    """Return the settings with which minilm-lora runs on such a model."""
    attention = "eager" if family == "deberta" else "sdpa"
    return {"model": str(folder), "model_config_overrides": {}, "attention": attention}
