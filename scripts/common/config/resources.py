"""What a job asks of a machine: processors, memory, time, a GPU; partial mappings that override each other by key.

jobs/<name>.yaml `resources:`, `RESOURCES="time=02:00:00 partition=long"`, a profile's `cpu:`
"""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

from common.core.schema import Strict

# Set by us on every job: another value would break resuming, fencing or finding the job again.
OURS = (
    *("array", "chdir", "comment", "dependency", "error", "export", "job-name", "open-mode", "output", "requeue"),
    *("no-requeue", "signal", "wrap", "parsable", "test-only", "hold", "nodes", "ntasks", "ntasks-per-node"),
    *("clusters", "cluster-constraint", "wait", "uid", "gid", "export-file"),
)
# What has a key of its own; two ways to say one thing could disagree.
OWN_KEYS = {
    **{"account": "account", "constraint": "constraint", "partition": "partition", "qos": "qos", "time": "time"},
    **{"cpus-per-task": "cpus", "mem": "mem_gb", "gres": "gpu_request", "gpus": "gpu_request"},
    **{"gpus-per-node": "gpu_request", "gpus-per-task": "gpu_request"},
}


def minutes(value: Any) -> Any:
    """Read a time limit, in minutes or as "HH:MM:SS" or "D-HH:MM:SS", as whole minutes, rounded up.

    Raises:
        ValueError: neither.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)", value) if isinstance(value, str) else None
    if match:
        days, hours, mins, seconds = (int(part or 0) for part in match.groups())
        if total := math.ceil(days * 1440 + hours * 60 + mins + seconds / 60):
            return total
    raise ValueError(f"{value!r} is no time limit; allowed are minutes, HH:MM:SS or D-HH:MM:SS")


def _known_options(options: dict[str, Any]) -> dict[str, Any]:
    for name in options:
        if name in OURS:
            raise ValueError(f"sbatch option '{name}' is set by peftable itself")
        if name in OWN_KEYS:
            raise ValueError(f"sbatch option '{name}' has a key of its own: {OWN_KEYS[name]}")
        if not re.fullmatch(r"[a-z][a-z-]*", name):
            raise ValueError(f"'{name}' is no sbatch option; write it as in --{name.lstrip('-').replace('_', '-')}")
    return options


def _plain_lines(text: str) -> str:
    if "\n" in text or "\0" in text:
        raise ValueError("a line break cannot stand in an #SBATCH line")
    return text


Word = Annotated[str, Field(min_length=1), AfterValidator(_plain_lines)]
Minutes = Annotated[int, BeforeValidator(minutes)]
SbatchOptions = Annotated[dict[str, bool | int | Word], AfterValidator(_known_options)]


class Resources(Strict):
    """What overrides a profile: a key that is not given leaves it, one that is null takes the profile's away."""

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
    def _given_alone(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A frozen config read again must take nothing of a profile away.
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}

    def given(self) -> dict[str, Any]:
        """Return the keys that were given."""
        return self.model_dump()
