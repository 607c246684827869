"""Build the model of a job: base, method and head, with weights or on the meta device."""

from typing import Any

from torch import nn

from common.config.dataset import Dataset
from common.config.job import Job
from common.config.methods import Untrained
from common.hub.locate import locate
from common.methods import attach
from common.model.encoding import Encoder
from common.model.heads import ClassificationHead, Head
from common.model.inspect import inner_model
from common.model.load import load_base, load_tokenizer, model_device
from common.model.precision import set_head_precision
from common.model.prompt_head import PromptHead
from common.model.prompts import PromptEncoder
from common.model.shapes import check_length, model_shape


def build_head(job: Job, dataset: Dataset) -> Head:
    """Build the model to train: base, head, method. Set the seed before: new weights start at random."""
    base = locate(job.model, job.revision)
    tokenizer = load_tokenizer(base)
    model = attach(load_base(job, dataset, tokenizer.pad_token_id), job.method)
    return with_head(job, dataset, model, tokenizer)


def with_head(job: Job, dataset: Dataset, model: nn.Module, tokenizer: Any) -> Head:
    """Move a model to its device and return it as the job's `Head`, which encodes, trains and scores."""
    check_length(job, inner_model(model))
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


def count_parameters(job: Job, dataset: Dataset) -> dict[str, int | None]:
    """Return the parameter counts of a job, as `shapes.model_shape(job, dataset).counts`."""
    return model_shape(job, dataset).counts


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
