"""The run lock: one writer per run folder, and which start takes over from which."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from toy_runs import run_config

from common.core import files
from common.core.errors import RunError, Superseded
from common.runs import run_folder, run_lock
from common.runs.lifecycle import recorded_failure

SCRIPTS = str(Path(run_folder.__file__).parents[2])


def document(path):
    return files.read_json(path / run_lock.FILE)


def test_attempts_count_up(tmp_path):
    for wanted in (1, 2, 3):
        with run_lock.acquire(tmp_path) as attempt:
            assert attempt == wanted
            assert document(tmp_path)["released"] is None
        assert document(tmp_path)["released"]


def test_a_failure_releases_the_folder(tmp_path):
    with pytest.raises(ValueError, match="x"), run_lock.acquire(tmp_path):
        raise ValueError("x")
    with run_lock.acquire(tmp_path) as attempt:
        assert attempt == 2


HOLD = f"""
import sys; sys.path.insert(0, {SCRIPTS!r})
from pathlib import Path
from common.runs import run_lock
with run_lock.acquire(Path(sys.argv[1])):
    print("mine", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that works on the run until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "mine\n"
    yield process
    process.kill()
    process.communicate()


def test_a_running_holder_keeps_the_lock(tmp_path, holder):
    run_folder.create_run(tmp_path, run_config(), "make train")
    with pytest.raises(RunError, match=f"process {holder.pid} on {socket.gethostname()} has been working"):
        run_lock.acquire(tmp_path).__enter__()
    with pytest.raises(RunError, match=f"process {holder.pid}"):
        run_folder.archive_run(tmp_path)
    holder.communicate("\n")
    with run_lock.acquire(tmp_path) as attempt:
        assert attempt == 2


def test_a_killed_process_is_replaced(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert document(tmp_path)["released"] is None
    with run_lock.acquire(tmp_path) as attempt:
        assert attempt == 2
        assert document(tmp_path)["pid"] == os.getpid()


def claim(path, **changes):
    """Write an owner.json as if this running process held the lock, with some changes."""
    with run_lock.acquire(path):
        mine = document(path)
    files.write_json(path / run_lock.FILE, mine | changes)


def test_a_reused_pid_is_another_process(tmp_path):
    claim(tmp_path)
    with pytest.raises(RunError):
        run_lock.acquire(tmp_path).__enter__()
    claim_path = tmp_path / "other"
    claim(claim_path, pid_started="1")
    with run_lock.acquire(claim_path) as attempt:
        assert attempt == 2


def test_a_holder_on_another_host_keeps_the_lock(tmp_path):
    claim(tmp_path, host="node17", pid=1)
    with pytest.raises(RunError, match=r"on node17 .*delete .*owner\.json"):
        run_lock.acquire(tmp_path).__enter__()


@pytest.fixture
def start(monkeypatch):
    """`start(2, 1)`: from here on this process is restart 1 of submission 2; `start(None)`: typed by hand."""

    def become(number, restart=0, job="12"):
        for name in ("PEFTABLE_SUBMISSION", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
            monkeypatch.delenv(name, raising=False)
        if number is not None:
            monkeypatch.setenv("PEFTABLE_SUBMISSION", f"/runs/one/slurm/{number}")
            monkeypatch.setenv("SLURM_JOB_ID", job)
            if restart:
                monkeypatch.setenv("SLURM_RESTART_COUNT", str(restart))

    return become


def test_the_holder_records_submission_and_restart(tmp_path, start):
    start(3, 2, job="77")
    with run_lock.acquire(tmp_path):
        found = document(tmp_path)
    assert (found["submission"], found["restart"], found["job_id"]) == (3, 2, "77")
    start(None)
    with run_lock.acquire(tmp_path):
        found = document(tmp_path)
    assert (found["submission"], found["restart"], found["job_id"]) == (None, 0, None)


RUNNING, ENDED, ELSEWHERE = {}, {"pid_started": "1"}, {"host": "node17"}
TAKES, HELD, OLD = "takes over", RunError, Superseded


@pytest.mark.parametrize(
    ("number", "state"), [(0, RUNNING), (1, ENDED), (2, ELSEWHERE)], ids=["running", "ended", "elsewhere"]
)
@pytest.mark.parametrize(
    ("theirs", "ours", "outcomes"),  # of a holder that runs, has ended, is on another host
    [
        ((1, 0), (1, 1), (TAKES, TAKES, TAKES)),
        ((1, 9), (2, 0), (TAKES, TAKES, TAKES)),
        ((1, 0), (1, 0), (TAKES, TAKES, TAKES)),  # the same job, as a controller starts it that was killed
        ((1, 1), (1, 0), (OLD, OLD, OLD)),
        ((2, 0), (1, 5), (OLD, OLD, OLD)),
        ((None,), (1, 0), (HELD, TAKES, HELD)),
        ((None,), (None,), (HELD, TAKES, HELD)),
    ],
    ids=["restart", "submission", "forgotten start", "older restart", "older submission", "job after hand", "by hand"],
)
def test_who_takes_over(tmp_path, start, fake_command, theirs, ours, outcomes, number, state):
    asked = fake_command("squeue", "exit 1")
    start(*theirs)
    claim(tmp_path, **state)
    before = (tmp_path / run_lock.FILE).read_bytes()
    start(*ours)
    if outcomes[number] is TAKES:
        with run_lock.acquire(tmp_path) as attempt:
            assert attempt == 2
    else:
        with pytest.raises(outcomes[number]):
            run_lock.acquire(tmp_path).__enter__()
        assert (tmp_path / run_lock.FILE).read_bytes() == before
    assert asked() == []


@pytest.mark.parametrize("state", [RUNNING, ELSEWHERE], ids=["running", "elsewhere"])
@pytest.mark.parametrize(
    ("squeue", "outcome"),
    [
        ("", TAKES),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", TAKES),
        ("echo 12", HELD),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", HELD),
    ],
    ids=["gone", "forgotten", "lives", "silent"],
)
def test_a_person_takes_over_from_a_job_that_slurm_knows_to_be_gone(
    tmp_path, start, fake_command, squeue, outcome, state
):
    asked = fake_command("squeue", squeue)
    start(1)
    claim(tmp_path, **state)
    start(None)
    if outcome is TAKES:
        with run_lock.acquire(tmp_path) as attempt:
            assert attempt == 2
    else:
        with pytest.raises(RunError, match=r"the Slurm job 12 \(process .*scancel 12"):
            run_lock.acquire(tmp_path).__enter__()
    assert asked() == ["-h -j 12 -o %i"]


def test_a_person_takes_over_from_an_ended_job_of_this_host_without_asking(tmp_path, start, fake_command):
    asked = fake_command("squeue", "echo 12")
    start(1)
    claim(tmp_path, **ENDED)
    start(None)
    with run_lock.acquire(tmp_path) as attempt:
        assert attempt == 2
    assert asked() == []


def test_without_slurm_a_job_keeps_the_lock(tmp_path, start, monkeypatch):
    start(1)
    claim(tmp_path, **ELSEWHERE)
    start(None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RunError, match="job 12"):
        run_lock.acquire(tmp_path).__enter__()


def test_the_older_start_of_a_released_run_is_told_so_too(tmp_path, start):
    start(1, 1)
    with run_lock.acquire(tmp_path):
        pass
    start(1)
    with pytest.raises(
        Superseded, match=r"a newer start has taken this run over \(Slurm job 12, submission 1, restart 1"
    ):
        run_lock.acquire(tmp_path).__enter__()


def test_a_superseded_writer_changes_nothing_more(tmp_path, start):
    """Whatever it calls: the fence is inside of the functions that write."""
    folder = tmp_path / "run"
    start(1)
    with (
        pytest.raises(Superseded, match="restart 1"),
        run_lock.acquire(folder),
        recorded_failure(folder, "again"),
    ):
        files.write_json(folder / "a.json", 1)
        files.append_jsonl(folder / "log.jsonl", {"step": 1})
        with files.atomic_folder(folder / "checkpoints" / "checkpoint-1") as partial:
            (partial / "weights").write_text("1")
        with files.atomic_folder(folder / "model") as unfinished:
            # The newer start takes over, and cleans up behind the older one.
            (folder / run_lock.FILE).write_text(json.dumps(document(folder) | {"attempt": 2, "restart": 1}))
            shutil.rmtree(unfinished)
            before = snapshot(folder)
            for write in (
                lambda: files.write_json(folder / "a.json", 2),
                lambda: files.write_json(folder / "metrics.json", {"schema": 1}),
                lambda: files.append_jsonl(folder / "log.jsonl", {"step": 2}),
                lambda: files.remove(folder / "checkpoints"),
                lambda: files.remove(folder / "a.json"),
                lambda: files.atomic_folder(folder / "model").__enter__(),
            ):
                with pytest.raises(Superseded, match="restart 1"):
                    write()
            (unfinished / "weights").write_text("2")  # its folder is gone, which is no bug of ours
    assert snapshot(folder) == before


def test_leftovers_of_earlier_attempts_are_removed_and_others_left(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    ours = [tmp_path / ".a.attempt-1.host-5.partial.json", tmp_path / "checkpoints" / ".c.attempt-1.host-5.partial"]
    ours[0].write_text("")
    ours[1].mkdir()
    (ours[1] / "weights").write_text("")
    other = tmp_path / ".submit.host-6.partial.json"  # of a process without the lock
    other.write_text("")
    with run_lock.acquire(tmp_path):
        assert other.exists() and not any(path.exists() for path in ours)
        with files.atomic_path(tmp_path / "a.json") as partial:
            assert f".attempt-1.{socket.gethostname()}-{os.getpid()}." in partial.name
            partial.write_text("")


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_removed_owner_file_ends_the_lock(tmp_path):
    with pytest.raises(Superseded, match=r"owner\.json has been removed"), run_lock.acquire(tmp_path):
        (tmp_path / run_lock.FILE).unlink()  # as the message to a second process advises
        files.write_json(tmp_path / "metrics.json", {"schema": 1})
    assert not (tmp_path / "metrics.json").exists() and not (tmp_path / run_lock.FILE).exists()


def test_a_damaged_owner_file_is_replaced(tmp_path):
    (tmp_path / run_lock.FILE).write_text("{")
    with run_lock.acquire(tmp_path) as attempt:
        assert attempt == 1
