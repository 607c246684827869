"""Jobs and datasets by name: defaults < job < overrides, and the one canonical name of a variant.

job, variant = load_job("minilm-lora", overrides={"training.epochs": 1})   # variant "training.epochs=1"
settings = load_sweep("minilm-emotion-lora")                               # [{"method.r": 1, "method.alpha": 1}, …]
"""

import copy
import itertools
from pathlib import Path
from typing import Any

from common.config.dataset import Dataset
from common.config.job import Job
from common.config.variants import variant_name
from common.core import yaml_io
from common.core.errors import ConfigError, choices, nearest
from common.core.schema import validate

ROOT = Path(__file__).resolve().parents[3]
JOBS = ROOT / "jobs"
DATASETS = ROOT / "data"


def names(folder: Path) -> list[str]:
    """Return the names of the YAML files of a folder; those that begin with `_` are no entries."""
    return sorted(path.stem for path in folder.glob("*.yaml") if not path.name.startswith("_"))


def load_job(name: str | None, overrides: dict[str, Any] | None = None) -> tuple[Job, str]:
    """Load `jobs/<name>.yaml` over the defaults, apply overrides, and name the variant.

    Args:
        name: a file of `jobs/` without its ending; None or "" is the user's omission.
        overrides: dotted key to value, as `SET=` gives them.

    Returns:
        The job and the variant's name, "" when the overrides change nothing that changes results.

    Raises:
        ConfigError: unknown name, unknown key, wrong value.
    """
    path = _named(name, JOBS, "MODEL", "job")
    document = yaml_io.read(path)
    document.pop("sweep", None)  # a run is one variant, and knows nothing of the others
    return _overridden(document, overrides or {}, _short(path), "SET")


def load_sweep(name: str | None) -> list[dict[str, Any]]:
    """Return what the `sweep:` of `jobs/<name>.yaml` sets in each of its variants, in order.

    A grid, {key: [value, …], …}, stands for all combinations, the last key varying fastest; a list of mappings,
    [{key: value, …}, …], stands for itself.

    Returns:
        Dotted key to value, a mapping a variant; an empty list for a job without a sweep.

    Raises:
        ConfigError: neither grid nor list, an empty one, an unknown key, a wrong value, or the same variant twice.
    """
    path = _named(name, JOBS, "MODEL", "job")
    document = yaml_io.read(path)
    if "sweep" not in document:
        return []
    found = _settings(document.pop("sweep"), f"{_short(path)}: sweep")
    numbers: dict[str, int] = {}
    for number, settings in enumerate(found, 1):
        origin = f"{_short(path)}: sweep, variant {number} of {len(found)}"
        _, variant = _overridden(document, settings, _short(path), origin)
        if variant in numbers:
            raise ConfigError(
                f"{origin}: {_line(settings)} is the same variant as number {numbers[variant]}, "
                f"{_line(found[numbers[variant] - 1])}."
            )
        numbers[variant] = number
    return found


def _settings(sweep: Any, origin: str) -> list[dict[str, Any]]:
    """Return the variants that a grid or a list of mappings stands for."""
    if not isinstance(sweep, dict | list) or not sweep:
        raise ConfigError(
            f"{origin} is {sweep!r}; allowed is a grid, {{key: [value, …]}}, or a list of mappings, [{{key: value}}]."
        )
    if isinstance(sweep, dict):
        for key, values in sweep.items():
            if not isinstance(values, list) or not values:
                raise ConfigError(f"{origin}: '{key}' is {values!r}; allowed in a grid is a list of values.")
        sweep = [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]
    for number, settings in enumerate(sweep, 1):
        if not isinstance(settings, dict) or not settings:
            raise ConfigError(f"{origin}, variant {number} is {settings!r}; allowed is {{key: value}}.")
    return [{str(key): value for key, value in settings.items()} for settings in sweep]


def _line(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in settings.items())


def _overridden(document: dict[str, Any], overrides: dict[str, Any], file: str, origin: str) -> tuple[Job, str]:
    """Return a job's document under overrides, which come from `origin`, and the variant's name."""
    plain = with_defaults(document)
    base = validate(Job, plain, file)
    changed = copy.deepcopy(plain)
    if overrides and overrides.get("method.name", base.method.name) != base.method.name:
        changed["method"] = {}  # another method: the keys of the job's own would be unknown to it
    for key, value in overrides.items():
        _assign(changed, key, value, origin)
    job = validate(Job, changed, origin if overrides else file)
    return job, variant_name(base, job)


def load_dataset(name: str) -> Dataset:
    """Load `data/<name>.yaml`; a wrong name or value is a `ConfigError`."""
    path = _named(name, DATASETS, "DATASET", "dataset")
    return validate(Dataset, yaml_io.read(path), _short(path))


def with_defaults(document: dict[str, Any]) -> dict[str, Any]:
    """Return a job's mapping laid over `jobs/_defaults.yaml`, mapping by mapping."""
    return _merge(yaml_io.read(JOBS / "_defaults.yaml"), document)


def _named(name: str | None, folder: Path, variable: str, kind: str) -> Path:
    available = names(folder)
    if not name:
        raise ConfigError(f"{variable}= is missing. Available: {choices(available, 40)}.")
    if name not in available:
        raise ConfigError(
            f"{variable}={name}: there is no {kind} of that name in {_short(folder)}/.{nearest(name, available)} "
            f"Available: {choices(available, 40)}."
        )
    return folder / f"{name}.yaml"


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        merged[key] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _assign(document: dict[str, Any], dotted: str, value: Any, origin: str) -> None:
    *parents, last = dotted.split(".")
    here = document
    for depth, key in enumerate(parents):
        inner = here.get(key)
        if not isinstance(inner, dict):
            known = [name for name, content in here.items() if isinstance(content, dict)]
            raise ConfigError(
                f"{origin}: unknown key '{dotted}': '{'.'.join(parents[: depth + 1])}' holds no keys."
                f"{nearest(key, known)} Allowed here: {choices(known)}."
            )
        here = inner
    here[last] = value


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
