"""Evaluate a baseline: the majority class, TF-IDF with logistic regression, or the model before any fine-tuning.

    python scripts/baseline.py --model minilm-lora
    python scripts/baseline.py --dataset stance-sample --baseline tfidf
    make baseline MODEL=minilm-lora            the untuned model
    make baseline DATASET=stance-sample BASELINE=majority

Files are those of a fine-tuned run, in outputs/<dataset>/<job or classical>/baseline-<name>/.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from common import catalog, cli, data, errors, files, runs

BASELINES = ("majority", "tfidf", "untuned")


def main(argv: list[str] | None = None) -> None:
    """Evaluate one baseline; see the module."""
    parser = cli.parser(__doc__, "model", "dataset", "set", "seed", "data", "force")
    parser.add_argument("--baseline", choices=BASELINES, default="untuned", help="which one (default untuned)")
    arguments = parser.parse_args(argv)
    if arguments.baseline != "untuned" and not arguments.model and arguments.dataset:
        # Classical baselines need no model; any job tells how rows are to be read, so the first one does.
        arguments.model = catalog.names(catalog.JOBS)[0]
    target = cli.target(arguments)
    rows = data.load(target.dataset, target.data_dir)
    data.need_split(rows, "train", "to learn the baseline from")
    data.need_split(rows, "test", "to evaluate on")
    if arguments.baseline == "untuned":
        folder = target.folder(arguments.outputs, "baseline-untuned")
    else:
        folder = runs.folder(arguments.outputs, target.dataset_name, "classical", "", f"baseline-{arguments.baseline}")
    config = _config(target, arguments.baseline, arguments.seed, data.fingerprint(rows))
    command = cli.run_command("baseline", arguments) + f" BASELINE={arguments.baseline}"
    if arguments.baseline == "untuned" and (arguments.force or not (folder / runs.CONFIG).exists()):
        from common import models

        models.quiet_libraries()
        models.check_untuned(config.job, list(config.dataset.labels))  # refuses before anything is written
    if arguments.force and (aside := runs.set_aside(folder)):
        print(f"the old baseline is kept in {cli.shown(aside)}")
    runs.freeze(folder, config, command)
    if not runs.is_finished(folder):
        with runs.ownership(folder), runs.recorded_failure(folder, command):
            run(folder, runs.thaw(folder), rows, arguments.baseline)
    print(f"{cli.shown(folder)}: {runs.headline(files.read_json(folder / runs.METRICS), 'test')}")


def _config(target: cli.Target, baseline: str, seed: int, data_sha256: str) -> runs.RunConfig:
    """Return a baseline's configuration; the classical ones depend on no job."""
    from dataclasses import replace

    if baseline == "untuned":
        return target.config(seed, data_sha256)
    job, _ = catalog.load_job(catalog.names(catalog.JOBS)[0])
    return replace(target.config(None, data_sha256), job_name="classical", variant="", job=job)


def run(folder: Path, config: runs.RunConfig, rows: data.Rows, baseline: str) -> None:
    """Score every split but train, test last."""
    from common import classical, evaluation

    classes = len(config.dataset.labels)
    splits = [split for split in ("validation", "test") if split in rows]
    if baseline == "untuned":
        for split in splits:
            _untuned(folder, config, split, rows[split])
        return
    learner = (
        classical.TfidfRegression(rows["train"], rows.get("validation", []), classes) if baseline == "tfidf" else None
    )
    for split in splits:
        scores: np.ndarray
        facts: dict[str, Any] = {"baseline": baseline, "params_total_count": classes, "params_trainable_count": classes}
        if learner is None:
            scores = classical.majority(rows["train"], rows[split], classes)
        else:
            scores = learner.score(rows[split])
            facts |= {"params_total_count": learner.parameters, "params_trainable_count": learner.parameters}
            facts |= {"train_s": round(learner.seconds, 3), "regularisation_c": learner.strength}
        evaluation.write_split(folder, config, split, rows[split], scores, facts)


def _untuned(folder: Path, config: runs.RunConfig, split: str, rows: list[data.Row]) -> None:
    from transformers import set_seed

    from common import evaluation, models, provenance

    models.quiet_libraries()
    set_seed(config.seed or 0)
    head = models.build_untuned(config.job, list(config.dataset.labels))
    facts = {"baseline": "untuned", **models.parameter_counts(head.model), "hardware": provenance.hardware()}
    evaluation.score_split(folder, config, split, rows, head, facts | provenance.memory_peaks())


if __name__ == "__main__":
    sys.exit(errors.guard(main))
