"""Base models: found, loaded, counted, given a head and a method. Weights are safetensors only."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from common.config.dataset import Dataset
from common.config.job import Job
from common.config.methods import LastLayers
from common.core.errors import ModelError
from common.hub.locate import Base, locate
from common.methods import attach
from common.methods.modules import heads
from common.model import base_config
from common.model.inspect import head_modules
from common.model.precision import keep_norms_float32
from common.model.pretrained import from_pretrained
from common.model.quantization import check_quantized, keep_trainable_on_cpu, quantization_config


def quiet_libraries() -> None:
    """Silence the libraries' own bars and notes; what matters is said by us or raised."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # bitsandbytes asks CPU users for a package of faster kernels, and tells of every cast in every forward pass.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    torch.sparse.check_sparse_tensor_invariants.disable()  # as they are anyway; left unsaid, SHiRA and FRoD warn of it
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


def load_base(job: Job, dataset: Dataset, pad_token_id: int, weights: Path | None = None) -> PreTrainedModel:
    """Load the base with its language-model head, or with a classification head for the data set's labels.

    Frozen weights are held as the job says; norms and classification heads are float32.

    Args:
        job: model, revision, head, quantization, attention.
        dataset: its labels.
        pad_token_id: set on the config, since adapters do not carry it.
        weights: a folder with a whole fine-tuned model, instead of the job's base.

    Raises:
        ModelError: not there, not reachable, not safetensors, or of a kind without such a head.
    """
    base = Base(str(weights), None) if weights else locate(job.model, job.revision)
    config = base_config.load_config(job, base, dataset)
    config.pad_token_id = pad_token_id
    trained, quantization = dtype_policy(job, base_config.meta_model(job, config))
    placed = {"quantization_config": quantization, "device_map": {"": model_device()}} if quantization else {}
    model, report = from_pretrained(
        base_config.model_class(job),
        base,
        config=config,
        attn_implementation=job.attention,
        dtype=getattr(torch, job.dtype),
        use_safetensors=True,
        # transformers itself would raise without naming the weights; they are refused below.
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **placed,
    )
    for name, found, needed in sorted(report["mismatched_keys"]):
        raise ModelError(
            f"model {base.name}: its weight {name} is {tuple(found)}, needed is {tuple(needed)} for "
            f"{len(dataset.labels)} labels. Give a base without a head of its own, or one with as many labels."
        )
    return cast_parameters(job, model, trained)


def dtype_policy(job: Job, bare: PreTrainedModel) -> tuple[set[str], BitsAndBytesConfig | None]:
    """Return which of a base's own parameters train, by name, and how its frozen layers are quantised, if they are.

    Args:
        job: method, quantization, double_quantization, precision.
        bare: the base on the meta device; the method `last-layers` marks there what it trains.
    """
    trained = set(_trained_whole(job, bare))
    # What trains cannot be quantised; nor are the modules on top of the backbone.
    return trained, quantization_config(job, sorted({*heads(bare), *(name.rpartition(".")[0] for name in trained)}))


def cast_parameters(job: Job, model: PreTrainedModel, trained: set[str]) -> PreTrainedModel:
    """Give a base that has its weights the dtypes in which they are held, in place: see `load_base`.

    Args:
        job: quantization, dtype, head.
        model: the base.
        trained: names of its own parameters that train.

    Raises:
        ModelError: the job asks for quantised layers, and there are none.
    """
    check_quantized(model, job)
    keep_norms_float32(model, job)
    for name, parameter in model.named_parameters():
        if name in trained:
            parameter.data = parameter.data.float()  # also where frozen weights are bfloat16
    keep_trainable_on_cpu(model)
    if job.head == "classification":
        for module in head_modules(model).values():
            module.float()
    return model


def model_device() -> str:
    """Return where models go: the GPU, or the CPU where there is none."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _trained_whole(job: Job, model: PreTrainedModel) -> list[str]:
    """Return the names of the base's own parameters that the method trains, of a model on the meta device."""
    if isinstance(job.method, LastLayers):
        return [name for name, parameter in attach(model, job.method).named_parameters() if parameter.requires_grad]
    ends = [f".{end}." for end in getattr(job.method, "modules_to_save", None) or []]
    return [name for name, _ in model.named_parameters() if any(end in f".{name}" for end in ends)]
