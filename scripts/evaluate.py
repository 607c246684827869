"""Evaluate a trained run on a split, or an adapter that peft saved elsewhere.

    python scripts/evaluate.py --model minilm-lora --split validation
    python scripts/evaluate.py --model minilm-lora --adapter ~/adapters/mine
    make evaluate MODEL=minilm-lora SPLIT=validation

Writes predictions-<split>.jsonl and its metrics into the run folder (for test: metrics.json). An adapter has a run
folder of its own, outputs/<dataset>/<job>/adapter-<name>-<hash>/. Of a job with a `sweep:` all
variants that are trained are evaluated.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from common.cli import options, sweeps
from common.cli.main import guard
from common.cli.target import Target, adapter_folder, adapter_hash, resolve_target, run_command, trained_folder
from common.config.dataset import SPLITS
from common.core import errors, files
from common.data.load import load_rows, split_rows, trained_rows
from common.data.rows import rows_fingerprint
from common.runs import run_folder, run_lock
from common.runs.lifecycle import recorded_failure
from common.runs.run_config import job_of


def main(argv: list[str] | None = None) -> int:
    """Evaluate one run, or those of a sweep; see the module."""
    parser = options.parser(__doc__, "model", "dataset", "set", "seed", "data")
    parser.add_argument("--split", choices=SPLITS, default="test", help="which rows to score (default test)")
    parser.add_argument(
        "--adapter", metavar="DIR", type=options.path, help="a folder that peft's save_pretrained wrote"
    )
    arguments = parser.parse_args(argv)
    variants = [arguments] if arguments.adapter else sweeps.variants(arguments)
    if len(variants) > 1:
        return sweeps.run_each(__file__, argv, _finished(variants, arguments), "evaluate")
    evaluate = _adapter if arguments.adapter else _trained
    folder, document = evaluate(resolve_target(variants[0]), variants[0])
    print(run_folder.headline(document, arguments.split))
    print(f"{options.shown(folder)}: predictions-{arguments.split}.jsonl and its metrics are written")
    return 0


def _finished(variants: list[argparse.Namespace], arguments: argparse.Namespace) -> list[argparse.Namespace]:
    """Return the variants whose runs are finished, naming the others."""
    last = f"seed-{arguments.seed}"
    finished = [v for v in variants if run_folder.is_finished(resolve_target(v).folder(arguments.outputs, last))]
    if not finished:
        train = run_command("train", arguments)
        raise errors.RunError(f"none of the {len(variants)} variants is trained. Train them first: {train}")
    for variant in variants:
        if variant not in finished:
            print(f"not trained yet: {sweeps.label(variant)}")
    return finished


def _trained(target: Target, arguments: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Score the run that `make train` made and finished."""
    folder = trained_folder(target, arguments)
    if not run_folder.is_finished(folder):
        raise errors.RunError(f"{folder}: the run is not finished. Finish it: {run_command('train', arguments)}")
    frozen = run_folder.load_run_config(folder)
    data_dir = target.data_dir or (Path(frozen.data_dir) if frozen.data_dir else None)
    rows = load_rows(target.dataset, data_dir)
    members = split_rows(rows, arguments.split, "to evaluate on")
    if arguments.split == "train":
        members = trained_rows(members, job_of(frozen), frozen.dataset)
    run_folder.create_run(
        folder, target.config(arguments.seed, rows_fingerprint(rows)), run_command("train", arguments)
    )

    from common.evaluation import write_results
    from common.model import saved_model
    from common.model.load import quiet_libraries

    quiet_libraries()
    with run_lock.acquire(folder), recorded_failure(folder, run_folder.this_command()):
        head = saved_model.load(job_of(frozen), frozen.dataset, folder / run_folder.MODEL)
        facts = files.read_json(folder / run_folder.TRAINING)
        return folder, write_results.score_split(folder, frozen, arguments.split, members, head, facts)


def _adapter(target: Target, arguments: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Score the job's base with an adapter from elsewhere; one that does not fit leaves no folder behind."""
    rows = load_rows(target.dataset, target.data_dir)
    members = split_rows(rows, arguments.split, "to evaluate on")
    config = target.config(None, rows_fingerprint(rows), "adapter")
    folder = adapter_folder(target, arguments, config)

    from common.evaluation import write_results
    from common.model import saved_model
    from common.model.inspect import parameter_counts
    from common.model.load import quiet_libraries
    from common.runs import provenance

    quiet_libraries()
    head = saved_model.load_adapter(target.job, target.dataset, arguments.adapter)
    run_folder.create_run(folder, config, run_folder.this_command())
    facts = parameter_counts(head.model) | {"adapter_sha256": adapter_hash(arguments.adapter)}
    with run_lock.acquire(folder), recorded_failure(folder, run_folder.this_command()):
        facts |= {"hardware": provenance.hardware()}
        return folder, write_results.score_split(folder, config, arguments.split, members, head, facts)


if __name__ == "__main__":
    sys.exit(guard(main))
