"""Fine-tune a job's model on a dataset, then evaluate it.

    python scripts/train.py --model minilm-lora
    python scripts/train.py --model minilm-lora --dataset mine --seed 2 --set training.epochs=1 method.r=8
    make train MODEL=minilm-lora DATASET=mine SEED=2 SET="training.epochs=1 method.r=8"
    make train RUN=outputs/mine/minilm-lora/seed-2      a run that exists, by its frozen config.yaml alone

The run's folder is outputs/<dataset>/<job>[/<variant>]/seed-<n>/. A finished run is left alone; a killed one continues
from its last checkpoint with the same command. SIGTERM and SIGINT save a checkpoint and exit with code 75; so does
SIGUSR2, which in a Slurm job also puts the job back into the queue. A job with a `sweep:` is trained in all its
variants, one after the other; one that fails does not keep the others from running, and what all lack is said once.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from common.cli import options, sweeps
from common.cli.main import guard
from common.core import errors, files
from common.data.load import Rows, load_all_splits, rows_fingerprint, sample_rows, trained_rows
from common.hub import download, locate
from common.runs import run_folder, run_lock


def main(argv: list[str] | None = None) -> int:
    """Train one run, or those of a sweep; see the module."""
    parser = options.parser(__doc__, "model", "dataset", "set", "seed", "data", "force")
    options.add_run(parser)
    arguments = parser.parse_args(argv)
    if arguments.run:
        options.refuse_beside_run(parser, arguments)
        carry_on(arguments.run)
        return 0
    variants = sweeps.variants(arguments)
    if len(variants) > 1:
        _need_shared(variants)
        return sweeps.run_each(__file__, argv, variants, "train")
    train(variants[0])
    return 0


def _need_shared(variants: list[argparse.Namespace]) -> None:
    """Raise once what would stop every variant of a sweep: their rows or their base model cannot be had."""
    targets = [options.target(variant) for variant in variants]
    if len({target.dataset_name for target in targets}) == 1:
        load_all_splits(targets[0].dataset, targets[0].data_dir)
    waiting = []
    for target, variant in zip(targets, variants, strict=True):
        folder = target.folder(variant.outputs, f"seed-{variant.seed}")
        if variant.force or not run_folder.is_finished(folder):
            if (folder / run_folder.TRAINING).exists() and not variant.force:
                return  # it is trained, and holds fast to the base that it was trained on
            waiting.append(target.job)
    if len({(job.model, job.revision) for job in waiting}) == 1:
        download.need_model(locate.locate(waiting[0].model, waiting[0].revision))


def train(arguments: argparse.Namespace) -> None:
    """Carry one run from wherever it stands to its end."""
    target = options.target(arguments)
    rows = load_all_splits(target.dataset, target.data_dir)
    config = target.config(arguments.seed, rows_fingerprint(rows))
    folder = target.folder(arguments.outputs, f"seed-{arguments.seed}")
    command = options.run_command("train", arguments)
    is_new = arguments.force or not (folder / run_folder.CONFIG).exists()
    if not is_new:
        run_folder.freeze(folder, config, command)  # refuses a job that has changed since
        if run_folder.is_finished(folder):
            print(f"{options.shown(folder)} is finished: {_headline(folder)}")
            return
    from common.model.load import quiet_libraries
    from common.train.arguments import check_recipe  # seconds to import: not before it is clear that there is work

    quiet_libraries()
    if is_new:
        check_recipe(target.job, config.dataset, trained_rows(rows["train"], target.job, config.dataset))
        if arguments.force and (aside := run_folder.set_aside(folder)):
            print(f"the old run is kept in {options.shown(aside)}")
        run_folder.freeze(folder, config, command)
    with run_lock.ownership(folder), run_folder.recorded_failure(folder, command):
        if run_folder.is_finished(folder):
            return
        # What decides the results is frozen; how the run is carried out is today's.
        frozen = run_folder.thaw(folder)
        job = run_folder.need_job(frozen).model_copy(update={"runtime": target.job.runtime})
        run(folder, dataclasses.replace(frozen, job=job), rows)
    print(f"{options.shown(folder)}: {_headline(folder)}")


def carry_on(folder: Path) -> None:
    """Carry a run that exists to its end; all it reads is its frozen config, not the jobs of today."""
    if run_folder.thaw(folder).baseline:
        raise errors.RunError(f"{folder}: this is a baseline; evaluate it with: make baseline RUN={folder}")
    run_folder.carry_on(folder, options.make_command("train", run=folder.resolve()), _carry_on)
    print(f"{options.shown(folder)} is finished: {_headline(folder)}")


def _carry_on(folder: Path, config: run_folder.RunConfig) -> None:
    rows = load_all_splits(config.dataset, Path(config.data_dir) if config.data_dir else None)
    run_folder.need_same_data(folder, config, rows_fingerprint(rows))
    from common.model.load import quiet_libraries
    from common.train.arguments import check_recipe

    quiet_libraries()
    if not (folder / run_folder.LOG).exists():
        job = run_folder.need_job(config)
        check_recipe(job, config.dataset, trained_rows(rows["train"], job, config.dataset))
    run(folder, config, rows)


def run(folder: Path, config: run_folder.RunConfig, rows: Rows) -> None:
    """Carry a run from wherever it stands to its metrics."""
    from common.model import saved_model

    job = run_folder.need_job(config)
    if not (folder / run_folder.TRAINING).exists():
        files.write_json(folder / run_folder.TRAINING, _train(folder, config, rows))
    # From here on the saved model alone counts; the one in memory is gone, and its memory free.
    head = saved_model.load(job, config.dataset, folder / run_folder.MODEL)
    _evaluate(folder, config, rows, head, files.read_json(folder / run_folder.TRAINING))
    if not job.runtime.keep_checkpoints:
        files.remove(folder / "checkpoints")


def _train(folder: Path, config: run_folder.RunConfig, rows: Rows) -> dict[str, Any]:
    """Train, save, and prove that the saved model scores as the trained one does."""
    import numpy as np
    from transformers import set_seed

    from common.evaluation import inference
    from common.methods import eva
    from common.model import batching, saved_model
    from common.model.load import build_head, parameter_counts
    from common.runs import provenance
    from common.train.fit import train as fine_tune

    job, seed = run_folder.need_job(config), config.seed
    assert seed is not None
    train_rows = trained_rows(rows["train"], job, config.dataset)
    validation = sample_rows(rows["validation"], job.training.max_eval_samples, config.dataset.splits.seed)
    set_seed(seed)  # before the model is built: head and method start at random
    head = build_head(job, config.dataset)
    if eva.needs_batches(head.model):
        encoded = head.encoder.encode(train_rows)
        steps = batching.StepSampler([head.training_tokens(row) for row in encoded], job.training.batch_size, seed)
        batches = [head.training_batch([encoded[index] for index in step]) for step in steps]
        eva.initialise(head.model, batches, head.device, head.losses)
    counts = parameter_counts(head.model)
    share = counts["params_trainable_count"] / counts["params_total_count"]
    print(
        f"{config.job_name} on {config.dataset_name}, seed {seed}: {counts['params_trainable_count']:,} of "
        f"{counts['params_total_count']:,} parameters train ({share:.2%}); {len(train_rows)} rows",
        flush=True,
    )
    facts = fine_tune(head, job, config.dataset, train_rows, validation, folder, seed, folder / run_folder.LOG)
    facts |= counts | provenance.memory_peaks() | {"hardware": provenance.hardware()}
    facts |= {"train_provenance": provenance.collect()}
    saved_model.save(head, job, config.dataset, folder / run_folder.MODEL)
    probe, budget = rows["validation"][:64], job.runtime.score_token_budget
    head.model.requires_grad_(False)  # torch multiplies by a weight that trains in another order than by a frozen one
    trained = inference.score(head, probe, budget, "score with the trained model")
    del head  # two large models do not fit one card
    reloaded = saved_model.load(job, config.dataset, folder / run_folder.MODEL)
    again = inference.score(reloaded, probe, budget, "score with the saved model")
    if not np.array_equal(trained, again):
        raise errors.ModelError(
            f"{folder / run_folder.MODEL}: the saved model scores differently from the trained one, by up to "
            f"{np.abs(trained - again).max():.2e}; it must not be used."
        )
    return facts


def _evaluate(folder: Path, config: run_folder.RunConfig, rows: Rows, head: Any, facts: dict[str, Any]) -> None:
    """Score validation, then test; the test's metrics.json comes last, and says that the run succeeded."""
    from common.evaluation import partial_results, write_results

    for split in ("validation", "test"):
        document = write_results.score_split(folder, config, split, rows[split], head, facts, resume=True)
        print(run_folder.headline(document, split), flush=True)
    partial_results.forget(folder)


def _headline(folder: Path) -> str:
    return run_folder.headline(files.read_json(folder / run_folder.METRICS), "test")


if __name__ == "__main__":
    sys.exit(guard(main))
