"""A base model's config and modules, before it has weights."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from common.config.dataset import Dataset
from common.config.job import Job
from common.core.errors import ModelError, choices, nearest
from common.hub.locate import Base, locate
from common.model import architectures
from common.model.pooling import set_pooling
from common.model.pretrained import from_pretrained


def model_class(job: Job) -> Any:
    """Return the transformers class for the job's head."""
    return AutoModelForCausalLM if job.head == "prompt" else AutoModelForSequenceClassification


def meta_model(job: Job, config: PretrainedConfig) -> PreTrainedModel:
    """Return the model on the meta device: its shapes, without weights or memory.

    Raises:
        ModelError: transformers has no such head, or no such attention, for this kind of model.
    """
    if job.head == "prompt" and config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        # Transformers would build such a model, in which every token sees the answer that it should predict.
        raise ModelError(
            f"model {job.model}: head prompt needs a causal language model, and {config.model_type} reads in both "
            "directions; set head: classification."
        )
    with torch.device("meta"):
        try:
            model: PreTrainedModel = model_class(job).from_config(config, attn_implementation=job.attention)
            set_pooling(model, job.pooling)
            return model
        except (ValueError, ImportError) as error:
            reason = " ".join(str(error).split())[:300]
            if job.attention == "sdpa" and "scaled_dot_product_attention" in reason:
                reason = f"{config.model_type} has no such attention in transformers; set attention: eager."
            raise ModelError(
                f"model {job.model}: cannot have a {job.head} head with attention {job.attention}: {reason}"
            ) from error


def load_config(job: Job, base: Base, dataset: Dataset) -> PretrainedConfig:
    """Load the base's config, with the dataset's labels and the job's overrides.

    Raises:
        ModelError: an override names a key that the config does not have, or the model is not the published one.
    """
    config = from_pretrained(AutoConfig, base, **_classes(job, dataset))
    if base.revision is not None:  # a folder may hold a changed model
        architectures.check_config(base.name, config)
    return _overridden(job, config)


def offline_config(job: Job, dataset: Dataset) -> PretrainedConfig:
    """Return the base's config, of a known model without asking the Hub: the one in the cache or the published one.

    Raises:
        ModelError: as `load_config`.
    """
    base = locate(job.model, job.revision)
    if base.revision is None or not architectures.known(base.name):
        return load_config(job, base, dataset)
    cached = try_to_load_from_cache(base.name, "config.json", revision=base.revision)
    if not isinstance(cached, str):
        return _overridden(job, architectures.config(base.name, **_classes(job, dataset)))
    config = from_pretrained(AutoConfig, Base(str(Path(cached).parent), None), **_classes(job, dataset))
    architectures.check_config(base.name, config)
    return _overridden(job, config)


def _classes(job: Job, dataset: Dataset) -> dict[str, Any]:
    if job.head == "prompt":
        return {}
    labels = {index: str(label) for index, label in enumerate(dataset.labels)}
    return {"id2label": labels, "label2id": {label: index for index, label in labels.items()}}


def _overridden(job: Job, config: PretrainedConfig) -> PretrainedConfig:
    known = config.to_dict()
    for key, value in job.model_config_overrides.items():
        if key not in known:
            raise ModelError(
                f"model_config_overrides: the config of {job.model} has no key '{key}'.{nearest(key, known)} "
                f"Keys: {choices(sorted(known), 40)}."
            )
        setattr(config, key, value)
    return config
