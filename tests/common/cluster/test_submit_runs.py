"""Every run is submitted once, whatever happened before: the decision table, kills, and two submissions at once."""

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys

import pytest
from waiting import HANG_S, until

from common.cluster import batch_script, profiles, selection, submit_record, submit_runs
from common.cluster.scheduler import Cluster, SlurmScheduler
from common.cluster.selection import RunSpec
from common.cluster.submit_record import SubmissionState
from common.config import catalog
from common.core import files
from common.core.errors import ConfigError, DataError, SlurmError
from common.core.processes import start_time
from common.runs import code_snapshot, run_folder, run_lock
from common.runs.run_config import RunConfig, job_of

ROOT = catalog.ROOT


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "outputs"


@pytest.fixture
def wanted(outputs):
    """`wanted(2)`: the run with that seed on the embedded corpus, of a hash that no test has to read."""

    def make(seed=1, **overrides):
        job, variant = catalog.load_job("minilm-lora", overrides)
        dataset = catalog.load_dataset("stance-sample")

        def configure(sha256):
            return RunConfig("minilm-lora", "stance-sample", variant, seed, job, dataset, sha256)

        folder = outputs / "stance-sample" / "minilm-lora" / f"seed-{seed}"
        words = f"make train SEED={seed}", "make fetch"
        return RunSpec(folder, "train", job, "stance-sample", dataset, None, *words, configure)

    return make


@pytest.fixture(autouse=True)
def no_rows(monkeypatch):
    """The hash of the rows without the rows."""
    monkeypatch.setattr(selection.Fingerprints, "of", lambda self, wanted: "d" * 64)


@pytest.fixture
def submit(fake_slurm, outputs):
    """Submit to the fake cluster: `submit(members)` → {run: outcome}, the report's job left out."""

    def run(*members, collect=False, **options):
        cluster = Cluster("testbed", profiles.load("testbed"), SlurmScheduler())
        how = submit_runs.Options(**{"of_all_jobs": True} | options)
        found = submit_runs.submit_runs(members, [], outputs, cluster, how)
        return {one.name.rpartition("/")[2]: one for one in found if collect or one.name != "collect"}

    return run


def actions(found):
    return {name: one.action for name, one in found.items()}


def own(folder, **changes):
    """Write an owner.json as a run of ours leaves it."""
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "pid_started": start_time(os.getpid())}
    owner |= {"schema": 1, "attempt": 1, "submission": None, "job_id": None, "since": "x", "released": None}
    files.write_json(folder / run_lock.FILE, owner | changes)


def finish(folder):
    (folder / run_folder.METRICS).write_text('{"schema": 1}')


def copies(outputs):
    return list((outputs / code_snapshot.FOLDER).glob("[!.]*"))


# --- the code of a job ------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A small repository in place of ours, whose code a test may edit; returns its training script."""
    script = tmp_path / "repository" / "scripts" / "train.py"
    script.parent.mkdir(parents=True)
    script.write_text("print('as submitted')\n")
    (tmp_path / "repository" / "jobs").mkdir()
    (tmp_path / "repository" / "jobs" / "_defaults.yaml").write_text("")
    monkeypatch.setattr(code_snapshot, "CODE", tmp_path / "repository")
    return script


def run_batch(call):
    """Run a batch file as Slurm would, and return what its job prints."""
    return subprocess.run(["bash", "-c", call["text"]], capture_output=True, text=True, check=True).stdout


def test_an_edit_does_not_reach_a_job_that_is_queued(submit, wanted, fake_slurm, repository):
    submit(wanted(1))
    repository.write_text("print('edited')\n")
    submit(wanted(1), wanted(2))
    first, second = [call for call in fake_slurm.calls("sbatch") if "train.py" in call["text"]]
    assert (run_batch(first), run_batch(second)) == ("as submitted\n", "edited\n")


