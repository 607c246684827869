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

from common import cli, data, entry, errors, files, owners, runs, sweeps
from common.config import SPLITS


def main(argv: list[str] | None = None) -> int:
    """Evaluate one run, or those of a sweep; see the module."""
    parser = cli.parser(__doc__, "model", "dataset", "set", "seed", "data")
    parser.add_argument("--split", choices=SPLITS, default="test", help="which rows to score (default test)")
    parser.add_argument("--adapter", metavar="DIR", type=cli.path, help="a folder that peft's save_pretrained wrote")
    arguments = parser.parse_args(argv)
    variants = [arguments] if arguments.adapter else sweeps.variants(arguments)
    if len(variants) > 1:
        return sweeps.run_each(__file__, argv, _finished(variants, arguments), "evaluate")
    evaluate = _adapter if arguments.adapter else _trained
    folder, document = evaluate(cli.target(variants[0]), variants[0])
    print(runs.headline(document, arguments.split))
    print(f"{cli.shown(folder)}: predictions-{arguments.split}.jsonl and its metrics are written")
    return 0


def _finished(variants: list[argparse.Namespace], arguments: argparse.Namespace) -> list[argparse.Namespace]:
    """Return the variants whose runs are finished, naming the others."""
    last = f"seed-{arguments.seed}"
    finished = [v for v in variants if runs.is_finished(cli.target(v).folder(arguments.outputs, last))]
    if not finished:
        train = cli.run_command("train", arguments)
        raise errors.RunError(f"none of the {len(variants)} variants is trained. Train them first: {train}")
    for variant in variants:
        if variant not in finished:
            print(f"not trained yet: {sweeps.label(variant)}")
    return finished


def _trained(target: cli.Target, arguments: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Score the run that `make train` made and finished."""
    folder = cli.trained_folder(target, arguments)
    if not runs.is_finished(folder):
        raise errors.RunError(f"{folder}: the run is not finished. Finish it: {cli.run_command('train', arguments)}")
    frozen = runs.thaw(folder)
    data_dir = target.data_dir or (Path(frozen.data_dir) if frozen.data_dir else None)
    rows = data.load(target.dataset, data_dir)
    members = data.need_split(rows, arguments.split, "to evaluate on")
    if arguments.split == "train":
        members = data.trained_rows(members, runs.need_job(frozen), frozen.dataset)
    runs.freeze(folder, target.config(arguments.seed, data.fingerprint(rows)), cli.run_command("train", arguments))

    from common import evaluation, models, saved

    models.quiet_libraries()
    with owners.ownership(folder), runs.recorded_failure(folder, runs.this_command()):
        head = saved.load(runs.need_job(frozen), frozen.dataset, folder / runs.MODEL)
        facts = files.read_json(folder / runs.TRAINING)
        return folder, evaluation.score_split(folder, frozen, arguments.split, members, head, facts)


def _adapter(target: cli.Target, arguments: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Score the job's base with an adapter from elsewhere; one that does not fit leaves no folder behind."""
    rows = data.load(target.dataset, target.data_dir)
    members = data.need_split(rows, arguments.split, "to evaluate on")
    config = target.config(None, data.fingerprint(rows), "adapter")
    folder = cli.adapter_folder(target, arguments, config)

    from common import evaluation, models, provenance, saved

    models.quiet_libraries()
    head = saved.load_adapter(target.job, target.dataset, arguments.adapter)
    runs.freeze(folder, config, runs.this_command())
    facts = models.parameter_counts(head.model) | {"adapter_sha256": cli.adapter_hash(arguments.adapter)}
    with owners.ownership(folder), runs.recorded_failure(folder, runs.this_command()):
        facts |= {"hardware": provenance.hardware()}
        return folder, evaluation.score_split(folder, config, arguments.split, members, head, facts)


if __name__ == "__main__":
    sys.exit(entry.guard(main))
