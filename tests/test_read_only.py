"""A read-only file system, and folders of somebody else: one message with the path, in every command that writes."""

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.core import errors, files
from common.core.locks import lock

NOBODY = 65534
MOUNT, UMOUNT = shutil.which("mount"), shutil.which("umount")  # before a test changes PATH


@contextmanager
def nobody():
    """This process has the rights of a user who owns nothing."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def read_only(tmp_path):
    """`read_only(folder)` makes a copy of a folder on a file system that is read-only then, and returns its path."""
    place = tmp_path / "read only"
    place.mkdir()
    mount = [str(MOUNT), "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
    if os.geteuid() or MOUNT is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount the file system that this test makes read-only")

    def make(folder: Path) -> Path:
        shutil.copytree(folder, place / "outputs")
        subprocess.run([str(MOUNT), "-o", "remount,ro", str(place)], check=True)
        return place / "outputs"

    yield make
    subprocess.run([str(UMOUNT), "--lazy", str(place)], check=True)


def one_message(result, *places) -> None:
    code, _, err = result
    assert code == errors.NotWritable.exit_code and err.count("error: ") == 1 and "Traceback" not in err, err
    assert any(str(place) in err for place in places) and len(err) < 600, err


def test_every_command_that_writes(read_only, trained, rows_dir, run_script, no_slurm, tmp_path):
    arguments, folder = trained
    given = Path(arguments[arguments.index("--outputs") + 1])
    (given / "half").mkdir()
    shutil.copytree(folder, given / "half" / "seed-1")
    (given / "half" / "seed-1" / "metrics.json").unlink()
    outputs = read_only(given)
    job, data = [*arguments[:-1], str(outputs)], ["--data-dir", str(rows_dir)]
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    local = ["--cluster", "local"]
    for command in (
        ("train", *job, *data, "--seed", "2"),
        ("train", *job, *data, "--force"),
        ("train", "--run", str(outputs / "half" / "seed-1")),
        ("baseline", "--dataset", "stance-sample", *data, "--baseline", "majority", "--outputs", str(outputs)),
        ("evaluate", *job, *data),
        ("predict", *job, "--input", str(rows_dir / "test.jsonl"), "--output", str(outputs / "a.csv")),
        ("predict", *job, "--input", str(rows_dir / "test.jsonl"), "--output", str(outputs / "a.csv"), "--shards", "2"),
        ("collect", "--here", "--outputs", str(outputs)),
        ("collect", "--outputs", str(given), "--published", str(outputs / "published"), "--readme", str(readme)),
        ("submit", *job, *data, *local, "--seed", "3"),
    ):
        one_message(run_script(*command), outputs)
    for command in (
        ("status", "--outputs", str(outputs)),
        ("cancel", "--outputs", str(outputs), "--model", "minilm-lora"),
    ):
        assert run_script(*command)[0] == 0
    assert run_script("predict", *job, "--text", "a claim || a sentence")[0] == 0  # it writes nothing


@pytest.fixture
def place():
    """A folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take another user's rights")
def test_folders_of_somebody_else(place):
    """Every function of ours that changes files."""
    log = place / "log.jsonl"
    log.write_text("")
    (place / "a").mkdir()

    def locked():
        with lock(place / ".lock"):
            raise AssertionError("not reached")

    def folder():
        with files.atomic_folder(place / "b"):
            raise AssertionError("not reached")

    for change in (
        lambda: files.write_json(place / "a.json", {}),
        lambda: files.append_jsonl(log, {}),
        lambda: files.remove(log),
        lambda: files.make_folder(place / "c"),
        folder,
        locked,
    ):
        with nobody(), pytest.raises(errors.NotWritable, match="you have no permission to write there"):
            change()
    assert sorted(path.name for path in place.iterdir()) == ["a", "log.jsonl"]
