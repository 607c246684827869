"""The state of a run: every state, from its folder and from what the schedulers say."""

import dataclasses
import os
import socket

import pytest

from common.cluster import run_index, scheduler_answers, slurm_commands, status, submit_record
from common.cluster.slurm_commands import ActiveJob, EndedJob
from common.core import files
from common.core.errors import RunError
from common.core.processes import start_time
from common.core.progress import PROGRESS
from common.runs import run_folder, run_lock

NAME = "toy/lora/seed-1"


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "outputs"


@pytest.fixture
def run(outputs):
    """Write a run folder: `run(submit={…}, owner={…}, failure={…}, progress={…}, trained, finished, log)`."""

    def make(name=NAME, submit=None, owner=None, failure=None, progress=None, trained=False, finished=False, log=""):
        folder = outputs / name
        files.write_text(folder / run_folder.CONFIG, "schema: 1\n")
        if submit is not None:
            document = {"number": 1, "name": submit_record.job_name(folder), "token": "t", "cluster": "testbed"}
            document |= {"executor": "slurm", "command": []}
            document |= {"state": "submitted", "job_id": "17", "error": None, "time": "2026-11-21T03:00:00Z"}
            files.write_json(folder / submit_record.SUBMIT, document | submit)
        if owner is not None:
            mine = {"host": socket.gethostname(), "pid": os.getpid(), "attempt": 2, "submission": 1, "job_id": "17"}
            mine |= {"pid_started": start_time(os.getpid()), "since": "x", "released": None}
            files.write_json(folder / run_lock.FILE, mine | owner)
        if failure is not None:
            document = {"error": "DataError: no rows", "interrupted": False, "time": "2026-11-21T04:00:00Z"}
            files.write_json(folder / run_folder.FAILURE, document | failure)
        if progress is not None:
            files.write_json(folder / PROGRESS, progress)
        for there, file in ((trained, run_folder.TRAINING), (finished, run_folder.METRICS)):
            if there:
                files.write_json(folder / file, {"schema": 1})
        if log:
            files.write_text(folder / "slurm" / "1" / "17.log", log)
        return folder

    return make


def active(outputs, **changes):
    name = submit_record.job_name(outputs / NAME)
    return dataclasses.replace(ActiveJob("17", name, "RUNNING", "n1", "1:00", "8:00:00"), **changes)


def ended(outputs, state, code="0:0"):
    return EndedJob("17", submit_record.job_name(outputs / NAME), state, code, "n1", "60")


def look(outputs, active=None, ended=None, is_silent=False):
    [entry] = run_index.find(outputs)
    return status.run_status(entry, active, ended, is_silent)


ELSEWHERE = {"host": "n7"}  # only Slurm knows whether that process runs
GONE = {"pid": 2**22 - 1}


