"""Print the Makefile's help: targets by group, variables with their values, available jobs and datasets.

    make                                              (or: python scripts/make_help.py Makefile)
    python scripts/make_help.py --python-version      fail when this Python is too old

Standard library only: it runs before anything is installed.
"""

import os
import re
import sys
from pathlib import Path

OLDEST = (3, 11)


def main(arguments: list[str]) -> int:
    """Print the help, or check the interpreter's version."""
    if arguments == ["--python-version"]:
        return check_python()
    makefile = Path(arguments[0])
    lines = makefile.read_text(encoding="utf-8").splitlines()
    print("peftable: fine-tune, compare and use text classifiers. Usage: make TARGET VARIABLE=value …")
    for line in lines:
        if line.startswith("## "):
            print(f"\n{line[3:]}")
        elif target := re.match(r"([a-z-]+):[^#]*## (.*)", line):
            print(f"  {target[1]:<12} {target[2]}")
    print("\nVariables")
    for line in lines:
        if variable := re.match(r"(?:option\.)?([A-Z_]+) +[:?]= \S+ +# (.*)", line):
            value = os.environ.get(variable[1])
            print(f"  {variable[1]:<10} {variable[2]}{f'  [{value}]' if value else ''}")
    for title, folder in (("MODEL", "jobs"), ("DATASET", "data")):
        names = sorted(path.stem for path in (makefile.parent / folder).glob("*.yaml") if not path.name.startswith("_"))
        print(f"\nAvailable {title}s: {', '.join(names)}")
    return 0


def check_python() -> int:
    """Return 0 when this Python is new enough, else print what to do and return 2."""
    if sys.version_info >= OLDEST:
        return 0
    found = ".".join(map(str, sys.version_info[:2]))
    print(f"error: this is Python {found}; peftable needs 3.11 or newer: make PYTHON=python3.12 …", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
