"""What a job needs from elsewhere: its model, how large, and its rows. Nothing is fetched, no hub is asked.

`fetching` asks the Hub, and knows sizes to the byte; here they are counted from the shapes that are known without it.
"""

import dataclasses

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from common.config.dataset import Dataset
from common.config.job import Job
from common.core.errors import ModelError
from common.hub import download
from common.hub.locate import locate
from common.model import architectures


@dataclasses.dataclass(frozen=True)
class Model:
    """A job's model as something to fetch.

    Attributes:
        about: what it is and where it comes from, for a person.
        size_bytes: of the weights to download; 0 for a package, a folder, what the Hub's cache holds, and where
            nothing is known.
    """

    about: str
    size_bytes: int


def of_model(job: Job) -> Model:
    """Return what fetching a job's model means."""
    try:
        base = locate(job.model, job.revision)
    except ModelError as error:
        return Model(f"missing: {error}", 0)
    if base.revision is None:
        return Model(f"{job.model}: {'installed' if job.model.startswith('package:') else 'a local folder'}", 0)
    name, architecture = f"{job.model}, revision {job.revision}", architectures.known(job.model)
    if download.missing_model(base) is None:
        return Model(f"{name}: in the cache", 0)
    if architecture is None:
        return Model(f"{name}: its shape is not known here, so its size is not, either", 0)
    count = _parameters(job.model)
    size = count * getattr(torch, architecture.weights_dtype).itemsize
    about = f"{name}: {size / 1e9:.1f} GB, {count:,} parameters in {architecture.weights_dtype}"
    if not architecture.safetensors and job.revision == "main":
        about += "; main has no safetensors, so it cannot be loaded as it is: `make fetch` says what to do"
    return Model(about, size)


def _parameters(model: str) -> int:
    """Count the parameters of a known model as it is published: with its language-model head."""
    config = architectures.config(model)
    is_encoder = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    assert is_encoder or config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    kind = AutoModelForMaskedLM if is_encoder else AutoModelForCausalLM
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in kind.from_config(config).parameters())


def of_rows(dataset: Dataset) -> str:
    """Say where a data set's rows come from, and whether they are there."""
    source = dataset.source
    if source.hub is not None:
        known = f"{source.size_bytes / 1e6:.1f} MB" if source.size_bytes else "size unknown offline"
        state = known if download.missing_rows(dataset) else "in the cache"
        return f"the hub's {source.hub}, revision {source.revision}: {state}"
    files = [source.files] if isinstance(source.files, str) else list((source.files or {}).values())
    return download.missing_rows(dataset) or f"{', '.join(files)}: there"
