"""One task handed over to a scheduler: the intent is written down before, the id after, under the next number.

number, job_id = hand_over(folder, ["train", "--run", str(folder)], "mycluster", request, scheduler)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.cluster.profiles import Profile
from common.cluster.scheduler import Scheduler, make_task
from common.cluster.slurm_commands import LiveJob
from common.cluster.submit_record import LOGS, SCHEMA, SUBMIT, job_name, read
from common.core import files
from common.core.errors import PeftableError, SlurmError
from common.runs import run_lock


def submit_job(
    folder: Path,
    command: Sequence[str],
    cluster_name: str,
    request: Profile,
    scheduler: Scheduler,
    **more: Any,
) -> tuple[int, str]:
    """Submit one task for what lies in `folder`, recording the intent before and the id after.

    Args:
        folder: of a run, a prediction, or the collecting job.
        command: script and arguments.
        cluster_name: of the profile, for the record.
        request: the profile with what this job asks for.
        scheduler: takes it.
        more: `after`, `array` of the task.

    Returns:
        The number of this submission, and the job's id.

    Raises:
        SlurmError: it is refused; that is recorded, too.
    """
    number = _last_number(folder) + 1
    logs = (folder / LOGS / str(number)).resolve()
    logs.mkdir(parents=True, exist_ok=True)
    one = make_task(job_name(folder), command, logs, **more)
    record = {
        "schema": SCHEMA,
        "number": number,
        "name": one.name,
        "token": one.token,
        "cluster": cluster_name,
        "executor": request.executor,
        "state": "intent",
        "job_id": None,
        "error": None,
        "command": list(one.command),
        "time": files.utc_now(),
    }
    files.write_json(folder / SUBMIT, record)
    try:
        job_id = scheduler.submit(one, request)
    except PeftableError as error:
        if not (isinstance(error, SlurmError) and error.is_silent):  # else it may be queued: the intent stands
            files.write_json(folder / SUBMIT, record | {"state": "rejected", "error": str(error)})
        raise
    files.write_json(folder / SUBMIT, record | {"state": "submitted", "job_id": job_id})
    return number, job_id


def _last_number(folder: Path) -> int:
    """Return the number of the last submission, by all that remembers it: a start with a lower one is turned away."""
    known = [read(folder).get("number"), run_lock.read(folder).get("submission")]
    known += [path.name for path in (folder / LOGS).glob("*") if path.name.isdigit()]
    return max((int(number) for number in known if number is not None), default=0)


def reconcile(folder: Path, live: LiveJob) -> None:
    """Write down the id of a job whose submission was killed before it could, or was told of an error too early."""
    record = read(folder)
    if record.get("state") in ("intent", "rejected") and live.comment in ("", record["token"]):
        files.write_json(folder / SUBMIT, record | {"state": "submitted", "job_id": live.whole_id, "error": None})
