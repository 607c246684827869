"""A full disk, on a real small file system: one message, nothing half-written, and the same command continues."""

import os
import shutil
import subprocess

import pytest
from interrupted_runs import STEPS_PER_EPOCH, check_same, complete, partial

from common.core import errors, files
from common.evaluation import write_results
from common.train import trainer

SIZE = 8 * 2**20


@pytest.fixture
def disk(tmp_path):
    """`disk(free)` fills a file system of 8 MB but for so many bytes, `disk(None)` empties it; `disk.path` is where."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(path)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount the small file system that this test fills")

    def fill(free: int | None) -> None:
        ballast = path / "ballast"
        ballast.unlink(missing_ok=True)
        if free is not None:
            size = shutil.disk_usage(path).free - free
            with ballast.open("wb") as stream:
                os.posix_fallocate(stream.fileno(), 0, size)

    fill.path = path
    yield fill
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def _save(name, folder):
    """Write 400 kB to `folder / name` with the library of that name."""
    import torch
    from safetensors.torch import save_file

    tensors = {"weight": torch.ones(100_000)}
    if name == "torch":
        torch.save(tensors, folder / name)
    elif name == "safetensors":
        save_file(tensors, folder / name)
    elif name == "text":
        (folder / name).write_text("x" * 400_000)
    else:
        (folder / name).mkdir()


@pytest.mark.parametrize("free", [0, 100 * 1024], ids=["full", "nearly full"])
@pytest.mark.parametrize("name", ["torch", "safetensors", "text"])
def test_every_writer_of_a_checkpoint(disk, name, free):
    path = disk.path / "checkpoint-2"
    with files.atomic_folder(path) as folder:
        (folder / "old").write_text("old")
    disk(free)
    with pytest.raises(errors.DiskFull) as caught, files.atomic_folder(path) as folder:
        _save(name, folder)
    message = str(caught.value)
    assert message.startswith(f"{path} could not be written: no space is left; 0.") and "MB are free" in message
    assert [item.name for item in disk.path.iterdir()] == ["checkpoint-2", "ballast"] or not partial(disk.path)
    assert (path / "old").read_text() == "old"
    disk(None)
    with files.atomic_folder(path) as folder:
        _save(name, folder)
    assert [item.name for item in path.iterdir()] == [name]


def test_every_file_of_ours(disk):
    log = disk.path / "train_log.jsonl"
    files.append_jsonl(log, {"step": 1})
    disk(0)
    for write in (
        lambda: files.write_json(disk.path / "metrics.json", {}),
        lambda: files.write_jsonl(disk.path / "predictions.jsonl", [{"text": "x" * 4000}] * 100),
        lambda: files.append_jsonl(log, {"step": 2, "text": "x" * 5000}),
    ):
        with pytest.raises(errors.DiskFull, match="no space is left"):
            write()
    assert not (disk.path / "metrics.json").exists() and not (disk.path / "predictions.jsonl").exists()
    assert files.read_jsonl(log) == [{"step": 1}]


def test_another_failure_stays_what_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="a bug"), files.atomic_folder(tmp_path / "a"):
        raise RuntimeError("a bug")
    with pytest.raises(FileNotFoundError), files.atomic_folder(tmp_path / "a") as folder:
        (folder / "b" / "c").write_text("")


MOMENTS = {
    "parameters": (0, trainer.StepTrainer, "_save_checkpoint"),
    "optimizer": (90 * 1024, trainer.StepTrainer, "_save_checkpoint"),
    "predictions": (16 * 1024, write_results, "write_split"),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_goes_on_when_there_is_room_again(resumable, undisturbed_run, disk, run_script, monkeypatch, moment):
    free, target, name = MOMENTS[moment]
    folder = disk.path / "run"
    folder.mkdir()
    shutil.copy(undisturbed_run / "config.yaml", folder)
    original = getattr(target, name)
    calls = []

    def full(*arguments, **options):
        calls.append(name)
        if len(calls) == 2:
            disk(free)
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(target, name, full)
        code, _, err = run_script("train", "--run", str(folder))
    assert code == 5, err
    assert err.count("error: ") == 1 and "could not be written: no space is left; 0." in err and "Traceback" not in err
    assert "earlier checkpoints included" in err
    if target is not write_results:
        assert complete(folder) == [STEPS_PER_EPOCH] and f"checkpoint-{2 * STEPS_PER_EPOCH} could not" in err
    assert not partial(folder) and not (folder / "metrics.json").exists()
    disk(None)
    code, _, err = run_script("train", "--run", str(folder))
    assert (code, err) == (0, "")
    check_same(folder, undisturbed_run)
