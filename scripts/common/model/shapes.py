"""A job's model on the meta device: shapes and dtypes of base, head and method, without weights or memory."""

import dataclasses
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from common.config.dataset import Dataset
from common.config.job import Job
from common.config.methods import LibraryMethod
from common.core.errors import ModelError
from common.methods import attach, peft_library
from common.model import base_config
from common.model.inspect import parameter_counts
from common.model.precision import QUANTIZED, compute_dtype, set_norm_outputs, weight_dtypes


@dataclasses.dataclass(frozen=True)
class ModelShape:
    """A model on the meta device.

    Attributes:
        model: with its method attached; None if that depends on the base's weights.
        packed_bytes: what each quantised weight takes, by the parameter's id. In the model, such weights have the dtype
            in which they are computed.
    """

    model: nn.Module | None
    packed_bytes: dict[int, int]

    @property
    def counts(self) -> dict[str, int | None]:
        """params_total_count and params_trainable_count; None without a model."""
        if self.model is None:
            return {"params_total_count": None, "params_trainable_count": None}
        return {**parameter_counts(self.model)}


def model_shape(job: Job, dataset: Dataset) -> ModelShape:
    """Return a job's model on the meta device; reads no weights.

    Raises:
        ModelError: no such model, a method that does not fit it, or more tokens than it has positions.
    """
    config = base_config.offline_config(job, dataset)
    if config.pad_token_id is None:
        config.pad_token_id = config.eos_token_id if isinstance(config.eos_token_id, int) else 0  # as load_tokenizer
    model = base_config.meta_model(job, config)
    check_length(job, model)
    if isinstance(job.method, LibraryMethod) and not peft_library.attaches_without_weights(job.method):
        peft_library.checked_config(model, job.method)
        return ModelShape(None, {})
    packed_bytes = _set_dtypes(job, model)
    with torch.device("meta"):
        return ModelShape(attach(model, job.method), packed_bytes)


def check_length(job: Job, model: PreTrainedModel, example_length: int = 0) -> None:
    """Raise a `ModelError` if a row can have more tokens than the model has positions.

    Args:
        job: `max_length`, and the method's virtual tokens.
        model: the base, also on the meta device.
        example_length: tokens of the examples that every prompt shows, beside `max_length`.
    """
    limit = position_count(model)
    virtual = getattr(job.method, "num_virtual_tokens", 0)  # of the method; they take positions, too
    if limit is not None and example_length and job.max_length + example_length > limit:
        raise ModelError(
            f"the examples of the prompt have {example_length} tokens and max_length is {job.max_length}, but the "
            f"model has {limit} positions; take fewer SHOTS, or set a lower max_length."
        )
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


def _set_dtypes(job: Job, model: PreTrainedModel) -> dict[int, int]:
    """Cast a model on the meta device to the dtypes of `model/precision.py`, in place, and return the packed bytes."""
    dtypes = weight_dtypes(job, model)
    sizes: dict[int, int] = {}
    set_norm_outputs(job, model)
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            dtype = dtypes[f"{path}.{name}".lstrip(".")]
            is_quantized = dtype in QUANTIZED
            parameter.data = parameter.data.to(compute_dtype(job.precision if is_quantized else dtype))
            if is_quantized:
                sizes[id(parameter)] = _packed_bytes(job, *parameter.shape)
                parameter.requires_grad_(False)
                module.register_forward_hook(_in_the_inputs_dtype)
                if job.quantization == "int8":
                    module.register_forward_hook(_keep_input)
    return sizes


def _in_the_inputs_dtype(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    """Return the output in the input's dtype, as bitsandbytes' layers do under autocast."""
    return output.to(inputs[0].dtype)


def _packed_bytes(job: Job, rows: int, columns: int) -> int:
    """Return the bytes of a quantised weight with its scales.

    Source: Dettmers et al. (2023), "QLoRA", section 3, https://arxiv.org/abs/2305.14314.
    """
    if job.quantization == "int8":
        return rows * columns + 4 * rows
    blocks = -(-rows * columns // 64)
    scales = blocks + 4 * -(-blocks // 256) if job.double_quantization else 4 * blocks
    return rows * columns // 2 + scales


def _keep_input(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    """Keep an int8 layer's input for the backward pass, as bitsandbytes does."""
    if output.grad_fn is not None:  # not an autograd function: its result could not be changed in place
        output.grad_fn.metadata["held"] = inputs[0].detach()  # type: ignore[index]  # a property, there
