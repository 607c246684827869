"""The dtype policy: which weights are float32, of 16 bits or quantised, and in which dtype each part computes.

Weights. The first row that fits a parameter decides:

| parameter of the base                                          | dtype                                              |
|----------------------------------------------------------------|----------------------------------------------------|
| trained by the method (last layers, modules_to_save, full)     | float32                                            |
| of a norm                                                      | float32                                            |
| of a classification head                                       | float32                                            |
| the weight of another linear layer of the backbone             | `quantization`: int8 or nf4; with none: `dtype`    |
| every other: embeddings, biases, a language-model head         | `dtype`: float32, bfloat16 or float16              |

What a method adds (LoRA's matrices, adapters) is float32.

Computation:

| part                   | computes in                                                                                |
|------------------------|--------------------------------------------------------------------------------------------|
| backbone               | `precision`: float32; bfloat16 or float16 under autocast; tf32: float32 whose products a   |
|                        | GPU from 2020 on rounds to TF32's 10 bits, and float32 elsewhere                           |
| quantised linear layer | `precision`; its output has the dtype of its input                                         |
| norm                   | float32; its output is of 16 bits where `dtype` is                                         |
| classification head    | float32, also under autocast                                                               |
| language-model head    | float32, also under autocast, whatever the dtype of its weight                             |
| scores and loss        | float32; with float16 the Trainer scales the loss, as small gradients would become zeros   |

`load.load_base` and estimate/benchmark.py give these dtypes to real weights, estimate/memory.py to weights without
memory.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from common.config.job import Job
from common.config.methods import LastLayers
from common.core.errors import ModelError
from common.methods import attach
from common.methods.modules import head_modules

QUANTIZED = ("int8", "nf4")  # the dtypes of packed weights

# --- weights ---------------------------------------------------------------------------------------------------------


def weight_dtypes(job: Job, model: PreTrainedModel) -> dict[str, str]:
    """Return the dtype of every parameter of a base, by the first table of this module.

    Args:
        job: method, head, dtype, quantization.
        model: the base on the meta device, before the method is attached; the method `last-layers` marks there what it
            trains.

    Returns:
        "float32", "bfloat16", "float16", "int8" or "nf4" by the parameter's name; a tied parameter has an entry for
        each name.
    """
    trained, heads = _trained_parameters(job, model), head_modules(model)
    dtypes = {}
    for path, module in model.named_modules():
        in_head = path.split(".")[0] in heads
        names = {name: f"{path}.{name}".lstrip(".") for name, _ in module.named_parameters(recurse=False)}
        can_be_quantized = is_linear(module) and not in_head and trained.isdisjoint(names.values())
        for name, full_name in names.items():
            if full_name in trained or is_norm(module) or (in_head and job.head == "classification"):
                dtypes[full_name] = "float32"
            elif can_be_quantized and name == "weight" and job.quantization != "none":
                dtypes[full_name] = job.quantization
            else:
                dtypes[full_name] = job.dtype
    return dtypes


def _trained_parameters(job: Job, model: PreTrainedModel) -> set[str]:
    """Return the names of the base's own parameters that the method trains; the model is on the meta device."""
    if isinstance(job.method, LastLayers):
        return {name for name, parameter in attach(model, job.method).named_parameters() if parameter.requires_grad}
    ends = [f".{end}." for end in getattr(job.method, "modules_to_save", None) or []]
    return {name for name, _ in model.named_parameters() if any(end in f".{name}" for end in ends)}


def cast_parameters(job: Job, model: PreTrainedModel, dtypes: dict[str, str]) -> None:
    """Cast a base's parameters to float32 where the policy says so, and set the dtype of its norms' outputs, in place.

    Args:
        job: dtype.
        model: the base, its parameters in the job's dtype or quantised.
        dtypes: from `weight_dtypes`.
    """
    for name, parameter in model.named_parameters():
        if dtypes[name] == "float32":
            parameter.data = parameter.data.float()
    set_norm_outputs(job, model)


def is_linear(module: nn.Module) -> bool:
    """Return whether a module is a linear layer, of torch or of transformers (GPT-2)."""
    return isinstance(module, nn.Linear | Conv1D)


