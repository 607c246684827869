"""Run tasks of this machine's queue on one slot; `make submit CLUSTER=local` starts it, detached.

    python scripts/worker.py outputs/.queue 0 ""

Arguments: the queue's folder, the worker's number, the GPU (empty: none). It ends when the queue is empty.
"""

import sys
from pathlib import Path

from common.cli.main import guard
from common.cluster import local_worker


def main(argv: list[str] | None = None) -> None:
    """Run the queue's tasks; see the module."""
    queue, number, slot = sys.argv[1:] if argv is None else argv
    local_worker.work(Path(queue), int(number), slot)


if __name__ == "__main__":
    sys.exit(guard(main))
