"""Find finished runs below a folder, and read their files."""

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any, cast

import numpy as np

from common.config.dataset import IN_GROUP
from common.core.documents import is_of
from common.core.errors import PeftableError, ReportError
from common.core.files import read_json, read_jsonl, sha256
from common.evaluation import outcomes
from common.evaluation.outcomes import Outcomes
from common.evaluation.write_results import metrics_file, predictions_file
from common.report.statistics import Cache
from common.runs import run_folder
from common.runs.documents import Metrics, value
from common.runs.run_config import SCHEMA, RunConfig

# Optional; published with metrics.json.
SPLIT_METRICS = ("metrics-train.json", "metrics-validation.json", f"metrics-{IN_GROUP}.json")
OUTCOME_SPLITS = ("test", IN_GROUP)  # whose outcomes are published


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        folders: its run folder; that of each fold, where it is joined from them.
        document: its metrics.json, with the metrics of the other splits that were scored.
        config: its recorded config.
        outcomes: of its test rows; None for a run that was published without.
        in_group: the outcomes of its rows of known groups; None where there are none.
        folds: the runs of which it is joined, by fold; empty for a run of its own.
    """

    folders: tuple[Path, ...]
    document: Metrics
    config: RunConfig
    outcomes: Outcomes | None
    in_group: Outcomes | None = None
    folds: tuple["FinishedRun", ...] = ()


def find(outputs: Path) -> list[Path]:
    """Return the folders of finished runs below an outputs folder, without archived runs and the demo's."""
    found = []
    for file in sorted(outputs.rglob(run_folder.METRICS)):
        parts = file.relative_to(outputs).parts[:-1]
        if (
            parts
            and parts[0] not in run_folder.NO_RESULTS
            and not any(".replaced-" in part or part.startswith(".") for part in parts)
        ):
            found.append(file.parent)
    return found


def read_metrics(file: Path) -> Metrics:
    """Return the content of a metrics.json; a `ReportError` where it cannot be read."""
    try:
        document = cast("Metrics", dict(read_json(file)))
    except (OSError, ValueError, TypeError) as error:
        raise ReportError(f"{file}: cannot be read: {error}") from error
    if document.get("schema") != SCHEMA:
        raise ReportError(f"{file}: its schema is {document.get('schema')}; this version reads {SCHEMA}.")
    return document


def damage(run: Path, cache: Cache) -> str:
    """Return which file of a finished run cannot be read, and why; "" where all can."""
    try:
        metrics = _all_metrics(run)
        run_folder.run_config_of(read_config(run, cache), run / run_folder.CONFIG)
        hints = typing.get_type_hints(Metrics)
        missing = [key for key in Metrics.__required_keys__ if key not in metrics]
        wrong = [key for key, found in metrics.items() if key in hints and not is_of(found, hints[key])]
        if missing + wrong:
            return f"{run / run_folder.METRICS}: '{sorted(missing + wrong)[0]}' cannot be read"
        for split in OUTCOME_SPLITS:
            read_outcomes(run, metrics, cache, split)
    except PeftableError as error:
        return str(error)
    return ""


def _all_metrics(run: Path) -> Metrics:
    """Return a run's metrics.json, with the metrics of the other splits added where these files exist."""
    document = read_metrics(run / run_folder.METRICS)
    for name in SPLIT_METRICS:
        if (run / name).exists():
            document = read_metrics(run / name) | document  # fields without a split are those of metrics.json
    return document


def read_config(run: Path, cache: Cache) -> dict[str, Any]:
    """Return the content of a run's config.yaml; parsing YAML takes longer than all the rest of a report."""
    file = run / run_folder.CONFIG
    if not file.exists():
        return run_folder.read_config(run)  # raises
    return dict(cache.value(sha256(b"config " + file.read_bytes()), lambda _: run_folder.read_config(run)))


def read_outcomes(run: Path, document: Metrics, cache: Cache, split: str = "test") -> Outcomes | None:
    """Return the outcomes of a split's rows, None where the folder has neither them nor the predictions.

    Args:
        run: a run folder, or a published one.
        document: the metrics of the split, alone or with those of others.
        cache: keeps the outcomes of predictions, which take time to read.
        split: "test" or "in_group".

    Raises:
        ReportError: they cannot be read, or are not those of which the metrics were computed.
    """
    places = (run / outcomes.file_name(split), predictions_file(run, split))
    file = next((place for place in places if place.exists()), None)
    labels, confusion = value(document, f"{split}_labels"), np.array(value(document, f"{split}_confusion"))
    if file is None or labels is None:
        return None
    with_rows = split == IN_GROUP  # a row may be in this split of several folds
    try:
        if file == places[1]:
            about = f"outcomes {outcomes.SCHEMA} {json.dumps(labels)} {'rows ' if with_rows else ''}"
            key = sha256(about.encode() + file.read_bytes())
            packed = cache.value(key, lambda _: outcomes.of_predictions(read_jsonl(file), labels, with_rows).document())
        else:
            packed = read_json(file)
        found = outcomes.read(packed)
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ReportError(f"{file}: cannot be read: {error}") from error
    if len(found.gold) != value(document, f"{split}_n") or not np.array_equal(found.confusion()[:, :-1], confusion):
        raise ReportError(
            f"{file}: it does not belong to the {metrics_file(run, split).name} beside it, whose confusion matrix is "
            "another one. Evaluate the run again (make evaluate), or restore the two files together."
        )
    return found


def read_all(folder: Path, cache: Cache) -> list[FinishedRun]:
    """Return the finished runs below a folder, without those that are damaged."""
    found = []
    for run in find(folder):
        if not damage(run, cache):
            document = _all_metrics(run)
            config = run_folder.run_config_of(read_config(run, cache), run / run_folder.CONFIG)
            test, in_group = (read_outcomes(run, document, cache, split) for split in OUTCOME_SPLITS)
            found.append(FinishedRun((run,), document, config, test, in_group))
    return found


def on_validation(document: Metrics, key: str) -> float | None:
    """Return a validation score of one run: of the whole split if it was scored, else of the kept checkpoint."""
    best_step = value(document, "best_step")
    kept = [entry.get(key) for entry in document.get("history") or [] if entry.get("step") == best_step]
    return next((score for score in [value(document, key), *kept] if score is not None), None)
