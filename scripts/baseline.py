"""Evaluate a baseline: the majority class, TF-IDF with logistic regression, or the model before any fine-tuning.

The last is `untuned` for a classification head, whose new head is random, and `zero-shot` for a prompt head.

    python scripts/baseline.py --model minilm-lora
    python scripts/baseline.py --dataset stance-sample --baseline tfidf
    make baseline MODEL=minilm-lora            the model before fine-tuning
    make baseline DATASET=stance-sample BASELINE=majority
    make baseline RUN=outputs/…/baseline-untuned    one that exists, by its frozen config.yaml alone

Files are those of a fine-tuned run, in outputs/<dataset>/<job or classical>/baseline-<name>/. A job with a `sweep:` has
one baseline, with the job's own settings: method and recipe do not matter to it.
"""

import sys
from pathlib import Path
from typing import Any

from common.cli import options
from common.cli.main import guard
from common.cli.target import Classical, make_command, resolve_target, run_command
from common.cluster.selection import CLASSICAL, MODEL_BASELINES
from common.config import catalog
from common.config.dataset import Dataset
from common.core import errors, files
from common.data.load import check_splits, load_rows
from common.data.rows import Rows, rows_fingerprint
from common.runs import run_folder, run_lock
from common.runs.lifecycle import recorded_failure, resume_run
from common.runs.run_config import RunConfig, job_of

BASELINES = (*CLASSICAL, *MODEL_BASELINES.values())


def main(argv: list[str] | None = None) -> None:
    """Evaluate one baseline; see the module."""
    parser = options.parser(__doc__, "model", "dataset", "set", "seed", "data", "force")
    parser.add_argument("--baseline", choices=BASELINES, help="which one (default: of the model, before fine-tuning)")
    options.add_run(parser)
    arguments = parser.parse_args(argv)
    if arguments.run:
        options.check_run_alone(parser, arguments)
        resume(arguments.run)
        return
    if arguments.baseline in (None, *MODEL_BASELINES.values()):
        target = resolve_target(arguments)
        dataset_name, dataset = target.dataset_name, target.dataset
        own = MODEL_BASELINES[target.job.head]
        if arguments.baseline not in (None, own):
            raise errors.ConfigError(
                f"BASELINE={arguments.baseline}: {target.job_name} has head {target.job.head}, whose baseline is {own}."
            )
        arguments.baseline = own
    else:
        dataset_name = arguments.dataset or catalog.load_job(arguments.model)[0].dataset
        dataset = catalog.load_dataset(dataset_name)
    rows = _load(dataset, arguments.data_dir)
    sha256, last = rows_fingerprint(rows), f"baseline-{arguments.baseline}"
    if arguments.baseline in MODEL_BASELINES.values():
        folder = target.folder(arguments.outputs, last)
        config = target.config(arguments.seed, sha256, arguments.baseline)
    else:
        classical = Classical(dataset_name, dataset, arguments.data_dir, arguments.baseline)
        folder, config = classical.folder(arguments.outputs), classical.config(sha256)
    command = run_command("baseline", arguments) + f" BASELINE={arguments.baseline}"
    if config.job is not None and (arguments.force or not (folder / run_folder.CONFIG).exists()):
        from common.model.build import check_untuned
        from common.model.load import quiet_libraries

        quiet_libraries()
        check_untuned(config.job, dataset)  # refuses before anything is written
    if arguments.force and (aside := run_folder.archive_run(folder)):
        print(f"the old baseline is kept in {options.shown(aside)}")
    run_folder.create_run(folder, config, command)
    if not run_folder.is_finished(folder):
        with run_lock.acquire(folder), recorded_failure(folder, command):
            if not run_folder.is_finished(folder):  # by another start, since
                run(folder, run_folder.load_run_config(folder), rows)
    print(f"{options.shown(folder)}: {run_folder.headline(files.read_json(folder / run_folder.METRICS), 'test')}")


def resume(folder: Path) -> None:
    """Evaluate a baseline that exists; all it reads is its frozen config, not the jobs of today."""
    if not run_folder.load_run_config(folder).baseline:
        raise errors.RunError(f"{folder}: this is no baseline; train it with: make train RUN={folder}")
    resume_run(folder, make_command("baseline", run=folder.resolve()), _resume)
    print(f"{options.shown(folder)}: {run_folder.headline(files.read_json(folder / run_folder.METRICS), 'test')}")


def _resume(folder: Path, config: RunConfig) -> None:
    rows = _load(config.dataset, Path(config.data_dir) if config.data_dir else None)
    run_folder.check_same_data(folder, config, rows_fingerprint(rows))
    if config.job is not None:
        from common.model.build import check_untuned
        from common.model.load import quiet_libraries

        quiet_libraries()
        check_untuned(config.job, config.dataset)
    run(folder, config, rows)


def _load(dataset: Dataset, data_dir: Path | None) -> Rows:
    rows = load_rows(dataset, data_dir)
    check_splits(rows, trains=False)
    return rows


def run(folder: Path, config: RunConfig, rows: Rows) -> None:
    """Score validation, where there is one, then test."""
    score = _untuned if config.baseline in MODEL_BASELINES.values() else _classical
    score(folder, config, rows, [split for split in ("validation", "test") if split in rows])


def _classical(folder: Path, config: RunConfig, rows: Rows, splits: list[str]) -> None:
    from common.evaluation import classical, write_results

    classes = len(config.dataset.labels)
    learner = None
    facts: dict[str, Any] = {"params_total_count": classes, "params_trainable_count": classes}
    if config.baseline == "tfidf":
        learner = classical.TfidfRegression(rows["train"], rows.get("validation", []), classes)
        facts = {"params_total_count": learner.parameters, "params_trainable_count": learner.parameters}
        facts |= {"train_s": round(learner.seconds, 3), "regularisation_c": learner.strength}
    for split in splits:
        members = rows[split]
        scores = learner.score(members) if learner else classical.majority(rows["train"], members, classes)
        write_results.write_split(folder, config, split, members, scores, facts)


def _untuned(folder: Path, config: RunConfig, rows: Rows, splits: list[str]) -> None:
    from transformers import set_seed

    from common.evaluation import partial_results, write_results
    from common.model import saved_model
    from common.model.build import build_untuned
    from common.model.inspect import parameter_counts
    from common.model.load import quiet_libraries
    from common.runs import provenance

    quiet_libraries()
    job = job_of(config)
    set_seed(config.seed or 0)
    head = build_untuned(job, config.dataset)
    facts = parameter_counts(head.model) | saved_model.base_identity(job, head.model)
    facts |= {"hardware": provenance.hardware()}
    for split in splits:
        now = facts | provenance.memory_peaks()
        write_results.score_split(folder, config, split, rows[split], head, now, resume=True)
    partial_results.remove(folder)


if __name__ == "__main__":
    sys.exit(guard(main))
