"""The variants of a job's `sweep:` as command lines: each is what a person would type with SET=.

for variant in variants(arguments):    # one a variant; [arguments] where there is nothing to choose from
    target = cli.target(variant)
"""

import argparse
import copy
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from common.cli import options
from common.cli.target import run_command
from common.config import catalog
from common.core import yaml_io
from common.core.errors import ConfigError, Interrupted


def variants(arguments: argparse.Namespace) -> list[argparse.Namespace]:
    """Return the command line of every variant that `arguments` mean, its --set completed to select just that one.

    --set applies on top of every variant, and variants that it makes the same are one. A --set that fixes all the keys
    of the sweep, or says what one of its entries says, selects one.

    Raises:
        ConfigError: the sweep is wrong, or does not go with --set.
    """
    given = yaml_io.split_overrides(arguments.set)
    entries = catalog.load_sweep(arguments.model)
    keys = {key for entry in entries for key in entry}
    if keys <= given.keys() or any(_holds(given, entry) for entry in entries):
        return [arguments]
    found: dict[str, argparse.Namespace] = {}
    for entry in entries:
        words = [yaml_io.override_word(key, value) for key, value in entry.items() if key not in given]
        variant = copy.copy(arguments)
        variant.set = [*words, *arguments.set]
        found.setdefault(catalog.load_job(variant.model, entry | given)[1], variant)
    return list(found.values())


def _holds(given: dict[str, Any], entry: dict[str, Any]) -> bool:
    return all(key in given and given[key] == value for key, value in entry.items())


def single_variant(arguments: argparse.Namespace) -> argparse.Namespace:
    """Return the one variant that `arguments` mean.

    Raises:
        ConfigError: they mean several; the message lists them.
    """
    found = variants(arguments)
    if len(found) > 1:
        raise ConfigError(
            f"MODEL={arguments.model} is a sweep of {len(found)} variants; choose one of them:\n  "
            + "\n  ".join(f"SET={shlex.quote(label(variant))}" for variant in found)
        )
    return found[0]


def label(variant: argparse.Namespace) -> str:
    """Return what to write after SET= to mean a variant."""
    return " ".join(variant.set)


def run_each(script: str, argv: Sequence[str] | None, found: Sequence[argparse.Namespace], verb: str) -> int:
    """Run a script once a variant, in order, each in a process of its own: memory and failures are its own, too.

    Args:
        script: the script's file.
        argv: the arguments it was called with; None is those of this process.
        found: the variants.
        verb: the make target, for the summary.

    Returns:
        0, or the exit code of the first variant that failed, after all have run; an interrupt stops at once.
    """
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--set", nargs="+")
    _, words = own.parse_known_args(argv)  # a variant's --set holds the given one
    failed: list[tuple[int, argparse.Namespace]] = []
    for number, variant in enumerate(found, 1):
        print(f"[{number}/{len(found)}] {label(variant)}", flush=True)
        code = options.run([script, *words, "--set", *variant.set])
        if code == Interrupted.exit_code:
            return code
        if code:
            failed.append((code, variant))
    if not failed:
        return 0
    lines = [f"  {run_command(verb, variant)}  (exit code {code})" for code, variant in failed]
    print("\n".join([f"error: {len(failed)} of {len(found)} variants failed:", *lines]), file=sys.stderr)
    return failed[0][0]
