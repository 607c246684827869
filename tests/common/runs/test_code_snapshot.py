"""Copies of the code below an outputs folder: named by content, shared, sufficient to run, removed when not needed."""

import json
import os
import subprocess
import sys

import pytest

from common.config.catalog import ROOT
from common.runs import code_snapshot


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A small repository of code in place of ours, to be edited; returns its folder."""
    folder = tmp_path / "repository"
    (folder / "scripts" / "common").mkdir(parents=True)
    (folder / "jobs").mkdir()
    (folder / "scripts" / "train.py").write_text("print('first')\n")
    (folder / "scripts" / "common" / "shapes.yaml").write_text("a: 1\n")
    (folder / "scripts" / "notes.txt").write_text("no code\n")
    (folder / "jobs" / "_defaults.yaml").write_text("schema: 1\n")
    monkeypatch.setattr(code_snapshot, "CODE", folder)
    return folder


def test_the_same_code_is_kept_once(tmp_path, code):
    first = code_snapshot.keep_code(tmp_path / "outputs")
    times = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert code_snapshot.keep_code(tmp_path / "outputs") == first
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == times
    names = {path.relative_to(first).as_posix() for path in first.rglob("*") if path.is_file()}
    assert names == {"scripts/train.py", "scripts/common/shapes.yaml", "jobs/_defaults.yaml", "code.json"}


@pytest.mark.parametrize("name", ["scripts/train.py", "scripts/common/shapes.yaml", "jobs/_defaults.yaml"])
def test_an_edit_makes_another_copy_and_leaves_the_first(tmp_path, code, name):
    first = code_snapshot.keep_code(tmp_path / "outputs")
    before = (code / name).read_text()
    (code / name).write_text(before + "# edited\n")
    second = code_snapshot.keep_code(tmp_path / "outputs")
    assert second != first
    assert ((first / name).read_text(), (second / name).read_text()) == (before, before + "# edited\n")


def test_what_is_not_needed_is_removed(tmp_path, code):
    outputs = tmp_path / "outputs"
    first = code_snapshot.keep_code(outputs)
    (code / "scripts" / "train.py").write_text("print('second')\n")
    second = code_snapshot.keep_code(outputs)
    code_snapshot.remove_unneeded(outputs, {second.name})
    assert (first.exists(), second.exists()) == (False, True)
    code_snapshot.remove_unneeded(outputs, set())
    assert not second.exists()
    code_snapshot.remove_unneeded(tmp_path / "no outputs", set())


def test_a_command_names_its_copy_wherever_the_outputs_lie():
    script = "/home/u/.code/peft/outputs/.code/0123456789abcdef/scripts/train.py"
    assert code_snapshot.copy_of(["/home/u/.code/peft/.venv/bin/python", "-u", script, "--run", "x"]) == (
        "0123456789abcdef"
    )
    assert code_snapshot.copy_of(["/home/u/.code/venv/bin/python", "-u", "scripts/train.py"]) is None


def test_files_of_an_editor_are_no_code(tmp_path, code):
    before = code_snapshot.code_facts()
    (code / "scripts" / ".#train.py").symlink_to("nobody@nowhere.1")
    (code / "scripts" / ".train.py").write_text("half an edit")
    assert code_snapshot.code_facts() == before


def test_a_copy_that_was_half_removed_is_made_again(tmp_path, code, monkeypatch):
    copy = code_snapshot.keep_code(tmp_path / "outputs")
    with monkeypatch.context() as stopped:
        stopped.setattr(code_snapshot.shutil, "rmtree", lambda *_, **__: (copy / "scripts" / "train.py").unlink())
        code_snapshot.remove_unneeded(tmp_path / "outputs", set())
    assert code_snapshot.keep_code(tmp_path / "outputs") == copy and (copy / "scripts" / "train.py").is_file()


def test_a_copy_says_of_which_commit_it_is(tmp_path, code):
    def git(*words: str) -> str:
        named = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *named, *words], cwd=code, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    facts = code_snapshot.code_facts()
    assert (facts["git_commit"], facts["git_dirty"]) == (git("rev-parse", "HEAD"), False)
    copy = code_snapshot.keep_code(tmp_path / "outputs")
    git("commit", "-qm", "two", "--allow-empty")
    assert json.loads((copy / "code.json").read_text()) == facts
    code_snapshot.keep_code(tmp_path / "outputs")  # the same content, committed again
    assert json.loads((copy / "code.json").read_text())["git_commit"] == git("rev-parse", "HEAD")
    assert facts["code_sha256"].startswith(copy.name)


def test_a_process_that_runs_a_copy_knows_its_commit_and_the_repository(tmp_path):
    copy = code_snapshot.keep_code(tmp_path / "outputs")
    program = "from common.config import catalog; from common.runs import code_snapshot; import json, sys; "
    program += "print(json.dumps([str(catalog.CODE), str(catalog.ROOT), code_snapshot.code_facts()]))"
    environment = os.environ | {"PYTHONPATH": str(copy / "scripts"), "PEFTABLE_ROOT": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [str(copy), str(ROOT), json.loads((copy / "code.json").read_text())]
