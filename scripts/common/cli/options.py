"""The options that the scripts share, and the `RunRequest` that a command line means.

parser = options.parser(__doc__, "model", "seed", "outputs")
parser.add_argument("--json", action="store_true")       # the script's own flags
request, flags = options.parse(parser, argv)
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.config.run_request import BASELINES, OUTPUTS, RunRequest
from common.core import signals
from common.core.errors import ConfigError, Interrupted
from common.runs import run_folder


def path(text: str) -> Path:
    """Read a path argument; a shell leaves `~` alone inside NAME=~/folder."""
    return Path(text).expanduser()


def _seed(text: str) -> int:
    if not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"SEED is '{text}'; allowed is a whole number from 0 to 4294967295")
    return int(text)


def seeds(text: str) -> tuple[int, ...]:
    """Read SEEDS=: whole numbers such as 1,2,3."""
    words = text.replace(",", " ").split()
    if not words or not all(word.isdigit() and int(word) < 2**32 for word in words):
        raise argparse.ArgumentTypeError(f"SEEDS is '{text}'; allowed are whole numbers, such as 1,2,3")
    return tuple(dict.fromkeys(int(word) for word in words))


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"'{text}' is given; allowed is a whole number from 1")
    return int(text)


_SET: dict[str, Any] = {"dest": "overrides", "metavar": "KEY=VALUE", "nargs": "+", "action": "extend", "default": []}
_GROUPS: dict[str, tuple[str, dict[str, Any]]] = {
    "model": ("--model", {"metavar": "NAME", "help": "a job: jobs/<NAME>.yaml"}),
    "dataset": ("--dataset", {"metavar": "NAME", "help": "data/<NAME>.yaml instead of the job's own dataset"}),
    "set": ("--set", _SET | {"help": "overrides, e.g. --set training.epochs=1 method.r=8"}),
    "folds": ("--folds", {"metavar": "all|N,…", "help": "a run for each fold of a dataset with splits.folds"}),
    "seed": (
        "--seed",
        {"metavar": "N", "type": _seed, "default": 1, "help": "of initialisation and order (default 1)"},
    ),
    "data": (
        "--data-dir",
        {"metavar": "DIR", "type": path, "help": "read {train,validation,test}.<format> of this folder instead"},
    ),
    "baseline": ("--baseline", {"choices": BASELINES, "default": "", "help": "which baseline"}),
    "shots": (
        "--shots",
        {"metavar": "N", "type": positive, "help": "train rows that few-shot shows, default: one per label"},
    ),
    "outputs": (
        "--outputs",
        {
            "metavar": "DIR",
            "type": path,
            "default": OUTPUTS,
            "help": "the folder of all run folders (default outputs/)",
        },
    ),
    "run": (
        "--run",
        {"metavar": "DIR", "type": path, "help": "resume the run of this folder as its config.yaml says; goes alone"},
    ),
    "force": (
        "--force",
        {"action": "store_true", "help": "start over: an old run is kept under another name, an old file replaced"},
    ),
    "strict": (
        "--strict",
        {"action": "store_true", "help": "refuse rows shared between train and other splits, and contradictory labels"},
    ),
}
_FIELDS = [field.name for field in dataclasses.fields(RunRequest)]


def parser(docstring: str | None, *groups: str) -> argparse.ArgumentParser:
    """Return a parser with the shared options.

    Args:
        docstring: of the script; its text is the help.
        groups: which options: "model", "dataset", "set", "folds", "seed", "data", "baseline", "shots", "outputs",
            "run", "force", "strict".
    """
    result = argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    result.error = _refuse  # type: ignore[method-assign]
    for group in groups:
        option, settings = _GROUPS[group]
        result.add_argument(option, **settings)
    return result


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> tuple[RunRequest, argparse.Namespace]:
    """Return the run that a command line means, and the flags that are the script's own.

    Args:
        parser: of the script.
        argv: arguments without the program's name; None takes `sys.argv[1:]`.

    Raises:
        ConfigError: an option is unknown or its value is wrong.
    """
    given = vars(parser.parse_args(argv))
    fields = {name: given.pop(name) for name in _FIELDS if name in given}
    if "overrides" in fields:
        fields["overrides"] = tuple(fields["overrides"])
    return RunRequest(**fields), argparse.Namespace(**given)


def words(request: RunRequest) -> list[str]:
    """Return the arguments that mean a request; `parse` gives it back."""
    found: list[str] = []
    for name, value in request.variables().items():
        found += [f"--{name.lower().replace('_', '-')}", *(request.overrides if name == "SET" else [value])]
    return found


def check_run_alone(run: Path, request: RunRequest, **flags: object) -> None:
    """Raise a `ConfigError` when --run is given with an option that says which run is meant, or how to make it.

    Args:
        run: the folder given as --run.
        request: the rest of the command line.
        flags: further make variables by name, and whether each is given.
    """
    others = [*request.variables(), *(name for name, is_given in flags.items() if is_given)]
    if others:
        raise ConfigError(
            f"RUN={run} goes without {', '.join(others)}: an existing run is resumed as its {run_folder.CONFIG} says. "
            "For another run leave RUN out."
        )


def _refuse(message: str) -> Any:
    raise ConfigError(f"{message} (--help shows the options)")


def run(command: list[str]) -> int:
    """Run a script and return its exit code; a signal to us is passed on, and the script is waited for.

    Args:
        command: the script and its arguments.
    """
    process = signals.start([sys.executable, *command])
    try:
        code = signals.wait(process)
    except KeyboardInterrupt:
        process.terminate()  # training saves a checkpoint first
        process.wait()
        return Interrupted.exit_code
    return code if code >= 0 else 128 - code  # what a shell reports of a process that a signal ended


def shown(path: Path) -> str:
    """Return a path as a person would type it from here."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)
