"""Save a trained model, and load it with identical scores.

A saved model is a folder `model/` with `peftable.json` (base, head, labels, limits), the tokenizer, and the weights
that training changed: a peft adapter, the trained parameters, or the whole model. Weights are safetensors only.
"""

import json
from pathlib import Path
from typing import Any

import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig, PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from common.config.dataset import Dataset
from common.config.job import Job
from common.core.documents import is_of, require_object
from common.core.errors import ModelError, choices
from common.core.files import atomic_folder, read_json, sha256, sha256_file, write_json
from common.hub.locate import SAVED, Base, locate
from common.methods import attach
from common.methods.modules import head_modules
from common.methods.peft_library import reload
from common.model.build import with_head
from common.model.finished_head import fit_head, label_order
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
    state = _read_tensors(file)
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
    description = _description(path)
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
    check_same_base(job, wanted, {"model_sha256": _weights_hash(locate(job.model, job.revision))}, str(path))
    if (path / ADAPTER).is_file():
        model = _with_adapter(load_base(job, dataset, tokenizer.pad_token_id), path)
    else:
        model = attach(load_base(job, dataset, tokenizer.pad_token_id), job.method)
        load_trained_state(model, path / PARAMETERS)
    return with_head(job, dataset, model.requires_grad_(False), tokenizer)


def load_adapter(job: Job, dataset: Dataset, path: Path) -> Head:
    """Load the job's base with an adapter that the peft library saved, also elsewhere; it must contain a head.

    The folder says in which order the head's labels are: in `peftable.json`, or in the `id2label` of a `config.json`.

    Raises:
        ModelError: the folder has no adapter, or one for another task, model or labels, or does not name its labels.
    """
    if not (path / ADAPTER).is_file():
        raise ModelError(f"ADAPTER={path}: no adapter here ({ADAPTER} is missing).")
    if not (path / WEIGHTS).is_file():
        raise ModelError(f"ADAPTER={path}: {WEIGHTS} is missing; other weight formats are not read.")
    try:
        description = read_json(path / ADAPTER)
        task, trained_on = description.get("task_type"), description.get("base_model_name_or_path")
        kind = str(description.get("peft_type"))
    except (ValueError, AttributeError) as error:
        raise ModelError(f"ADAPTER={path}: {ADAPTER} cannot be read: {error}") from error
    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        known = sorted(known_kind.value for known_kind in PEFT_TYPE_TO_CONFIG_MAPPING)
        raise ModelError(
            f"ADAPTER={path}: the peft_type in its {ADAPTER} is {kind}, which the installed peft library does not "
            f"know; known are {choices(known, 100)}."
        )
    if (path / DESCRIPTION).is_file():  # one of ours says more
        own = _description(path)
        check_own_adapter(job, own, path)
        job = job.model_copy(update={"revision": own["model_commit"] or job.revision})  # the commit of its training
    else:
        _check_adapter_base(job, str(trained_on or ""), path)
    needed = "SEQ_CLS" if job.head == "classification" else "CAUSAL_LM"
    if task != needed:
        raise ModelError(f"ADAPTER={path}: its task_type is {task}; needed is {needed} (head: {job.head}).")
    tokenizer = load_tokenizer(locate(job.model, job.revision))
    base = load_base(job, dataset, tokenizer.pad_token_id)
    heads = list(head_modules(base))
    saved = _read_tensors(path / WEIGHTS)
    if job.head == "classification" and not any(part in heads for name in saved for part in name.split(".")):
        raise ModelError(f"ADAPTER={path}: it has no trained head ({choices(heads)}); its scores would be random.")
    try:
        model = PeftModel.from_pretrained(base, str(path))
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"ADAPTER={path}: does not fit {job.model} with {len(dataset.labels)} labels: {reason}"
        ) from error
    if job.head == "classification":
        fit_head(inner_model(model), _adapter_labels(path, dataset), dataset)
    return with_head(job, dataset, model.requires_grad_(False), tokenizer)


def _description(path: Path) -> dict[str, Any]:
    """Return the content of a saved model's peftable.json."""
    keys = ("model", "model_commit", "model_sha256", "labels", "method")
    found = require_object(path / DESCRIPTION, keys, _AGAIN, ModelError)
    if not is_of(found["labels"], list[Any]):
        raise ModelError(f"{path / DESCRIPTION} is damaged: its labels are no list. {_AGAIN}")
    return found


