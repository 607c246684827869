"""The queue of this machine and its workers, with real processes: order, slots, kills, cancelling, environment."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from waiting import HANG_S, until

from common.cluster import local_queue, local_worker
from common.cluster.local_queue import Cancellation, waiting_file
from common.core import files
from common.core.locks import lock
from common.core.processes import Process, start_time, this_process

SCRIPTS = Path(local_queue.__file__).parents[2]
GATED = "while not os.path.exists('go'): time.sleep(0.02)"  # a task that runs until its test says `let_go`
GONE = Process(socket.gethostname(), 2**22 - 1, "1")  # no process has that number


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, no_slurm):
    """Slots of this test alone, in other processes and in this one: a queue of this machine may be busy meanwhile."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))  # its value is remembered from an earlier test


@pytest.fixture
def queue(tmp_path):
    return tmp_path / "some outputs" / ".queue"


@pytest.fixture
def add(queue, tmp_path):
    """`add("a", "print(1)")` queues that code; it writes to events.jsonl when it begins and ends."""

    def put(name, code="", to=queue, after=(), **environment):
        program = (
            "import json, os, sys, time\n"
            f"def say(what): print(json.dumps([{name!r}, what, time.time()]), "
            f"file=open({str(tmp_path / 'events.jsonl')!r}, 'a'), flush=True)\n"
            f"say('begin')\n{code}\nsay('end')\n"
        )
        task = {"name": name, "command": [sys.executable, "-ISc", program], "directory": str(tmp_path)}
        log = str(tmp_path / "logs" / f"{name}.log")
        return local_queue.add(to, **task, log=log, environment=environment, after=list(after))

    return put


@pytest.fixture
def let_go(tmp_path):
    """`let_go()` ends the tasks that are `GATED`."""
    return (tmp_path / "go").touch


def beside(name):
    """Return the code of a task that waits until that one has begun."""
    return f"while '\"{name}\", \"begin\"' not in open('events.jsonl').read(): time.sleep(0.02)"


@pytest.fixture
def events(tmp_path):
    return lambda: [record[:2] for record in timed(tmp_path)]


def timed(tmp_path):
    file = tmp_path / "events.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def start(queue, *arguments, code="local_queue.start_workers(Path(sys.argv[1]), None)"):
    """Start workers from a process that ends at once, as `make submit` does; returns its group."""
    program = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\nfrom pathlib import Path\n"
    program += f"from common.cluster import local_queue\n{code}"
    subprocess.run([sys.executable, "-c", program, str(queue), *arguments], check=True, timeout=HANG_S)


def ended(queue):
    until(lambda: not local_queue.jobs(queue), "the end of the queue")


def worker_of(queue):
    """The first entry's worker, once its task runs."""
    until(lambda: any(entry.child for _, entry in local_queue.entries(queue)), "the first task")
    return next(entry for _, entry in local_queue.entries(queue) if entry.child)


def change(path, entry, **changes):
    """Write an entry with some changes."""
    local_queue.write(path, dataclasses.replace(entry, **changes))


def wait_gone(process):
    until(lambda: not process.may_run(), "the end of a process")


# --- entries ---------------------------------------------------------------------------------------------------------


def test_numbers_are_never_given_twice(queue, add):
    assert [add("a"), add("b")] == ["local-1", "local-2"]
    assert [(job.id, job.name, job.state) for job in local_queue.jobs(queue)] == [
        ("local-1", "a", "PENDING"),
        ("local-2", "b", "PENDING"),
    ]
    local_queue.cancel(queue, ["local-2"])
    assert add("c") == "local-3"
    assert [job.id for job in local_queue.jobs(queue)] == ["local-1", "local-3"]


def test_no_queue_is_an_empty_one(queue):
    assert local_queue.jobs(queue) == []
    assert local_queue.folder_of(queue.parent) == queue


