"""Waiting for what another process does: no bound here says how fast it must be."""

import time
from collections.abc import Callable

HANG_S = 600  # a test that waits longer hangs, however busy the machine is


def until(condition: Callable[[], object], what: str = "it", pause_s: float = 0.02) -> None:
    """Wait until a condition holds; fail where it never does."""
    deadline = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(pause_s)
