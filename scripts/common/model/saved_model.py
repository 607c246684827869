"""Save a trained model, and load it with the same scores: bit by bit on a CPU, up to rounding on a GPU.

A saved model is a folder `model/` with `peftable.json` (base, head, labels, limits), the tokenizer, and the weights
that training changed: a peft adapter, the trained parameters, or the whole model. Weights are safetensors only.
"""

from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from common.config.dataset import Dataset
from common.config.job import Job
from common.core.documents import is_of, require_object
from common.core.errors import ModelError, choices
from common.core.files import atomic_folder, read_json, write_json
from common.hub.locate import SAVED, Base, locate
from common.methods import attach
from common.methods.peft_library import reload
from common.model.base_identity import base_identity, check_same_base, weights_hash
from common.model.build import with_head
from common.model.heads import Head
from common.model.inspect import inner_model
from common.model.load import load_base, load_tokenizer

SCHEMA = 1
DESCRIPTION, PARAMETERS, ADAPTER = SAVED, "parameters.safetensors", "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_AGAIN = "Put the old file back, or train again with FORCE=1."


def trained_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters that train, by name, contiguous and on the CPU."""
    return {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def load_trained_state(model: nn.Module, file: Path) -> None:
    """Load parameters that `trained_state` returned and a file has; the model must train the same parameters.

    Raises:
        ModelError: the file is of another model or method.
    """
    state = read_tensors(file)
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if names != set(state):
        raise ModelError(
            f"{file}: has other parameters than this model trains: {choices(sorted(names ^ set(state)), 4)}."
        )
    current = model.state_dict()
    for name, tensor in state.items():
        if current[name].shape != tensor.shape:
            raise ModelError(
                f"{file}: {name} is {tuple(tensor.shape)} in the file and {tuple(current[name].shape)} in the model: "
                "the method has chosen other ranks than at the first start. Start over with FORCE=1."
            )
    model.load_state_dict(state, strict=False)


def save(head: Head, job: Job, dataset: Dataset, path: Path, identity: dict[str, str | None] | None = None) -> None:
    """Save a trained model as a folder; with its base, that folder is enough to score.

    Args:
        head: with the trained model.
        job: of the run.
        dataset: its labels, and its prompt.
        path: the folder to write.
        identity: `base_identity` of the base, where it is known; else it is computed, which reads all its weights.
    """
    inner = inner_model(head.model)
    with atomic_folder(path) as partial:
        head.encoder.tokenizer.save_pretrained(partial)
        if isinstance(head.model, PeftModel):
            # "auto" would ask the Hub for the base's vocabulary.
            head.model.save_pretrained(str(partial), save_embedding_layers=False)
            _sort_sets(partial / ADAPTER, head.model.active_peft_config)
            (partial / "README.md").unlink(missing_ok=True)  # an empty model card that names a path of this machine
        elif job.method.name == "full":
            inner.save_pretrained(partial)
        else:
            save_file(trained_state(head.model), partial / PARAMETERS)
        description = {
            "schema": SCHEMA,
            "model": job.model,
            "revision": job.revision,
            **(identity or base_identity(job, head.model)),
            "head": job.head,
            "pooling": job.pooling,
            "labels": list(dataset.labels),
            "prompt": dataset.prompt.model_dump() if dataset.prompt and job.head == "prompt" else None,
            "max_length": job.max_length,
            "truncation": job.truncation,
            "pad_token_id": head.pad_token_id,
            "method": job.method.model_dump(mode="json"),
        }
        write_json(partial / DESCRIPTION, description)


def _sort_sets(file: Path, config: PeftConfig) -> None:
    """Write the values of an adapter's config that are sets in order: peft writes them in another one every time."""
    document = read_json(file)
    sets = {key for key, value in vars(config).items() if isinstance(value, set)}
    write_json(file, {key: sorted(value) if key in sets else value for key, value in document.items()})


def load(job: Job, dataset: Dataset, path: Path) -> Head:
    """Load a saved model; its scores equal those of the model that was saved.

    Raises:
        ModelError: the folder is incomplete, made for other labels, or its base has changed since.
    """
    if not (path / DESCRIPTION).is_file():
        raise ModelError(f"{path}: no saved model here ({DESCRIPTION} is missing).")
    description = description_of(path)
    if description["labels"] != list(dataset.labels):
        raise ModelError(
            f"{path}: saved for the labels {choices(description['labels'])}, not for {choices(dataset.labels)}."
        )
    tokenizer = load_tokenizer(Base(str(path), None))
    if job.method.name == "full":
        model: nn.Module = load_base(job, dataset, tokenizer.pad_token_id, weights=path)
        return with_head(job, dataset, model.requires_grad_(False), tokenizer)
    # A branch of the Hub changes; the commit that the model was trained on does not.
    job = job.model_copy(update={"revision": description["model_commit"] or job.revision})
    wanted = {"model_sha256": description["model_sha256"]}
    check_same_base(job, wanted, {"model_sha256": weights_hash(locate(job.model, job.revision))}, str(path))
    if (path / ADAPTER).is_file():
        model = _with_adapter(load_base(job, dataset, tokenizer.pad_token_id), path)
    else:
        model = attach(load_base(job, dataset, tokenizer.pad_token_id), job.method)
        load_trained_state(model, path / PARAMETERS)
    return with_head(job, dataset, model.requires_grad_(False), tokenizer)


def description_of(path: Path) -> dict[str, Any]:
    """Return the content of a saved model's peftable.json."""
    keys = ("model", "model_commit", "model_sha256", "labels", "method")
    found = require_object(path / DESCRIPTION, keys, _AGAIN, ModelError)
    if not is_of(found["labels"], list[Any]):
        raise ModelError(f"{path / DESCRIPTION} is damaged: its labels are no list. {_AGAIN}")
    return found


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file."""
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file} is damaged or missing: {error}. {_AGAIN}") from error


def _with_adapter(base: PreTrainedModel, path: Path) -> PeftModel:
    """Return a base with the adapter of a saved model, whose every weight must be in its file."""
    require_object(path / ADAPTER, ("peft_type",), _AGAIN, ModelError)
    read_tensors(path / WEIGHTS)
    try:
        return reload(base, path)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{path}: the adapter is damaged: {reason}. {_AGAIN}") from error
