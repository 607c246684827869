"""Fine-tune a job's model on a dataset, then evaluate it.

    python scripts/train.py --model minilm-lora
    python scripts/train.py --model minilm-lora --dataset mine --seed 2 --set training.epochs=1 method.r=8
    make train MODEL=minilm-lora DATASET=mine SEED=2 SET="training.epochs=1 method.r=8"
    make train MODEL=minilm-lora DATASET=mine FOLDS=all  each fold of a dataset with `splits.folds`
    make train RUN=outputs/mine/minilm-lora/seed-2      a run that exists, by its config.yaml alone

The run's folder is outputs/<dataset>/<job>[/<variant>]/seed-<n>/. A finished run is left alone; a killed one continues
from its last checkpoint with the same command. SIGTERM and SIGINT save a checkpoint and exit with code 75; so does
SIGUSR2, which in a Slurm job also puts the job back into the queue. A job with a `sweep:` is trained in all its
variants, one after the other; one that fails does not keep the others from running, and what all lack is said once.
"""

import dataclasses
import sys
from pathlib import Path

from common.cli import folds, options, sweeps
from common.cli.main import guard
from common.cli.target import resolve_target
from common.config.run_request import RunRequest, make_command
from common.core import errors, files
from common.core.formatting import one_line
from common.data import leaks
from common.data.load import load_all_splits
from common.data.rows import rows_fingerprint
from common.data.splits import sample_train_rows
from common.hub import download, locate
from common.runs import provenance, run_folder, run_lock
from common.runs.lifecycle import recorded_failure, resume_run
from common.runs.out_of_fold import write_out_of_fold
from common.runs.run_config import RunConfig, job_of


def main(argv: list[str] | None = None) -> int:
    """Train one run, or those of a sweep; see the module."""
    parser = options.parser(
        __doc__, "model", "dataset", "set", "folds", "seed", "data", "outputs", "run", "force", "strict"
    )
    request, flags = options.parse(parser, argv)
    provenance.of_process()  # the commit of the code that runs, not of what is there when it ends
    if flags.run:
        options.check_run_alone(flags.run, request, FORCE=flags.force, STRICT=flags.strict, FOLDS=flags.folds)
        resume(flags.run)
        return 0
    variants = folds.expand(sweeps.variants(request), flags.folds)
    if len(variants) > 1:
        _check_shared(variants, flags.force)
        return sweeps.run_each(__file__, argv, variants, "train")
    train(variants[0], flags.force, flags.strict)
    return 0


def _check_shared(variants: list[RunRequest], force: bool) -> None:
    """Raise once what would stop every variant of a sweep: their rows or their base model cannot be had."""
    targets = [resolve_target(variant) for variant in variants]
    if len({target.dataset_name for target in targets}) == 1:
        load_all_splits(targets[0].dataset, variants[0].data_dir)
    waiting = []
    for target in targets:
        if force or not run_folder.is_finished(target.folder):
            if (target.folder / run_folder.TRAINING).exists() and not force:
                return  # it is trained, and holds fast to the base that it was trained on
            waiting.append(target.job)
    if len({(job.model, job.revision) for job in waiting}) == 1:
        download.check_model(locate.locate(waiting[0].model, waiting[0].revision))


def train(request: RunRequest, force: bool, strict: bool) -> None:
    """Create a run or resume it, and train and evaluate it to its end; `strict` refuses leaks and contradictions."""
    target = resolve_target(request)
    rows = load_all_splits(target.dataset, request.data_dir)
    for note in rows.notes:
        print(f"note: {one_line(note)}")
    config = target.config(rows_fingerprint(rows)).with_rows(rows)
    folder, command = target.folder, request.command("train")
    is_new = force or not (folder / run_folder.CONFIG).exists()
    if not is_new:
        run_folder.create_run(folder, config, command)  # refuses a job that has changed since
        if run_folder.is_finished(folder):
            write_out_of_fold(folder, config)  # a process may have been killed before it could
            print(f"{options.shown(folder)} is finished: {_headline(folder)}")
            return
    found_leaks = leaks.find_leaks(rows, rows.dataset) if strict else None
    if found_leaks is not None:
        leaks.check_strict(found_leaks)
    from common.model.load import quiet_libraries
    from common.train.arguments import (
        check_training_arguments,  # seconds to import: not before it is clear that there is work
    )

    quiet_libraries()
    if is_new:
        check_training_arguments(
            target.job, config.dataset, sample_train_rows(rows["train"], target.job, config.dataset)
        )
        if force and (archived := run_folder.archive_run(folder)):
            print(f"the old run is kept in {options.shown(archived)}")
        run_folder.create_run(folder, config, command)
    with run_lock.acquire(folder), recorded_failure(folder, command):
        if run_folder.is_finished(folder):
            return
        # The recorded config decides the results; the runtime settings are the current ones.
        recorded = run_folder.load_run_config(folder)
        job = job_of(recorded).model_copy(update={"runtime": target.job.runtime})
        from common.train.run import run

        run(folder, dataclasses.replace(recorded, job=job), rows, found_leaks)
    write_out_of_fold(folder, config)
    print(f"{options.shown(folder)}: {_headline(folder)}")


def resume(folder: Path) -> None:
    """Resume an existing run to its end, as its config.yaml says, without reading jobs/."""
    if run_folder.load_run_config(folder).baseline:
        raise errors.RunError(f"{folder}: this is a baseline; evaluate it with: make baseline RUN={folder}")
    resume_run(folder, make_command("train", RUN=folder.resolve()), _resume)
    print(f"{options.shown(folder)} is finished: {_headline(folder)}")


def _resume(folder: Path, config: RunConfig) -> None:
    rows = load_all_splits(config.dataset, Path(config.data_dir) if config.data_dir else None)
    run_folder.check_same_data(folder, config, rows_fingerprint(rows))
    from common.model.load import quiet_libraries
    from common.train.arguments import check_training_arguments

    quiet_libraries()
    if not (folder / run_folder.LOG).exists():
        job = job_of(config)
        check_training_arguments(job, config.dataset, sample_train_rows(rows["train"], job, config.dataset))
    from common.train.run import run

    run(folder, config, rows)
    write_out_of_fold(folder, config)


def _headline(folder: Path) -> str:
    return run_folder.headline(files.read_json(folder / run_folder.METRICS), "test")


if __name__ == "__main__":
    sys.exit(guard(main))
