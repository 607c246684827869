"""Publish finished runs: configuration, metrics and outcomes; nothing of this machine, and no texts of rows."""

from pathlib import Path
from typing import Any, cast

from common.core import yaml_io
from common.core.files import write_json, write_text
from common.evaluation.outcomes import FILE as OUTCOMES
from common.report.finished_runs import SPLIT_METRICS, damage, find, read_config, read_metrics, read_outcomes
from common.report.statistics import Cache
from common.runs import run_folder
from common.runs.documents import Metrics


def publish(outputs: Path, published: Path, cache: Cache | None = None) -> list[Path]:
    """Copy config.yaml, the metrics and the outcomes of every finished run; return the published folders that changed.

    Host names, absolute paths and folders of this machine are removed from the copies. The outcomes of the test rows
    hold no text. A run without its predictions is published without outcomes; a damaged run is left out.
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
        outcomes = None
        if not (is_same and (target / OUTCOMES).exists()):
            outcomes = read_outcomes(folder, documents[run_folder.METRICS], cache)
        if before == documents and outcomes is None and (target / run_folder.CONFIG).exists():
            continue
        if not is_same:
            for name in (*SPLIT_METRICS, OUTCOMES):  # they belong to another run
                (target / name).unlink(missing_ok=True)
        write_text(target / run_folder.CONFIG, yaml_io.dump(config))
        for name, document in documents.items():
            write_json(target / name, document)
        if outcomes is not None:
            write_json(target / OUTCOMES, outcomes.document())
        changed.append(target)
    return changed


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
