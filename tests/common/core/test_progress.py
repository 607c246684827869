import re

import pytest

from common.core import files, progress
from common.core.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_every_ten_seconds(clock, capsys):
    bar = Progress("train", 100, "step")
    bar.update(5)
    assert capsys.readouterr().out == ""
    clock[0] += 10
    bar.update(15, "loss 0.5")
    assert capsys.readouterr().out == "train: 20/100 steps, 2.0 steps/s, 40 s left, loss 0.5\n"
    clock[0] += 9
    bar.update(1)
    bar.close()
    assert capsys.readouterr().out == ""


def test_steps_before_a_resume_do_not_count_for_the_rate(clock, capsys):
    bar = Progress("train", 100, "step", done=50)
    clock[0] += 10
    bar.update(10)
    assert bar.rate == 1.0
    assert re.match(r"train: 60/100 steps, 1\.0 steps/s, 40 s left", capsys.readouterr().out)


def test_no_rate_before_the_first_unit(clock, capsys):
    bar = Progress("score", 10, "row")
    clock[0] += 11
    bar.update(0)
    assert bar.rate == 0
    assert "unknown left" in capsys.readouterr().out


def test_the_file_says_the_same_every_five_seconds_and_at_the_end(clock, tmp_path, monkeypatch):
    file = tmp_path / "progress.json"
    bar = Progress("train", 100, "step", done=40, folder=tmp_path)
    monkeypatch.setattr(files, "fsync", None)  # it costs, and nobody's work depends on the file
    bar.update(1)
    assert files.read_json(file)["done"] == 41
    clock[0] += 5
    bar.update(9, "loss 0.500", 0.5)
    found = files.read_json(file)
    assert found.pop("time").endswith("Z")
    assert found == {
        "schema": 1,
        "what": "train",
        "done": 50,
        "total": 100,
        "unit": "step",
        "per_s": 2.0,
        "examples_per_s": 2.0,
        "note": "loss 0.500",
        "loss": 0.5,
    }
    clock[0] += 4
    bar.update(50)
    assert files.read_json(file)["done"] == 50
    bar.close()
    assert files.read_json(file)["done"] == 100


def test_a_file_that_cannot_be_written_harms_nobody(clock, tmp_path):
    bar = Progress("train", 10, "step", folder=tmp_path / "file" / "run")
    (tmp_path / "file").write_text("")
    clock[0] += 6
    bar.update(1)
    bar.close()
    assert bar.done == 1
