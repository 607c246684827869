"""Published architectures of base models, from `architectures.yaml`, as transformers' configs without the Hub.

They count the parameters of a model that is not downloaded, and detect a base that is not the published model.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from common.core import yaml_io
from common.core.errors import ModelError

_FILE = Path(__file__).with_suffix(".yaml")
# transformers writes the older keys of config.json under newer names.
_RENAMED = {
    "rope_theta": "rope_parameters",
    "rope_scaling": "rope_parameters",
    "global_rope_theta": "rope_parameters",
    "local_rope_theta": "rope_parameters",
    "global_attn_every_n_layers": "layer_types",
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The published architecture of a base model.

    Attributes:
        model: Hub id.
        model_type: transformers' name of the family.
        weights_dtype: of the published weights, "float32", "bfloat16" or "float16".
        safetensors: whether the branch main has the weights as safetensors.
        keys: those of its config.json that fix shapes and computation.
    """

    model: str
    model_type: str
    weights_dtype: str
    safetensors: bool
    keys: dict[str, Any]


@functools.cache
def _all() -> dict[str, Architecture]:
    models = yaml_io.read(_FILE)["models"]
    return {
        model: Architecture(
            model,
            keys["model_type"],
            keys["weights_dtype"],
            keys.get("safetensors", True),
            {key: value for key, value in keys.items() if key not in ("model_type", "weights_dtype", "safetensors")},
        )
        for model, keys in models.items()
    }


def names() -> list[str]:
    """Return the Hub ids of all models in `architectures.yaml`, sorted."""
    return sorted(_all())


def known(model: str) -> Architecture | None:
    """Return the architecture of a Hub id, None if `architectures.yaml` does not have it."""
    return _all().get(model)


def config(model: str, **changes: Any) -> PretrainedConfig:
    """Return the config of a known model, as `AutoConfig.from_pretrained` would return it from the Hub.

    Args:
        model: Hub id.
        changes: keys to set, such as `num_labels=3`.

    Raises:
        ModelError: `architectures.yaml` does not have the model.
    """
    architecture = known(model)
    if architecture is None:
        raise ModelError(f"model {model}: its architecture is not known here. Known: {', '.join(names())}.")
    return AutoConfig.for_model(architecture.model_type, **{**_plain(architecture.keys), **changes})


def check_config(model: str, found: PretrainedConfig) -> None:
    """Check that a loaded config is the published one; a model that is not known passes.

    Raises:
        ModelError: they differ, so the model is not the published one.
    """
    architecture = known(model)
    if architecture is None:
        return
    if found.model_type != architecture.model_type:
        raise ModelError(
            f"model {model}: its model_type is {found.model_type}; published is {architecture.model_type}."
        )
    wanted, got = config(model).to_dict(), found.to_dict()
    keys = sorted({_RENAMED.get(key, key) for key in architecture.keys})
    different = [f"{key} is {got.get(key)} (published: {wanted[key]})" for key in keys if got.get(key) != wanted[key]]
    if different:
        raise ModelError(
            f"model {model}: its config.json is not that of the published model: {'; '.join(different)}. "
            "Download it again. If the model is a changed one, name its folder: model: <folder>."
        )


def _plain(value: Any) -> Any:
    """Return a copy of nested mappings, which the config may change."""
    return {key: _plain(inner) for key, inner in value.items()} if isinstance(value, dict) else value
