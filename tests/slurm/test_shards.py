"""A prediction of 64 shards as an array: whatever happens to its tasks, every row is there once in the end."""

import contextlib
import os
import re
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lab import read

SHARDS, FILES, ROWS = 64, 96, 400  # rows of a file; a task must not finish before it is held
ADDED = ["predicted", "probability_con", "probability_neu", "probability_pro"]
WORDS = ["good", "bad", "harmful", "useful", "maybe", "unclear", "open", "right", "wrong", "idea"]
SLIM = {"gpu_request": "none", "cpus": 1, "mem_gb": 1, "cpu": {"partition": "main", "cpus": 1, "mem_gb": 1, "time": 10}}


def file_of_rows(number: int) -> pd.DataFrame:
    """The rows of one of many small files."""
    rows = range(number * ROWS, (number + 1) * ROWS)
    sentences = [" ".join(WORDS[(row * 7 + word * 3) % 10] for word in range(3 + row % 17)) + f" {row}" for row in rows]
    return pd.DataFrame({"id": [f"r{row}" for row in rows], "claim": "A claim.", "sentence": sentences})


@pytest.fixture
def corpus(place) -> Path:
    """A folder of many small files."""
    folder = place / "a corpus"
    folder.mkdir()
    for number in range(FILES):
        file_of_rows(number).to_csv(folder / f"{number:03d}.csv", index=False)
    return folder


@pytest.fixture
def command(lab, corpus, trained):
    """The words of `make predict RUN=… INPUT=… OUTPUT=… SHARDS=64 CLUSTER=slim`, and where the output goes."""
    output = lab.repository.parent / "predicted.csv"
    words = ["--run", trained[1], "--input", corpus, "--output", output, "--shards", SHARDS, "--cluster", "slim"]
    return [*words, "--outputs", lab.outputs], output


def ids(said: str) -> tuple[str, str]:
    """The ids of the array and of the merge that a submission has printed."""
    found = re.search(r"tasks as job (\d+), then the merge as job (\d+)", said)
    assert found, said
    return found[1], found[2]


def process(array: str, task: int) -> int | None:
    """The process of an array's task."""
    wanted = {f"SLURM_ARRAY_JOB_ID={array}".encode(), f"SLURM_ARRAY_TASK_ID={task}".encode()}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_ours = b"predict.py" in (folder / "cmdline").read_bytes()
            if is_ours and wanted <= set((folder / "environ").read_bytes().split(b"\0")):
                return int(folder.name)
    return None