def test_code_is_kept_while_a_run_that_is_not_finished_needs_it(submit, wanted, fake_slurm, outputs, repository):
    submit(wanted(1), wanted(2))
    (old,) = copies(outputs)
    repository.write_text("print('edited')\n")
    fake_slurm.end("")
    finish(wanted(1).folder)
    submit(wanted(1))  # the second run, which has failed, is resumed by nobody yet
    assert old in copies(outputs)
    submit(wanted(2))  # resumes it, with the code of today
    fake_slurm.run("seed-2")
    submit()
    assert [old in copies(outputs), len(copies(outputs))] == [False, 1]


def test_code_is_kept_while_a_job_may_still_run_it(submit, wanted, fake_slurm, outputs, repository):
    submit(wanted(1))
    (old,) = copies(outputs)
    repository.write_text("print('edited')\n")
    finish(wanted(1).folder)  # its job is about to end, and may import something more
    submit(wanted(2))
    assert old in copies(outputs)
    fake_slurm.end("")
    submit(wanted(2))
    assert old not in copies(outputs)


# --- the decision table ----------------------------------------------------------------------------------------------


def test_a_new_run(submit, wanted, fake_slurm, outputs):
    one = wanted()
    found = submit(one)["seed-1"]
    assert (found.name, found.action, found.job_id) == ("stance-sample/minilm-lora/seed-1", "submitted", "101")
    assert run_folder.load_run_config(one.folder).seed == 1
    record = files.read_json(one.folder / submit_record.SUBMIT)
    assert record | {"token": 0, "time": 0} == {
        "schema": 1,
        "number": 1,
        "name": submit_record.job_name(one.folder),
        "token": 0,
        "cluster": "testbed",
        "executor": "slurm",
        "state": "submitted",
        "job_id": "101",
        "error": None,
        "command": [sys.executable, "-u", str(copies(outputs)[0] / "scripts" / "train.py"), "--run", str(one.folder)],
        "time": 0,
    }
    call = fake_slurm.calls("sbatch")[0]
    assert f"--comment={record['token']}" in call["text"]
    assert f"export PEFTABLE_SUBMISSION={one.folder}/slurm/1" in call["text"]
    assert (one.folder / "slurm" / "1" / "101_submission.sh").read_text() == call["text"]


def test_what_is_queued_or_runs_is_left_alone(submit, wanted, fake_slurm):
    members = wanted(1), wanted(2)
    submit(*members)
    fake_slurm.run("seed-2")
    before = {path: path.read_bytes() for one in members for path in one.folder.rglob("*") if path.is_file()}
    found = submit(*members)
    assert actions(found) == {"seed-1": "queued", "seed-2": "running"}
    assert (found["seed-1"].job_id, found["seed-1"].detail) == ("101", "Priority")
    assert before == {path: path.read_bytes() for one in members for path in one.folder.rglob("*") if path.is_file()}


def test_a_finished_run(submit, wanted, fake_slurm):
    submit(wanted())
    fake_slurm.end("")
    finish(wanted().folder)
    assert actions(submit(wanted(), collect=True)) == {"seed-1": "finished"}
    assert len(fake_slurm.calls("sbatch")) == 2  # the run, and the report


def test_an_ended_run_is_resumed_with_the_next_number(submit, wanted, fake_slurm):
    one = wanted()
    submit(one)
    own(one.folder, submission=1, host="n7", job_id="101")  # its node died: nothing was given back
    fake_slurm.end("", "NODE_FAIL")
    assert actions(submit(one)) == {"seed-1": "resumed"}
    assert submit_record.read(one.folder).number == 2
    assert "PEFTABLE_SUBMISSION=" + str(one.folder / "slurm" / "2") in fake_slurm.calls("sbatch")[-2]["text"]


def test_a_run_by_hand_that_was_stopped_is_resumed(submit, wanted):
    one = wanted()
    run_folder.create_run(one.folder, one.configure("d" * 64), "make train")
    own(one.folder, released="x")
    assert actions(submit(one)) == {"seed-1": "resumed"}


@pytest.mark.parametrize("host", [None, "elsewhere"])
def test_a_run_by_hand_is_left_alone(submit, wanted, fake_slurm, host):
    one = wanted()
    run_folder.create_run(one.folder, one.configure("d" * 64), "make train")
    own(one.folder, **({"host": host} if host else {}))
    found = submit(one)["seed-1"]
    assert (
        found.action == "running"
        and "not as a job" in found.detail
        and f"process {os.getpid()} on {host or socket.gethostname()}" in found.detail
    )
    assert fake_slurm.calls("sbatch") == []


