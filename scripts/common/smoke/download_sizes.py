"""Describe what a job would download, and its size, without asking the Hub.

Sizes are counted from the published architectures; `hub/download.py` asks the Hub for the exact ones.
"""

import dataclasses

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from common.config.dataset import Dataset
from common.config.job import Job
from common.core.errors import ModelError
from common.hub import presence
from common.hub.locate import locate
from common.model import architectures


@dataclasses.dataclass(frozen=True)
class ModelDownload:
    """The download of a job's model.

    Attributes:
        about: one line for a person: the model, its source, its size.
        size_bytes: of the weights to download; 0 for a package, a folder, a model in the Hub's cache, and an unknown
            architecture.
    """

    about: str
    size_bytes: int


def model_download(job: Job) -> ModelDownload:
    """Return the download of a job's model."""
    try:
        base = locate(job.model, job.revision)
    except ModelError as error:
        return ModelDownload(f"missing: {error}", 0)
    if base.revision is None:
        return ModelDownload(f"{job.model}: {'installed' if job.model.startswith('package:') else 'a local folder'}", 0)
    name, architecture = f"{job.model}, revision {job.revision}", architectures.known(job.model)
    if presence.find_missing_model(base) is None:
        return ModelDownload(f"{name}: in the cache", 0)
    if architecture is None:
        return ModelDownload(f"{name}: its architecture is not known here, and so its size is not known", 0)
    count = _parameters(job.model)
    size = count * getattr(torch, architecture.weights_dtype).itemsize
    about = f"{name}: {size / 1e9:.1f} GB, {count:,} parameters in {architecture.weights_dtype}"
    if not architecture.safetensors and job.revision == "main":
        about += "; main has no safetensors, so it cannot be loaded as it is: `make fetch` says what to do"
    return ModelDownload(about, size)


def _parameters(model: str) -> int:
    """Count the parameters of a known model as it is published: with its language-model head."""
    config = architectures.config(model)
    is_encoder = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    assert is_encoder or config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    kind = AutoModelForMaskedLM if is_encoder else AutoModelForCausalLM
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in kind.from_config(config).parameters())


def describe_rows(dataset: Dataset) -> str:
    """Return one line with the source of a dataset's rows, and whether they are on this machine."""
    source = dataset.source
    if source.hub is not None:
        known = f"{source.size_bytes / 1e6:.1f} MB" if source.size_bytes else "size unknown offline"
        state = known if presence.find_missing_rows(dataset) else "in the cache"
        return f"the Hub's {source.hub}, revision {source.revision}: {state}"
    files = [source.files] if isinstance(source.files, str) else list((source.files or {}).values())
    return presence.find_missing_rows(dataset) or f"{', '.join(files)}: there"
