"""Export a trained run as a folder that others can use without this repository, and prove it before it is there."""

import dataclasses
import json
import stat
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np

from common.config.job import Job
from common.config.methods import Full
from common.core.errors import RunError
from common.core.files import atomic_folder, read_json, write_json, write_jsonl
from common.data.rows import Row
from common.evaluation import inference
from common.export import card, common_files, graph, weights
from common.export.base import ExportedBase, exported_base
from common.export.comparison import Comparison, compare
from common.export.environment import fresh_python, run_isolated
from common.export.privacy import check_private
from common.export.source import TrainedRun
from common.hub.locate import SAVED
from common.model import onnx_head, saved_model
from common.model.heads import ClassificationHead, Head
from common.model.inspect import inner_model
from common.runs.exported import MERGED, ONNX, PEFT, SUMS, check_files, described, write_sums

_TOLERANCE = 1e-4  # of a log probability, computed in float32
_TOLERANCE_INT8 = 0.1  # processors multiply 8 bits in different ways
PROOF = "proof.json"
_WEIGHTS = (".safetensors", ".onnx")


@dataclasses.dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes:
        folder: the exported folder.
        printed: what check.py printed in the fresh environment.
        comparison: of the export's test scores with those of the run.
    """

    folder: Path
    printed: str
    comparison: Comparison


def export_run(run: TrainedRun, folder: Path, kind: str, dtype: str | None) -> Export:
    """Export a run's model, prove it in a fresh environment, and return what was found.

    Args:
        run: the trained run.
        folder: to write; it must not exist.
        kind: the format.
        dtype: of merged weights; None: as the run has its base.

    Raises:
        ModelError: transformers cannot compute what the model does; nothing is written.
        RunError: the folder did not pass its proof; nothing is written.
    """
    job = scoring_job(run.job, kind)
    base = exported_base(run.job, run.saved["model_commit"])
    # Of a quantised run or one in bfloat16 this model is another: the export computes in float32.
    head = saved_model.load(_float32(run.job), run.dataset, run.model)
    if kind == ONNX:
        graph.check_graph(head)
    else:
        weights.check_possible(run.job, inner_model(head.model), kind == MERGED)
    dtype = dtype or (run.job.dtype if kind == MERGED else "float32")
    with atomic_folder(folder) as partial:
        common_files.write_common_files(partial, run, head)
        probes = common_files.probe_rows(run, head)
        found = _scores(head, job, probes)
        expected = None
        if dtype == "float32":  # computed before anything is merged
            expected = run.scores if run.job == _float32(run.job) else _scores(head, job, run.rows)
        if kind == PEFT:
            weights.write_trained_weights(partial, run.job, run.model, base, head.model)
        elif kind == MERGED:
            merged = weights.merge_method(head)
            head.model = merged
            _check_merge(found, _scores(head, job, probes))
            weights.write_whole_model(partial, merged, dtype)
        else:
            graph.write_graph(partial, cast(ClassificationHead, head), dtype)
        write_json(partial / SAVED, _description(run, job, base, kind, head, dtype))
        if expected is None:
            # Weights of fewer bits are others than those of the run: check.py compares the export with itself.
            head = (onnx_head.load if kind == ONNX else saved_model.load)(job, run.dataset, partial)
            expected, found = _scores(head, job, run.rows), _scores(head, job, probes)
        common_files.write_scores(partial, run.rows, expected, probes, found, tolerance(dtype))
        del head
        write_sums(partial)
        printed, speed = prove(partial, run, base, kind)
        comparison = compare(run, expected)
        weights_bytes = sum(file.stat().st_size for file in partial.iterdir() if file.suffix in _WEIGHTS)
        write_json(
            partial / PROOF,
            {"printed": printed.splitlines(), **comparison.plain(), **speed, "weights_bytes": weights_bytes},
        )
        card.write_card(partial, run, base, kind, comparison)
        check_private(partial, run, base)
        write_sums(partial)
        _let_others_read(partial)
        check_files(partial)
    return Export(folder, printed, comparison)


def _check_merge(before: np.ndarray, merged: np.ndarray) -> None:
    """Raise a `RunError` where the merged weights, still in float32, score texts in another way than the run's model.

    Weights of 16 bits are compared with themselves afterwards, so a wrong merge would show nowhere else.
    """
    if not np.allclose(merged, before, rtol=0, atol=_TOLERANCE):
        raise RunError(
            f"merging changed the scores by up to {np.abs(merged - before).max():.1e}; nothing was written. "
            "FORMAT=peft keeps what was trained beside the base's weights."
        )


def scoring_job(job: Job, kind: str) -> Job:
    """Return the job by which an export scores: in float32, of a merged model without a method."""
    job = _float32(job)
    return job.model_copy(update={"method": Full(name="full")}) if kind == MERGED else job


def tolerance(dtype: str) -> float:
    """Return by how much a log probability may differ between machines, for weights of a dtype."""
    return _TOLERANCE_INT8 if dtype == graph.INT8 else _TOLERANCE


def prove(folder: Path, run: TrainedRun, base: ExportedBase, kind: str) -> tuple[str, dict[str, Any]]:
    """Let check.py score the test rows in a fresh environment; return what it printed, and how fast it was.

    Raises:
        RunError: it refuses the folder.
    """
    python = fresh_python(kind)
    with tempfile.TemporaryDirectory() as place:
        rows = Path(place) / "rows.jsonl"
        write_jsonl(rows, (dict(zip(run.dataset.text, row.texts, strict=True)) for row in run.rows))
        arguments = ["--rows", str(rows), "--json", str(Path(place) / "found.json")]
        if kind == PEFT and base.hub is None:
            arguments += ["--base", str(base.folder)]
        code, printed = run_isolated(python, folder / "check.py", arguments)
        if code:
            raise RunError(
                "the export does not pass its own proof, and is not written: without this repository, other scores are "
                f"computed.\n{printed}"
            )
        return printed, read_json(Path(place) / "found.json")


def _float32(job: Job) -> Job:
    plain: dict[str, Any] = {"precision": "float32", "dtype": "float32", "quantization": "none"}
    return job.model_copy(update=plain | {"double_quantization": False})


def _description(run: TrainedRun, job: Job, base: ExportedBase, kind: str, head: Head, dtype: str) -> dict[str, Any]:
    """Return the content of peftable.json: what a run's saved model says, and what the export's own scripts read."""
    return {
        **run.saved,
        "model": base.name,
        "format": kind,
        "method": run.saved["method"],
        "labels": list(run.dataset.labels),
        "base": base.plain(),
        "weights_dtype": dtype,
        "tolerance": tolerance(dtype),
        **common_files.described_encoder(head.encoder),
        **described(run.config, job, base.name),
    }


def _scores(head: Head, job: Job, rows: list[Row]) -> np.ndarray:
    return inference.score(head, rows, job.runtime.score_token_budget, "score the export")


def _let_others_read(folder: Path) -> None:
    """Give every file the permissions of a new one: safetensors writes files that their owner alone can read."""
    mode = stat.S_IMODE((folder / SAVED).stat().st_mode)
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(mode)


def check_target(folder: Path, force: bool) -> None:
    """Raise a `RunError` when the folder exists and must not be replaced, or is no export."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"TO={folder} is a file; name a folder.")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / SUMS).is_file() or "format" not in _about(folder):
            raise RunError(f"TO={folder} is a folder with other files; name a new folder.")
        if not force:
            raise RunError(f"TO={folder} exists already; name another folder, or FORCE=1 to replace it.")


def _about(folder: Path) -> dict[str, Any]:
    try:
        return dict(read_json(folder / SAVED))
    except (OSError, json.JSONDecodeError, ValueError):
        return {}
