"""Select the settings of a job that change its results, and name a variant by those in which it differs."""

import json
import re
from pathlib import Path
from typing import Any

from common.config.job import Job
from common.core.files import sha256

_VARIANT_LENGTH = 100  # characters; a folder name has at most 255 bytes, and more is added to it


def result_settings(job: Job) -> dict[str, Any]:
    """Return the settings of a job that change its results, as plain values: all but runtime, resources and dataset."""
    document = job.model_dump(mode="json", by_alias=True)
    return {key: value for key, value in document.items() if key not in ("schema", "runtime", "resources", "dataset")}


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Return {"a.b": value} for nested mappings; lists and empty mappings are values."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= flatten(inner, f"{path}.{key}" if path else str(key))
    return found


def variant_name(base: Job, job: Job) -> str:
    """Return the name of a variant: the settings that change results and differ from `base`, sorted by key.

    Equal settings have equal names: order, spelling (1e-3 or 0.001) and overrides that repeat the job's own value do
    not matter. Characters that are not allowed in a folder's name are replaced, and then a hash is added.

    Args:
        base: the job without overrides.
        job: the job with overrides.

    Returns:
        For example "method.r=8,training.epochs=1"; "" if no such setting differs.
    """
    before, after = flatten(result_settings(base)), flatten(result_settings(job))
    changed = {
        key: f"{_format(key)}={_format(value)}"
        for key, value in after.items()
        if key not in before or _format(before[key]) != _format(value)
    }
    changed |= {key: f"{_format(key)}=" for key in before if _is_removed(key, after)}
    if not changed:
        return ""
    exact = ",".join(changed[key] for key in sorted(changed))
    if "model" in changed and str(after["model"]).startswith(("/", "~", ".")):
        changed["model"] = (
            f"model={Path(str(after['model'])).name}"  # no local path in names; the hash tells models apart
        )
    name = re.sub(r"[^A-Za-z0-9._=+,-]", "_", ",".join(changed[key] for key in sorted(changed)))
    if name != exact or len(name) > _VARIANT_LENGTH:
        name = f"{name[:_VARIANT_LENGTH]}-{sha256(exact.encode())[:8]}"
    return name


def _is_removed(key: str, after: dict[str, Any]) -> bool:
    """Return whether a setting is removed: not replaced by a value or a mapping, and not a key of another method."""
    if key in after or key.startswith("method."):
        return False
    return not any(other.startswith(f"{key}.") or key.startswith(f"{other}.") for other in after)


def _format(value: Any) -> str:
    """Return a value as text, different for different values: a string that looks like another value is quoted."""
    if isinstance(value, list) and value and not any(isinstance(item, list | dict) for item in value):
        return "+".join(map(_format, value)) + ("+" if len(value) == 1 else "")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and re.fullmatch(r"(?!(?:null|true|false)$)[^-\d\"\[{,=+][^,=+]*", value):
        return value
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
