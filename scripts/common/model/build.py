"""Build the model of a job: base, method and head, with weights or on the meta device."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from common.config.dataset import Dataset
from common.config.job import Job
from common.config.methods import Untrained
from common.data.rows import Row
from common.hub.locate import locate
from common.methods import attach
from common.model import device, padding_masks
from common.model.encoding import Encoder
from common.model.finished_head import describe, head_labels
from common.model.heads import ClassificationHead, Head
from common.model.inspect import inner_model
from common.model.load import load_base, load_tokenizer
from common.model.precision import set_head_precision, set_products
from common.model.prompt_head import PromptHead
from common.model.prompts import PromptEncoder
from common.model.shapes import check_length, model_shape
from common.model.vocabulary import check_ids, embedding_rows


def build_head(job: Job, dataset: Dataset, examples: Sequence[Row] = ()) -> Head:
    """Build the model to train: base, head, method. Set the seed before: new weights start at random.

    Args:
        job: of the run.
        dataset: labels, and the prompt.
        examples: rows with labels that every prompt shows first.
    """
    base = locate(job.model, job.revision)
    tokenizer = load_tokenizer(base)
    if about_head := describe(job, head_labels(job, base), dataset):
        print(about_head, flush=True)
    model = attach(load_base(job, dataset, tokenizer.pad_token_id), job.method)
    return with_head(job, dataset, model, tokenizer, examples)


def with_head(job: Job, dataset: Dataset, model: nn.Module, tokenizer: Any, examples: Sequence[Row] = ()) -> Head:
    """Move a model to its device and return it as the job's `Head`, which encodes, trains and scores.

    Args:
        job: head, precision, and the limits of a row.
        dataset: labels, and the prompt.
        model: with its method attached.
        tokenizer: of the base.
        examples: rows with labels that every prompt shows first.
    """
    encoder = row_encoder(job, dataset, tokenizer, examples)
    check_length(job, inner_model(model), encoder.example_length if isinstance(encoder, PromptEncoder) else 0)
    limit_ids(encoder, inner_model(model).config)
    if job.quantization == "none":
        model.to(device.choose())  # quantised models are there already
    set_products(job.precision)
    padding_masks.never_read()
    set_head_precision(job, inner_model(model))
    if isinstance(encoder, PromptEncoder):
        calibrated = job.calibration == "content-free"
        return PromptHead(model, encoder, job.precision, job.length_normalization, calibrated)
    return ClassificationHead(model, encoder, job.precision, job.pooling)


def row_encoder(job: Job, dataset: Dataset, tokenizer: Any, examples: Sequence[Row] = ()) -> Encoder | PromptEncoder:
    """Return the encoder of the job's head, which turns rows into token ids; a prompt shows the examples first."""
    if job.head == "prompt":
        return PromptEncoder(tokenizer, job.max_length, dataset, examples, job.truncation)
    return Encoder(tokenizer, job.max_length, job.truncation)


def limit_ids(encoder: Encoder | PromptEncoder, config: Any) -> None:
    """Let an encoder refuse token ids that the model's embedding lacks, and check those that every row can have.

    Args:
        encoder: of the job's head.
        config: of the model.

    Raises:
        ModelError: padding, a special token of every row, or an answer has no row in the embedding.
    """
    encoder.id_limit, tokenizer = embedding_rows(config), encoder.tokenizer
    always = [tokenizer.pad_token_id, *tokenizer("", verbose=False)["input_ids"]]
    if isinstance(encoder, PromptEncoder):
        always += [index for answer in encoder.answer_ids for index in answer]
    check_ids(tokenizer, always, encoder.id_limit, "the tokenizer does not fit the model")


def count_parameters(job: Job, dataset: Dataset) -> dict[str, int | None]:
    """Return the parameter counts of a job, as `shapes.model_shape(job, dataset).counts`."""
    return model_shape(job, dataset).counts


def build_untuned(job: Job, dataset: Dataset, examples: Sequence[Row] = ()) -> Head:
    """Build the untuned base, the baseline of fine-tuning: zero-shot, few-shot, or with a classification head."""
    return build_head(_untuned(job), dataset, examples)


def check_untuned(job: Job, dataset: Dataset, examples: Sequence[Row] = ()) -> None:
    """Raise the error that `build_untuned` would raise, without reading weights."""
    shape = model_shape(_untuned(job), dataset)
    if job.head == "prompt":
        encoder = row_encoder(job, dataset, load_tokenizer(locate(job.model, job.revision)), examples)
        if isinstance(encoder, PromptEncoder) and shape.model is not None:
            check_length(job, inner_model(shape.model), encoder.example_length)


def check_prompt(job: Job, dataset: Dataset) -> None:
    """Raise the `ConfigError` or `ModelError` that a prompt job's encoder would raise, before anything is written."""
    if job.head == "prompt":
        row_encoder(job, dataset, load_tokenizer(locate(job.model, job.revision)))


def _untuned(job: Job) -> Job:
    return job.model_copy(update={"method": Untrained(name="none")})
