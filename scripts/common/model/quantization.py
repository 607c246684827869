"""Quantised linear layers by bitsandbytes: the settings to load them with, and checks. `precision` says which are.

NF4 (4-bit, blocks of 64 weights with a scale each) follows Dettmers et al. (2023), "QLoRA",
https://arxiv.org/abs/2305.14314; int8 follows Dettmers et al. (2022), "LLM.int8()", https://arxiv.org/abs/2208.07339.
"""

from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from common.config.job import Job
from common.core.errors import ModelError
from common.methods.modules import head_modules
from common.model.precision import QUANTIZED, compute_dtype, is_linear


def quantization_config(job: Job, model: PreTrainedModel, dtypes: dict[str, str]) -> BitsAndBytesConfig | None:
    """Return the `quantization_config` for `from_pretrained`, None for a base that is not quantised.

    Args:
        job: quantization, double_quantization, precision.
        model: the base on the meta device.
        dtypes: from `precision.weight_dtypes`.
    """
    if job.quantization == "none":
        return None
    linears = [name for name, module in model.named_modules() if is_linear(module)]
    unquantized = sorted(
        {*head_modules(model), *(name for name in linears if dtypes[f"{name}.weight"] not in QUANTIZED)}
    )
    if job.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=unquantized)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=job.double_quantization,
        bnb_4bit_compute_dtype=compute_dtype(job.precision),
        llm_int8_skip_modules=unquantized,  # 4-bit loading reads it, too
    )


def keep_trainable_on_cpu(model: nn.Module) -> None:
    """Stop 4-bit layers from repacking their weights in the first evaluation on a CPU with AVX512-BF16, in place.

    bitsandbytes 0.50 does not unpack them again for training: no later step would get a gradient through them.
    """
    for module in model.modules():
        if is_quantized(module):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]  # bitsandbytes' own attribute


def check_quantized(model: nn.Module, job: Job) -> None:
    """Raise a `ModelError` when the job asks for quantised layers and the model has none."""
    if job.quantization != "none" and not any(is_quantized(module) for module in model.modules()):
        raise ModelError(f"model {job.model}: it has no linear layers that quantization {job.quantization} can store.")


def is_quantized(module: nn.Module) -> bool:
    """Return whether a module is one of bitsandbytes' linear layers."""
    return type(module).__name__ in ("Linear4bit", "Linear8bitLt")
