"""Evaluate a baseline: the majority class, TF-IDF with logistic regression, or a job's model without fine-tuning.

    python scripts/baseline.py --model minilm-lora
    python scripts/baseline.py --dataset stance-sample --baseline tfidf
    make baseline MODEL=minilm-lora                      the model before fine-tuning
    make baseline DATASET=stance-sample BASELINE=majority
    make baseline DATASET=stance-sample BASELINE=tfidf SET=training.max_train_samples=100
    make baseline MODEL=smollm2-135m-prompt BASELINE=few-shot SHOTS=6 SEED=2
    make baseline MODEL=minilm-lora BASELINE=embedding
    make baseline RUN=outputs/…/baseline-untuned         resume an existing baseline, as its config.yaml says

The baseline of a model is `untuned` for a classification head and `zero-shot` for a prompt head, unless BASELINE names
another: `few-shot` shows SHOTS train rows in every prompt, `embedding` is logistic regression on the frozen backbone's
output. The files are those of a fine-tuned run, in outputs/<dataset>/<job or classical>/baseline-<name>/. A job with a
`sweep:` has one baseline, with the job's own settings: method and training arguments do not change it.
"""

import sys
from pathlib import Path

from common.cli import folds, options, sweeps
from common.cli.main import guard
from common.cli.target import resolve_baseline
from common.config.dataset import Dataset
from common.config.run_request import RunRequest, make_command
from common.core import errors, files
from common.core.formatting import one_line
from common.data.load import load_rows
from common.data.rows import LoadedRows, Rows, rows_fingerprint
from common.data.splits import check_splits
from common.runs import provenance, run_folder, run_lock
from common.runs.lifecycle import recorded_failure, resume_run
from common.runs.out_of_fold import write_out_of_fold
from common.runs.run_config import RunConfig


def main(argv: list[str] | None = None) -> int:
    """Evaluate one baseline, or that of each fold; see the module."""
    parser = options.parser(
        __doc__, "model", "dataset", "set", "folds", "seed", "data", "baseline", "shots", "outputs", "run", "force"
    )
    request, flags = options.parse(parser, argv)
    provenance.of_process()  # the commit of the code that runs, not of what is there when it ends
    if flags.run:
        options.check_run_alone(flags.run, request, FORCE=flags.force, FOLDS=flags.folds)
        folder = resume(flags.run)
    else:
        requests = folds.expand([request], flags.folds)
        if len(requests) > 1:
            return sweeps.run_each(__file__, argv, requests, "baseline")
        folder = evaluate(requests[0], flags.force)
    print(f"{options.shown(folder)}: {run_folder.headline(files.read_json(folder / run_folder.METRICS), 'test')}")
    return 0


def evaluate(request: RunRequest, force: bool) -> Path:
    """Create the baseline's run folder, score it unless it is finished, and return the folder."""
    target = resolve_baseline(request)
    rows = _load(target.dataset, request.data_dir)
    for note in rows.notes:
        print(f"note: {one_line(note)}")
    folder, command = target.folder, target.request.command("baseline")
    config = target.config(rows_fingerprint(rows)).with_rows(rows)
    if force or not (folder / run_folder.CONFIG).exists():
        _check_model(config, rows)  # before anything is written
    if force and (archived := run_folder.archive_run(folder)):
        print(f"the old baseline is kept in {options.shown(archived)}")
    run_folder.create_run(folder, config, command)
    if not run_folder.is_finished(folder):
        with run_lock.acquire(folder), recorded_failure(folder, command):
            if not run_folder.is_finished(folder):  # another process may have finished it meanwhile
                _score(folder, run_folder.load_run_config(folder), rows)
    write_out_of_fold(folder, config)
    return folder


def resume(folder: Path) -> Path:
    """Finish an existing baseline as its config.yaml says, without reading jobs/, and return the folder."""
    if not run_folder.load_run_config(folder).baseline:
        raise errors.RunError(f"{folder}: this is no baseline; train it with: make train RUN={folder}")
    resume_run(folder, make_command("baseline", RUN=folder.resolve()), _resume)
    return folder


def _resume(folder: Path, config: RunConfig) -> None:
    rows = _load(config.dataset, Path(config.data_dir) if config.data_dir else None)
    run_folder.check_same_data(folder, config, rows_fingerprint(rows))
    _check_model(config, rows)
    _score(folder, config, rows)
    write_out_of_fold(folder, config)


def _load(dataset: Dataset, data_dir: Path | None) -> LoadedRows:
    rows = load_rows(dataset, data_dir)
    check_splits(rows, trains=False)
    return rows


def _check_model(config: RunConfig, rows: Rows) -> None:
    """Check that the model can be scored without training; a classical baseline has none."""
    if config.job is not None:
        from common.evaluation.baselines import draw_examples  # seconds to import
        from common.model import device
        from common.model.build import check_untuned
        from common.model.load import quiet_libraries

        quiet_libraries()
        device.check(config.job, trains_here=False)
        check_untuned(config.job, config.dataset, draw_examples(config, rows))


def _score(folder: Path, config: RunConfig, rows: Rows) -> None:
    from common.evaluation.baselines import score_baseline

    score_baseline(folder, config, rows)


if __name__ == "__main__":
    sys.exit(guard(main))
