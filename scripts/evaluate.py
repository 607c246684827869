"""Evaluate a trained run on a split, or an adapter that peft saved elsewhere.

    python scripts/evaluate.py --model minilm-lora --split validation
    python scripts/evaluate.py --model minilm-lora --adapter ~/adapters/mine
    make evaluate MODEL=minilm-lora SPLIT=validation

Writes predictions-<split>.jsonl and its metrics into the run folder (for test: metrics.json). An adapter has a run
folder of its own, outputs/<dataset>/<job>/adapter-<name>-<hash>/. Of a job with a `sweep:` all
variants that are trained are evaluated.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from common.cli import folds, options, sweeps
from common.cli.main import guard
from common.cli.target import adapter_folder, adapter_hash, resolve_target, trained_folder
from common.config.dataset import IN_GROUP, SPLITS
from common.config.run_request import RunRequest
from common.core import errors
from common.data.load import load_rows
from common.data.rows import rows_fingerprint
from common.data.splits import require_split, sample_train_rows
from common.runs import provenance, run_folder, run_lock
from common.runs.documents import Metrics
from common.runs.lifecycle import recorded_failure
from common.runs.run_config import job_of


def main(argv: list[str] | None = None) -> int:
    """Evaluate one run, or those of a sweep; see the module."""
    parser = options.parser(__doc__, "model", "dataset", "set", "folds", "seed", "data", "outputs")
    parser.add_argument("--split", choices=(*SPLITS, IN_GROUP), default="test", help="which rows to score")
    parser.add_argument(
        "--adapter", metavar="DIR", type=options.path, help="a folder that peft's save_pretrained wrote"
    )
    request, flags = options.parse(parser, argv)
    provenance.of_process()  # the commit of the code that runs, not of what is there when it ends
    if flags.adapter:
        folder, document = evaluate_adapter(request, flags.adapter, flags.split)
    else:
        variants = folds.expand(sweeps.variants(request), flags.folds)
        if len(variants) > 1:
            return sweeps.run_each(__file__, argv, _finished(variants, request), "evaluate")
        folder, document = evaluate_run(variants[0], flags.split)
    print(run_folder.headline(document, flags.split))
    print(f"{options.shown(folder)}: predictions-{flags.split}.jsonl and its metrics are written")
    return 0


def _finished(variants: list[RunRequest], request: RunRequest) -> list[RunRequest]:
    """Return the variants whose runs are finished, and print the others."""
    finished = [variant for variant in variants if run_folder.is_finished(resolve_target(variant).folder)]
    if not finished:
        train = request.command("train")
        raise errors.RunError(f"none of the {len(variants)} variants is trained. Train them first: {train}")
    for variant in variants:
        if variant not in finished:
            print(f"not trained yet: {sweeps.label(variant)}")
    return finished


def evaluate_run(request: RunRequest, split: str) -> tuple[Path, Metrics]:
    """Score a split with a finished run's model, and return the run folder and the metrics."""
    target = resolve_target(request)
    folder, train = trained_folder(target), request.command("train")
    if not run_folder.is_finished(folder):
        raise errors.RunError(f"{folder}: the run is not finished. Finish it: {train}")
    recorded = run_folder.load_run_config(folder)
    data_dir = request.data_dir or (Path(recorded.data_dir) if recorded.data_dir else None)
    dataset = target.dataset
    if dataset.takes_all_labels:  # the run knows them
        dataset = dataset.with_labels(recorded.dataset.labels)
    rows = load_rows(dataset, data_dir)
    members = require_split(rows, split, "to evaluate on")
    if split == "train":
        members = sample_train_rows(members, job_of(recorded), recorded.dataset)
    config = target.config(rows_fingerprint(rows)).with_rows(rows)
    run_folder.create_run(folder, config, train)  # checks that nothing has changed

    from common.evaluation import inference
    from common.model import device, saved_model
    from common.model.load import quiet_libraries

    quiet_libraries()
    device.announce()
    with run_lock.acquire(folder), recorded_failure(folder, run_folder.this_command()):
        head = saved_model.load(job_of(recorded), recorded.dataset, folder / run_folder.MODEL)
        facts = run_folder.training_facts(folder)
        return folder, inference.score_split(folder, recorded, split, members, head, facts)


def evaluate_adapter(request: RunRequest, adapter: Path, split: str) -> tuple[Path, Metrics]:
    """Score a split with the job's base model under an external adapter, and return the run folder and the metrics.

    An adapter that does not fit the model leaves no folder behind.
    """
    target = resolve_target(dataclasses.replace(request, seed=None, baseline="adapter"))
    rows = load_rows(target.dataset, request.data_dir)
    members = require_split(rows, split, "to evaluate on")
    config = target.config(rows_fingerprint(rows)).with_rows(rows)
    folder = adapter_folder(target, adapter, config)

    from common.evaluation import inference
    from common.model import device, exported
    from common.model.inspect import parameter_counts
    from common.model.load import quiet_libraries

    quiet_libraries()
    device.announce()
    head = exported.load(target.job, config.dataset, adapter, is_adapter=True)
    run_folder.create_run(folder, config, run_folder.this_command())
    facts: dict[str, Any] = {**parameter_counts(head.model), "adapter_sha256": adapter_hash(adapter)}
    with run_lock.acquire(folder), recorded_failure(folder, run_folder.this_command()):
        facts["hardware"] = provenance.hardware()
        return folder, inference.score_split(folder, config, split, members, head, facts)


if __name__ == "__main__":
    sys.exit(guard(main))
