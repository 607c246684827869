"""The head of a base that is a finished classifier: kept where its labels are those of the dataset, else new."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from common.config.dataset import Dataset
from common.config.job import Job
from common.core.errors import ModelError, choices
from common.hub.locate import Base
from common.methods.modules import head_modules
from common.model import architectures
from common.model.precision import is_linear, is_norm
from common.model.pretrained import from_pretrained


def head_labels(job: Job, base: Base) -> list[str] | None:
    """Return the labels of a base's own classification head, in its order; None for a base or a job without one.

    Raises:
        ModelError: the base has no config.
    """
    if job.head != "classification" or architectures.known(base.name):  # those are language models
        return None
    config = from_pretrained(AutoConfig, base)
    if not any(name.endswith("ForSequenceClassification") for name in config.architectures or []):
        return None
    return [str(config.id2label[index]) for index in range(config.num_labels)]


def describe(job: Job, labels: list[str] | None, dataset: Dataset) -> str | None:
    """Return a sentence about what happens to a base's own head, None for a base without one.

    Args:
        job: model and pooling.
        labels: from `head_labels`.
        dataset: its labels.
    """
    if labels is None:
        return None
    found = f"{job.model} is a finished classifier of {choices(labels, 8)}"
    if job.pooling not in ("default", "last"):
        return f"{found}; with pooling {job.pooling} the head is new."
    order = label_order(labels, dataset)
    if order is None:
        return f"{found}; the dataset has other labels ({choices(dataset.labels, 8)}), so the head is new."
    if job.pooling == "last":
        return f"{found}; with pooling last a decoder's head is kept, and an encoder's is new."
    return f"{found}; its head is kept{'' if order == sorted(order) else ', in the order of the dataset'}."


def label_order(labels: Sequence[str], dataset: Dataset) -> list[int] | None:
    """Return the place of each of the dataset's labels among a head's, None where the names are others.

    Names are compared without regard to case.
    """
    places = {label.casefold(): place for place, label in enumerate(labels)}
    wanted = [str(label).casefold() for label in dataset.labels]
    if len(places) < len(labels) or len(set(wanted)) < len(wanted) or set(places) != set(wanted):
        return None
    return [places[label] for label in wanted]


def check_head(job: Job, labels: Sequence[str], dataset: Dataset, missing: Collection[str]) -> None:
    """Check that the head that is kept is among the base's weights.

    Args:
        job: model and pooling.
        labels: from `head_labels`.
        dataset: its labels.
        missing: the names of the model's weights that the base does not have.

    Raises:
        ModelError: it is not, and would be random.
    """
    lost = sorted(name for name in missing if any(part in name for part in ("pooler", "classifier", "score")))
    if lost and job.pooling == "default" and label_order(labels, dataset) is not None:
        raise ModelError(
            f"model {job.model}: its config says that it is a finished classifier, but it has no weights "
            f"{choices(lost, 4)}. If it was trained with another pooling, set pooling."
        )


def fit_head(model: PreTrainedModel, labels: Sequence[str], dataset: Dataset) -> None:
    """Put the rows of a loaded head into the order of the dataset's labels, or initialise it anew, in place.

    Args:
        model: with its own head, whose last layer has a row for each of the dataset's labels.
        labels: the head's own labels, from `head_labels`.
        dataset: its labels.
    """
    order, heads = label_order(labels, dataset), head_modules(model)
    layers = [module for head in heads.values() for module in head.modules()]
    if order is None:
        for module in layers:
            if is_linear(module):
                nn.init.normal_(module.weight, std=getattr(model.config, "initializer_range", 0.02))  # type: ignore[arg-type]
                if module.bias is not None:
                    nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            elif is_norm(module):
                module.reset_parameters()  # type: ignore[operator]
        return
    linears: list[Any] = [module for module in layers if is_linear(module)]
    # The last one: where peft wraps a head, it is the trained copy.
    output = [module for module in linears if module.weight.shape[0] == len(order)][-1]
    with torch.no_grad():
        for parameter in output.parameters():
            parameter.copy_(parameter[torch.tensor(order, device=parameter.device)].clone())
