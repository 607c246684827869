"""Variants of a job: what of it changes results, and the one canonical name of a difference."""

import json
import re
from pathlib import Path
from typing import Any

from common.config.job import Job
from common.core.files import sha256

_VARIANT_LENGTH = 100  # characters; a folder name may hold 255 bytes, and more is added to it


def results_part(job: Job) -> dict[str, Any]:
    """Return what of a job changes its results, as plain values: all but runtime, resources, dataset's name."""
    document = job.model_dump(mode="json", by_alias=True)
    return {key: value for key, value in document.items() if key not in ("schema", "runtime", "resources", "dataset")}


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Return {"a.b": leaf} for nested mappings; lists and empty mappings are leaves."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= leaves(inner, f"{path}.{key}" if path else str(key))
    return found


def variant_name(base: Job, job: Job) -> str:
    """Name a variant by the result-changing leaves in which `job` differs from `base`, sorted by key.

    The name depends on the meaning alone: order, spelling (1e-3 or 0.001) and overrides that repeat the job's own
    value do not matter. Characters that do not belong into a folder's name are replaced, and a hash is added then.
    """
    before, after = leaves(results_part(base)), leaves(results_part(job))
    changed = {
        key: f"{_written(key)}={_written(value)}"
        for key, value in after.items()
        if key not in before or _written(before[key]) != _written(value)
    }
    changed |= {key: f"{_written(key)}=" for key in before if _dropped(key, after)}
    if not changed:
        return ""
    exact = ",".join(changed[key] for key in sorted(changed))
    if "model" in changed and str(after["model"]).startswith(("/", "~", ".")):
        changed["model"] = f"model={Path(str(after['model'])).name}"  # no path of this machine in names; the hash tells
    name = re.sub(r"[^A-Za-z0-9._=+,-]", "_", ",".join(changed[key] for key in sorted(changed)))
    if name != exact or len(name) > _VARIANT_LENGTH:
        name = f"{name[:_VARIANT_LENGTH]}-{sha256(exact.encode())[:8]}"
    return name


def _dropped(key: str, after: dict[str, Any]) -> bool:
    """Say whether a leaf is gone, other than by a value that took its mapping's place or by another method's keys."""
    if key in after or key.startswith("method."):
        return False
    return not any(other.startswith(f"{key}.") or key.startswith(f"{other}.") for other in after)


def _written(value: Any) -> str:
    """Write a value so that no two different ones read the same: a text that could be something else is quoted."""
    if isinstance(value, list) and value and not any(isinstance(item, list | dict) for item in value):
        return "+".join(map(_written, value)) + ("+" if len(value) == 1 else "")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and re.fullmatch(r"(?!(?:null|true|false)$)[^-\d\"\[{,=+][^,=+]*", value):
        return value
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
