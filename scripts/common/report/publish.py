"""Publish finished runs: configuration, metrics and outcomes; nothing of this machine, and no texts of rows."""

from pathlib import Path
from typing import Any, cast

from common.core import yaml_io
from common.core.files import write_json, write_text
from common.evaluation.outcomes import Outcomes, file_name
from common.evaluation.write_results import metrics_file
from common.report.finished_runs import (
    OUTCOME_SPLITS,
    SPLIT_METRICS,
    damage,
    find,
    read_config,
    read_metrics,
    read_outcomes,
)
from common.report.statistics import Cache
from common.runs import run_folder
from common.runs.documents import Metrics


def publish(outputs: Path, published: Path, cache: Cache | None = None) -> list[Path]:
    """Copy config.yaml, the metrics and the outcomes of every finished run; return the published folders that changed.

    Host names, absolute paths and folders of this machine are removed from the copies. The outcomes of the rows of
    test, and of in_group where there are such rows, hold no text. A run without its predictions is published without
    outcomes; a damaged run is left out.
    """
    cache, changed = cache or Cache(), []
    for folder in find(outputs):
        if damage(folder, cache):
            continue
        target = published / folder.relative_to(outputs)
        config = anonymous(read_config(folder, cache))
        names = [run_folder.METRICS, *(name for name in SPLIT_METRICS if (folder / name).exists())]
        model = {"model": config["job"]["model"] if config["job"] else None}
        documents = {name: cast("Metrics", read_metrics(folder / name) | model) for name in names}
        before = {name: read_metrics(target / name) for name in names if (target / name).exists()}
        is_same = before.get(run_folder.METRICS) == documents[run_folder.METRICS]
        outcomes = _new_outcomes(folder, target, documents, before, cache)
        is_new = before != documents or any(found is not None for found in outcomes.values())
        if not is_new and (target / run_folder.CONFIG).exists():
            continue
        stale = [*SPLIT_METRICS, *map(file_name, OUTCOME_SPLITS)] if not is_same else [*outcomes]
        for name in stale:  # they belong to another run, or to another evaluation
            (target / name).unlink(missing_ok=True)
        write_text(target / run_folder.CONFIG, yaml_io.dump(config))
        for name, document in documents.items():
            write_json(target / name, document)
        for name, found in outcomes.items():
            if found is not None:
                write_json(target / name, found.document())
        changed.append(target)
    return changed


def _new_outcomes(
    folder: Path, target: Path, documents: dict[str, Metrics], before: dict[str, Metrics], cache: Cache
) -> dict[str, Outcomes | None]:
    """Return the outcomes that are not published yet by the names of their files; None where they are not known.

    Args:
        folder: of the run.
        target: its published folder.
        documents: the run's metrics by the names of their files.
        before: those that are published.
        cache: keeps the outcomes.
    """
    is_same = before.get(run_folder.METRICS) == documents[run_folder.METRICS]
    new: dict[str, Outcomes | None] = {}
    for split in OUTCOME_SPLITS:
        metrics, name = metrics_file(folder, split).name, file_name(split)
        is_there = is_same and before.get(metrics) == documents.get(metrics) and (target / name).exists()
        if metrics in documents and not is_there:
            new[name] = read_outcomes(folder, documents[metrics], cache, split)
    return new


def anonymous(config: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a config.yaml without paths of this machine."""
    source = config["dataset"]["source"]
    for key in ("files", "hub"):
        if isinstance(source.get(key), dict):
            source = source | {key: {split: _local(file) for split, file in source[key].items()}}
        elif key in source:
            source = source | {key: _local(source[key])}
    job = config["job"]
    return config | {
        "data": config["data"] | {"dir": None},
        "job": job | {"model": _local(job["model"])} if job else None,
        "dataset": config["dataset"] | {"source": source},
    }


def _local(name: str) -> str:
    """Return a public name unchanged, and `local:<last part>` for a path of this machine."""
    return f"local:{Path(name).name}" if name.startswith(("/", "~", ".")) else name
