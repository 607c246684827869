"""Take submitted runs back: all of them, or a job's. One that runs saves a checkpoint first; `make submit` goes on.

Typed again, it ends at once what still has not ended by itself.

    python scripts/cancel.py
    python scripts/cancel.py --model minilm-lora
    make cancel [MODEL=] [DATASET=]

A job is found by its name, never by an id from a file. Needs no torch.
"""

import sys

from common.cli import options
from common.cli.main import guard
from common.cluster import local_queue, run_index, slurm_commands, status, submit_record
from common.core import errors, files


def main(argv: list[str] | None = None) -> None:
    """Cancel; see the module."""
    request, _ = options.parse(options.parser(__doc__, "model", "dataset", "outputs"), argv)
    folders = run_index.named(request.outputs, request.model, request.dataset)
    answers = status.ask(folders, request.outputs)
    asked: list[str] = []
    killed: list[str] = []
    local: list[str] = []
    for folder in folders:
        if job := answers.live.get(folder.name):
            # A checkpoint may take longer than what Slurm allows between SIGTERM and SIGKILL.
            saves = job.state == "RUNNING" and folder.owner and folder.submit["state"] != "cancelled"
            ids = local if folder.submit["executor"] == "local" else asked if saves else killed
            ids.append(job.whole_id)
    # What waits goes first: it would begin where something that runs has made room.
    slurm_commands.cancel(killed)
    local_queue.cancel(local_queue.folder_of(request.outputs), local)
    slurm_commands.stop(asked)
    for folder in folders:
        if job := answers.live.get(folder.name):
            # Neither this machine's queue nor a Slurm without accounting remembers it.
            if (record := submit_record.read(folder.path)).get("job_id") == job.whole_id:
                files.write_json(folder.path / submit_record.SUBMIT, record | {"state": "cancelled"})
            how = "cancelling" if job.whole_id in asked else "cancelled"
            print(f"{how} {job.whole_id}  {folder.name}")
    if asked:
        print("what runs saves and ends by itself; typed again, it is ended at once")
    if answers.unasked:
        raise errors.SlurmError(f"what Slurm was given was not cancelled. {' '.join(answers.notes)}")
    if not answers.live:
        print("nothing is queued or runs")


if __name__ == "__main__":
    sys.exit(guard(main))
