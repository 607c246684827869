"""Load jobs and datasets by name: a job's file over the defaults, then overrides; and expand a job's sweep.

job, variant = load_job("minilm-lora", overrides={"training.epochs": 1})   # variant "training.epochs=1"
settings = load_sweep("minilm-emotion-lora")                               # [{"method.r": 1, "method.alpha": 1}, …]
"""

import copy
import itertools
import os
from pathlib import Path
from typing import Any

from common.config.dataset import Dataset
from common.config.job import Job
from common.config.variants import variant_name
from common.core import yaml_io
from common.core.errors import ConfigError, choices, nearest
from common.core.schema import validate

CODE = Path(__file__).resolve().parents[3]  # the folder of the code that runs: the repository, or a job's copy of it
REPOSITORY = "PEFTABLE_ROOT"  # the variable that tells a job, which runs a copy, where the repository is
ROOT = Path(os.environ.get(REPOSITORY, CODE))  # the repository: data, models and outputs are found from here
JOBS = CODE / "jobs"
DATASETS = ROOT / "data"


def names(folder: Path) -> list[str]:
    """Return the names of the jobs or datasets in a folder: its YAML files, except those that begin with `_`."""
    return sorted(path.stem for path in folder.glob("*.yaml") if not path.name.startswith("_"))


def load_job(name: str | None, overrides: dict[str, Any] | None = None) -> tuple[Job, str]:
    """Load `jobs/<name>.yaml` over the defaults and apply overrides.

    Args:
        name: a file of `jobs/` without its ending; None or "" means that the user gave none, which is an error.
        overrides: {dotted key: value}, as given in `SET=`.

    Returns:
        The job, and the name of its variant: "" if the overrides change no setting that changes results.

    Raises:
        ConfigError: unknown name, unknown key or wrong value.
    """
    path = _find_file(name, JOBS, "MODEL", "job")
    document = yaml_io.read(path)
    document.pop("sweep", None)  # a run is one variant; the others do not belong to its settings
    return _build_job(document, overrides or {}, _relative(path), "SET")


def load_sweep(name: str | None) -> list[dict[str, Any]]:
    """Return the settings of each variant in the `sweep:` of `jobs/<name>.yaml`, in order.

    A grid, {key: [value, …], …}, means all combinations, with the last key varying fastest; a list of mappings,
    [{key: value, …}, …], means its entries.

    Returns:
        One {dotted key: value} per variant; an empty list for a job without a sweep.

    Raises:
        ConfigError: the sweep is empty or neither grid nor list, has an unknown key or a wrong value, or names the
            same variant twice.
    """
    path = _find_file(name, JOBS, "MODEL", "job")
    document = yaml_io.read(path)
    if "sweep" not in document:
        return []
    found = _expand_sweep(document.pop("sweep"), f"{_relative(path)}: sweep")
    numbers: dict[str, int] = {}
    for number, settings in enumerate(found, 1):
        origin = f"{_relative(path)}: sweep, variant {number} of {len(found)}"
        _, variant = _build_job(document, settings, _relative(path), origin)
        if variant in numbers:
            raise ConfigError(
                f"{origin}: {_describe(settings)} is the same variant as number {numbers[variant]}, "
                f"{_describe(found[numbers[variant] - 1])}."
            )
        numbers[variant] = number
    return found


def _expand_sweep(sweep: Any, origin: str) -> list[dict[str, Any]]:
    """Return the settings of each variant that a grid or a list of mappings means."""
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


def _describe(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in settings.items())


def _build_job(document: dict[str, Any], overrides: dict[str, Any], file: str, origin: str) -> tuple[Job, str]:
    """Return the job of a document with overrides, and the name of the variant; messages name `file` or `origin`."""
    plain = with_defaults(document)
    base = validate(Job, plain, file)
    changed = copy.deepcopy(plain)
    if overrides and overrides.get("method.name", base.method.name) != base.method.name:
        changed["method"] = {}  # another method does not know the keys of the job's method
    for key, value in overrides.items():
        _assign(changed, key, value, origin)
    job = validate(Job, changed, origin) if overrides else base
    return job, variant_name(base, job)


def load_dataset(name: str) -> Dataset:
    """Load `data/<name>.yaml`.

    Raises:
        ConfigError: unknown name, unknown key or wrong value.
    """
    path = _find_file(name, DATASETS, "DATASET", "dataset")
    return validate(Dataset, yaml_io.read(path), _relative(path))


def with_defaults(document: dict[str, Any]) -> dict[str, Any]:
    """Return `jobs/_defaults.yaml` updated by a job's mapping; nested mappings are updated key by key."""
    return _merge(yaml_io.read(JOBS / "_defaults.yaml"), document)


def _find_file(name: str | None, folder: Path, variable: str, kind: str) -> Path:
    available = names(folder)
    if not name:
        raise ConfigError(f"{variable}= is missing. Available: {choices(available, 40)}.")
    if name not in available:
        raise ConfigError(
            f"{variable}={name}: there is no {kind} with this name in {_relative(folder)}/.{nearest(name, available)} "
            f"Available: {choices(available, 40)}."
        )
    return folder / f"{name}.yaml"


def _merge(defaults: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    merged = dict(defaults)
    for key, value in document.items():
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
                f"{origin}: unknown key '{dotted}': '{'.'.join(parents[: depth + 1])}' has no keys."
                f"{nearest(key, known)} Allowed here: {choices(known)}."
            )
        here = inner
    here[last] = value


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