def _read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file."""
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file} is damaged or missing: {error}. {_AGAIN}") from error


def _with_adapter(base: PreTrainedModel, path: Path) -> PeftModel:
    """Return a base with the adapter of a saved model, whose every weight must be in its file."""
    require_object(path / ADAPTER, ("peft_type",), _AGAIN, ModelError)
    _read_tensors(path / WEIGHTS)
    try:
        return reload(base, path)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{path}: the adapter is damaged: {reason}. {_AGAIN}") from error


def check_own_adapter(job: Job, description: dict[str, Any], path: Path) -> None:
    """Raise a `ModelError` for an adapter of a run with another base or pooling than the job's."""
    pooling = description.get("pooling", "default")
    if pooling != job.pooling:
        raise ModelError(f"ADAPTER={path}: was trained with pooling {pooling}; the job's pooling is {job.pooling}.")
    if description["model_sha256"] is None and description["model"] != job.model:
        raise ModelError(f"ADAPTER={path}: was trained on {description['model']}; the job's model is {job.model}.")
    found = {"model_sha256": _weights_hash(locate(job.model, job.revision))}
    check_same_base(job, description, found, f"ADAPTER={path}")


def _check_adapter_base(job: Job, trained_on: str, path: Path) -> None:
    """Raise a `ModelError` for an adapter whose config names another base than the job's, or none."""
    base = locate(job.model, job.revision)
    names = {job.model, base.name}
    if base.revision is None:
        names.add(str(Path(base.name).resolve()))
        trained_on = str(Path(trained_on).resolve()) if trained_on.startswith(("/", ".", "~")) else trained_on
    if trained_on not in names:
        raise ModelError(
            f"ADAPTER={path}: was trained on {trained_on or 'a base that it does not name'}, and the job's model is "
            f"{job.model}. Give a job of that base. If both have the same weights, write "
            f'"base_model_name_or_path": {json.dumps(base.name)} into its {ADAPTER}.'
        )


def _adapter_labels(path: Path, dataset: Dataset) -> list[str]:
    """Return the labels of an adapter's head, in its order, which the adapter's folder must name."""
    try:
        if (path / DESCRIPTION).is_file():
            labels = [str(label) for label in _description(path)["labels"]]
        elif (path / "config.json").is_file():
            named = read_json(path / "config.json")["id2label"]
            labels = [str(named[index]) for index in sorted(named, key=int)]
        else:
            example = json.dumps({"id2label": {str(index): str(label) for index, label in enumerate(dataset.labels)}})
            raise ModelError(
                f"ADAPTER={path}: in which order are the labels of its head? The folder does not say it. Write the "
                f"order of its training into {path}/config.json, for example {example}"
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"ADAPTER={path}: the labels of its head cannot be read: {error!r}") from error
    if label_order(labels, dataset) is None:
        raise ModelError(
            f"ADAPTER={path}: the labels of its head are {choices(labels)}; those of the dataset are "
            f"{choices(dataset.labels)}."
        )
    return labels


def base_identity(job: Job, model: nn.Module) -> dict[str, str | None]:
    """Return model_commit (of a Hub base) and model_sha256 (of a local base's weights), which `load` compares."""
    commit = getattr(inner_model(model).config, "_commit_hash", None)
    return {"model_commit": commit, "model_sha256": _weights_hash(locate(job.model, job.revision))}


def check_same_base(job: Job, wanted: dict[str, Any], found: dict[str, Any], where: str) -> None:
    """Check that a base is the one that a saved model or checkpoint was trained on.

    Args:
        job: names the base.
        wanted: model_sha256 and model_commit of that time, from `base_identity`.
        found: those of the two that are known now.
        where: the saved model or checkpoint, for the message.

    Raises:
        ModelError: they differ.
    """
    for key, what, fix in (
        ("model_sha256", "whose weights had SHA-256", "Put the old base back, or train again with FORCE=1."),
        (
            "model_commit",
            "at the Hub's commit",
            f"Its revision '{job.revision}' has changed: train again with FORCE=1. A commit as the job's `revision` "
            "never changes.",
        ),
    ):
        if key in found and found[key] != wanted.get(key):
            raise ModelError(
                f"{where}: was trained on a base {what} {wanted.get(key)}; that of {job.model} is {found[key]}. {fix}"
            )


def _weights_hash(base: Base) -> str | None:
    """Return the SHA-256 of a local base's weight files together, None for a Hub model, which its commit identifies."""
    if base.is_gguf:
        return sha256_file(Path(base.name))
    hashes = [sha256_file(file) for file in sorted(Path(base.name).glob("*.safetensors"))]
    return sha256("".join(hashes).encode()) if hashes else None
