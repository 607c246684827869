"""The schema of the resources that a Slurm job requests: CPU cores, memory, time, a GPU, sbatch options.

Used for `resources:` in jobs/<name>.yaml, `RESOURCES="time=02:00:00 partition=long"` and `cpu:` in a cluster profile.
"""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

from common.core.schema import Strict

# sbatch options that we set on every job: another value would break resuming, fencing or finding the job again.
RESERVED_OPTIONS = (
    *("array", "chdir", "comment", "dependency", "error", "export", "job-name", "open-mode", "output", "requeue"),
    *("no-requeue", "signal", "wrap", "parsable", "test-only", "hold", "nodes", "ntasks", "ntasks-per-node"),
    *("clusters", "cluster-constraint", "wait", "uid", "gid", "export-file"),
)
# {sbatch option: key of `Resources` with the same meaning}; two ways to set one thing could disagree.
OPTION_KEYS = {
    **{"account": "account", "constraint": "constraint", "partition": "partition", "qos": "qos", "time": "time"},
    **{"cpus-per-task": "cpus", "mem": "mem_gb", "gres": "gpu_request", "gpus": "gpu_request"},
    **{"gpus-per-node": "gpu_request", "gpus-per-task": "gpu_request"},
}


def minutes(value: Any) -> Any:
    """Return a time limit, given in minutes or as "HH:MM:SS" or "D-HH:MM:SS", in whole minutes, rounded up.

    Raises:
        ValueError: the value has none of these forms.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)", value) if isinstance(value, str) else None
    if match:
        days, hours, mins, seconds = (int(part or 0) for part in match.groups())
        if total := math.ceil(days * 1440 + hours * 60 + mins + seconds / 60):
            return total
    raise ValueError(f"{value!r} is not a time limit; allowed are minutes, HH:MM:SS or D-HH:MM:SS")


def _check_options(options: dict[str, Any]) -> dict[str, Any]:
    for name in options:
        if name in RESERVED_OPTIONS:
            raise ValueError(f"sbatch option '{name}' is set by peftable itself")
        if name in OPTION_KEYS:
            raise ValueError(f"sbatch option '{name}' has its own key: {OPTION_KEYS[name]}")
        if not re.fullmatch(r"[a-z][a-z-]*", name):
            raise ValueError(f"'{name}' is not an sbatch option; write it as in --{name.lstrip('-').replace('_', '-')}")
    return options


def _check_one_line(text: str) -> str:
    if "\n" in text or "\0" in text:
        raise ValueError("an #SBATCH line cannot contain a line break")
    return text


Word = Annotated[str, Field(min_length=1), AfterValidator(_check_one_line)]
Minutes = Annotated[int, BeforeValidator(minutes)]
SbatchOptions = Annotated[dict[str, bool | int | Word], AfterValidator(_check_options)]


class Resources(Strict):
    """Values that override a profile: a key that is not given keeps the profile's value, null removes it."""

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    gpu_request: Literal["gres", "gpus_per_node", "none"] | None = None
    gpu_type: Word | None = None
    cpus: Annotated[int, Field(ge=1)] | None = None
    mem_gb: Annotated[float, Field(gt=0)] | None = None
    time: Minutes | None = None
    sbatch: SbatchOptions | None = None

    @model_serializer(mode="wrap")
    def _serialize_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Keys that were not given must not become null in a run's config.yaml: null removes the profile's value.
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}

    def given(self) -> dict[str, Any]:
        """Return {key: value} for the keys that were given."""
        return self.model_dump()