def test_a_damaged_entry_is_skipped(queue, add):
    add("a")
    (queue / "000002.json").write_text('{"id": ')
    assert [job.name for job in local_queue.jobs(queue)] == ["a"]


# --- work ------------------------------------------------------------------------------------------------------------


def test_tasks_one_after_the_other_in_order(queue, add, events, tmp_path):
    add("a", "time.sleep(0.2); print('said', flush=True); print('wrong', file=sys.stderr)")
    add("b", "sys.exit(3)")
    add("c")
    start(queue)
    start(queue)  # a second worker finds the slot taken
    ended(queue)
    assert events() == [["a", "begin"], ["a", "end"], ["b", "begin"], ["c", "begin"], ["c", "end"]]
    assert (tmp_path / "logs" / "a.log").read_text() == "said\nwrong\n"
    until(lambda: (queue / "worker-0.log").read_text().count("exit code") == 3)
    log = (queue / "worker-0.log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in log] == [
        *("local-1 a: exit code 0", "local-2 b: exit code 3", "local-3 c: exit code 0"),
    ]


def test_a_log_is_continued(queue, add, tmp_path):
    files.write_text(tmp_path / "logs" / "a.log", "before\n")
    add("a", "print('again')")
    start(queue)
    ended(queue)
    assert (tmp_path / "logs" / "a.log").read_text() == "before\nagain\n"


def test_the_environment_of_a_task(queue, add, tmp_path, monkeypatch):
    monkeypatch.setenv("MINE", "1")
    names = ("MINE", "OURS", "CUDA_VISIBLE_DEVICES", "NOT")
    add("a", f"print([os.environ.get(n) for n in {names}], os.getcwd(), sys.stdin.read() == '')", OURS="x y")
    start(queue)
    ended(queue)
    assert (tmp_path / "logs" / "a.log").read_text() == f"['1', 'x y', None, None] {tmp_path} True\n"


def test_variables_are_expanded_where_the_task_begins(queue, add, tmp_path, monkeypatch):
    add("a", "print(os.environ['KEY'], os.environ['OURS'])", OURS="$SECRET")
    [(path, entry)] = local_queue.entries(queue)
    change(path, entry, expanded={"KEY": "${SECRET}/x"})
    monkeypatch.setenv("SECRET", "s3")
    start(queue)
    ended(queue)
    assert (tmp_path / "logs" / "a.log").read_text() == "s3/x $SECRET\n"


def test_a_worker_outlives_the_shell_that_submitted(queue, add, events, let_go):
    add("a", GATED)
    # Ctrl-C and the terminal's end reach the whole group of who typed `make submit`.
    start(
        queue,
        code="import os, signal; os.setpgrp(); local_queue.start_workers(Path(sys.argv[1]), None)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "os.killpg(0, signal.SIGHUP); os.killpg(0, signal.SIGINT)",
    )
    running = worker_of(queue)
    assert os.getsid(running.worker.pid) == running.worker.pid
    assert os.getsid(running.child.pid) == running.child.pid
    [job] = local_queue.jobs(queue)
    assert (job.state, job.node, job.is_running) == ("RUNNING", "localhost", True)
    let_go()
    ended(queue)
    assert events()[-1] == ["a", "end"]


def test_after(queue, add, events):
    last = add("last")
    add("b", after=[])
    local_queue.cancel(queue, [last])
    first, second = add("c", "time.sleep(0.2)"), add("d")
    number = add("e", after=[first, second, "local-99"])  # what is gone has ended
    entries = {entry.id: path for path, entry in local_queue.entries(queue)}
    entries[number].rename(queue / "000000.json")  # whatever its place in the queue
    start(queue)
    ended(queue)
    assert [name for name, what in events() if what == "begin"] == ["b", "c", "d", "e"]


