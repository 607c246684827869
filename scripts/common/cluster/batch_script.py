"""The batch text of a Slurm job, a pure function of task and profile, and its submission by sbatch.

submitit writes the text. Its options were chosen by tests on a real Slurm:

- no srun: the batch shell becomes our process (`exec`), so that the signal before the time limit reaches only that
  process, not the data loaders that it has forked, and Slurm reports running out of memory as OUT_OF_MEMORY;
- `set -e`: a failing `module load` must not end as COMPLETED. No `-u`: conda's and Lmod's own scripts read unset
  variables;
- one name per run with `dependency=singleton`: two submissions of one run can never run side by side.
"""

import contextlib
import io
import shlex
from collections.abc import Sequence
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import _make_sbatch_string

from common.cluster import slurm_commands
from common.cluster.profiles import Profile
from common.cluster.task import Task, environment
from common.core.errors import ConfigError, SlurmError
from common.core.formatting import ranges
from common.core.signals import SIGNALLED

_PLACES = ("%j", "%t", "%A", "%a")  # submitit replaces these in every path, once the job has its id


def batch_text(task: Task, profile: Profile) -> str:
    """Return the content of a task's batch file.

    Args:
        task: the task; in its command the word "$SLURM_ARRAY_TASK_ID" is the number of an array's task.
        profile: of the cluster, with what this job asks for.

    Raises:
        ConfigError: a path that an #SBATCH line cannot hold.
    """
    folder = str(task.folder)
    check_log_path(task.folder)
    options: dict[str, object] = {"signal": f"B:USR2@{profile.lead_s}", "requeue": True}
    options |= {name: value for name, value in profile.sbatch.items() if value is not False}
    if task.array:
        tasks = f"{','.join(ranges(task.array))}%{profile.array_limit}"
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


def submit(task: Task, profile: Profile) -> str:
    """Write a task's batch file and submit it by sbatch; return the job's id.

    Raises:
        SlurmError: sbatch rejects it, or does not answer.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):  # submitit also prints what it raises
            return str(_Executor(task, profile)._submit_command("").job_id)
    except (FailedJobError, FailedSubmissionError, RuntimeError) as error:
        raise SlurmError(" ".join(str(error).split())) from error


class _Executor(submitit.SlurmExecutor):
    """submitit's executor for a command line that a person could type: nothing is pickled."""

    def __init__(self, task: Task, profile: Profile) -> None:
        super().__init__(folder=task.folder)
        self.task, self.profile = task, profile

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        return batch_text(self.task, self.profile)

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        hidden = (*slurm_commands.secret_variables(), *slurm_commands.slurm_variables())
        return ["env", *(f"--unset={name}" for name in hidden), "sbatch", str(submission_file_path)]


def check_log_path(folder: Path) -> None:
    """Raise a `ConfigError` where a folder's path cannot stand in a batch file."""
    path = str(folder)
    for text, name in (("\\", "a backslash"), ("\n", "a line break"), *((place, f"'{place}'") for place in _PLACES)):
        if text in path:
            raise ConfigError(
                f"{path!r}: jobs cannot write their logs below a path with {name}; choose another OUTPUTS=."
            )


def _setup(task: Task, profile: Profile) -> list[str]:
    # bash would end; our command reads the variable when it begins.
    seen = f"trap 'export {SIGNALLED}=USR2' USR2"
    lines = ["set -eo pipefail", seen, f"cd {shlex.quote(str(task.directory))}", *profile.setup]
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
    return path.replace("%", "%%")  # sbatch reads %j and the like as patterns