def is_norm(module: nn.Module) -> bool:
    """Return whether a module is a LayerNorm, an RMSNorm or the like."""
    return "norm" in type(module).__name__.lower()


# --- computation -----------------------------------------------------------------------------------------------------


def compute_dtype(precision: str) -> torch.dtype:
    """Return the dtype of the tensors with which a job's precision computes."""
    return torch.float32 if precision == "tf32" else getattr(torch, precision)


def autocast(precision: str, device_type: str) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which a model of the job's precision is called."""
    dtype = compute_dtype(precision)
    return contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device_type, dtype)


def set_products(precision: str) -> None:
    """Let this process's GPU multiply float32 matrices in TF32, or not, as the job's precision says."""
    wanted, matmul = "tf32" if precision == "tf32" else "ieee", torch.backends.cuda.matmul
    if (matmul.fp32_precision == "tf32") != (wanted == "tf32"):  # once set, torch's older names for it raise errors
        matmul.fp32_precision = wanted


@contextlib.contextmanager
def _in_float32(device_type: str) -> Iterator[None]:
    """Multiply in float32, whatever the precision of the backbone is."""
    backbone = torch.backends.cuda.matmul.fp32_precision
    set_products("float32")
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        set_products(backbone)


def set_norm_outputs(job: Job, model: nn.Module) -> None:
    """Make the norms of a base of 16 bits return its dtype, in place.

    A norm computes in float32, since it sums over many numbers. A quantised layer answers in the dtype of its input:
    with float32 from the norms, all saved activations would take twice the memory.
    """
    if job.dtype == "float32":
        return
    dtype = getattr(torch, job.dtype)
    for module in model.modules():
        if is_norm(module):
            module.register_forward_hook(lambda _, inputs, output: output.to(dtype))


def set_head_precision(job: Job, model: PreTrainedModel) -> None:
    """Make the head of a transformers model compute in float32, also inside autocast, in place.

    Raises:
        ModelError: a weight of a classification head is not float32.
    """
    if job.head == "prompt":
        compute_logits_in_float32(model.get_output_embeddings())
    else:
        for module in head_modules(model).values():
            compute_in_float32(module)


def compute_in_float32(module: nn.Module) -> None:
    """Make a module compute in float32, also inside autocast, in place.

    Raises:
        ModelError: its weights are not float32 (a head must never be quantised).
    """
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            raise ModelError(f"the head's weight {name} is {parameter.dtype}; a head must be float32.")
    forward = module.forward

    def in_float32(hidden: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        with _in_float32(hidden.device.type):
            return forward(hidden.float(), *args, **kwargs)

    module.forward = in_float32


def compute_logits_in_float32(output: nn.Module) -> None:
    """Make a language-model head return float32 logits, also inside autocast, in place.

    In 16 bits the logits of two answers that are close become equal.
    """
    if not isinstance(output, nn.Linear):
        return  # a method has wrapped it, and casts in its own way

    def in_float32(hidden: torch.Tensor) -> torch.Tensor:
        with _in_float32(hidden.device.type):
            if output.weight.dtype == torch.float32:
                return F.linear(hidden.float(), output.weight, output.bias)
            logits = Float32Product.apply(hidden, output.weight)
            return logits if output.bias is None else logits + output.bias.float()

    output.forward = in_float32  # type: ignore[assignment]


class Float32Product(torch.autograd.Function):
    """The product of hidden (…, d) and a frozen weight (V, d) of 16 bits, in float32, for a block of rows at a time.

    At the width of Gemma 2, a vocabulary of 256,000 words in float32 would take 3.7 GB.
    """

    ROWS = 16_384

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return hidden @ weight.T (…, V) in float32."""
        ctx.save_for_backward(weight)
        ctx.hidden_dtype = hidden.dtype
        return torch.cat([F.linear(hidden.float(), rows.float()) for rows in weight.split(Float32Product.ROWS)], dim=-1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the gradient of hidden; the weight is frozen."""
        (weight,) = ctx.saved_tensors
        parts = zip(gradient.split(Float32Product.ROWS, dim=-1), weight.split(Float32Product.ROWS), strict=True)
        return torch.stack([part @ rows.float() for part, rows in parts]).sum(dim=0).to(ctx.hidden_dtype), None
