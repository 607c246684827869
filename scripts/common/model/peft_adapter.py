"""Load a base with an adapter that the peft library saved, also elsewhere; its base, task and labels are checked."""

import json
from pathlib import Path
from typing import Any

from peft import PEFT_TYPE_TO_CONFIG_MAPPING

from common.config.dataset import Dataset
from common.config.job import Job
from common.core.errors import ModelError, choices
from common.core.files import read_json
from common.hub.locate import locate
from common.methods.modules import head_modules
from common.methods.peft_library import reload
from common.model.base_identity import check_same_base, weights_hash
from common.model.build import with_head
from common.model.finished_head import fit_head, label_order
from common.model.heads import Head
from common.model.inspect import inner_model
from common.model.load import load_base, load_tokenizer
from common.model.saved_model import ADAPTER, DESCRIPTION, WEIGHTS, description_of, read_tensors


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
        own = description_of(path)
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
    saved = read_tensors(path / WEIGHTS)
    if job.head == "classification" and not any(part in heads for name in saved for part in name.split(".")):
        raise ModelError(f"ADAPTER={path}: it has no trained head ({choices(heads)}); its scores would be random.")
    try:
        model = reload(base, path)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"ADAPTER={path}: does not fit {job.model} with {len(dataset.labels)} labels: {reason}"
        ) from error
    if job.head == "classification":
        fit_head(inner_model(model), _adapter_labels(path, dataset), dataset)
    return with_head(job, dataset, model.requires_grad_(False), tokenizer)


def check_own_adapter(job: Job, description: dict[str, Any], path: Path) -> None:
    """Raise a `ModelError` for an adapter of a run with another base or pooling than the job's."""
    pooling = description.get("pooling", "default")
    if pooling != job.pooling:
        raise ModelError(f"ADAPTER={path}: was trained with pooling {pooling}; the job's pooling is {job.pooling}.")
    if description["model_sha256"] is None and description["model"] != job.model:
        raise ModelError(f"ADAPTER={path}: was trained on {description['model']}; the job's model is {job.model}.")
    found = {"model_sha256": weights_hash(locate(job.model, job.revision))}
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
            labels = [str(label) for label in description_of(path)["labels"]]
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
