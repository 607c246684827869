"""Notes about what was found in a file: each is printed once, to stderr."""

import sys

from common.core.formatting import printable

_SAID: set[str] = set()


def say_once(message: str) -> None:
    """Print a note, unless this process has printed it already: a file may be opened several times."""
    if message not in _SAID:
        _SAID.add(message)
        print(f"note: {printable(message)}", file=sys.stderr, flush=True)