def is_pending(pid: int, number: int) -> bool:
    """Whether a signal waits for a process to go on."""
    waiting = re.search(r"ShdPnd:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())[1]
    return bool(int(waiting, 16) >> number - 1 & 1)


def is_stopped(pid: int) -> bool:
    """Whether a process does nothing any more: SIGSTOP is sent at once, but a write in progress ends first."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def parts(output: Path) -> dict[int, int]:
    """When each finished shard was written, by its number: a shard has one part here."""
    first = {FILES * ROWS * number // SHARDS: number for number in range(SHARDS)}
    files = (output.with_name(f"{output.name}.shards") / "parts").glob("[!.]*.parquet")
    return {first[int(file.stem.partition("-")[0])]: file.stat().st_mtime_ns for file in files}


def test_killed_requeued_cancelled_and_at_its_limit(lab, cluster, partition, command, corpus, run_main, trained):
    words, output = command
    plan = output.with_name("predicted.csv.shards")
    lab.profile("slim", array_limit=4, **SLIM)
    partition("down")  # no task ends before we have looked
    said = lab.run("predict", *words).stdout
    assert f"{FILES * ROWS} rows of 96 files in 64 shards" in said and "submitted 64 shards in 4 tasks" in said
    array, merge = ids(said)
    assert f"job {array} is " in lab.run("predict", *words).stdout
    assert len(cluster.squeue()) == 5
    partition("up")

    held: dict[int, int] = {}  # each task is held once it has written its first shard

    def all_held() -> bool:
        for task in set(range(4)) - held.keys():
            if task in parts(output) and (pid := process(array, task)):
                os.kill(pid, signal.SIGSTOP)
                held[task] = pid
        return len(held) == 4

    try:
        cluster.wait_until(all_held, f"a shard of every task; there are {sorted(parts(output))}")
        cluster.wait_until(lambda: all(map(is_stopped, held.values())), "all tasks are stopped")
        before = parts(output)
        for task in range(4):
            assert 0 < sum(number % 4 == task for number in before) < 16, before
        said = lab.status()
        assert re.search(rf"predicted.csv.shards +running +{array} .* {len(before)}/64\n", said), said
        assert re.search(rf"predicted.csv.shards/merge +queued +{merge} .*Dependency", said), said
        os.kill(held[0], signal.SIGKILL)
        cluster.call("scontrol", "requeue", f"{array}_1")
        cluster.call("scancel", f"{array}_2")
        cluster.call("scancel", "--signal=USR2", "--batch", f"{array}_3")
        cluster.wait_until(lambda: is_pending(held[3], signal.SIGUSR2), "the signal waits for task 3")
        for task in (1, 3):  # 2 is left to Slurm, which lets it go on for the moment until SIGTERM reaches it
            os.kill(held[task], signal.SIGCONT)
    except BaseException:
        for pid in held.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        raise
    cluster.wait_until(lambda: "task 0: failed, exit code 0:9" in lab.status(), f"task 0 has failed\n{lab.status()}")
    lab.wait_queue_empty()

    # Those that were put back have finished, what was written before is as it was, and the merge names the others.
    after = parts(output)
    assert {number: after[number] for number in before} == before
    missing = [number for number in range(SHARDS) if number not in after]
    expected = [number for number in range(SHARDS) if number % 4 in (0, 2) and number not in before]
    written_late = set(expected) - set(missing)  # task 2 may write the shard at hand before SIGTERM ends it
    assert set(missing) <= set(expected) and len(written_late) <= 1, (missing, expected)
    assert {number % 4 for number in written_late} <= {2} and {number % 4 for number in missing} == {0, 2}, missing
    wanted = [["FAILED"], ["COMPLETED", "REQUEUED"], ["CANCELLED"], ["COMPLETED", "REQUEUED"]]
    cluster.wait_until(
        lambda: [sorted(cluster.starts(f"{array}_{task}")) for task in range(4)] == wanted, f"accounting: {wanted}"
    )
    [line] = (plan / "slurm" / "1" / "requeues.jsonl").read_text(encoding="utf-8").splitlines()
    assert '"task": "3"' in line
    said = lab.run("logs", "--outputs", lab.outputs).stdout
    assert said.count("==> ") == 5 and f"{len(missing)} of 64 shards are not finished" in said
    assert f"shard {missing[0]}: rows {missing[0] * FILES * ROWS // SHARDS} to " in said
    cluster.wait_until(lambda: "2 failed" in lab.status(), f"status: 2 failed\n{lab.status()}")
    said = lab.status()
    assert "1 failed" not in said and "2 failed" in said, said
    assert "2 of the array's tasks have not ended well" in said and "task 2: cancelled" in said
    assert "merge: failed: exit code 5:0: The same command does what is left." in said

    # The same command does what is left, and nothing else.
    lab.profile("slim", array_limit=2, **SLIM)
    said = lab.run("predict", *words).stdout
    assert f"{len(after)} of 64 shards are finished; submitted {len(missing)} shards in 2 tasks" in said
    again, _ = ids(said)
    [text] = (plan / "slurm" / "2").glob("[!.]*.sh")
    assert len(list(expanded(text.read_text(encoding="utf-8")))) == len(missing)
    lab.wait_queue_empty()
    assert {number: parts(output)[number] for number in after} == after
    cluster.wait_until(lambda: cluster.starts(again) == ["COMPLETED"] * 2, "accounting: both tasks COMPLETED")
    assert read(plan / "report.json")["rows"] == FILES * ROWS
    assert "2 finished" in lab.status()
    assert "every row once" in lab.run("predict", *words).stdout and not cluster.squeue()

    whole = pd.concat([file_of_rows(number) for number in range(FILES)])
    whole.to_csv(corpus.with_name("whole.csv"), index=False)
    alone = corpus.with_name("alone.csv")
    named = ["--run", str(trained[1]), "--input", str(corpus.with_name("whole.csv")), "--output", str(alone)]
    assert run_main("predict", *named) == 0
    found, wanted = pd.read_csv(output), pd.read_csv(alone)
    assert found["id"].tolist() == whole["id"].tolist()
    exact = [name for name in wanted if name not in ADDED[1:]]
    pd.testing.assert_frame_equal(found[exact], wanted[exact])
    np.testing.assert_allclose(found[ADDED[1:]], wanted[ADDED[1:]], rtol=0, atol=1e-5)


def expanded(text: str) -> list[int]:
    """The shards that a batch file names."""
    words = re.search(r"--shard ([0-9 -]+) --worker", text)[1].split()
    return [number for word in words for number in range(int(word.split("-")[0]), int(word.split("-")[-1]) + 1)]


def test_cancelled_as_a_whole(lab, cluster, partition, command):
    words, _ = command
    lab.profile("slim", array_limit=16, **SLIM)
    partition("down")
    array, merge = ids(lab.run("predict", *words).stdout)
    assert len(cluster.squeue()) == 17
    said = lab.status()
    assert "2 queued" in said and array in said and merge in said
    said = lab.run("cancel", "--outputs", lab.outputs).stdout
    assert f"cancelled {array} " in said and f"cancelled {merge} " in said
    lab.wait_queue_empty()
    cluster.wait_until(lambda: "2 cancelled" in lab.status(), f"status: 2 cancelled\n{lab.status()}")
    assert "submitted 64 shards in 16 tasks" in lab.run("predict", *words).stdout