@pytest.mark.parametrize(
    ("folder", "slurm_says", "state", "message"),
    [
        ({}, {}, "created", ""),
        ({"finished": True, "submit": {}}, {"active": {}}, "finished", ""),
        ({"submit": {}}, {"active": {"state": "PENDING", "reason": "Resources"}}, "queued", "Resources"),
        (
            {"submit": {}, "owner": ELSEWHERE},
            {"active": {"state": "PENDING", "reason": "BeginTime"}},
            "requeued",
            "BeginTime",
        ),
        ({"submit": {}}, {"active": {}}, "running", ""),
        ({"submit": {}, "owner": ELSEWHERE, "trained": True}, {"active": {}}, "scoring", ""),
        ({"submit": {"state": "intent", "job_id": None}}, {"active": {}}, "running", ""),
        ({"submit": {"state": "rejected", "error": "Invalid account"}}, {}, "refused", "Invalid account"),
        ({"submit": {"state": "rejected", "error": "timed out"}}, {"active": {}}, "running", ""),
        ({"submit": {"state": "rejected", "error": "x"}, "owner": {"submission": None}}, {}, "running", ""),
        ({"owner": {"submission": None}}, {}, "running", ""),
        ({"owner": {"submission": None}, "trained": True}, {}, "scoring", ""),
        ({"owner": {"submission": None} | GONE}, {}, "ended", "its process has ended without a word, as after a kill."),
        (
            {
                "owner": {"submission": None} | GONE,
                "progress": {"what": "train", "done": 3, "total": 9, "unit": "step"},
            },
            {},
            "ended",
            "its process has ended without a word at step 3 of 9 (train), as after a kill.",
        ),
        (
            {"owner": {"submission": None, "since": "2026-11-21T03:00:00Z"} | ELSEWHERE},
            {},
            "running?",
            "last seen on n7 at 2026-11-21T03:00:00Z, cannot be checked from here. Look there",
        ),
        (
            {"submit": {}},
            {"active": {"state": "PENDING", "reason": "job requeued in held state"}},
            "held",
            "job requeued in held state. To release it: scontrol release 17",
        ),
        (
            {"submit": {}, "owner": ELSEWHERE},
            {"active": {"state": "PENDING", "reason": "launch failed requeued held"}},
            "held",
            "launch failed requeued held. To release it: scontrol release 17",
        ),
        (
            {"submit": {}},
            {"active": {"state": "PENDING", "reason": "JobHeldAdmin"}},
            "held",
            "JobHeldAdmin. To release it: ask an administrator for scontrol release 17",
        ),
        (
            {
                "submit": {},
                "progress": {"what": "train", "done": 120, "total": 480, "unit": "step"},
                "log": "train: 120/480 steps, 3.2 steps/s, 1 min 52 s left, loss 0.512\n",
            },
            {"ended": ("FAILED", "0:9")},
            "failed",
            "killed by signal 9 at step 120 of 480 (train)\n  log: ",
        ),
        (
            {"submit": {}, "log": "error: interrupted; the same command continues.\n"},
            {"ended": ("FAILED", "75:0")},
            "interrupted",
            "error: interrupted; the same command continues.\n  log: ",
        ),
        ({"owner": {"submission": None}, "submit": {}}, {"ended": ("TIMEOUT",)}, "running", ""),
        ({"submit": {}, "log": "Killed\n"}, {"ended": ("OUT_OF_MEMORY", "0:125")}, "out of memory", "Killed\n  log: "),
        ({"submit": {}, "owner": ELSEWHERE}, {"ended": ("TIMEOUT",)}, "time limit", ""),
        ({"submit": {}}, {"ended": ("DEADLINE",)}, "time limit", ""),
        ({"submit": {}}, {"ended": ("CANCELLED",)}, "cancelled", ""),
        ({"submit": {"state": "cancelled"}}, {}, "cancelled", ""),
        ({"submit": {"state": "cancelled"}, "failure": {"interrupted": True}}, {}, "cancelled", "DataError: no rows"),
        ({"submit": {"state": "cancelled"}}, {"active": {}}, "running", ""),  # it saves a checkpoint
        ({"submit": {}}, {"ended": ("NODE_FAIL",)}, "node lost", ""),
        ({"submit": {}}, {"ended": ("BOOT_FAIL",)}, "node lost", ""),
        ({"submit": {}}, {"ended": ("PREEMPTED",)}, "pre-empted", ""),
        ({"submit": {}, "failure": {"interrupted": True}}, {}, "interrupted", "DataError: no rows"),
        ({"submit": {}, "failure": {}}, {"ended": ("FAILED", "3:0")}, "failed", "DataError: no rows"),
        ({"submit": {}, "failure": {}}, {}, "failed", "DataError: no rows"),
        ({"failure": {}}, {}, "failed", "DataError: no rows"),
        ({"submit": {}, "log": "no module CUDA\n"}, {"ended": ("FAILED", "1:0")}, "failed", "exit code 1:0: no module"),
        ({"submit": {}, "log": "the last\n"}, {}, "ended", "the last\n  log: "),
        ({"submit": {}}, {"ended": ("COMPLETED",)}, "ended", "without metrics, and the log gives no reason"),
        ({"submit": {}}, {"is_silent": True}, "queued?", ""),
        ({"submit": {"state": "cancelled"}}, {"is_silent": True}, "cancelled?", ""),
        ({"submit": {}, "owner": {}}, {"is_silent": True}, "running?", ""),
        ({"submit": {}, "owner": ELSEWHERE, "trained": True}, {"is_silent": True}, "scoring?", ""),
        ({"submit": {}, "finished": True}, {"is_silent": True}, "finished", ""),
    ],
)
def test_states(run, outputs, folder, slurm_says, state, message):
    run(**folder)
    job = active(outputs, **slurm_says["active"]) if "active" in slurm_says else None
    over = ended(outputs, *slurm_says["ended"]) if "ended" in slurm_says else None
    found = look(outputs, job, over, slurm_says.get("is_silent", False))
    assert (found.shown, found.name) == (state, NAME)
    assert found.message.startswith(message) and bool(found.message) == bool(message)


def test_an_old_failure_is_not_the_newest_word(run, outputs):
    run(submit={"time": "2026-11-21T05:00:00Z"}, failure={}, log="Segmentation fault\n")
    assert look(outputs, ended=ended(outputs, "FAILED", "139:0")).message.startswith(
        "exit code 139:0: Segmentation fault\n"
    )


