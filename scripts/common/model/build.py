"""Build the model of a job: base, method and head, with weights or on the meta device."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from common.config.dataset import Dataset
from common.config.job import Job
from common.config.methods import LibraryMethod, Untrained
from common.core.errors import ModelError
from common.hub.locate import locate
from common.methods import attach, peft_library
from common.model import base_config
from common.model.encoding import Encoder
from common.model.heads import ClassificationHead, Head
from common.model.inspect import inner_model, parameter_counts
from common.model.load import load_base, load_tokenizer, model_device
from common.model.precision import set_head_precision
from common.model.prompt_head import PromptHead
from common.model.prompts import PromptEncoder


def build_head(job: Job, dataset: Dataset) -> Head:
    """Build the model to train: base, head, method. Set the seed before: new weights start at random."""
    base = locate(job.model, job.revision)
    tokenizer = load_tokenizer(base)
    model = attach(load_base(job, dataset, tokenizer.pad_token_id), job.method)
    return with_head(job, dataset, model, tokenizer)


def with_head(job: Job, dataset: Dataset, model: nn.Module, tokenizer: Any) -> Head:
    """Move a model to its device and return it as the job's `Head`, which encodes, trains and scores."""
    _check_length(job, inner_model(model))
    if job.quantization == "none":
        model.to(model_device())  # quantised models are there already
    set_head_precision(job, inner_model(model))
    encoder = row_encoder(job, dataset, tokenizer)
    if isinstance(encoder, PromptEncoder):
        return PromptHead(model, encoder, job.precision, job.length_normalization)
    return ClassificationHead(model, encoder, job.precision)


def row_encoder(job: Job, dataset: Dataset, tokenizer: Any) -> Encoder | PromptEncoder:
    """Return the encoder of the job's head, which turns rows into token ids."""
    if job.head == "prompt":
        return PromptEncoder(tokenizer, job.max_length, dataset)
    return Encoder(tokenizer, job.max_length)


def _check_length(job: Job, model: PreTrainedModel) -> None:
    limit = position_count(model)
    virtual = getattr(job.method, "num_virtual_tokens", 0)  # of the method; they take positions, too
    if limit is not None and job.max_length + virtual > limit:
        beside = f" and the method takes {virtual} of them" if virtual else ""
        raise ModelError(
            f"max_length is {job.max_length}, but the model has {limit} positions{beside}; "
            f"allowed is 8 to {limit - virtual}."
        )


def position_count(model: PreTrainedModel) -> int | None:
    """Return the number of positions that a row's tokens can have, also on the meta device; None without a limit.

    RoBERTa's family (XLM-R, CamemBERT, MPNet, …) starts to count after the padding's index, and loses these positions.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    lost = 0
    for name, module in model.named_modules():
        weight, padding = getattr(module, "weight", None), getattr(module, "padding_idx", None)
        # XGLM's table is computed, not learned, and grows with the text.
        if "position" in name.rpartition(".")[2] and padding is not None and weight is not None:
            lost = padding + 1
    return None if limit is None else int(limit) - lost


def count_parameters(job: Job, dataset: Dataset) -> dict[str, int | None]:
    """Return the parameter counts of a job, from shapes alone: reads no weights and takes no memory.

    The counts are None for a method whose parameters depend on the base's weights.

    Raises:
        ModelError: no such model, a method that does not fit it, or more tokens than it has positions.
    """
    model = base_config.meta_model(job, base_config.offline_config(job, dataset))
    _check_length(job, model)
    if isinstance(job.method, LibraryMethod) and not peft_library.attaches_without_weights(job.method):
        peft_library.checked_config(model, job.method)
        return {"params_total_count": None, "params_trainable_count": None}
    with torch.device("meta"):
        return {**parameter_counts(attach(model, job.method))}


def build_untuned(job: Job, dataset: Dataset) -> Head:
    """Build the untuned base, the baseline of fine-tuning: zero-shot, or with a new random head."""
    return build_head(_untuned(job), dataset)


def check_untuned(job: Job, dataset: Dataset) -> None:
    """Raise the error that `build_untuned` would raise, without reading weights."""
    count_parameters(_untuned(job), dataset)
    check_prompt(job, dataset)


def check_prompt(job: Job, dataset: Dataset) -> None:
    """Raise the `ConfigError` or `ModelError` that a prompt job's encoder would raise, before anything is written."""
    if job.head == "prompt":
        row_encoder(job, dataset, load_tokenizer(locate(job.model, job.revision)))


def _untuned(job: Job) -> Job:
    return job.model_copy(update={"method": Untrained(name="none")})
