"""Print the end of the newest log of every job of a run, and of every task of a prediction's array.

    python scripts/logs.py --model minilm-lora
    python scripts/logs.py --model minilm-lora --lines 200
    make logs MODEL=minilm-lora [DATASET=]

Needs no torch and no Slurm.
"""

import sys

from common.cli import options
from common.cli.main import guard
from common.cluster import run_index, submit_record
from common.core import errors


def main(argv: list[str] | None = None) -> None:
    """Print the logs; see the module."""
    parser = options.parser(__doc__, "model", "dataset", "outputs")
    parser.add_argument("--lines", metavar="N", type=options.positive, default=40, help="of each log (default 40)")
    request, flags = options.parse(parser, argv)
    folders = run_index.named(request.outputs, request.model, request.dataset)
    logs = [(folder.name, log) for folder in folders for log in submit_record.newest_logs(folder.path)]
    if not logs:
        raise errors.RunError(
            "no job has written a log here: these runs were never submitted, or wait still (make status)."
        )
    for name, log in logs:
        print(f"==> {name}: {options.shown(log)} <==")
        print("\n".join(submit_record.last_lines(log, flags.lines)) + "\n")


if __name__ == "__main__":
    sys.exit(guard(main))
