"""The variants of a job's `sweep:`, each a request with the overrides that a user would give as SET=.

for variant in variants(request):    # [request] for a job without a sweep
    target = resolve_target(variant)
"""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from common.cli import options
from common.config import catalog
from common.config.run_request import RunRequest
from common.core import yaml_io
from common.core.errors import ConfigError, Interrupted


def variants(request: RunRequest) -> list[RunRequest]:
    """Return a request for every variant that `request` means, each with the overrides that select it alone.

    Overrides that were given apply on top of every variant, and variants that they make equal are one. Overrides that
    set all keys of the sweep, or all that one of its entries sets, select one variant.

    Raises:
        ConfigError: the sweep is wrong, or contradicts the overrides.
    """
    given = request.settings
    entries = catalog.load_sweep(request.model)
    keys = {key for entry in entries for key in entry}
    if keys <= given.keys() or any(_selects(given, entry) for entry in entries):
        return [request]
    found: dict[str, RunRequest] = {}
    for entry in entries:
        words = (yaml_io.override_word(key, value) for key, value in entry.items() if key not in given)
        variant = dataclasses.replace(request, overrides=(*words, *request.overrides))
        found.setdefault(catalog.load_job(variant.model, entry | given)[1], variant)
    return list(found.values())


def _selects(given: dict[str, Any], entry: dict[str, Any]) -> bool:
    return all(key in given and given[key] == value for key, value in entry.items())


def single_variant(request: RunRequest) -> RunRequest:
    """Return the one variant that `request` means.

    Raises:
        ConfigError: it means several; the message lists them.
    """
    found = variants(request)
    if len(found) > 1:
        raise ConfigError(
            f"MODEL={request.model} is a sweep of {len(found)} variants; choose one of them:\n  "
            + "\n  ".join(f"SET={shlex.quote(label(variant))}" for variant in found)
        )
    return found[0]


def label(variant: RunRequest) -> str:
    """Return what a user writes after SET= to select a variant."""
    return " ".join(variant.overrides)


def run_each(script: str, argv: Sequence[str] | None, found: Sequence[RunRequest], verb: str) -> int:
    """Run a script for every variant, in order, and return an exit code.

    Each runs in a process of its own, so that it frees its memory at the end and its failure does not stop the others.

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
    own.add_argument("--folds")
    _, words = own.parse_known_args(argv)  # a variant's --set holds the given one, and its fold
    failed: list[tuple[int, RunRequest]] = []
    for number, variant in enumerate(found, 1):
        print(f"[{number}/{len(found)}] {label(variant)}", flush=True)
        code = options.run([script, *words, "--set", *variant.overrides])
        if code == Interrupted.exit_code:
            return code
        if code:
            failed.append((code, variant))
    if not failed:
        return 0
    lines = [f"  {variant.command(verb)}  (exit code {code})" for code, variant in failed]
    print("\n".join([f"error: {len(failed)} of {len(found)} variants failed:", *lines]), file=sys.stderr)
    return failed[0][0]
