"""What the scripts' command lines have in common: which run is meant, and where runs lie."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from common.config import catalog
from common.core.errors import ConfigError, Interrupted
from common.runs import run_folder

OUTPUTS = catalog.ROOT / "outputs"


def parser(docstring: str, *groups: str) -> argparse.ArgumentParser:
    """Return a parser with the shared options.

    Args:
        docstring: of the script; its text is the help.
        groups: which options: "model", "dataset", "set", "seed", "data", "force".
    """
    result = argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    result.error = _refuse  # type: ignore[method-assign]
    add = result.add_argument
    if "model" in groups:
        add("--model", metavar="NAME", help="a job: jobs/<NAME>.yaml")
    if "dataset" in groups:
        add("--dataset", metavar="NAME", help="data/<NAME>.yaml instead of the job's own dataset")
    if "set" in groups:
        add(
            "--set",
            metavar="KEY=VALUE",
            nargs="+",
            action="extend",
            default=[],
            help="overrides, e.g. --set training.epochs=1 method.r=8",
        )
    if "seed" in groups:
        add("--seed", metavar="N", type=_seed, default=1, help="of initialisation and order (default 1)")
    if "data" in groups:
        add("--data-dir", metavar="DIR", type=path, help="read {train,validation,test}.<format> of this folder instead")
    if "force" in groups:
        add("--force", action="store_true", help="start over; what is there is kept beside it or, for files, replaced")
    add("--outputs", metavar="DIR", type=path, default=OUTPUTS, help="where run folders lie (default outputs/)")
    return result


def add_run(result: argparse.ArgumentParser) -> None:
    """Add --run: a run that exists, carried on by what is frozen in its folder."""
    result.add_argument(
        "--run", metavar="DIR", type=path, help="carry on the run of this folder, by its config.yaml alone; goes alone"
    )


def check_run_alone(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Raise a `ConfigError` when --run is given with an option that says which run is meant, or how to make it."""
    others = [name for name in vars(arguments) if name != "run" and vars(arguments)[name] != parser.get_default(name)]
    if others:
        raise ConfigError(
            f"RUN={arguments.run} goes without {', '.join(map(str.upper, others))}: a run that exists is carried on as "
            f"its {run_folder.CONFIG} says. For another run leave RUN out."
        )


def path(text: str) -> Path:
    """Read a path argument; a shell leaves `~` alone inside NAME=~/folder."""
    return Path(text).expanduser()


def _refuse(message: str) -> Any:
    raise ConfigError(f"{message} (--help shows the options)")


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"'{text}' is given; allowed is a whole number from 1")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"SEED is '{text}'; allowed is a whole number from 0 to 4294967295")
    return int(text)


def run(command: list[str]) -> int:
    """Run a script and return its exit code; a signal to us is passed on, and the script is waited for.

    Args:
        command: the script and its arguments.
    """
    process = subprocess.Popen([sys.executable, *command])
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.terminate()  # training saves a checkpoint first
        process.wait()
        return Interrupted.exit_code
    return code if code >= 0 else 128 - code  # what a shell reports of a process that a signal ended


def shown(path: Path) -> str:
    """Return a path as a person would type it from here."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)
