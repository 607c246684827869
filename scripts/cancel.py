"""Cancel submitted runs: all of them, or a job's. A running one saves a checkpoint first; `make submit` resumes it.

Typed again, it ends at once the jobs that have not ended by themselves.

    python scripts/cancel.py
    python scripts/cancel.py --model minilm-lora
    make cancel [MODEL=] [DATASET=]

A job is found by its name, never by an id from a file. Needs no torch.
"""

import sys

from common.cli import options
from common.cli.main import guard
from common.cluster import cancel, run_index, scheduler_answers
from common.core import errors


def main(argv: list[str] | None = None) -> None:
    """Cancel; see the module."""
    request, _ = options.parse(options.parser(__doc__, "model", "dataset", "outputs"), argv)
    entries = run_index.named(request.outputs, request.model, request.dataset)
    answers = scheduler_answers.ask_schedulers(entries, request.outputs)
    cancelled = cancel.cancel_runs(entries, answers.active, request.outputs)
    for one in cancelled:
        print(f"{'cancelling' if one.is_saving else 'cancelled'} {one.job_id}  {one.name}")
    if any(one.is_saving for one in cancelled):
        print("what runs saves and ends by itself; typed again, it is ended at once")
    if answers.silent:
        raise errors.SlurmError(f"what Slurm was given was not cancelled. {' '.join(answers.notes)}")
    if not cancelled:
        print("nothing is queued or runs")


if __name__ == "__main__":
    sys.exit(guard(main))
