"""Write the weights of an export: what training changed (format peft), or a whole model (format merged)."""

import re
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, TaskType
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from common.config.job import Job
from common.config.methods import Adapters, Full, LastLayers, LibraryMethod, LoraFromScratch, Untrained
from common.core.errors import ModelError
from common.core.files import read_json, write_json
from common.export.base import ExportedBase
from common.methods.merge import merge
from common.methods.modules import name_ends_with
from common.model.heads import Head
from common.model.inspect import inner_model
from common.model.pooling import is_causal
from common.model.saved_model import ADAPTER, PARAMETERS

_WEIGHTS = "adapter_model.safetensors"


def check_possible(job: Job, model: PreTrainedModel, whole: bool) -> None:
    """Raise a `ModelError` with the reason if plain transformers cannot compute what a run's model does.

    Args:
        job: of the run.
        model: its transformers model.
        whole: whether the format is merged, else peft.
    """
    if isinstance(job.method, Adapters):
        raise ModelError(
            "method adapters adds layers that no model of transformers has, and they cannot be merged into others "
            "(there is a ReLU between them). FORMAT=onnx exports the whole computation."
        )
    if isinstance(job.method, Full | Untrained) and not whole:
        raise ModelError("method full changes every weight, so there is no adapter: FORMAT=merged exports the model.")
    own = job.pooling == "default" or (job.pooling == "last" and is_causal(model))
    if job.head == "classification" and not own:
        raise ModelError(
            f"pooling {job.pooling}: {type(model).__name__} of transformers pools in another way, and would label "
            "texts wrongly without a word. FORMAT=onnx exports the whole computation."
        )


def write_trained_weights(folder: Path, job: Job, saved: Path, base: ExportedBase, model: nn.Module) -> None:
    """Write what training changed: a peft adapter, or of `last-layers` the weights that replace those of the base.

    Args:
        folder: to write into.
        job: of the run.
        saved: the run's saved model.
        base: is named in the adapter's config.
        model: the run's model, loaded.
    """
    write_config(folder, inner_model(model))
    if isinstance(job.method, LibraryMethod):
        shutil.copyfile(saved / _WEIGHTS, folder / _WEIGHTS)
        adapter = read_json(saved / ADAPTER)
    elif isinstance(job.method, LoraFromScratch):
        adapter = _write_lora(folder, job.method, load_file(saved / PARAMETERS), inner_model(model))
    else:
        assert isinstance(job.method, LastLayers)
        shutil.copyfile(saved / PARAMETERS, folder / PARAMETERS)
        return
    for key, value in adapter.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            adapter[key] = sorted(set(value))
    write_json(folder / ADAPTER, adapter | {"base_model_name_or_path": base.name, "revision": base.commit})


def _write_lora(
    folder: Path, method: LoraFromScratch, parameters: dict[str, torch.Tensor], model: PreTrainedModel
) -> dict[str, Any]:
    """Write the parameters of LoRA from scratch as an adapter of the peft library, and return its config."""
    renamed, targets, whole = {}, set(), set()
    backbone = {name for name, _ in model.base_model.named_modules()}
    prefix = model.base_model_prefix
    for name, tensor in parameters.items():
        module, _, matrix = name.rpartition(".")
        if matrix in ("A", "B"):
            targets.add(module)
            renamed[f"base_model.model.{module}.lora_{matrix}.weight"] = tensor
            continue
        renamed[f"base_model.model.{name}"] = tensor
        inside = module.removeprefix(f"{prefix}.")
        ends = [end for end in method.modules_to_save if any(name_ends_with(part, end) for part in _parents(inside))]
        whole |= set(ends) if inside in backbone and ends else {name.split(".")[0]}
    save_file(renamed, folder / _WEIGHTS, {"format": "pt"})
    head = model.get_output_embeddings() is None
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS if head else TaskType.CAUSAL_LM,
        r=method.r,
        lora_alpha=method.alpha,  # type: ignore[arg-type]  # a float in peft's own files, too
        target_modules=sorted(targets),
        modules_to_save=sorted(whole) or None,
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    return dict(read_json(folder / ADAPTER))


def _parents(name: str) -> list[str]:
    """Return a module's dotted name and those of the modules around it."""
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def merge_method(head: Head) -> PreTrainedModel:
    """Return the whole model of a run, over a base in float32, with what was trained in the weights of the base.

    Raises:
        ModelError: the method cannot be merged.
    """
    try:
        return merge(head.model)
    except ModelError as error:
        raise ModelError(f"{str(error).removesuffix('.')}. FORMAT=peft keeps it beside them.") from error


def write_whole_model(folder: Path, model: PreTrainedModel, dtype: str) -> None:
    """Write a whole model with its weights in "float32", "bfloat16" or "float16", which they have afterwards."""
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    write_config(folder, model)


def write_config(folder: Path, model: PreTrainedModel) -> None:
    """Write config.json with the names of the labels, without a path of this machine or a quantisation."""
    config = model.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "name_or_path", "_commit_hash"):
        config.pop(key, None)
    dtype = re.sub(r"^torch\.", "", str(next(model.parameters()).dtype))
    config |= {"architectures": [type(model).__name__], "dtype": dtype}
    write_json(folder / "config.json", _plain(config))


def _plain(value: Any) -> Any:
    """Return a config's value as JSON has it."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value).removeprefix("torch.")
