"""A signal to every process of a job, and a disk that is full: a run ends with the numbers of an undisturbed one."""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from lab import assert_same, is_alive, last_step, lasting, read

HERE = ("--cluster", "testbed")


def lines(file: Path) -> list[str]:
    """The lines of a file, none where there is no file yet."""
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def children(pid: int) -> list[int]:
    """The processes that a process has begun."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_the_time_limit_comes_while_workers_load(lab, cluster):
    # No checkpoint is due: the ones that are there were made for a signal.
    settings = lasting(20, checkpoint_minutes=30)
    lab.submit(*HERE, settings=(*settings, "runtime.dataloader_workers=2"))
    folder = lab.folder()
    job, requeues = lab.job_id(folder), folder / "slurm" / "1" / "requeues.jsonl"

    def signalled(option: str, earlier: int, reached: int) -> int:
        """Send USR2 with two workers alive after a step; return the step at which the job has put itself back."""
        cluster.wait_until(lambda: last_step(folder) > reached + 6, f"training goes on\n{lab.log(folder)}")
        main = read(folder / "owner.json")["pid"]
        workers = cluster.wait_until(lambda: len(found := children(main)) == 2 and found, "two workers")
        cluster.call("scancel", "--signal=USR2", option, job)
        cluster.wait_until(lambda: len(lines(requeues)) > earlier, f"back in the queue\n{lab.log(folder)}")
        cluster.wait_until(lambda: not any(map(is_alive, [main, *workers])), "the end of all its processes")
        assert len(lines(requeues)) == earlier + 1
        step = json.loads(lines(requeues)[-1])["done"]
        assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"checkpoint-{step}"]
        return step

    reached = signalled("--batch", 0, 0)  # to our process alone
    reached = signalled("--full", 1, reached)  # to its workers, too
    lab.wait_finished(folder)
    lab.wait_queue_empty()
    assert len(lines(requeues)) == 2 and lab.log(folder).count("is back in the queue") == 2
    assert f"continuing from checkpoint-{reached} " in lab.log(folder)
    wanted = ["REQUEUED", "REQUEUED", "COMPLETED"]
    cluster.wait_until(lambda: cluster.starts(job) == wanted, f"the accounting of {wanted}")
    assert read(folder / "owner.json")["attempt"] == 3
    assert_same(lab.undisturbed(settings), folder)


@pytest.fixture
def disk(cluster, place):
    """Where the lab's outputs will lie, on a file system of 24 MB; `disk(free)` fills it, `disk(None)` empties it."""
    path = place / "out puts"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine does not let root mount the small file system that this test fills")

    def fill(free: int | None) -> None:
        ballast = path / ".ballast"
        ballast.unlink(missing_ok=True)
        if free is not None:
            with ballast.open("wb") as stream:
                os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(path).free - free)

    yield fill
    cluster.reset()  # no job writes there any more
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_the_disk_is_full(lab, cluster, disk):
    settings = lasting(20)
    lab.submit(*HERE, settings=settings)
    folder = lab.folder()
    lab.wait_checkpoint(folder)
    pid = read(folder / "owner.json")["pid"]

    def held_between_two() -> list[Path]:
        """Stop the run; the one checkpoint that it has, none where it is just writing or removing another."""
        os.kill(pid, signal.SIGSTOP)
        found = list((folder / "checkpoints").iterdir())
        if len(found) == 1:
            return found
        os.kill(pid, signal.SIGCONT)
        return []

    try:
        [saved] = cluster.wait_until(held_between_two, "one checkpoint, and no other on its way")
        disk(sum(file.stat().st_size for file in saved.iterdir()) // 2)  # not enough for the next one
    finally:
        os.kill(pid, signal.SIGCONT)
    cluster.wait_until(lambda: "1 failed" in lab.status(), f"status: 1 failed\n{lab.status()}")
    wanted = [{"State": "FAILED", "ExitCode": "5:0"}]
    cluster.wait_until(
        lambda: cluster.sacct(lab.job_id(folder), "-X", fields="State,ExitCode") == wanted, f"accounting: {wanted}"
    )
    [saved] = (folder / "checkpoints").glob("[!.]*")
    assert not list((folder / "checkpoints").glob(".*")) and not (folder / "metrics.json").exists()
    said = lab.status()
    disk(None)
    assert re.search(r"checkpoint-[0-9]+ could not be written: no space is left; .* Free some space", said), said
    assert "resumed" in lab.submit(*HERE, settings=settings)
    lab.wait_finished(folder)
    lab.wait_queue_empty()
    assert f"continuing from {saved.name} " in lab.log(folder)
    assert_same(lab.undisturbed(settings), folder)
