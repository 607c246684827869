"""Describe results and runs as plain values: scores, cost, errors, configs, curves and provenance."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.config.dataset import SPLITS
from common.config.variants import flatten
from common.core import yaml_io
from common.core.formatting import count, duration, size
from common.report import best_runs, publish, readme_tables, variant_grid
from common.report.comparisons import BEST, SAME, compare
from common.report.result import METRIC_NAMES, Result
from common.runs import run_folder
from common.runs.documents import Metrics, value

_POINTS = 300  # of one learning curve
_CURVES = ("loss", "validation_loss")
_FACTS = {
    "train_count": "train rows",
    "steps": "optimizer steps",
    "best_step": "step of the kept checkpoint",
    "leaked_count": "rows of other splits that are in train",
    "near_leaked_count": "rows of other splits that are nearly in train",
    "contradiction_count": "texts with contradictory labels",
}


class Standing(NamedTuple):
    """How sure a result's leading score is, and how it compares with the best.

    Attributes:
        low, high: the 95 % interval of the leading score on test, in [0, 1]; None without one.
        mark: words for the reader, such as "not distinguishable from the best"; "" for none.
    """

    low: float | None = None
    high: float | None = None
    mark: str = ""


def standings(found: Sequence[Result]) -> dict[int, Standing]:
    """Return the standing of every result among those of its dataset, by `id(result)`."""
    marks = {BEST: "highest on test", SAME: "≈ highest on test"}
    standing = {}
    for every in readme_tables.datasets(found).values():
        members = readme_tables.whole(every)
        compared = compare(members)
        for result in members:
            interval, mark = result.interval(result.score_key), marks.get(compared.mark(result), "")
            low, high = (interval.low, interval.high) if interval else (None, None)
            standing[id(result)] = Standing(low, high, mark)
    return standing


def models(found: Sequence[Result], standings: Mapping[int, Standing]) -> list[dict[str, Any]]:
    """Return one record per result of one dataset; `runs` has the numbers of its seeds, in the order of `runs`.

    Args:
        found: the results of one dataset.
        standings: by `id(result)`, of those results that have one.
    """
    arranged = variant_grid.arrange(found)
    whole = variant_grid.arrange(readme_tables.whole(found))
    names = {id(result): name for name, result in zip(variant_grid.names(whole), whole, strict=True)}
    chosen = set(map(id, best_runs.best_variants(arranged)))
    best = best_runs.best_model(arranged)
    records, number = [], 0
    for result in arranged:
        standing = standings.get(id(result), Standing())
        records.append(
            {
                "name": names.get(id(result), result.name),
                "ablation": result.ablation,
                "job": result.job,
                "method": readme_tables.method_name(result),
                "baseline": bool(result.baseline),
                "chosen": id(result) in chosen,
                "best": result is best,
                "scores": {key: result.values(key) for key in score_names(result)},
                "validation": result.validation_score(),
                "interval": None if standing.low is None else [standing.low, standing.high],
                "mark": standing.mark,
                "trainable": None if result.baseline else result.mean("params_trainable_count"),
                "total": result.mean("params_total_count"),
                "time_s": None if result.baseline else result.training_time(),
                "memory_bytes": result.peak_memory(),
                "on_gpu": result.on_gpu,
                "errors": [_mean(rates) for rates in result.error_rates().values()],
                "runs": list(range(number, number + len(result.documents))),
            }
        )
        number += len(result.documents)
    return records


def runs(found: Sequence[Result], source: Path) -> list[dict[str, Any]]:
    """Return one record per run of one dataset: config, curves, confusion matrices and facts; all folds are one run.

    Args:
        found: the results of one dataset.
        source: the folder in which their folders lie.
    """
    records = []
    for result in variant_grid.arrange(found):
        for document, folders in zip(result.documents, result.folders, strict=True):
            config = publish.anonymous(yaml_io.read(folders[0] / run_folder.CONFIG))
            names = [folder.relative_to(source).as_posix() for folder in folders]
            records.append(
                {
                    "seed": document["seed"],
                    "folder": names[0] + (f", and those of the other {len(names) - 1} folds" if names[1:] else ""),
                    "config": [[key, _text(item)] for key, item in flatten(config).items()],
                    "curves": _curves(document, result.score_key.replace("test_", "validation_", 1)),
                    "confusion": {
                        split: matrix for split in SPLITS if (matrix := value(document, f"{split}_confusion"))
                    },
                    "facts": _facts(document),
                }
            )
    return records


def score_names(result: Result) -> dict[str, str]:
    """Return the names of the scores in tables by their keys, the leading one first."""
    return {result.score_key: result.score_name} | {f"test_{key}": name for key, name in METRIC_NAMES.items()}


def _curves(document: Metrics, score: str) -> dict[str, list[list[float]]]:
    """Return points [epoch, value] of each curve; of a long one the means of neighbouring points."""
    curves = {}
    for key in (*_CURVES, score):
        history = document.get("history") or []
        points = [[entry["epoch"], entry[key]] for entry in history if "epoch" in entry and entry.get(key) is not None]
        step = -(-len(points) // _POINTS)
        blocks = [points[start : start + step] for start in range(0, len(points), step)] if points else []
        if blocks:
            curves[key] = [[block[-1][0], sum(point[1] for point in block) / len(block)] for block in blocks]
    return curves


def _facts(document: Metrics) -> list[list[str]]:
    """Return pairs of a name and a text: what was measured, and on which code, packages and hardware."""
    provenance: dict[str, Any] = value(document, "provenance") or {}  # folds have one each
    hardware = document.get("hardware") or {}
    data = value(document, "data_sha256")
    commit = provenance.get("git_commit")
    packages = ", ".join(f"{name} {version}" for name, version in (provenance.get("packages") or {}).items())
    device = hardware.get("gpu") or (f"{hardware['cpu']}, {hardware.get('threads')} threads" if hardware else None)
    pairs = [
        ("started", provenance.get("time")),
        ("ended", provenance.get("end_time")),
        ("code", commit and f"{commit[:12]}{' with uncommitted changes' if provenance.get('git_dirty') else ''}"),
        ("processes that worked on it", len(document.get("attempts") or [])),
        ("model", document["model"]),
        ("rows", data and f"SHA-256 {data[:12]}…"),
        *((name, value(document, key)) for key, name in _FACTS.items()),
        ("training", duration(value(document, "train_s")) if value(document, "train_s") is not None else None),
        *((f"{split} rows", value(document, f"{split}_n")) for split in ("validation", "test")),
        ("memory of the GPU", size(value(document, "gpu_memory_peak_bytes"))),
        ("memory of the process", size(value(document, "cpu_memory_peak_bytes"))),
        ("hardware", device),
        ("python", provenance.get("python")),
        ("packages", packages),
        ("platform", provenance.get("platform")),
        ("Slurm job", provenance.get("slurm_job_id")),
    ]
    return [[name, count(item) if isinstance(item, int) else str(item)] for name, item in pairs if item not in _NOTHING]


_NOTHING = (None, "", "–", 0)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _text(item: Any) -> str:
    if isinstance(item, list):
        return ", ".join(map(_text, item))
    return "–" if item is None else item if isinstance(item, str) else str(item)
