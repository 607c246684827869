"""Dequantise a GGUF file once, to a model folder in a cache that all runs share; transformers reads the format.

The cache is `<HF_HOME>/peftable/gguf-1/`: `<SHA-256 of the file>/` holds config, tokenizer and float32 weights as
safetensors, `<SHA-256>-config/` the first two alone. A folder is complete or absent. The number counts the versions of
this module that write other content.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import functools
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from huggingface_hub import constants
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from common.core.errors import ModelError, choices
from common.core.files import atomic_folder, sha256_file
from common.core.formatting import size
from common.core.locks import lock

_CONFIG = "-config"
# What transformers and the gguf package raise for files that are damaged or of an unknown kind.
_FAULTS = (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError, ImportError, struct.error)


def model_folder(file: Path) -> Path:
    """Return the folder with a GGUF file's config, tokenizer and dequantised weights.

    Raises:
        ModelError: the file is damaged, of a kind that transformers cannot read, or too large for the cache's disk.
    """
    return _cached(file, "", _write_model)


def config_folder(file: Path) -> Path:
    """Return a folder with a GGUF file's config and tokenizer, for commands that read no weights.

    Raises:
        ModelError: as `model_folder`.
    """
    return _cached(file, _CONFIG, _write_config)


def _cached(file: Path, end: str, write: Callable[[Path, Path], None]) -> Path:
    folder = _cache() / f"{_sha256(file)}{end}"
    if folder.is_dir():  # no lock: the cache may be read-only
        return folder
    with lock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            with atomic_folder(folder) as partial:
                write(file, partial)
    return folder


def _write_config(file: Path, folder: Path) -> None:
    _read(AutoConfig, file).save_pretrained(folder)
    _read(AutoTokenizer, file).save_pretrained(folder)


def _write_model(file: Path, folder: Path) -> None:
    shutil.copytree(_cached(file, _CONFIG, _write_config), folder, dirs_exist_ok=True)
    config = AutoConfig.from_pretrained(folder)
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(
            f"model {file}: it is a {config.model_type} model; only causal language models can be read from GGUF files."
        )
    _check_content(file)
    with torch.device("meta"):
        needed = 4 * sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    if needed > (free := shutil.disk_usage(folder).free):
        raise ModelError(
            f"model {file}: its dequantised weights take {size(needed)}, but {_cache()} has only {size(free)} free. "
            "Free some space, or set HF_HOME to a folder on a larger disk."
        )
    print(f"dequantising {file.name}, once: {size(needed)} in {_cache()}", file=sys.stderr, flush=True)
    model, report = _read(AutoModelForCausalLM, file, dtype=torch.float32, output_loading_info=True)
    # transformers gives such weights random values.
    if lost := sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]):
        raise ModelError(f"model {file}: the file lacks the weights {choices(lost, 4)}.")
    # transformers still takes the model for a quantised one, and would not save it.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.save_pretrained(folder)


def _check_content(file: Path) -> None:
    """Raise a `ModelError` for a part of a model, and for positions that transformers 5.23 would compute otherwise."""
    try:
        reader = GGUFReader(file)
        parts = reader.fields["split.count"].contents() if "split.count" in reader.fields else 1
    except _FAULTS as error:
        raise _damaged(file, error) from error
    if parts > 1:
        raise ModelError(
            f"model {file}: it is one of {parts} parts of a model. Merge them first: llama-gguf-split --merge <first "
            "part> <merged file>"
        )
    scaling = [name for name in reader.fields if ".rope.scaling." in name]
    scaling += [tensor.name for tensor in reader.tensors if tensor.name.startswith("rope_")]
    if scaling:
        raise ModelError(
            f"model {file}: its positions are scaled ({choices(scaling, 3)}), which transformers does not read from "
            "GGUF files. Take the model's safetensors from the Hub."
        )


def _read(kind: Any, file: Path, **options: Any) -> Any:
    try:
        return kind.from_pretrained(file.parent, gguf_file=file.name, **options)
    except _FAULTS as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return ModelError(
        f"model {file}: this GGUF file cannot be read: {reason}. If the file may be damaged, compare its SHA-256 with "
        "that of its source, and download it again."
    )


def _cache() -> Path:
    return Path(constants.HF_HOME).expanduser() / "peftable" / "gguf-1"


@functools.cache
def _sha256(file: Path) -> str:
    return sha256_file(file)