def test_a_changed_run(submit, wanted, fake_slurm):
    one = wanted()
    submit(one)
    fake_slurm.end("")
    finish(one.folder)
    found = submit(wanted(**{"training.epochs": 2}))["seed-1"]
    assert found.action == "changed" and found.is_failure
    assert found.detail == "FORCE=1 starts over\n  training.epochs: 8.0 → 2.0"
    assert len(fake_slurm.calls("sbatch")) == 2
    assert actions(submit(wanted(**{"training.epochs": 2}), force=True)) == {"seed-1": "submitted"}
    [aside] = one.folder.parent.glob("seed-1.replaced-*")
    assert (aside / run_folder.METRICS).exists() and not (one.folder / run_folder.METRICS).exists()
    assert (
        submit_record.read(one.folder).number == 1
        and job_of(run_folder.load_run_config(one.folder)).training.epochs == 2
    )


def test_force_with_all_jobs_starts_over_what_has_changed(submit, wanted, fake_slurm):
    submit(wanted(1), wanted(2))
    fake_slurm.set(jobs=[])
    for seed in (1, 2):
        (wanted(seed).folder / run_folder.METRICS).write_text('{"schema": 1}')
    assert actions(submit(wanted(1), wanted(2), force=True)) == {"seed-1": "finished", "seed-2": "finished"}
    found = submit(wanted(1), wanted(2, **{"training.epochs": 2}), force=True)
    assert actions(found) == {"seed-1": "finished", "seed-2": "submitted"}


def test_a_job_that_is_just_ending(submit, wanted, fake_slurm):
    submit(wanted())
    fake_slurm.set(jobs=[job | {"state": "COMPLETING"} for job in fake_slurm.jobs])
    [found] = submit(wanted()).values()
    assert found.action == "ending" and found.is_failure and "again" in found.detail


def test_a_lost_record_counts_on(submit, wanted, fake_slurm):
    submit(wanted())
    fake_slurm.set(jobs=[])
    (wanted().folder / submit_record.SUBMIT).unlink()  # as by a sync that leaves it out
    submit(wanted())
    assert submit_record.read(wanted().folder).number == 2


def test_an_active_run_is_not_started_over(submit, wanted):
    submit(wanted())
    for members, options in ((wanted(), {"force": True, "of_all_jobs": False}), (wanted(**{"training.epochs": 2}), {})):
        found = submit(members, **options)["seed-1"]
        assert found.action == "refused" and found.job_id == "101"
        assert found.detail.startswith("it is queued; make cancel first")
    assert "training.epochs: 8.0 → 2.0" in found.detail


def test_refused_and_then_taken(submit, wanted, fake_slurm):
    fake_slurm.set(refuse="Invalid account")
    found = submit(wanted(), collect=True)
    assert actions(found) == {"seed-1": "refused"} and found["seed-1"].detail.endswith("Invalid account")
    record = submit_record.read(wanted().folder)
    assert record.state is SubmissionState.REJECTED and record.error.endswith("Invalid account")
    assert record.job_id is None
    fake_slurm.set(refuse=None)
    assert actions(submit(wanted())) == {"seed-1": "submitted"}
    record = submit_record.read(wanted().folder)
    assert (record.number, record.state, record.error) == (2, SubmissionState.SUBMITTED, None)


@pytest.mark.parametrize("state", [SubmissionState.INTENT, SubmissionState.REJECTED])
def test_a_job_whose_id_was_not_recorded_is_reconciled(submit, wanted, fake_slurm, state):
    # Killed between sbatch and the record; or sbatch gave up waiting for a controller that had heard it.
    submit(wanted())
    record = submit_record.read(wanted().folder)
    dataclasses.replace(record, state=state, job_id=None, error="timed out").write(wanted().folder)
    assert actions(submit(wanted())) == {"seed-1": "queued"}
    assert submit_record.read(wanted().folder) == record


