"""Evaluate a trained run on a split, or an adapter that peft saved elsewhere.

    python scripts/evaluate.py --model minilm-lora --split validation
    python scripts/evaluate.py --model minilm-lora --adapter ~/adapters/mine
    make evaluate MODEL=minilm-lora SPLIT=validation

Writes predictions-<split>.jsonl and its metrics into the run folder (for test: metrics.json). An adapter has a run
folder of its own, outputs/<dataset>/<job>/adapter-<name>-<hash>/.
"""

import argparse
import sys
from pathlib import Path

from common import cli, data, errors, files, runs
from common.config import SPLITS


def main(argv: list[str] | None = None) -> None:
    """Evaluate one run; see the module."""
    parser = cli.parser(__doc__, "model", "dataset", "set", "seed", "data")
    parser.add_argument("--split", choices=SPLITS, default="test", help="which rows to score (default test)")
    parser.add_argument("--adapter", metavar="DIR", type=Path, help="a folder that peft's save_pretrained wrote")
    arguments = parser.parse_args(argv)
    target = cli.target(arguments)
    folder = cli.adapter_folder(target, arguments) if arguments.adapter else cli.trained_folder(target, arguments)
    frozen = None if arguments.adapter else runs.thaw(folder)
    data_dir = target.data_dir or (Path(frozen.data_dir) if frozen and frozen.data_dir else None)
    rows = data.load(target.dataset, data_dir)
    members = data.need_split(rows, arguments.split, "to evaluate on")
    current = target.config(None if arguments.adapter else arguments.seed, data.fingerprint(rows))
    runs.freeze(folder, current, cli.run_command("train", arguments))
    with runs.ownership(folder), runs.recorded_failure(folder, runs.this_command()):
        document = _score(folder, runs.thaw(folder), members, arguments)
    print(runs.headline(document, arguments.split))
    print(f"{cli.shown(folder)}: predictions-{arguments.split}.jsonl and its metrics are written")


def _score(folder: Path, config: runs.RunConfig, rows: list[data.Row], arguments: argparse.Namespace) -> dict:
    from common import evaluation, models, provenance

    models.quiet_libraries()
    labels = list(config.dataset.labels)
    if arguments.adapter:
        head = models.load_adapter(config.job, labels, arguments.adapter)
        facts = models.parameter_counts(head.model) | {"adapter_sha256": cli.adapter_hash(arguments.adapter)}
        facts |= {"hardware": provenance.hardware()}
    else:
        head = models.load(config.job, labels, folder / runs.MODEL)
        facts = files.read_json(folder / runs.TRAINING)
    return evaluation.score_split(folder, config, arguments.split, rows, head, facts)


if __name__ == "__main__":
    sys.exit(errors.guard(main))
