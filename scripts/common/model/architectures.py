"""The public shapes of base models, known without a hub: `architectures.yaml` as transformers' configs.

A 7-billion-parameter model need not be downloaded to be counted, and a base that is not what its name says need not be
trained to be noticed.
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
    """What is known of a base model.

    Attributes:
        model: hub id.
        model_type: as transformers names the family.
        weights_dtype: of the published weights, "float32", "bfloat16" or "float16".
        safetensors: whether the branch main holds the weights as safetensors.
        keys: of its config.json.
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
    """Return the hub ids of the models that are known."""
    return sorted(_all())


def known(model: str) -> Architecture | None:
    """Return what is known of a hub id, None for everything else."""
    return _all().get(model)


def config(model: str, **changes: Any) -> PretrainedConfig:
    """Return the config of a known model, as `AutoConfig.from_pretrained` would from the hub.

    Args:
        model: hub id.
        changes: keys laid over it, such as `num_labels=3`, or smaller sizes for a miniature of the same family.

    Raises:
        ModelError: the model is not known here.
    """
    architecture = known(model)
    if architecture is None:
        raise ModelError(f"model {model}: its shape is not known here. Known: {', '.join(names())}.")
    return AutoConfig.for_model(architecture.model_type, **{**_plain(architecture.keys), **changes})


def check_config(model: str, found: PretrainedConfig) -> None:
    """Compare a config that was really loaded with the known shape; of an unknown model nothing is said.

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
            "Download it again, or give a changed model a name of its own: model: <its folder>."
        )


def _plain(value: Any) -> Any:
    """Return a copy that the config may keep and change."""
    return {key: _plain(inner) for key, inner in value.items()} if isinstance(value, dict) else value