def test_a_job_of_another_submission_is_not_reconciled(submit, wanted, fake_slurm):
    submit(wanted())
    record = submit_record.read(wanted().folder)
    record = dataclasses.replace(record, state=SubmissionState.INTENT, job_id=None, token="peftable-other")
    record.write(wanted().folder)
    assert actions(submit(wanted())) == {"seed-1": "queued"}
    assert submit_record.read(wanted().folder) == record


def test_an_intent_without_a_job_is_submitted_again(submit, wanted, fake_slurm):
    submit(wanted())
    record = submit_record.read(wanted().folder)
    fake_slurm.set(jobs=[])
    dataclasses.replace(record, state=SubmissionState.INTENT, job_id=None).write(wanted().folder)
    assert actions(submit(wanted())) == {"seed-1": "submitted"}
    assert submit_record.read(wanted().folder).number == 2


def test_what_is_asked_for(submit, wanted, fake_slurm):
    submit(wanted(**{"resources.time": 30, "resources.cpus": 3}), resources={"time": "02:00:00"})
    text = fake_slurm.calls("sbatch")[0]["text"]
    assert "#SBATCH --time=120" in text and "#SBATCH --cpus-per-task=3" in text and "#SBATCH --gres=gpu:1" in text


def test_a_card_without_bfloat16_is_refused(submit, wanted, fake_slurm):
    found = submit(wanted(precision="bfloat16"), resources={"gpu_type": "t4"})["seed-1"]
    assert found.action == "refused" and "gpu_type t4 has no bfloat16" in found.detail
    assert not fake_slurm.calls("sbatch")


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_without_an_answer_nothing_happens(submit, wanted, fake_slurm, outputs):
    fake_slurm.set(down=True)
    with pytest.raises(SlurmError):
        submit(wanted())
    assert [path for path in outputs.rglob("*") if path.is_file()] == [outputs / ".submit.lock"]
    assert fake_slurm.calls("sbatch") == []


def test_one_broken_run_keeps_no_other_back(submit, wanted, fake_slurm):
    (wanted(1).folder / "slurm").mkdir(parents=True)
    (wanted(1).folder / run_folder.CONFIG).write_text("schema: 1\n")
    own(wanted(2).folder, host="n7", submission=1)
    run_folder.create_run(wanted(2).folder, wanted(2).configure("d" * 64), "make train")
    found = submit(wanted(1), wanted(3))
    assert actions(found) == {"seed-1": "refused", "seed-3": "submitted"}
    assert "not the config of a run" in found["seed-1"].detail
    # It may still write there: its folder is not moved away.
    found = submit(wanted(2), wanted(4), force=True, of_all_jobs=False)
    assert actions(found) == {"seed-2": "refused", "seed-4": "submitted"}


def test_what_is_missing_is_left_out(submit, wanted, monkeypatch):
    def of(self, one):
        if one.folder.name == "seed-1":
            raise DataError("there is no train.csv")
        return "d" * 64

    monkeypatch.setattr(selection.Fingerprints, "of", of)
    with pytest.raises(DataError):
        submit(wanted(1), wanted(2), of_all_jobs=False)
    found = submit(wanted(1), wanted(2))
    assert actions(found) == {"seed-1": "left out", "seed-2": "submitted"}
    assert found["seed-1"].detail == "there is no train.csv" and not found["seed-1"].is_failure
    assert not wanted(1).folder.exists()


def test_an_outputs_folder_that_no_job_can_log_to(fake_slurm, wanted, tmp_path):
    cluster = Cluster("testbed", profiles.load("testbed"), SlurmScheduler())
    with pytest.raises(ConfigError, match="choose another OUTPUTS="):
        submit_runs.submit_runs([wanted()], [], tmp_path / "50%all", cluster, submit_runs.Options())
    assert not (tmp_path / "50%all").exists() and fake_slurm.calls() == []


