"""Score shards on this machine: in this process, or in several at the same time, each with its own GPU."""

import os
import sys

from common.config.catalog import CODE
from common.core import gpus, signals
from common.core.errors import Interrupted, RunError
from common.predict import shards
from common.predict.plan import Plan


def score_shards(plan: Plan, processes: int | None, score: shards.Score) -> None:
    """Score all unfinished shards of a plan, one at a time in each process.

    Args:
        plan: of the prediction.
        processes: how many at the same time; None is the number of GPUs, or 1.
        score: scores rows in this process, where it is the only one.

    Raises:
        RunError: a process failed; the others ran to their end.
        KeyboardInterrupt: this process was interrupted; the others were stopped, too.
    """
    numbers = shards.unfinished(plan)
    if not numbers:
        return
    visible = _visible_gpus()
    count = min(processes or len(visible) or 1, len(numbers))
    if count == 1:
        for number in numbers:
            shards.score_shard(plan, number, score)
        return
    running = []
    for worker in range(count):
        script, *words = shards.shard_command(plan.folder, *numbers[worker::count])
        command = [sys.executable, str(CODE / script), *words]
        running.append(signals.start(command, _environment(worker, count, visible)))
    try:
        codes = [signals.wait(process) for process in running]
    except KeyboardInterrupt:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        raise
    if any(code == Interrupted.exit_code for code in codes):
        raise KeyboardInterrupt
    if failed := [code for code in codes if code]:
        raise RunError(
            f"{plan.folder}: {len(failed)} of {count} processes failed (exit code {failed[0]}; their messages are "
            "above). The same command resumes."
        )


def _visible_gpus() -> list[str]:
    """Return the GPUs as CUDA_VISIBLE_DEVICES names them."""
    import torch

    names = gpus.visible()
    names = [str(number) for number in range(torch.cuda.device_count())] if names is None else names
    return names[: torch.cuda.device_count()]


def _environment(worker: int, count: int, visible: list[str]) -> dict[str, str]:
    """Return the environment of a worker process: its own GPU, or its share of the cores."""
    if visible:
        return os.environ | {"CUDA_VISIBLE_DEVICES": visible[worker % len(visible)]}
    threads = max(len(os.sched_getaffinity(0)) // count, 1)
    return {"OMP_NUM_THREADS": str(threads)} | os.environ