def test_what_a_line_says(run, outputs):
    run(
        submit={},
        owner=ELSEWHERE,
        progress={"done": 30, "total": 120, "per_s": 1.5, "examples_per_s": 1.5, "loss": 0.4321},
    )
    found = look(outputs, active(outputs))
    assert found == status.Status(
        NAME, status.RunState.RUNNING, True, "17", "n1", "1:00", "8:00:00", 30, 120, 0.4321, 1.5, 60.0, attempts=2
    )
    waiting = look(outputs, active(outputs, state="PENDING", node="", reason="BeginTime"))
    assert (waiting.examples_per_s, waiting.eta_s, waiting.done, waiting.node) == (None, None, 30, "")
    over = look(outputs, ended=ended(outputs, "TIMEOUT"))
    assert (over.job_id, over.node, over.eta_s) == ("17", "n1", None)


@pytest.mark.parametrize("progress", [None, {}, {"done": 0, "total": 9, "per_s": 0.0}, {"done": 3, "total": None}])
def test_no_time_left_without_a_rate(run, outputs, progress):
    run(submit={}, progress=progress)
    assert look(outputs, active(outputs)).eta_s is None


def test_a_run_by_hand(run, outputs):
    run(owner={"submission": None}, progress={"done": 1, "total": 2, "per_s": 0.5})
    found = look(outputs)
    assert (found.node, found.eta_s, found.job_id) == (socket.gethostname(), 2.0, "")


# --- folders ---------------------------------------------------------------------------------------------------------


def test_which_folders_are_runs(run, outputs):
    for name in (NAME, "toy/lora/method.r=4/seed-1", "toy/classical/baseline-tfidf", "toy/lora/seed-2/checkpoints"):
        run(name)
    for name in ("published/toy/x", "demo/x/y", "smoke/x", ".collect", "toy/lora/seed-1.replaced-20261121T0300Z"):
        run(name)
    (outputs / "toy" / "empty").mkdir()
    (outputs / "toy" / "note.txt").write_text("x")
    assert [folder.name for folder in run_index.find(outputs)] == [
        *("toy/classical/baseline-tfidf", "toy/lora/method.r=4/seed-1", NAME, "toy/lora/seed-2/checkpoints"),
    ]
    assert run_index.find(outputs / "nothing") == []
    assert run_index.collecting(outputs) == []
    files.write_json(outputs / ".collect" / submit_record.SUBMIT, {"name": "x"})
    assert [folder.name for folder in run_index.collecting(outputs)] == [".collect"]


def test_files_that_cannot_be_read_are_named(run, outputs):
    folder = run(submit={}, owner={}, failure={})
    for name in (submit_record.SUBMIT, run_lock.FILE, run_folder.FAILURE):
        (folder / name).write_text("{cut")
    found = look(outputs)
    assert found.state == "damaged" and "failure.json, submit.json, owner.json" in found.message


def test_named(run, outputs):
    for name in (NAME, "toy/full/seed-1", "other/full/seed-1"):
        run(name)
    assert run_index.named(outputs, None, None) == run_index.find(outputs)
    assert [one.name for one in run_index.named(outputs, "full", None)] == ["other/full/seed-1", "toy/full/seed-1"]
    assert [one.name for one in run_index.named(outputs, "full", "toy")] == ["toy/full/seed-1"]
    assert run_index.named(outputs / "nothing", "full", None) == []
    there = "There are: other/full, toy/full, toy/lora."
    for model, dataset, said in (
        ("ful", None, f"no run of ful here. Did you mean 'full'? {there}"),
        (None, "toys", f"no run of toys here. Did you mean 'toy'? {there}"),
        ("lora", "other", f"no run of lora on other here. {there}"),
    ):
        with pytest.raises(RunError) as raised:
            run_index.named(outputs, model, dataset)
        assert str(raised.value) == said


# --- asking ----------------------------------------------------------------------------------------------------------


def answer(outputs):
    folders = run_index.find(outputs)
    answers = scheduler_answers.ask_schedulers(folders, outputs)
    return {one.name: one for one in status.run_statuses(folders, answers)}, answers


def put(fake_slurm, outputs, name=NAME, number="17", **changes):
    """Have the fake Slurm run a job of that run."""
    job = {"id": number, "name": submit_record.job_name(outputs / name), "state": "RUNNING", "node": "n1"}
    job |= {"elapsed": "1:00", "limit": "8:00:00", "reason": "None", "comment": "t"} | changes
    with fake_slurm.state() as known:
        known["jobs"].append(job)


def test_nothing_to_ask(run, outputs, fake_slurm):
    run(submit={}, finished=True)
    run("toy/lora/seed-2")
    found, answers = answer(outputs)
    assert {one.state for one in found.values()} == {"finished", "created"}
    assert fake_slurm.calls() == [] and answers.notes == ()


