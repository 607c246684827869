"""The batch text of a job, a pure function: the same job and profile give the same text, byte for byte.

submitit writes the text; what stands in it was chosen against a real Slurm:

- no srun: the batch shell becomes our process (`exec`), so that the signal before the time limit reaches it alone, not
  the workers that it has forked, and running out of memory is reported as what it is;
- `set -e`: a failing `module load` must not end as COMPLETED. No `-u`: conda's and Lmod's own scripts read unset
  variables;
- one name a run with `dependency=singleton`: two submissions of one run can never run side by side.
"""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

from submitit.slurm.slurm import _make_sbatch_string

from common.cluster.profiles import Profile
from common.core.errors import ConfigError
from common.core.formatting import spans

_PLACES = ("%j", "%t", "%A", "%a")  # for submitit, in any path, what is filled in once a job has its id
SUBMISSION, MAX_REQUEUES = "PEFTABLE_SUBMISSION", "PEFTABLE_MAX_REQUEUES"


@dataclasses.dataclass(frozen=True)
class Task:
    """One thing to carry out as a job, on a cluster or on this machine.

    Attributes:
        name: unique to what it works on; there is at most one live job of a name.
        command: argv.
        folder: of this submission: batch file and log; its name is the submission's number.
        directory: where the command is run.
        token: of this submission, kept as the job's comment.
        after: ids of jobs that must have ended, however, before it starts.
        array: the numbers of an array's tasks; empty for a single job.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    directory: Path
    token: str
    after: tuple[str, ...] = ()
    array: tuple[int, ...] = ()


def batch_text(task: Task, profile: Profile) -> str:
    """Return the file that sbatch is given.

    Args:
        task: what to carry out; in its command the word "$SLURM_ARRAY_TASK_ID" is the number of an array's task.
        profile: of the cluster, with what this job asks for.

    Raises:
        ConfigError: a path that an #SBATCH line cannot hold.
    """
    folder = str(task.folder)
    check_log_path(task.folder)
    options: dict[str, object] = {"signal": f"B:USR2@{profile.lead_s}", "requeue": True}
    options |= {name: value for name, value in profile.sbatch.items() if value is not False}
    if task.array:
        tasks = f"{','.join(spans(task.array))}%{profile.array_limit}"
        options |= {"array": tasks, "output": f"{_literal(folder)}/%A_%a.log"}
    else:
        options |= {"output": f"{_literal(folder)}/%j.log"}
    gres = None
    if profile.gpu_request != "none":
        gpu = f"{profile.gpu_type}:1" if profile.gpu_type else "1"
        gres = f"gpu:{gpu}" if profile.gpu_request == "gres" else None
        options |= {} if gres else {"gpus-per-node": gpu}
    dependency = ",".join([*(["afterany:" + ":".join(task.after)] if task.after else []), "singleton"])
    return _make_sbatch_string(
        command=f"exec {_words(task.command)}",
        folder=folder,
        job_name=task.name,
        partition=profile.partition,
        account=profile.account,
        qos=profile.qos,
        constraint=profile.constraint,
        time=profile.time,
        nodes=1,
        ntasks_per_node=1,
        cpus_per_task=profile.cpus,
        mem=None if profile.mem_gb is None else f"{round(profile.mem_gb * 1024)}M",
        gres=gres,
        comment=task.token,
        dependency=dependency,
        setup=_setup(task, profile),
        signal_delay_s=profile.lead_s,
        wckey=None,  # type: ignore[arg-type]
        stderr_to_stdout=True,
        additional_parameters=options,
        use_srun=False,
    )


def check_log_path(folder: Path) -> None:
    """Raise a `ConfigError` where a folder's path cannot stand in a batch file."""
    path = str(folder)
    for text, name in (("\\", "a backslash"), ("\n", "a line break"), *((place, f"'{place}'") for place in _PLACES)):
        if text in path:
            raise ConfigError(
                f"{path!r}: jobs cannot write their logs below a path with {name}; choose another OUTPUTS=."
            )


def environment(task: Task, profile: Profile) -> dict[str, str]:
    """Return the variables that a task is given, whoever carries it out."""
    return {SUBMISSION: str(task.folder), MAX_REQUEUES: str(profile.max_requeues), "HF_HUB_OFFLINE": "1"}


def _setup(task: Task, profile: Profile) -> list[str]:
    lines = ["set -eo pipefail", f"cd {shlex.quote(str(task.directory))}", *profile.setup]
    lines += ['export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"']
    lines += [f"export {name}={shlex.quote(value)}" for name, value in environment(task, profile).items()]
    lines += [f"export {name}={_expanded(value)}" for name, value in profile.env.items()]
    return lines + ([f"export TMPDIR={_expanded(profile.scratch)}"] if profile.scratch else [])


def _words(command: Sequence[str]) -> str:
    return " ".join(
        '"$SLURM_ARRAY_TASK_ID"' if word == "$SLURM_ARRAY_TASK_ID" else shlex.quote(word) for word in command
    )


def _expanded(value: str) -> str:
    """Quote a value so that bash expands $NAMES in it and nothing else."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`").replace("$(", "\\$(")
    return f'"{escaped}"'


def _literal(path: str) -> str:
    return path.replace("%", "%%")  # sbatch takes %j and the like for patterns
