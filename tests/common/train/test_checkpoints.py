"""The newest whole checkpoint: damaged files are found, and a checkpoint of an older version has no checksums."""

import json

import pytest

from common.train.checkpoints import CHECKSUMMED, CHECKSUMS, RESUME, STATE, newest_whole, write_checksums


@pytest.fixture
def checkpoint(tmp_path):
    """`checkpoint(3, best=2)`: a checkpoint of the third step, with the best metric at the second."""

    def make(step, best, is_old=False):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / STATE).write_text(json.dumps({"best_global_step": best}))
        (folder / RESUME).write_text(json.dumps({"train_s": 1.0} if is_old else {CHECKSUMMED: True}))
        (folder / "weights").write_text(f"of step {step}")
        if not is_old:
            write_checksums(folder)
        return folder

    return make


def test_the_newest_is_used(checkpoint, tmp_path):
    checkpoint(2, best=2)
    newest = checkpoint(3, best=2)
    assert newest_whole(tmp_path) == (newest, [])


def test_without_any(tmp_path):
    assert newest_whole(tmp_path) == (None, [])


@pytest.mark.parametrize("name", ["weights", CHECKSUMS, RESUME, STATE])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_the_older_one_is_used_where_the_newest_is_damaged(checkpoint, tmp_path, name, how):
    older, newest = checkpoint(2, best=2), checkpoint(3, best=2)
    if how == "gone":
        (newest / name).unlink()
    else:
        (newest / name).write_text((newest / name).read_text()[:-3])
    found, problems = newest_whole(tmp_path)
    assert found == older and len(problems) == 1
    assert problems[0].startswith("checkpoint-3 is damaged (") and name in problems[0]


def test_a_damaged_best_one_takes_the_newer_one_with_it(checkpoint, tmp_path):
    (checkpoint(2, best=2) / "weights").write_text("other")
    checkpoint(3, best=2)
    found, problems = newest_whole(tmp_path)
    assert found is None
    assert "the best one until then, checkpoint-2, is damaged" in problems[0]


def test_checkpoints_of_an_older_version_are_used(checkpoint, tmp_path):
    """Days of training must not be lost with an update: the best one has no checksums, the newest has some."""
    old = checkpoint(2, best=2, is_old=True)
    assert newest_whole(tmp_path) == (old, [])
    newest = checkpoint(3, best=2)
    assert newest_whole(tmp_path) == (newest, [])
    (old / STATE).write_text("{")
    assert newest_whole(tmp_path)[0] is None
