"""Notes about what was found in a file: each is printed once, to stderr, and collected for those who record it."""

import contextlib
import sys
from collections.abc import Iterator

from common.core.formatting import one_line

_SAID: set[str] = set()
_COLLECTING: list[list[str]] = []


def say_once(message: str) -> None:
    """Print a note, unless this process has printed it already: a file may be opened several times."""
    for found in _COLLECTING:
        if message not in found:
            found.append(message)
    if message not in _SAID:
        _SAID.add(message)
        print(f"note: {one_line(message)}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def collected() -> Iterator[list[str]]:
    """Yield a list of the notes of the context, also of those that were printed before."""
    found: list[str] = []
    _COLLECTING.append(found)
    try:
        yield found
    finally:
        _COLLECTING.pop()
