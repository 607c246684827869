"""Attach methods of the peft library by their names and options there: LoRA and its variants, IA3, AdaLoRA and others.

Options are checked against the fields of the method's config class; an exception of peft becomes one message.

Sources: https://huggingface.co/docs/peft for every method; LoRA: Hu et al. (2021), https://arxiv.org/abs/2106.09685.
"""

import contextlib
import dataclasses
import re
import typing
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, PeftType, TaskType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from torch import nn
from transformers import PreTrainedModel

from common.config.methods import SET_BY_TRAINING, LibraryMethod
from common.core.errors import ConfigError, ModelError, choices, nearest
from common.methods.modules import head_modules, name_ends_with


def attaches_without_weights(method: LibraryMethod) -> bool:
    """Return whether a method can be attached on the meta device; the others decompose the base's weights."""
    return method.name not in ("adamss", "frod")  # type: ignore[attr-defined]


def add_library_method(model: PreTrainedModel, method: LibraryMethod) -> PeftModel:
    """Return the model with a method of the peft library; the base is frozen, a classification head trains.

    LoRA: y = W x + (alpha / r) B A x, A (r, in), B (out, r); B is zero at the start, so training begins at the base.

    Raises:
        ConfigError: the method does not have an option, or refuses a value.
        ModelError: the method does not fit the model; for example, `target_modules` names no layer.
    """
    config = checked_config(model, method)
    on_meta = next(model.parameters()).is_meta
    if on_meta and hasattr(config, "init_lora_weights"):
        config.init_lora_weights = True  # the other initialisations need weights; shapes are the same
    if on_meta and hasattr(config, "mask_fn"):
        config.mask_fn = None  # SHiRA's choice of entries; their number is the same
    pools_last = hasattr(model, "score")  # the name of the head in the sequence-classification classes of decoders
    virtual = (PeftType.PROMPT_TUNING, PeftType.P_TUNING, PeftType.PREFIX_TUNING)
    if config.peft_type in virtual and pools_last:
        raise ModelError(
            f"method {_name(config)}: {type(model).__name__} is pooled at its last token, past peft's virtual tokens, "
            "which would not train; use another method, or an encoder."
        )
    try:
        # A method computes its small tables, also if the base has no weights.
        with _same_decomposition(config), torch.device("cpu") if on_meta else contextlib.nullcontext():
            attached = get_peft_model(model, config)
    except Exception as error:  # peft's layers raise exceptions of any class
        raise ModelError(_misfit(model, config, error)) from error
    for name, parameter in attached.named_parameters():
        if "ranknum" in name:
            parameter.requires_grad_(False)  # AdaLoRA's number of ranks; peft's cast to float32 sets requires_grad
    return attached


def checked_config(model: PreTrainedModel, method: LibraryMethod) -> PeftConfig:
    """Return peft's config of a method for a model, which may be on the meta device; raises as `add_library_method`."""
    name: str = method.name  # type: ignore[attr-defined]
    options = {**_QUIET.get(name, {}), **method.model_dump(exclude={"name"})}
    kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(name.upper())]
    task = TaskType.SEQ_CLS if model.get_output_embeddings() is None else TaskType.CAUSAL_LM
    fields = {field.name for field in dataclasses.fields(kind)}
    if task == TaskType.SEQ_CLS and "modules_to_save" in fields:
        # peft knows the last layer of a head by its name; DeBERTa's pooler and ModernBERT's head are new, too.
        on_top = head_modules(model)
        options["modules_to_save"] = sorted({*on_top, *(options.get("modules_to_save") or [])})
        if options.get("target_modules") == "all-linear" and "exclude_modules" in fields:
            linear = [name for name, child in on_top.items() if isinstance(child, nn.Linear)]
            options.setdefault("exclude_modules", linear)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft warns of the defaults that it takes
            config = _filled(kind, options, "method", {"task_type": task})
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"method {name}: {' '.join(str(error).split())[:300]}") from error
    _check_tokens(model, options)
    _check_named_modules(model, method, config)
    return config


_QUIET = {"frod": {"progressbar": False}}


def _check_tokens(model: PreTrainedModel, options: dict[str, Any]) -> None:
    """Raise a `ModelError` for a token id outside the vocabulary; peft would fail in the first batch."""
    for key in ("trainable_token_indices", "token_indices"):
        chosen = options.get(key) or []
        for name, ids in chosen.items() if isinstance(chosen, dict) else [("", chosen)]:
            tables = ((path, module) for path, module in model.named_modules() if isinstance(module, nn.Embedding))
            named = (table for path, table in tables if name_ends_with(path, name))
            table: Any = next(named, model.get_input_embeddings())
            rows = table.weight.shape[0]
            for token in ids if isinstance(ids, list) else []:
                if token not in range(rows):
                    raise ModelError(
                        f"method.{key} names token {token}, but the model's vocabulary has {rows}; "
                        f"allowed is 0 to {rows - 1}."
                    )