# --- slots -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """A fake nvidia-smi that lists so many GPUs."""

    def make(count, code=0):
        file = tmp_path / "no bin" / "nvidia-smi"
        lines = "".join(f"echo 'GPU {number}: NVIDIA H200 (UUID: GPU-{number})'\n" for number in range(count))
        file.write_text(f"#!/bin/sh\n{lines}exit {code}\n")
        file.chmod(0o755)

    return make


def test_slots(nvidia_smi, monkeypatch):
    assert local_queue.slots() == [""]
    nvidia_smi(0, code=9)  # no driver
    assert local_queue.slots() == [""]
    nvidia_smi(3)
    assert local_queue.slots() == ["0", "1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5")
    assert local_queue.slots() == ["2", "GPU-5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local_queue.slots() == [""]


def test_a_task_a_gpu(queue, add, nvidia_smi, tmp_path):
    nvidia_smi(2)
    for name, other in ("ab", "ba", "cd", "dc"):  # two at the same time, or none would ever end
        add(name, f"print(os.environ['CUDA_VISIBLE_DEVICES'])\n{beside(other)}")
    start(queue)
    ended(queue)
    seen = {name: (tmp_path / "logs" / f"{name}.log").read_text().strip() for name in "abcd"}
    assert sorted(seen.values()) == ["0", "0", "1", "1"]
    spans = {name: [moment for who, _, moment in timed(tmp_path) if who == name] for name in "abcd"}
    for gpu in "01":
        one, other = sorted(spans[name] for name in seen if seen[name] == gpu)
        assert one[1] <= other[0]  # one at a time on each


def test_more_slots_than_gpus(queue, add, events):
    for name, other in ("ab", "ba"):
        add(name, beside(other))
    start(queue, code="local_queue.start_workers(Path(sys.argv[1]), 2)")
    ended(queue)
    assert sorted(events()[:2]) == [["a", "begin"], ["b", "begin"]]


def test_two_queues_share_a_slot(queue, add, events, let_go, tmp_path):
    other = tmp_path / "other outputs" / ".queue"
    for name, where in (("a", queue), ("b", other), ("c", queue), ("d", other)):
        add(name, GATED, to=where)
    start(queue)
    worker_of(queue)
    start(other)
    let_go()
    ended(queue)
    ended(other)
    assert events() == [[name, what] for name in "acbd" for what in ("begin", "end")]


def test_the_same_gpu_by_another_choice_is_the_same_slot(queue, add, events, let_go, tmp_path, monkeypatch):
    other = tmp_path / "other outputs" / ".queue"
    add("a", GATED)
    add("b", to=other)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    start(queue)
    worker_of(queue)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    files.write_text(tmp_path / "tmp" / f"peftable-{os.getuid()}" / "x", "")
    with lock(tmp_path / "tmp" / f"peftable-{os.getuid()}" / "slot-0-0.lock"):  # the other GPU is taken
        start(other)
        let_go()
        ended(queue)
        ended(other)
    assert events() == [["a", "begin"], ["a", "end"], ["b", "begin"], ["b", "end"]]


# --- kills and cancelling --------------------------------------------------------------------------------------------


def test_the_next_worker_runs_a_killed_worker_s_task_again(queue, add, events, tmp_path):
    add("a", f"time.sleep(0 if os.path.exists({str(tmp_path / 'again')!r}) else 60)")
    start(queue)
    first = worker_of(queue)
    until(lambda: ["a", "begin"] in events())
    os.kill(first.worker.pid, signal.SIGKILL)
    os.killpg(first.child.pid, signal.SIGKILL)
    wait_gone(first.worker)
    wait_gone(first.child)
    assert local_queue.jobs(queue)[0].state == "PENDING"
    (tmp_path / "again").write_text("")
    start(queue)
    ended(queue)
    assert events() == [["a", "begin"], ["a", "begin"], ["a", "end"]]


def test_a_task_that_outlives_its_worker_keeps_the_slot(queue, add, events, let_go):
    add("a", GATED)
    add("b")
    start(queue)
    first = worker_of(queue)
    os.kill(first.worker.pid, signal.SIGKILL)
    wait_gone(first.worker)
    assert local_queue.jobs(queue)[0].state == "RUNNING"
    start(queue)
    let_go()
    ended(queue)
    # It begins once more afterwards: `train --run` then says that it is finished.
    assert events() == [[name, what] for name in "aab" for what in ("begin", "end")]


def test_cancelling_a_waiting_task(queue, add, events, let_go):
    ids = [add(name, GATED) for name in "abc"]
    start(queue)
    worker_of(queue)
    local_queue.cancel(queue, ids[1:2])
    assert [job.name for job in local_queue.jobs(queue)] == ["a", "c"]
    let_go()
    ended(queue)
    assert [name for name, what in events() if what == "end"] == ["a", "c"]


def test_cancelling_a_running_task(queue, add, events):
    polite = "import signal\ndef bye(*_): say('saved'); sys.exit(75)\nsignal.signal(signal.SIGTERM, bye)\n"
    number = add("a", polite + "say('ready'); time.sleep(60)")
    add("b")
    start(queue)
    until(lambda: ["a", "ready"] in events())
    local_queue.cancel(queue, [number])
    ended(queue)
    assert events() == [["a", "begin"], ["a", "ready"], ["a", "saved"], ["b", "begin"], ["b", "end"]]


def test_cancelling_a_task_that_ignores_sigterm(queue, add, events, monkeypatch):
    monkeypatch.setattr(local_queue, "KILL_AFTER_S", 0.3)
    deaf = "import signal, subprocess\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    deaf += "say(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid); time.sleep(60)"
    number = add("a", deaf)
    start(queue)
    until(lambda: len(events()) == 2)
    child = worker_of(queue).child
    local_queue.cancel(queue, [number])
    wait_gone(child)
    below = events()[1][1]
    until(lambda: start_time(below) is None, "the end of the task's own child")


def test_cancelling_a_task_that_is_starting_or_has_ended(queue, add):
    for number, child in enumerate((None, GONE)):
        add("a")
        [(path, entry)] = local_queue.entries(queue)
        change(path, entry, since=time.time(), worker=this_process(), child=child)
        local_queue.cancel(queue, [f"local-{number + 1}"])
        assert local_queue.jobs(queue) == []


def test_a_task_cancelled_as_it_begins_is_ended(queue, add, events, monkeypatch):
    add("a", "time.sleep(60)")
    real, seen = local_queue.write, []

    def write(path, entry):
        real(path, entry)
        if entry.worker and not seen:  # it was taken, and its process is not started yet
            seen.append(entry)
            path.unlink()  # as `cancel` does, which waits for the lock that is held here

    monkeypatch.setattr(local_worker, "write", write)
    local_worker.work(queue, 0, "")
    assert seen and events() == []


def test_a_worker_that_is_not_needed_ends_at_once(queue, add, events):
    add("a")
    with lock(waiting_file(queue, "cpu-0")):
        local_worker.work(queue, 0, "")
    assert events() == [] and len(local_queue.jobs(queue)) == 1


def test_a_cancelled_task_is_in_the_queue_until_it_has_ended(queue, add, events, let_go):
    slow = f"import signal\ndef bye(*_):\n  {GATED}\n  say('saved'); sys.exit(75)\nsignal.signal(signal.SIGTERM, bye)\n"
    number = add("a", slow + "say('ready'); time.sleep(60)")
    start(queue)
    until(lambda: ["a", "ready"] in events())
    by = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\nfrom pathlib import Path\n"]
    by[2] += f"from common.cluster import local_queue; local_queue.cancel(Path(sys.argv[1]), [{number!r}])"
    cancelling = subprocess.Popen([*by, str(queue)])
    until(lambda: [job.state for job in local_queue.jobs(queue)] == ["COMPLETING"], "the mark")
    assert ["a", "saved"] not in events() and local_queue.jobs(queue)[0].is_running
    let_go()
    cancelling.wait(HANG_S)
    assert ["a", "saved"] in events() and local_queue.jobs(queue) == []


def test_a_cancel_that_was_killed(queue, add, events):
    for name in "ab":
        add(name)
        path, entry = local_queue.entries(queue)[-1]
        cancelled = Cancellation(socket.gethostname(), time.time())
        change(path, entry, since=1.0, worker=GONE, child=GONE, cancelled=cancelled)
        if name == "a":
            assert local_queue.jobs(queue) == [] and not path.exists()
    add("c", after=["local-2"])
    local_worker.work(queue, 0, "")
    assert events() == [["c", "begin"], ["c", "end"]] and local_queue.entries(queue) == []


# --- machines that share the folder ----------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(queue, add):
    """A task that another host runs."""
    number = add("a")
    [(path, entry)] = local_queue.entries(queue)
    process = Process("login1", os.getpid(), "1")
    change(path, entry, since=time.time(), place="cpu-0", worker=process, child=process)
    return number, path


def test_a_task_of_another_host_is_not_run_again(queue, add, events, elsewhere):
    add("b")
    local_worker.work(queue, 0, "")
    assert events() == [["b", "begin"], ["b", "end"]]
    assert [(job.name, job.state, job.node) for job in local_queue.jobs(queue)] == [("a", "RUNNING", "login1")]


def test_cancelling_on_another_host(queue, add, elsewhere, monkeypatch):
    number, path = elsewhere
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("that number means another process here"))
    local_queue.cancel(queue, [number])
    local_queue.cancel(queue, [number])
    assert local_queue.jobs(queue)[0].state == "COMPLETING"
    [(_, entry)] = local_queue.entries(queue)
    change(path, entry, cancelled=dataclasses.replace(entry.cancelled, since=time.time() - 3600))
    local_queue.cancel(queue, [number])  # that host has not listened
    assert local_queue.jobs(queue) == []


