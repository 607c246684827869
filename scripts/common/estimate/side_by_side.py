"""Measure several ways to do the same work, one after the other and again: A, B, A, B, in one process.

So all of them meet the same machine, whatever else runs on it. The first round is a warm-up and is left out.
"""

import dataclasses
import gc
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to do the work.

    Attributes:
        name: of the way.
        prepare: makes what `work` gets; it is not measured.
        work: does the whole work once.
    """

    name: str
    work: Callable[[Any], object]
    prepare: Callable[[], Any] = lambda: None


@dataclasses.dataclass
class Times:
    """What a way took in every round but the first.

    Attributes:
        cpu_s: seconds of all threads of this process.
        wall_s: seconds that passed.
    """

    cpu_s: list[float] = dataclasses.field(default_factory=list)
    wall_s: list[float] = dataclasses.field(default_factory=list)


def measure(ways: Sequence[Way], rounds: int) -> dict[str, Times]:
    """Return the times of every way, by its name.

    Args:
        ways: in the order in which they take turns.
        rounds: measured rounds, after the warm-up.
    """
    times = {way.name: Times() for way in ways}
    for number in range(rounds + 1):
        for way in ways:
            given = way.prepare()
            gc.collect()  # not in the time of whoever comes next
            cpu, wall = _now()
            way.work(given)
            cpu_after, wall_after = _now()
            if number:
                times[way.name].cpu_s.append(round(cpu_after - cpu, 4))
                times[way.name].wall_s.append(round(wall_after - wall, 4))
            del given
    return times


def load_average() -> float:
    """Return the load average of the last minute; above the number of cores in use, others share the machine."""
    return round(os.getloadavg()[0], 2)


def _now() -> tuple[float, float]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.process_time(), time.perf_counter()
