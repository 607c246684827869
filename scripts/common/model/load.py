"""Load a base model's tokenizer and weights; weights are safetensors only."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from common.config.dataset import Dataset
from common.config.job import Job
from common.core.errors import ModelError
from common.hub.locate import Base, locate
from common.methods.modules import head_modules
from common.model import base_config, device
from common.model.finished_head import check_head, fit_head, head_labels
from common.model.pooling import set_pooling
from common.model.precision import cast_parameters, weight_dtypes
from common.model.pretrained import from_pretrained
from common.model.quantization import check_quantized, keep_trainable_on_cpu, quantization_config


def quiet_libraries() -> None:
    """Silence the libraries' own progress bars and warnings that a user can do nothing about."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # bitsandbytes asks CPU users for a package of faster kernels, and logs every cast in every forward pass.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    torch.sparse.check_sparse_tensor_invariants.disable()  # the default; unless set, SHiRA and FRoD warn
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
    """Load the base with its language-model head, or with a classification head for the dataset's labels.

    The weights have the dtypes of `precision`. A base that is a finished classifier keeps its head where its labels are
    the dataset's, in whatever order; else the head is new (`finished_head`).

    Args:
        job: model, revision, head, dtype, quantization, attention.
        dataset: its labels.
        pad_token_id: set on the config, since adapters do not carry it.
        weights: a folder with a whole fine-tuned model, instead of the job's base.

    Raises:
        ModelError: the model is missing, not reachable, not safetensors, or of a kind without such a head.
    """
    base = Base(str(weights), None) if weights else locate(job.model, job.revision)
    config = base_config.load_config(job, base, dataset)
    config.pad_token_id = pad_token_id
    meta = base_config.meta_model(job, config)
    dtypes = weight_dtypes(job, meta)
    quantization = quantization_config(job, meta, dtypes)
    placed = {"quantization_config": quantization, "device_map": {"": device.choose()}} if quantization else {}
    model, report = from_pretrained(
        base_config.model_class(job),
        base,
        config=config,
        attn_implementation=job.attention,
        dtype=getattr(torch, job.dtype),
        use_safetensors=True,
        # Transformers' own error does not name the weights; the one below does.
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **placed,
    )
    labels = None if weights else head_labels(job, base)
    heads = () if labels is None else tuple(f"{name}." for name in head_modules(model))
    for name, found, needed in sorted(key for key in report["mismatched_keys"] if not key[0].startswith(heads)):
        raise ModelError(
            f"model {base.name}: its weight {name} is {tuple(found)}, needed is {tuple(needed)} for "
            f"{len(dataset.labels)} labels. Give a base without a head of its own, or one with as many labels."
        )
    if labels is not None:
        check_head(job, labels, dataset, report["missing_keys"])
        fit_head(model, labels, dataset)
    set_pooling(model, job.pooling)
    if weights and job.pooling != "default":
        _load_output_layer(model, weights)
    return prepare_weights(job, model, dtypes)


def _load_output_layer(model: PreTrainedModel, folder: Path) -> None:
    """Load the last layer, which `set_pooling` has made anew, from a folder with a whole model."""
    state = {key: value for file in folder.glob("*.safetensors") for key, value in load_file(file).items()}
    for name, head in head_modules(model).items():
        head.load_state_dict({key: state[f"{name}.{key}"] for key in head.state_dict()})


def prepare_weights(job: Job, model: PreTrainedModel, dtypes: dict[str, str]) -> PreTrainedModel:
    """Check that a base is quantised as the job says, and cast its parameters to the dtypes of `precision`, in place.

    Args:
        job: quantization, dtype.
        model: the base, its parameters in the job's dtype or quantised.
        dtypes: from `precision.weight_dtypes`.

    Raises:
        ModelError: the job asks for quantised layers, and there are none.
    """
    check_quantized(model, job)
    cast_parameters(job, model, dtypes)
    keep_trainable_on_cpu(model)
    return model
