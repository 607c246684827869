"""Cluster profiles, slurm/<cluster>.yaml: a site's names of partitions and accounts, and the default resources of jobs.

profile = load("testbed")                       # slurm/_defaults.yaml < slurm/testbed.yaml
request = for_job(profile, job.resources, {"time": 30}, gpu=True)
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from huggingface_hub import constants
from pydantic import Field

from common.config.catalog import ROOT, names
from common.config.job import Job
from common.config.resources import Minutes, Resources, SbatchOptions, Word
from common.core import gpus, yaml_io
from common.core.errors import ConfigError, choices, nearest
from common.core.schema import Strict, validate

PROFILES = ROOT / "slurm"
LOCAL = "local"


class Profile(Strict):
    """How jobs run on one cluster, or on this machine; slurm/_defaults.yaml explains the keys and has the defaults."""

    schema_: Literal[1] = Field(alias="schema")
    executor: Literal["slurm", "local"]
    partition: Word | None
    account: Word | None
    qos: Word | None
    constraint: Word | None
    gpu_request: Literal["gres", "gpus_per_node", "none"]
    gpu_type: Word | None
    cpus: Annotated[int, Field(ge=1)]
    mem_gb: Annotated[float, Field(gt=0)] | None
    time: Minutes
    sbatch: SbatchOptions
    cpu: Resources  # of jobs without a GPU
    max_requeues: Annotated[int, Field(ge=0)]
    lead_s: Annotated[int, Field(ge=10)]
    setup: list[str]
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], Word]
    scratch: Word | None
    array_limit: Annotated[int, Field(ge=1)]
    slots: Annotated[int, Field(ge=1)] | None


def load(name: str) -> Profile:
    """Load a profile by name.

    Raises:
        ConfigError: no such profile, an unknown key, a wrong value.
    """
    path = _file(name)
    document = yaml_io.read(PROFILES / "_defaults.yaml") | yaml_io.read(path)
    return validate(Profile, document, _short(path))


def exists(name: str) -> bool:
    """Return whether there is a profile of that name."""
    return name in names(PROFILES)


def for_job(profile: Profile, job: Resources | None, given: dict[str, Any], gpu: bool) -> Profile:
    """Return the profile with what one job asks for: profile < its `cpu:` or the job's resources < command line.

    Args:
        profile: of the cluster.
        job: the job's `resources:`; None for a Slurm job without a jobs/*.yaml, such as the one that makes the report.
        given: RESOURCES= of the command line.
        gpu: whether it needs one; without a GPU the profile's `cpu:` counts instead of the job's resources.

    Raises:
        ConfigError: RESOURCES= has an unknown key or a wrong value.
    """
    own = (job.given() if job else {}) if gpu else {"gpu_request": "none", "gpu_type": None, **profile.cpu.given()}
    typed = validate(Resources, given, "RESOURCES").given()
    options = profile.sbatch
    for part in (own, typed):
        asked = part.pop("sbatch", {})
        options = {} if asked is None else {**options, **asked}
    changed = {**own, **typed}
    for key in ("cpus", "time", "gpu_request"):
        if changed.get(key, "") is None:
            raise ConfigError(f"resources: {key} cannot be null.")
    request = profile.model_copy(update={**changed, "sbatch": options})
    if request.executor == "slurm" and 60 * request.time < 2 * request.lead_s:
        raise ConfigError(
            f"time is {request.time} min, less than twice lead_s, the {request.lead_s} s before it at which a run puts "
            "itself back: nothing would get done. Raise time, or lower lead_s in the profile."
        )
    return request


def check_card(profile: Profile, job: Job | None) -> None:
    """Raise a `ConfigError` where a job computes in bfloat16 and asks for a type of GPU that has none."""
    if job and job.precision == "bfloat16" and profile.gpu_type and gpus.lacks_bfloat16(profile.gpu_type):
        raise ConfigError(gpus.no_bfloat16(f"gpu_type {profile.gpu_type}"))


def check_cache(profile: Profile) -> None:
    """Raise a `ConfigError` where jobs would look for models and rows in another folder than `make fetch` fills.

    `make fetch` and this process use the shell's variables; jobs get the profile's `env`.
    """
    used = {
        "HF_HOME": constants.HF_HOME,
        "HF_HUB_CACHE": constants.HF_HUB_CACHE,
        "HF_DATASETS_CACHE": f"{constants.HF_HOME}/datasets",
    }
    for name, default in used.items():
        if name not in profile.env:
            continue
        values = os.environ.get(name, default), profile.env[name]
        here, there = (Path(os.path.expandvars(value)).expanduser() for value in values)
        if here.resolve() != there.resolve():
            raise ConfigError(
                f"env: {name} is {there} for jobs, and {here} in this shell, where make fetch and this check look. "
                f"Type the same here, then make fetch: export {name}={profile.env[name]}"
            )


def _file(name: str) -> Path:
    available = names(PROFILES)
    if name not in available:
        raise ConfigError(
            f"CLUSTER={name}: there is no slurm/{name}.yaml.{nearest(name, available)} Available: auto, "
            f"{choices(available, 40)}. slurm/README.md says how to write one."
        )
    return PROFILES / f"{name}.yaml"


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
