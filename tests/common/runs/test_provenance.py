import json
import re
import socket
import subprocess
from pathlib import Path

import pytest

from common.config.catalog import ROOT
from common.runs import code_snapshot, provenance


def test_what_code_and_packages():
    import torch

    found = provenance.collect()
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found["git_commit"] == (head.stdout.strip() or None)
    assert isinstance(found["git_dirty"], bool)
    assert found["packages"]["torch"] == torch.__version__
    assert set(found["packages"]) >= {"bitsandbytes", "transformers", "peft", "tokenizers", "scikit-learn"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["time"])


def test_the_slurm_job_is_recorded(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    assert provenance.collect()["slurm_job_id"] == "4711"
    monkeypatch.delenv("SLURM_JOB_ID")
    assert provenance.collect()["slurm_job_id"] is None


def test_a_copy_without_git_has_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(code_snapshot, "CODE", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.collect()["git_commit"] is None


def test_the_commit_is_that_of_the_process_start(monkeypatch, tmp_path):
    """A commit made while a process runs is not the code that it has loaded."""

    def git(*words):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        done = subprocess.run(["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init")
    git("commit", "--allow-empty", "-m", "first")
    monkeypatch.setattr(code_snapshot, "CODE", tmp_path)
    first = git("rev-parse", "HEAD")
    provenance.of_process.cache_clear()
    try:
        provenance.record_attempt(tmp_path)
        git("commit", "--allow-empty", "-m", "second")
        assert git("rev-parse", "HEAD") != first
        assert provenance.of_process()["git_commit"] == first
        provenance.of_process.cache_clear()  # as another process
        provenance.record_attempt(tmp_path)
    finally:
        provenance.of_process.cache_clear()
    assert [attempt["git_commit"] for attempt in provenance.attempts(tmp_path)] == [first, git("rev-parse", "HEAD")]


@pytest.fixture
def script(tmp_path, monkeypatch):
    """A repository of one script in place of ours, and no provenance of this process yet; returns the script."""
    file = tmp_path / "repository" / "scripts" / "train.py"
    file.parent.mkdir(parents=True)
    file.write_text("print(1)\n")
    monkeypatch.setattr(code_snapshot, "CODE", tmp_path / "repository")
    provenance.of_process.cache_clear()
    yield file
    provenance.of_process.cache_clear()


def attempt_of_another_process(folder):
    provenance.of_process.cache_clear()
    provenance.record_attempt(folder)


def test_resuming_with_the_same_code_says_nothing(script, tmp_path, capsys):
    for _ in range(2):
        attempt_of_another_process(tmp_path)
    assert capsys.readouterr().err == ""


def test_resuming_with_other_code_says_so_once(script, tmp_path, capsys):
    attempt_of_another_process(tmp_path)
    script.write_text("print(2)\n")
    attempt_of_another_process(tmp_path)
    before, now = (attempt["code_sha256"][:10] for attempt in provenance.attempts(tmp_path))
    err = capsys.readouterr().err
    assert before != now
    assert str(tmp_path) in err and before in err and now in err
    attempt_of_another_process(tmp_path)  # the same code as the last attempt's
    assert capsys.readouterr().err == ""


def test_neither_host_nor_folders():
    text = json.dumps(provenance.collect() | provenance.hardware() | provenance.memory_peaks())
    assert str(ROOT) not in text
    assert str(Path.home()) + "/" not in text
    assert f'"{socket.gethostname()}"' not in text


def test_hardware_and_memory():
    import torch

    hardware, peaks = provenance.hardware(), provenance.memory_peaks()
    assert hardware["threads"] == torch.get_num_threads()
    assert (hardware["gpu"] is None) == (peaks["gpu_memory_peak_bytes"] is None) == (not torch.cuda.is_available())
    for value in (hardware["cuda"], hardware["driver"], peaks["gpu_memory_reserved_peak_bytes"]):
        assert (value is None) == (not torch.cuda.is_available())
    assert 50e6 < peaks["cpu_memory_peak_bytes"] < 1e12  # bytes, not KiB
