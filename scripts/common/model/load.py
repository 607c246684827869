"""Base models: found, loaded, counted, given a head and a method. Weights are safetensors only."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from common.config.job import Dataset, Job
from common.config.methods import LastLayers, LibraryMethod, Untrained
from common.core.errors import ModelError
from common.hub.locate import Base, locate
from common.methods import attach, peft_library
from common.methods.modules import heads
from common.model import base_config
from common.model.encoding import Encoder
from common.model.heads import ClassificationHead, Head, keep_float32
from common.model.pretrained import from_pretrained
from common.model.prompt_head import PromptHead, keep_logits_float32
from common.model.prompts import PromptEncoder
from common.model.quantization import keep_norms_float32, keep_trainable_on_cpu, need_quantized, quantization_config


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
    trained, quantization = storage(job, base_config.meta_model(job, config))
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
    return hold(job, model, trained)


def storage(job: Job, bare: PreTrainedModel) -> tuple[set[str], BitsAndBytesConfig | None]:
    """Return which of a base's own parameters train, by name, and how its frozen layers are quantised, if they are.

    Args:
        job: method, quantization, double_quantization, precision.
        bare: the base on the meta device; the method `last-layers` marks there what it trains.
    """
    trained = set(_trained_whole(job, bare))
    # What trains cannot be quantised; nor are the modules on top of the backbone.
    return trained, quantization_config(job, sorted({*heads(bare), *(name.rpartition(".")[0] for name in trained)}))


def hold(job: Job, model: PreTrainedModel, trained: set[str]) -> PreTrainedModel:
    """Give a base that has its weights the dtypes in which they are held, in place: see `load_base`.

    Args:
        job: quantization, dtype, head.
        model: the base.
        trained: names of its own parameters that train.

    Raises:
        ModelError: the job asks for quantised layers, and there are none.
    """
    need_quantized(model, job)
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


def build_head(job: Job, dataset: Dataset) -> Head:
    """Build the model to train: base, head, method. Seed before; a new head and the method start at random."""
    base = locate(job.model, job.revision)
    tokenizer = load_tokenizer(base)
    model = attach(load_base(job, dataset, tokenizer.pad_token_id), job.method)
    return with_head(job, dataset, model, tokenizer)


def with_head(job: Job, dataset: Dataset, model: nn.Module, tokenizer: Any) -> Head:
    """Put a model on its device and behind the scoring interface; classification heads stay float32."""
    _check_length(job, inner_model(model))
    if job.quantization == "none":
        model.to(model_device())  # quantised models are there already
    bfloat16 = job.precision == "bfloat16"
    encoder = row_encoder(job, dataset, tokenizer)
    if isinstance(encoder, PromptEncoder):
        keep_logits_float32(inner_model(model).get_output_embeddings())
        return PromptHead(model, encoder, bfloat16, job.length_normalization)
    for module in head_modules(model).values():
        keep_float32(module)
    return ClassificationHead(model, encoder, bfloat16)


def row_encoder(job: Job, dataset: Dataset, tokenizer: Any) -> Encoder | PromptEncoder:
    """Return what turns rows into token ids for the job's head."""
    if job.head == "prompt":
        return PromptEncoder(tokenizer, job.max_length, dataset)
    return Encoder(tokenizer, job.max_length)


def _check_length(job: Job, model: PreTrainedModel) -> None:
    limit = position_count(model)
    virtual = getattr(job.method, "num_virtual_tokens", 0)  # a method's, which take positions of their own
    if limit is not None and job.max_length + virtual > limit:
        beside = f" and the method takes {virtual} of them" if virtual else ""
        raise ModelError(
            f"max_length is {job.max_length}, but the model has {limit} positions{beside}; "
            f"allowed is 8 to {limit - virtual}."
        )


def position_count(model: PreTrainedModel) -> int | None:
    """Return how many tokens a model has positions for, also on the meta device; None where nothing limits them.

    RoBERTa and its kin (XLM-R, CamemBERT, MPNet, …) count from behind the padding's index on, and lose as many.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    lost = 0
    for name, module in model.named_modules():
        weight, padding = getattr(module, "weight", None), getattr(module, "padding_idx", None)
        # XGLM's table, computed and not learned, grows with the text.
        if "position" in name.rpartition(".")[2] and padding is not None and weight is not None:
            lost = padding + 1
    return None if limit is None else int(limit) - lost


def inner_model(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model, without peft's wrapper."""
    return model.get_base_model() if isinstance(model, PeftModel) else model  # type: ignore[return-value]


def head_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules on top of the backbone that have weights, by name; peft's wrapper is looked through."""
    return heads(inner_model(model))


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Return params_total_count and params_trainable_count, counted as peft counts: every parameter once.

    A 4-bit weight holds two parameters in a byte; its own shape tells how many they are.
    """
    counts = [(getattr(parameter, "quant_state", None) or parameter).shape.numel() for parameter in model.parameters()]
    trains = [parameter.requires_grad for parameter in model.parameters()]
    return {
        "params_total_count": sum(counts),
        "params_trainable_count": sum(n for n, is_trained in zip(counts, trains, strict=True) if is_trained),
    }


def count_parameters(job: Job, dataset: Dataset) -> dict[str, int | None]:
    """Return the parameter counts of a job on the meta device: no weights are read, no memory is taken.

    They are None for a method whose parameters depend on the base's weights.

    Raises:
        ModelError: no such model, a method that does not fit it, or more tokens than it has positions.
    """
    model = base_config.meta_model(job, base_config.shape(job, dataset))
    _check_length(job, model)
    if isinstance(job.method, LibraryMethod) and not peft_library.fits_meta(job.method):
        peft_library.checked_config(model, job.method)
        return {"params_total_count": None, "params_trainable_count": None}
    with torch.device("meta"):
        return {**parameter_counts(attach(model, job.method))}


def build_untuned(job: Job, dataset: Dataset) -> Head:
    """Build the base that nothing has trained, the yardstick of fine-tuning: zero-shot, or with a new random head."""
    return build_head(_untuned(job), dataset)


def check_untuned(job: Job, dataset: Dataset) -> None:
    """Raise what `build_untuned` would raise, without reading weights."""
    count_parameters(_untuned(job), dataset)
    check_prompt(job, dataset)


def check_prompt(job: Job, dataset: Dataset) -> None:
    """Raise the `ConfigError` or `ModelError` that a prompt job's encoder would raise, before anything is written."""
    if job.head == "prompt":
        row_encoder(job, dataset, load_tokenizer(locate(job.model, job.revision)))


def _untuned(job: Job) -> Job:
    return job.model_copy(update={"method": Untrained(name="none")})
