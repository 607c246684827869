"""The runs of a learning curve over the number of train rows: each a request with the sample as an override.

    for request in expand(request, "10,20,40,70,100", per_label=False): …      SIZES=, in percent of the train rows
    for request in expand(request, "8,16,32,64", per_label=True): …            SIZES=, in rows of each label

Smaller samples are parts of larger ones, the same for every model and seed. All train rows are the job's own run.
"""

import argparse
import dataclasses
from collections.abc import Sequence

from common.cli import sweeps
from common.cli.target import SAMPLE, SAMPLING, resolve_baseline
from common.config import catalog
from common.config.job import BALANCED, NESTED
from common.config.run_request import CLASSICAL_BASELINES, EMBEDDING, FEW_SHOT, RunRequest
from common.core import yaml_io
from common.core.errors import ConfigError
from common.data.load import load_rows
from common.data.splits import check_splits

PERCENT, PER_LABEL = "10,20,40,70,100", "8,16,32,64"
_TFIDF = "tfidf"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --sizes and --per-label."""
    parser.add_argument(
        "--sizes", metavar="N,…", help=f"percent of the train rows ({PERCENT}), or rows of each label ({PER_LABEL})"
    )
    parser.add_argument("--per-label", action="store_true", help="sizes are rows of each label, not percent")


def expand(request: RunRequest, sizes: str | None, per_label: bool) -> list[RunRequest]:
    """Return a request for each size, of the job and of the baselines tfidf and embedding; or of its baseline alone.

    The train rows are read to count them.

    Args:
        request: of a job, or of the baseline tfidf, embedding or few-shot.
        sizes: SIZES=; None for the usual ones.
        per_label: sizes are rows of each label, in a balanced sample.

    Raises:
        ConfigError: SIZES, the job or the baseline is wrong, or the job is a sweep.
        DataError: the rows cannot be read.
    """
    _check(request, per_label)
    learners = [request]
    if not request.baseline:
        request = sweeps.single_variant(request)
        learners = [request, *(_beside(request, baseline) for baseline in (_TFIDF, EMBEDDING))]
    settings = request.settings
    given = settings.get(SAMPLE)
    if request.model and request.baseline not in CLASSICAL_BASELINES:
        given = catalog.load_job(request.model, settings)[0].training.max_train_samples
    shots = 1 if request.baseline == FEW_SHOT else None
    dataset = resolve_baseline(dataclasses.replace(learners[-1], shots=shots)).dataset
    rows = load_rows(dataset, request.data_dir)
    check_splits(rows, trains=not request.baseline)
    labels = len(rows.dataset.labels)
    most = min(len(rows["train"]), given or len(rows["train"]))
    found = []
    for learner in learners:
        for count in _counts(sizes, most, labels, per_label):
            whole = count == len(rows["train"]) and not per_label
            found.append(_sampled(learner, None if whole else count, BALANCED if per_label else NESTED))
    return found


def _check(request: RunRequest, per_label: bool) -> None:
    if request.baseline not in ("", _TFIDF, EMBEDDING, FEW_SHOT):
        raise ConfigError(f"BASELINE={request.baseline} learns from no train rows, so it has no curve.")
    if request.baseline == FEW_SHOT and not per_label:
        raise ConfigError("BASELINE=few-shot shows as many rows of each label: give PER_LABEL=1, and SIZES=1,2,4.")
    if request.shots is not None:
        raise ConfigError(f"SHOTS={request.shots} has no effect on a curve: SIZES= says how many rows are shown.")
    if SAMPLING in request.settings:
        raise ConfigError(f"SET={SAMPLING} has no effect on a curve, which draws its samples itself. Leave it out.")
    job = catalog.load_job(request.model, request.settings)[0] if request.model else None
    name = request.dataset or (job.dataset if job else None)
    if name and catalog.load_dataset(name).splits.folds is not None:
        raise ConfigError(
            f"data/{name}.yaml divides the rows into folds, and a curve has none: the points of one fold are in no "
            "table. Give a dataset without `folds`."
        )
    if job and job.ablation != "none":
        raise ConfigError(f"ablation={job.ablation}: the baselines of a curve read all texts. Leave the ablation out.")


def _beside(request: RunRequest, baseline: str) -> RunRequest:
    """Return the request of a baseline beside a job: with those of its overrides that change the baseline."""
    keep = {
        key: value for key, value in request.settings.items() if not key.startswith(("method", "training.", "runtime."))
    }
    dataset = request.dataset or catalog.load_job(request.model, request.settings)[0].dataset
    if baseline in CLASSICAL_BASELINES:
        keep = {key: value for key, value in keep.items() if key == "fold"}
        return dataclasses.replace(request, model=None, dataset=dataset, overrides=_words(keep), baseline=baseline)
    return dataclasses.replace(request, overrides=_words(keep), baseline=baseline)


def _counts(sizes: str | None, most: int, labels: int, per_label: bool) -> list[int]:
    """Return the numbers of train rows that SIZES= means, ascending."""
    text = sizes or (PER_LABEL if per_label else PERCENT)
    words = text.replace(",", " ").replace("%", " ").split()
    limit = None if per_label else 100
    numbers = [int(word) if word.isdecimal() else 0 for word in words]
    if not numbers or min(numbers) < 1 or (limit and max(numbers) > limit):
        allowed = "rows of each label, from 1" if per_label else "percent of the train rows, from 1 to 100"
        raise ConfigError(f"SIZES is '{text}'; allowed are whole numbers: {allowed}.")
    if not per_label:
        return sorted({max(round(most * number / 100), labels) for number in numbers})
    return sorted({number * labels for number in numbers})


def _sampled(learner: RunRequest, count: int | None, sampling: str) -> RunRequest:
    settings = {key: value for key, value in learner.settings.items() if key != SAMPLE}
    if count is not None:
        settings |= {SAMPLE: count, SAMPLING: sampling}
    shots = count if learner.baseline == FEW_SHOT else None
    return dataclasses.replace(learner, overrides=_words(settings), shots=shots)


def _words(settings: dict[str, object]) -> tuple[str, ...]:
    return tuple(yaml_io.override_word(key, value) for key, value in settings.items())


def with_seeds(requests: Sequence[RunRequest], numbers: Sequence[int | None]) -> list[RunRequest]:
    """Return each request with each seed; tfidf and embedding do not depend on it."""
    return [
        dataclasses.replace(request, seed=number)
        for request in requests
        for number in (numbers if request.baseline in ("", FEW_SHOT) else (request.seed,))
    ]
