"""Finished runs that were never trained, and the check of an export in this process, for tests of exports.

`make_run` gives every parameter that would train a random value: what training does to a model, without its time.
"""

import contextlib
import importlib.util
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STANDALONE = Path(__file__).resolve().parents[2] / "scripts" / "common" / "export" / "standalone"


def make_run(folder: Path, job: Any, dataset: Any, data_dir: Path) -> Any:
    """Make a finished run of a job, and return it as `load_trained_run` does."""
    import torch

    from common.core import files
    from common.data.load import load_rows
    from common.data.rows import rows_fingerprint
    from common.evaluation import inference
    from common.export.source import load_trained_run
    from common.model import saved_model
    from common.model.build import build_head
    from common.runs import run_folder
    from common.runs.run_config import RunConfig

    rows = load_rows(dataset, data_dir)
    config = RunConfig("a-job", "a-dataset", "", 1, job, dataset, rows_fingerprint(rows), str(data_dir))
    run_folder.create_run(folder, config, "make train")
    torch.manual_seed(1)
    head = build_head(job, dataset)
    with torch.no_grad():
        for parameter in head.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    saved_model.save(head, job, dataset, folder / run_folder.MODEL)
    files.write_json(folder / run_folder.TRAINING, {})
    reloaded = saved_model.load(job, dataset, folder / run_folder.MODEL)
    inference.score_split(folder, config, "test", rows["test"], reloaded, {"train_count": len(rows["train"])})
    return load_trained_run(folder, config)


def prove_in_this_process(monkeypatch: Any) -> None:
    """Let exports run their check.py in this process: the fresh environment takes minutes to make."""
    from common.export import export

    monkeypatch.setattr(export, "fresh_python", lambda kind: Path(sys.executable))
    monkeypatch.setattr(export, "run_isolated", lambda python, script, arguments: run_check(script.parent, *arguments))


def run_check(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run an exported folder's check.py in this process, and return its exit code and what it prints."""
    with _standalone(folder) as check:
        printed, before = io.StringIO(), sys.argv
        sys.argv = ["check.py", *arguments]
        try:
            with contextlib.redirect_stdout(printed):
                return check.main(), printed.getvalue()
        finally:
            sys.argv = before


def labels(folder: Path, rows: Sequence[Sequence[str]], base: Path | None = None) -> list[str]:
    """Return the labels that an exported folder's classifier.py gives to rows."""
    with _standalone(folder):
        import classifier

        found = classifier.Classifier(folder, base)
        return [found.label(*row) for row in rows]


def scores(folder: Path, rows: Sequence[Sequence[str]]) -> Any:
    """Return the log probabilities (N, C) that an exported folder's classifier.py gives to rows."""
    with _standalone(folder):
        import classifier

        return classifier.Classifier(folder).scores(rows)


@contextlib.contextmanager
def _standalone(folder: Path) -> Any:
    """Import the scripts of an exported folder, and forget them."""
    path, written = list(sys.path), sys.dont_write_bytecode
    try:
        sys.path.insert(0, str(folder))
        spec = importlib.util.spec_from_file_location("check", folder / "check.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path[:], sys.dont_write_bytecode = path, written
        for name in ("classifier", "encoding"):
            sys.modules.pop(name, None)