def test_a_worker_ends_what_another_host_has_cancelled(queue, add, events):
    add("a", "say('ready'); time.sleep(60)")
    start(queue)
    until(lambda: ["a", "ready"] in events())
    [(path, entry)] = local_queue.entries(queue)
    change(path, entry, cancelled=Cancellation("login1", time.time()))
    ended(queue)
    assert ["a", "end"] not in events()


# --- tasks that cannot be started ------------------------------------------------------------------------------------


def test_a_task_that_cannot_be_started_stops_no_other(queue, add, events, tmp_path, capfd):
    changes = {
        "directory": {"directory": str(tmp_path / "gone")},
        "command": {"command": [str(tmp_path / "gone" / "python")]},
        "log": {"log": str(tmp_path / "events.jsonl" / "log")},
    }
    files.write_text(tmp_path / "events.jsonl", "")
    for name, one in changes.items():
        add(name)
        path, entry = local_queue.entries(queue)[-1]
        change(path, entry, **one)
    add("b")
    local_worker.work(queue, 0, "")
    assert events() == [["b", "begin"], ["b", "end"]] and local_queue.jobs(queue) == []
    said = capfd.readouterr().out
    assert said.count("could not be started: [Errno") == 3 and said.count("exit code 0") == 1
    for name in ("directory", "command"):
        assert "could not be started: [Errno 2]" in (tmp_path / "logs" / f"{name}.log").read_text()


def test_a_queue_without_a_worker_says_so(queue, add, tmp_path):
    add("a")
    assert local_queue.jobs(queue)[0].reason == "no worker runs; make submit goes on"
    with lock(tmp_path / "tmp" / f"peftable-{os.getuid()}" / "slot-cpu-0.lock"):  # by another queue
        start(queue)
        until(lambda: local_queue.jobs(queue)[0].reason == "", "a worker that waits")
    ended(queue)