def test_no_secret_is_written_or_sent(submit, wanted, fake_slurm, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    submit(wanted())
    assert "hf_secret" not in json.dumps(fake_slurm.calls())
    for file in wanted().folder.rglob("*"):
        assert not file.is_file() or "hf_secret" not in file.read_text()


def test_one_look_at_the_queue_for_all(submit, wanted, fake_slurm):
    members = [wanted(seed) for seed in range(10)]
    submit(*members[:2])
    fake_slurm.end("")
    for one in members[:2]:
        own(one.folder, submission=1, host="n7", job_id="101")
    fake_slurm.forget_calls()
    scheduler = _Counting()
    cluster = Cluster("testbed", profiles.load("testbed"), scheduler)
    how = submit_runs.Options(of_all_jobs=True)
    found = submit_runs.submit_runs(members, [], wanted().folder.parents[2], cluster, how)
    assert len(found) == 11 and scheduler.taken == 11
    assert [call["name"] for call in fake_slurm.calls()] == ["squeue"]


class _Counting(SlurmScheduler):
    taken = 0

    def submit(self, task, profile):
        assert batch_script.batch_text(task, profile)
        self.taken += 1
        return str(1000 + self.taken)


# --- the report's job ------------------------------------------------------------------------------------------------


def after(fake_slurm):
    """Ids that the newest report's job waits for."""
    [job] = [job for job in fake_slurm.jobs if ".collect" in job["name"]]
    dependency = job["options"]["dependency"]
    assert dependency.startswith("afterany:") and dependency.endswith(",singleton")
    return set(dependency.removesuffix(",singleton").split(":")[1:])


def expected(outputs):
    return [name.rpartition("/")[2] for name in files.read_json(outputs / ".collect" / "expected.json")["runs"]]


def test_the_report_comes_after_all_runs(submit, wanted, fake_slurm, outputs):
    found = submit(wanted(1), wanted(2), collect=True)
    assert (found["collect"].action, found["collect"].job_id) == ("submitted", "103")
    assert after(fake_slurm) == {"101", "102"} and expected(outputs) == ["seed-1", "seed-2"]
    text = fake_slurm.calls("sbatch")[-1]["text"]
    assert "--gres" not in text and "scripts/collect.py" in text and "--here" in text
    assert f"--outputs {outputs} --expect {outputs}/.collect/expected.json" in text


def test_the_report_is_left_alone_when_nothing_is_new(submit, wanted, fake_slurm):
    submit(wanted(1), wanted(2))
    found = submit(wanted(1), wanted(2), collect=True)
    assert found["collect"].action == "queued" and found["collect"].job_id == "103"
    assert submit(wanted(1), collect=True)["collect"].action == "queued"
    assert fake_slurm.calls("scancel") == [] and len(fake_slurm.calls("sbatch")) == 3


def test_the_report_waits_for_what_came_later_and_forgets_nothing(submit, wanted, fake_slurm, outputs):
    submit(wanted(1), wanted(2))
    found = submit(wanted(3), collect=True)  # the others are not named this time
    assert found["collect"].action == "submitted"
    assert [call["words"] for call in fake_slurm.calls("scancel")] == [["103"]]
    assert after(fake_slurm) == {"101", "102", "104"} and expected(outputs) == ["seed-1", "seed-2", "seed-3"]


def test_the_report_waits_for_a_run_that_was_resumed(submit, wanted, fake_slurm):
    submit(wanted(1), wanted(2))
    fake_slurm.end("seed-1", "FAILED")
    submit(wanted(1), wanted(2))
    assert after(fake_slurm) == {"102", "104"}


def test_a_kill_before_the_report_was_renewed(submit, wanted, fake_slurm, outputs):
    submit(wanted(1))
    other = outputs / "kept.json"
    shutil.copy(outputs / ".collect" / "expected.json", other)
    submit(wanted(1), wanted(2))
    # As if killed after the second run's sbatch: the first report waits still.
    with fake_slurm.state() as known:
        known["jobs"][-1]["id"] = "102"
    shutil.copy(other, outputs / ".collect" / "expected.json")
    assert submit(wanted(1), wanted(2), collect=True)["collect"].action == "submitted"
    assert after(fake_slurm) == {"101", "103"}


def test_no_report_of_runs_that_somebody_named(submit, wanted, fake_slurm):
    submit(wanted(), of_all_jobs=False)
    assert len(fake_slurm.calls("sbatch")) == 1


def test_no_report_where_no_job_is_active(submit, wanted, fake_slurm):
    submit(wanted())
    fake_slurm.end("")
    finish(wanted().folder)
    assert "collect" not in submit(wanted(), collect=True)


def test_a_report_that_is_being_made_is_followed_by_another(submit, wanted, fake_slurm):
    submit(wanted(1))
    fake_slurm.end("seed-1")
    fake_slurm.run(".collect")
    assert submit(wanted(2), collect=True)["collect"].action == "submitted"
    assert fake_slurm.calls("scancel") == []


def test_a_report_that_is_refused_fails_no_run(submit, wanted, fake_slurm, monkeypatch):
    real = SlurmScheduler.submit

    def picky(self, task, profile):
        if profile.gpu_request == "none":
            raise SlurmError("no such partition")
        return real(self, task, profile)

    monkeypatch.setattr(SlurmScheduler, "submit", picky)
    found = submit(wanted(), collect=True)
    assert actions(found) == {"seed-1": "submitted", "collect": "refused"}
    assert found["collect"].detail == "no such partition" and found["collect"].is_failure


# --- processes -------------------------------------------------------------------------------------------------------

SUBMIT = """
import sys
from pathlib import Path
from common.cluster import profiles, selection, submit_runs
from common.cluster.scheduler import Cluster, SlurmScheduler
from common.config import catalog
from common.runs.run_config import RunConfig
selection.Fingerprints.of = lambda self, wanted: "d" * 64
outputs = Path(sys.argv[1])
job, dataset = catalog.load_job("minilm-lora")[0], catalog.load_dataset("stance-sample")


def wanted(seed):
    def configure(sha256):
        return RunConfig("minilm-lora", "stance-sample", "", seed, job, dataset, sha256)

    folder = outputs / "stance-sample" / "minilm-lora" / f"seed-{seed}"
    words = "make train", "make fetch"
    return selection.RunSpec(folder, "train", job, "stance-sample", dataset, None, *words, configure)


cluster = Cluster("testbed", profiles.load("testbed"), SlurmScheduler())
how = submit_runs.Options(of_all_jobs=True)
for one in submit_runs.submit_runs([wanted(seed) for seed in (1, 2)], [], outputs, cluster, how):
    print(one.name.rpartition("/")[2], one.action)
"""


def start(outputs):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    return subprocess.Popen(
        [sys.executable, "-c", SUBMIT, str(outputs)], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_two_submissions_at_the_same_moment(fake_slurm, outputs):
    fake_slurm.set(slow={"sbatch": 0.3})
    said = sorted(process.communicate(timeout=HANG_S)[0] for process in (start(outputs), start(outputs)))
    assert said == [
        "seed-1 queued\nseed-2 queued\ncollect queued\n",
        "seed-1 submitted\nseed-2 submitted\ncollect submitted\n",
    ]
    names = [job["name"] for job in fake_slurm.jobs]
    assert len(names) == len(set(names)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "number", "said"),
    [
        ("before", 2, "seed-1 submitted\nseed-2 submitted\ncollect submitted\n"),
        ("after", 1, "seed-1 queued\nseed-2 submitted\ncollect submitted\n"),
    ],
)
def test_killed_around_sbatch(fake_slurm, outputs, wanted, moment, number, said):
    fake_slurm.set(kill=moment)
    process = start(outputs)
    process.communicate(timeout=HANG_S)
    assert process.returncode == -9
    record = submit_record.read(wanted().folder)
    assert (record.state, record.job_id, record.number) == (SubmissionState.INTENT, None, 1)
    if moment == "after":
        until(lambda: fake_slurm.jobs, "the job of the killed sbatch")
    fake_slurm.set(kill=None)
    assert start(outputs).communicate(timeout=HANG_S)[0] == said
    assert len(fake_slurm.jobs) == 3
    record = submit_record.read(wanted().folder)
    [job] = [job for job in fake_slurm.jobs if "seed-1" in job["name"]]
    assert (record.state, record.job_id, record.number) == (SubmissionState.SUBMITTED, job["id"], number)