def test_two_questions_whatever_the_number_of_runs(run, outputs, fake_slurm):
    for seed in range(40):
        run(f"toy/lora/seed-{seed}", submit={"job_id": str(seed)}, owner=ELSEWHERE if seed % 2 else GONE)
    put(fake_slurm, outputs, "toy/lora/seed-7", "7")
    found, _ = answer(outputs)
    assert [call["name"] for call in fake_slurm.calls()] == ["squeue", "sacct"]
    assert found["toy/lora/seed-7"].state == "running" and len(found) == 40


def test_accounting_is_asked_since_the_first_submission(run, outputs, fake_slurm):
    run("toy/lora/seed-1", submit={"time": "2026-11-20T01:00:00Z"})
    run("toy/lora/seed-2", submit={"time": "2026-11-19T02:00:00Z"})
    answer(outputs)
    assert "--starttime=2026-11-19T02:00:00" in fake_slurm.calls("sacct")[0]["words"]


def test_a_job_that_is_over(run, outputs, fake_slurm):
    run(submit={}, log="Killed\n")
    put(fake_slurm, outputs)
    fake_slurm.end("", "OUT_OF_MEMORY", "0:125")
    found, _ = answer(outputs)
    assert found[NAME].state == "out of memory" and found[NAME].message.startswith("Killed")


def test_the_log_of_an_earlier_submission_says_nothing_of_this_one(run, outputs, fake_slurm):
    run(submit={"number": 2, "state": "cancelled"}, log="all is well\n")
    found, _ = answer(outputs)
    assert (found[NAME].state, found[NAME].message) == ("cancelled", "")


def test_an_id_that_was_given_out_again(run, outputs, fake_slurm):
    run(submit={}, log="the last\n")
    put(fake_slurm, outputs, "another")
    assert answer(outputs)[0][NAME].state == "ended"
    fake_slurm.end("", "OUT_OF_MEMORY")
    assert answer(outputs)[0][NAME].state == "ended"


def test_an_id_that_was_given_out_again_and_whose_name_is_not_known_yet(run, outputs, fake_slurm):
    """Accounting calls a job "allocation" for some seconds: it is the one's that was given the id last."""
    run(submit={})
    run("toy/lora/seed-2", submit={"time": "2026-11-21T03:00:09Z"})
    put(fake_slurm, outputs, "toy/lora/seed-2")
    fake_slurm.end("", "CANCELLED")
    with fake_slurm.state() as known:
        known["past"][0]["name"] = "allocation"
    found, _ = answer(outputs)
    assert [found[f"toy/lora/seed-{number}"].state for number in (1, 2)] == ["ended", "cancelled"]


def test_a_run_that_ends_between_the_two_looks(run, outputs, fake_slurm, monkeypatch):
    folder = run(submit={}, owner=ELSEWHERE)
    real = slurm_commands.queue

    def queue():
        files.write_json(folder / run_folder.METRICS, {"schema": 1})
        return real()

    monkeypatch.setattr(slurm_commands, "queue", queue)
    assert answer(outputs)[0][NAME].state == "finished"


def test_without_accounting(run, outputs, fake_slurm):
    run(submit={}, failure={})
    run("toy/lora/seed-2", submit={"job_id": "18"})
    fake_slurm.set(accounting=False)
    found, answers = answer(outputs)
    assert [one.state for one in found.values()] == ["failed", "ended"]
    assert answers.notes == (
        "accounting does not answer, so reasons may be missing. sacct: error: Slurm accounting storage is disabled",
    )
    assert answers.silent == frozenset()


def test_slurm_is_down(run, outputs, fake_slurm):
    run(submit={}, owner=ELSEWHERE)
    run("toy/lora/seed-2", submit={"executor": "local"})
    run("toy/lora/seed-3", finished=True)
    fake_slurm.set(down=True)
    found, answers = answer(outputs)
    assert [one.shown for one in found.values()] == ["running?", "ended", "finished"]
    assert len(answers.notes) == 1 and "Unable to contact slurm controller" in answers.notes[0]
    assert fake_slurm.calls("sacct") == []


def test_the_queue_of_this_machine(run, outputs, no_slurm):
    from common.cluster import local_queue

    folder = run(submit={"executor": "local", "job_id": "local-1"})
    task = {"name": submit_record.job_name(folder), "command": [], "directory": "", "log": "", "environment": {}}
    local_queue.add(outputs / ".queue", **task)
    found, answers = answer(outputs)
    assert (found[NAME].state, found[NAME].job_id, answers.notes) == ("queued", "local-1", ())