def _check_named_modules(model: PreTrainedModel, method: LibraryMethod, config: PeftConfig) -> None:
    """Raise a `ModelError` for a module or layer that the model lacks; peft raises only if all of them are missing."""
    options = method.model_dump(exclude={"name"})
    names = [name for name, _ in model.named_modules()]
    depth = model.config.get_text_config().num_hidden_layers
    layers = options.get("layers_to_transform")
    for layer in layers if isinstance(layers, list) else [layers] if layers is not None else []:
        if layer not in range(depth):
            raise ModelError(
                f"method.layers_to_transform names {layer}, but the model has {depth} layers; "
                f"allowed is 0 to {depth - 1}."
            )
    for key, value in options.items():
        if key in _ENDS_OF_NAMES and isinstance(value, list):
            ends = {str(end): re.escape(str(end)) for end in value}
        elif key.endswith("_pattern") and isinstance(value, dict):
            ends = {str(end): f"({end})" for end in value}  # in peft these are regular expressions
        else:
            continue
        for end, expression in ends.items():
            if not any(_matches(rf"(.*\.)?{expression}", name) for name in names):
                parts = {part for name in names for part in name.split(".")}
                on_top = choices(sorted(name for name, _ in model.base_model.named_children()))
                there = f"On top there are: {on_top}." if key == "modules_to_save" else _layers(model, config)
                raise ModelError(
                    f"method {_name(config)}, method.{key}: '{end}' names no module.{nearest(end, parts)} {there}"
                )


_ENDS_OF_NAMES = ("target_modules", "modules_to_save", "exclude_modules")


def _matches(expression: str, name: str) -> bool:
    try:
        return re.fullmatch(expression, name) is not None
    except re.error:
        return False


def _filled(kind: type, options: dict[str, Any], path: str, ours: dict[str, Any]) -> Any:
    """Return a config dataclass made from plain values, with its nested dataclasses made from mappings.

    Raises:
        ConfigError: an option that the class does not have.
    """
    allowed = [field.name for field in dataclasses.fields(kind) if field.name not in SET_BY_TRAINING]
    types = typing.get_type_hints(kind)
    filled = dict(options)
    for key, value in options.items():
        if key not in allowed:
            raise ConfigError(
                f"unknown key '{path}.{key}'.{nearest(key, allowed)} Allowed here: {choices(allowed, 60)}."
            )
        inner = [part for part in typing.get_args(types[key]) if dataclasses.is_dataclass(part)]
        if inner and isinstance(value, dict):
            filled[key] = _filled(typing.cast(type, inner[0]), value, f"{path}.{key}", {})
    return kind(**filled, **ours)


def _misfit(model: PreTrainedModel, config: PeftConfig, error: Exception) -> str:
    """Return the message that a method cannot be attached: peft's reason, and the names of the model's layers."""
    reason = " ".join(str(error).split())[:300]
    targets = getattr(config, "target_modules", None)
    named = f"method.target_modules is {sorted(targets) if isinstance(targets, set) else targets}"
    return (
        f"method {_name(config)}, {named if targets else 'target_modules not given'}: {reason} {_layers(model, config)}"
    )


def _layers(model: PreTrainedModel, config: PeftConfig) -> str:
    """Return a sentence with the names of the layers that the method can change."""
    norms = config.peft_type == PeftType.LN_TUNING
    layers = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if ("norm" in type(module).__name__.lower() if norms else hasattr(module, "in_features"))
    }
    return f"{'Norms' if norms else 'Linear layers'} of this model: {', '.join(sorted(layers))}."


@contextlib.contextmanager
def _same_decomposition(config: PeftConfig | None) -> Iterator[None]:
    """Fix the seed of PiSSA's fast decomposition: a reload repeats it, since only the trained factors are saved."""
    if config is not None and not str(getattr(config, "init_lora_weights", "")).startswith("pissa_niter"):
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def reload(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Return `model` with the adapter saved in `folder`; its outputs equal those before saving.

    Raises:
        ValueError: the file lacks weights of the adapter, of which peft only warns.
    """
    with _same_decomposition(None), warnings.catch_warnings():
        warnings.filterwarnings("error", message="(?s).*Found missing adapter keys", category=UserWarning)
        try:
            return PeftModel.from_pretrained(model, str(folder))
        except UserWarning as error:
            raise ValueError(f"weights are missing from its {SAFETENSORS_WEIGHTS_NAME}: {error}") from error


def _name(config: PeftConfig) -> str:
    return PeftType(config.peft_type).value.lower()
