"""Base models: found, loaded, counted, given a head and a method. Weights are safetensors only."""

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from common.config import Job, Label, Untrained
from common.errors import ModelError, choices, nearest
from common.heads import ClassificationHead, Encoder, keep_float32
from common.peft import attach
from common.pretrained import Base, from_pretrained, locate


def quiet_libraries() -> None:
    """Silence the libraries' own bars and notes; what matters is said by us or raised."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # transformers 5.23 itself reads its deprecated property when peft or the Trainer wraps a model.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def load_tokenizer(base: Base) -> Any:
    """Load a tokenizer that can pad, on the right.

    A tokenizer without a pad token takes EOS for it; lengths come from the attention mask, never from ids.
    """
    tokenizer = from_pretrained(AutoTokenizer, base)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(f"model {base.name}: its tokenizer has neither a pad nor an end-of-text token.")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def load_base(job: Job, labels: list[Label], pad_token_id: int, weights: Path | None = None) -> PreTrainedModel:
    """Load the base with a classification head for `labels`.

    Args:
        job: model, revision, attention.
        labels: in class order.
        pad_token_id: set on the config, since adapters do not carry it.
        weights: a folder with a whole fine-tuned model, instead of the job's base.

    Raises:
        ModelError: not there, not reachable, not safetensors, or of a kind without such a head.
    """
    base = Base(str(weights), None) if weights else locate(job.model, job.revision)
    config = load_config(job, base, labels)
    config.pad_token_id = pad_token_id
    model, report = from_pretrained(
        AutoModelForSequenceClassification,
        base,
        config=config,
        attn_implementation=job.attention,
        dtype=torch.float32,
        use_safetensors=True,
        # transformers itself would raise without naming the weights; they are refused below.
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    for name, found, needed in sorted(report["mismatched_keys"]):
        raise ModelError(
            f"model {base.name}: its weight {name} is {tuple(found)}, needed is {tuple(needed)} for {len(labels)} "
            "labels. Give a base without a head of its own, or one with as many labels."
        )
    return model


def load_config(job: Job, base: Base, labels: list[Label]) -> PretrainedConfig:
    """Load the base's config with our labels and the job's overrides.

    Raises:
        ModelError: an override names a key that the config does not have.
    """
    config = from_pretrained(
        AutoConfig,
        base,
        num_labels=len(labels),
        id2label={index: str(label) for index, label in enumerate(labels)},
        label2id={str(label): index for index, label in enumerate(labels)},
    )
    known = config.to_dict()
    for key, value in job.model_config_overrides.items():
        if key not in known:
            raise ModelError(
                f"model_config_overrides: the config of {job.model} has no key '{key}'.{nearest(key, known)} "
                f"Keys: {choices(sorted(known), 40)}."
            )
        setattr(config, key, value)
    return config


def build(job: Job, labels: list[Label]) -> ClassificationHead:
    """Build the model to train: base, new head, method. Seed before; head and method start at random."""
    base = locate(job.model, job.revision)
    tokenizer = load_tokenizer(base)
    model = attach(load_base(job, labels, tokenizer.pad_token_id), job.method)
    return with_head(job, model, tokenizer)


def with_head(job: Job, model: nn.Module, tokenizer: Any) -> ClassificationHead:
    """Put a model on its device and behind the scoring interface; what is above the backbone stays float32."""
    for module in head_modules(model):
        keep_float32(module)
    _check_length(job, inner_model(model).config)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return ClassificationHead(model, Encoder(tokenizer, job.max_length), bfloat16=job.precision == "bfloat16")


def _check_length(job: Job, config: PretrainedConfig) -> None:
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and job.max_length > limit:
        raise ModelError(
            f"max_length is {job.max_length}, but the model has {limit} positions; allowed is 8 to {limit}."
        )


def inner_model(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model, without peft's wrapper."""
    return model.get_base_model() if isinstance(model, PeftModel) else model  # type: ignore[return-value]


def head_modules(model: nn.Module) -> list[nn.Module]:
    """Return the modules on top of the backbone that have weights (`classifier`, `score`)."""
    inner = inner_model(model)
    trunk = inner.base_model_prefix
    return [child for name, child in inner.named_children() if name != trunk and any(True for _ in child.parameters())]


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Return params_total_count and params_trainable_count, counted as peft counts: every parameter once."""
    return {
        "params_total_count": sum(parameter.numel() for parameter in model.parameters()),
        "params_trainable_count": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
    }


def count_parameters(job: Job, labels: list[Label]) -> dict[str, int]:
    """Return the parameter counts of a job on the meta device: no weights are read, no memory is taken.

    Raises:
        ModelError: no such model, a method that does not fit it, or more tokens than it has positions.
    """
    base = locate(job.model, job.revision)
    config = load_config(job, base, labels)
    _check_length(job, config)
    with torch.device("meta"):
        try:
            model = AutoModelForSequenceClassification.from_config(config, attn_implementation=job.attention)
        except (ValueError, ImportError) as error:  # no such class, or an attention that it does not have
            reason = " ".join(str(error).split())[:300]
            raise ModelError(
                f"model {job.model}: cannot be a classifier with attention {job.attention}: {reason}"
            ) from error
        return parameter_counts(attach(model, job.method))


def build_untuned(job: Job, labels: list[Label]) -> ClassificationHead:
    """Build the base with a new head that nothing has trained, the yardstick of the `untuned` baseline."""
    return build(_untuned(job), labels)


def check_untuned(job: Job, labels: list[Label]) -> None:
    """Raise the `ModelError` that `build_untuned` would raise, without reading weights."""
    count_parameters(_untuned(job), labels)


def _untuned(job: Job) -> Job:
    return job.model_copy(update={"method": Untrained(name="none")})
