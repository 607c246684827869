"""Show the state of every run: from the run folders first, then from Slurm or this machine's queue.

    python scripts/status.py
    python scripts/status.py --model minilm-lora --watch
    make status [MODEL=] [DATASET=] [WATCH=1]

It calls Slurm twice at most, whatever the number of runs, and works while Slurm does not answer. Needs no torch.
"""

import collections
import contextlib
import sys

from common.cli import options
from common.cli.main import guard
from common.cluster import run_index, scheduler_answers, status
from common.cluster.status import RunState
from common.config.run_request import RunRequest
from common.core import signals
from common.core.formatting import duration, text_table

_EVERY_S = 5
_HEADER = ("run", "state", "job", "node", "elapsed/limit", "step", "loss", "examples/s", "left", "tries", "why")
# A person should read the message of a run in one of these states.
_WITH_MESSAGE = (
    *(RunState.FAILED, RunState.OUT_OF_MEMORY, RunState.TIME_LIMIT, RunState.NODE_LOST),
    *(RunState.REFUSED, RunState.ENDED, RunState.INTERRUPTED, RunState.DAMAGED, RunState.HELD, RunState.RUNNING),
)


def main(argv: list[str] | None = None) -> None:
    """Print the table, once or again and again; see the module."""
    parser = options.parser(__doc__, "model", "dataset", "outputs")
    parser.add_argument("--watch", action="store_true", help=f"again every {_EVERY_S} seconds, until Ctrl-C")
    request, flags = options.parse(parser, argv)
    if not flags.watch:
        print(shown(request))
        return
    with contextlib.suppress(KeyboardInterrupt):  # as a person ends it
        while True:
            text = shown(request)
            print(("\033[2J\033[H" if sys.stdout.isatty() else "") + text, flush=True)
            signals.sleep(_EVERY_S)


def shown(request: RunRequest) -> str:
    """Return the table, the messages of runs that failed, and a summary."""
    entries = run_index.named(request.outputs, request.model, request.dataset)
    if not entries:
        return f"{options.shown(request.outputs)}: there is no run yet. make train MODEL=…, or make submit-all"
    answers = scheduler_answers.ask_schedulers(entries, request.outputs)
    found = status.run_statuses(entries, answers)
    lines = [text_table(_HEADER, [_row(one) for one in found])]
    explained = [one for one in found if (one.message and one.state in _WITH_MESSAGE) or "\n" in one.message]
    lines += [f"\n{one.name}: {one.shown}: {one.message}" for one in explained]
    counts = collections.Counter(sorted(one.shown for one in found))
    runs = "1 run" if len(found) == 1 else f"{len(found)} runs"
    lines += ["", f"{runs}: " + ", ".join(f"{count} {state}" for state, count in counts.items())]
    return "\n".join([*lines, *(f"note: {note}" for note in answers.notes)])


def _row(one: status.Status) -> list[str]:
    times = "/".join(part for part in (one.elapsed, one.limit) if part)
    steps = "" if one.done is None else f"{one.done}/{one.total}"
    loss = "" if one.loss is None else f"{one.loss:.3f}"
    rate = "" if one.examples_per_s is None else f"{one.examples_per_s:.1f}"
    left = "" if one.eta_s is None else duration(one.eta_s)
    tries = "" if one.attempts is None else str(one.attempts)
    why = one.message.partition("\n")[0] if one.state in (RunState.QUEUED, RunState.REQUEUED) else ""
    return [one.name, one.shown, one.job_id, one.node, times, steps, loss, rate, left, tries, why]


if __name__ == "__main__":
    sys.exit(guard(main))
