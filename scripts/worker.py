"""Run tasks of this machine's queue on one slot; `make submit CLUSTER=local` starts it, detached.

    python scripts/worker.py outputs/.queue 0 ""

Arguments: the queue's folder, the worker's number, the GPU (empty: none). It ends when the queue is empty.
"""

import sys
from pathlib import Path

from common.cluster import local_worker

if __name__ == "__main__":
    local_worker.work(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
