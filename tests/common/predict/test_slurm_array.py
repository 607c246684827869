"""A prediction as an array of a fake Slurm: what is submitted, and what is left alone."""

import dataclasses

import pytest
from toy_runs import run_config
from toy_scores import Score, table

from common.cluster import profiles, run_index, scheduler_answers, status, submit_record
from common.cluster.scheduler import Cluster, SlurmScheduler
from common.cluster.submit_record import SubmissionState
from common.core import files
from common.core.errors import ConfigError, RunError, SlurmError
from common.data.table_writer import write_table
from common.predict import shards, slurm_array
from common.predict.create_plan import create_plan
from common.predict.merge import merge_parts


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "outputs"


@pytest.fixture
def plan(tmp_path):
    """Seven shards of two rows each, a part a row."""
    (tmp_path / "model").mkdir()
    files.write_json(tmp_path / "model" / "peftable.json", {"model_commit": None})
    write_table(tmp_path / "rows.csv", table(14))
    model = tmp_path / "model"
    return create_plan(tmp_path / "all.csv", [tmp_path / "rows.csv"], run_config(), model, False, 7, part_rows=1)


@pytest.fixture
def submit(fake_slurm, outputs, plan):
    """`submit(array_limit=3)` submits the plan to the fake cluster."""

    def run(given=None, **changes):
        profile = profiles.load("testbed").model_copy(update=changes)
        return slurm_array.submit(plan, outputs, Cluster("testbed", profile, SlurmScheduler()), given or {})

    return run


@pytest.fixture
def seen(outputs):
    """What `make status` knows of the array and of its merge."""

    def look():
        folders = run_index.predictions(outputs)
        return status.run_statuses(folders, scheduler_answers.ask_schedulers(folders, outputs))

    return look


def texts(fake_slurm):
    """The batch texts that were submitted."""
    return [call["text"] for call in fake_slurm.calls("sbatch")]


def begin(fake_slurm, number, **states_of_tasks):
    """Have squeue list an array by its tasks: `begin(fake_slurm, "101", t0="RUNNING", t1="PENDING")`."""
    with fake_slurm.state() as known:
        [job] = [job for job in known["jobs"] if job["id"] == number]
        known["jobs"].remove(job)
        for task, state in states_of_tasks.items():
            known["jobs"].append(job | {"id": f"{number}_{task[1:]}", "state": state, "reason": "None"})


def end(fake_slurm, number, task, state, code="0:0"):
    """End a task of an array."""
    with fake_slurm.state() as known:
        [job] = [job for job in known["jobs"] if job["id"] == f"{number}_{task}"]
        known["jobs"].remove(job)
        past = {key: job[key] for key in ("id", "name")} | {"node": "n1", "elapsed": "60"}
        known["past"].append(past | {"state": state, "code": code})


def test_an_array_and_its_merge(submit, fake_slurm, plan, outputs):
    said = submit(array_limit=3)
    assert "0 of 7 shards are finished; submitted 7 shards in 3 tasks as job 101, then the merge as job 102." in said
    array, merge = texts(fake_slurm)
    assert "#SBATCH --array=0-2%3" in array and "#SBATCH --gres=gpu:1" in array
    assert f'predict.py --plan {plan.folder} --shard 0-6 --worker "$SLURM_ARRAY_TASK_ID" 3' in array
    assert "#SBATCH --dependency=afterany:101,singleton" in merge and "--gres" not in merge
    assert f"predict.py --plan {plan.folder} --merge" in merge and "#SBATCH --array" not in merge
    assert (submit_record.read(plan.folder).job_id, submit_record.read(plan.folder / "merge").job_id) == (
        "101",
        "102",
    )
    assert [folder.path for folder in run_index.predictions(outputs)] == [plan.folder, plan.folder / "merge"]


def test_no_more_tasks_than_shards(submit, fake_slurm):
    assert "7 shards in 7 tasks" in submit(array_limit=16)
    assert "#SBATCH --array=0-6%16" in texts(fake_slurm)[0]


def test_what_a_job_and_a_person_ask_for(submit, fake_slurm):
    submit({"time": 30, "gpu_type": "a100"})
    array, merge = texts(fake_slurm)
    assert "#SBATCH --time=30" in array and "#SBATCH --gres=gpu:a100:1" in array
    assert "#SBATCH --time=10" in merge and "gpu" not in merge


def test_typed_again_while_it_lives(submit, fake_slurm):
    submit(array_limit=2)
    assert "job 101 is queued" in submit()
    begin(fake_slurm, "101", t0="RUNNING", t1="PENDING")
    assert "job 101 is running" in submit()
    fake_slurm.set(jobs=[job for job in fake_slurm.jobs if job["id"] == "102"])
    assert "job 102 is queued" in submit()
    assert len(texts(fake_slurm)) == 2


def test_typed_again_while_it_ends(submit, fake_slurm, plan):
    submit(array_limit=2)
    begin(fake_slurm, "101", t0="COMPLETING")
    fake_slurm.set(jobs=[job for job in fake_slurm.jobs if job["id"] != "102"])
    submit_record.record_cancelled(plan.folder, "101")
    with pytest.raises(RunError, match="job 101 is ending"):
        submit()
    assert len(texts(fake_slurm)) == 2


def test_only_what_is_left(submit, fake_slurm, plan):
    submit(array_limit=2)
    fake_slurm.set(jobs=[])
    for number in (0, 1, 4):
        shards.score_shard(plan, number, Score())
    with pytest.raises(KeyboardInterrupt):
        shards.score_shard(plan, 2, Score(fails_after=1))  # one part of two
    assert "3 of 7 shards are finished; submitted 4 shards in 2 tasks as job 103" in submit(array_limit=2)
    assert "--shard 2-3 5-6 --worker" in texts(fake_slurm)[2]
    assert "PEFTABLE_SUBMISSION=" + str(plan.folder / "slurm" / "2") in texts(fake_slurm)[2]


def test_only_the_merge_is_left(submit, fake_slurm, plan, seen):
    for number in range(7):
        shards.score_shard(plan, number, Score())
    assert "7 of 7 shards are finished; submitted the merge as job 101" in submit()
    [text] = texts(fake_slurm)
    assert "--merge" in text and "#SBATCH --dependency=singleton" in text
    assert [one.state for one in seen()] == ["finished", "queued"]
    merge_parts(plan)
    assert [one.state for one in seen()] == ["finished", "finished"]


def test_killed_between_array_and_merge(submit, fake_slurm, plan):
    submit(array_limit=2)
    fake_slurm.set(jobs=fake_slurm.jobs[:1])
    (plan.folder / "merge" / "submit.json").unlink()
    begun = submit_record.read(plan.folder)
    dataclasses.replace(begun, state=SubmissionState.INTENT, job_id=None).write(plan.folder)
    begin(fake_slurm, "101", t0="RUNNING", t1="PENDING")
    assert "submitted the merge after job 101 as job 103" in submit()
    assert "#SBATCH --dependency=afterany:101,singleton" in texts(fake_slurm)[-1]
    assert submit_record.read(plan.folder) == begun


def test_slurm_refuses_or_is_silent(submit, fake_slurm, plan, seen):
    fake_slurm.set(refuse="Invalid account")
    with pytest.raises(SlurmError, match="Invalid account"):
        submit()
    assert [one.state for one in seen()] == ["refused", "created"]
    fake_slurm.set(refuse=None, down=True)
    with pytest.raises(SlurmError, match="Unable to contact"):
        submit()
    assert submit_record.read(plan.folder).number == 1


def test_a_plan_that_jobs_work_on_is_not_started_over(submit, fake_slurm, plan, monkeypatch):
    slurm_array.check_not_submitted(plan.folder)
    assert fake_slurm.calls() == []
    submit(array_limit=2)
    begin(fake_slurm, "101", t0="RUNNING", t1="PENDING")
    with pytest.raises(RunError, match="running as job 101; cancel it first"):
        slurm_array.check_not_submitted(plan.folder)
    fake_slurm.set(jobs=[job for job in fake_slurm.jobs if job["id"] == "102"])
    with pytest.raises(RunError, match="queued as job 102"):
        slurm_array.check_not_submitted(plan.folder)
    fake_slurm.set(down=True)
    with pytest.raises(SlurmError, match="Unable to contact"):
        slurm_array.check_not_submitted(plan.folder)
    fake_slurm.set(down=False, jobs=[])
    slurm_array.check_not_submitted(plan.folder)
    monkeypatch.setenv("PATH", "")  # another machine
    slurm_array.check_not_submitted(plan.folder)


@pytest.mark.parametrize("commit", [None, "c" * 40])
def test_a_base_that_is_not_fetched(fake_slurm, outputs, tmp_path, commit):
    """What the saved model was trained on is looked for, as loading it does, before anything is queued."""
    write_table(tmp_path / "rows.csv", table(4))
    files.write_json(tmp_path / "model" / "peftable.json", {"model_commit": commit})
    given = tmp_path / "all.csv", [tmp_path / "rows.csv"]

    def submit(model, adapter, method="lora"):
        config = run_config(f"minilm-{method}", overrides={"model": model})
        plan = create_plan(*given, config, tmp_path / "model", adapter, 2, force=True)
        return slurm_array.submit(plan, outputs, Cluster("testbed", profiles.load("testbed"), SlurmScheduler()), {})

    mend = f"hf download nobody/base --revision {commit or 'main'}"
    with pytest.raises(ConfigError, match=f"not in this machine's cache. Where there is internet: {mend}"):
        submit("nobody/base", adapter=False)
    with pytest.raises(ConfigError, match="hf download nobody/base --revision main"):
        submit("nobody/base", adapter=True)
    files.write_json(tmp_path / "base" / "config.json", {})
    with pytest.raises(ConfigError, match="the folder lacks"):
        submit(str(tmp_path / "base"), adapter=False)
    assert fake_slurm.calls("sbatch") == []
    assert "as job 101" in submit("nobody/base", adapter=False, method="full")  # all of it lies in the run


# --- what `make status` says of it -----------------------------------------------------------------------------------


def test_from_queued_to_failed(submit, fake_slurm, plan, seen):
    submit(array_limit=3)
    array, merge = seen()
    assert (array.state, array.job_id, array.done, array.total) == ("queued", "101", 0, 14)
    assert (merge.state, merge.job_id, merge.done) == ("queued", "102", None)
    assert array.name.endswith("all.csv.shards") and merge.name.endswith("all.csv.shards/merge")

    begin(fake_slurm, "101", t0="RUNNING", t1="RUNNING", t2="PENDING")
    shards.score_shard(plan, 0, Score())
    files.write_text(plan.folder / "parts" / ".2-3.n1-17.partial.parquet", "killed while it wrote")
    array, _ = seen()
    assert (array.state, array.job_id, array.done, array.message) == ("running", "101", 2, "")

    files.write_text(plan.folder / "slurm" / "1" / "101_1.log", "loading\nKilled\n")
    end(fake_slurm, "101", 1, "OUT_OF_MEMORY", "0:125")
    array, _ = seen()
    log = plan.folder / "slurm" / "1" / "101_1.log"
    said = f"1 of the array's tasks has not ended well\n  task 1: out of memory: Killed\n  log: {log}"
    assert (array.state, array.message) == ("running", said)

    end(fake_slurm, "101", 0, "FAILED", "1:0")
    array, _ = seen()
    assert array.state == "queued" and array.message.startswith("2 of the array's tasks have not ended well")
    assert "task 0: failed, exit code 1:0" in array.message

    end(fake_slurm, "101", 2, "CANCELLED by 0")
    array, merge = seen()
    assert array.state == "failed"
    assert array.message.splitlines()[0] == "3 of the array's tasks have not ended well"
    assert "  task 2: cancelled" in array.message.splitlines()
    files.write_text(plan.folder / "merge" / "slurm" / "1" / "102.log", "error: 6 of 7\nRun them again\n")
    fake_slurm.end("merge", "FAILED", "5:0")
    _, merge = seen()
    assert merge.state == "failed" and merge.message.startswith("exit code 5:0: Run them again\n  log: ")


@pytest.mark.parametrize(
    ("ends", "state"),
    [
        (["COMPLETED", "CANCELLED by 0", "CANCELLED by 0"], "cancelled"),
        (["TIMEOUT", "NODE_FAIL", "COMPLETED"], "time limit"),
        (["NODE_FAIL", "CANCELLED by 0", "OUT_OF_MEMORY"], "out of memory"),
        (["COMPLETED", "COMPLETED", "COMPLETED"], "ended"),  # somebody has deleted parts
    ],
)
def test_the_worst_task_counts(submit, fake_slurm, seen, ends, state):
    submit(array_limit=3)
    begin(fake_slurm, "101", t0="RUNNING", t1="RUNNING", t2="RUNNING")
    for number, word in enumerate(ends):
        end(fake_slurm, "101", number, word)
    assert seen()[0].state == state


def test_many_failed_tasks_are_counted(submit, fake_slurm, plan, seen, monkeypatch):
    monkeypatch.setattr(status, "_SHOWN_TASKS", 2)
    submit()
    begin(fake_slurm, "101", **{f"t{number}": "RUNNING" for number in range(7)})
    for number in range(7):
        end(fake_slurm, "101", number, "FAILED", "1:0")
    assert seen()[0].message.splitlines()[-2:] == ["  task 1: failed, exit code 1:0", "  and 5 more"]


def test_an_array_that_never_began(submit, fake_slurm, plan, seen):
    submit()
    with fake_slurm.state() as known:
        known["jobs"].clear()
        past = {"name": submit_record.job_name(plan.folder), "node": "", "elapsed": "0", "code": "0:0"}
        known["past"].append(past | {"id": "101_[0-6%16]", "state": "CANCELLED by 0"})
    array, _ = seen()
    assert array.state == "cancelled" and "task [0-6%16]: cancelled" in array.message


def test_two_predictions_of_one_name(submit, fake_slurm, outputs, plan, tmp_path):
    """Outputs in two folders may be called the same; each has a line, and a cancel reaches both."""
    submit()
    (tmp_path / "other").mkdir()
    paths, model = [tmp_path / "rows.csv"], tmp_path / "model"
    other = create_plan(tmp_path / "other" / "all.csv", paths, run_config(), model, False, 2)
    slurm_array.submit(other, outputs, Cluster("testbed", profiles.load("testbed"), SlurmScheduler()), {})
    folders = run_index.predictions(outputs)
    assert len({folder.name for folder in folders}) == 4
    assert {job.id for job in scheduler_answers.ask_schedulers(folders, outputs).active.values()} == {
        "101",
        "102",
        "103",
        "104",
    }


def test_a_deleted_plan_is_none(submit, plan, outputs):
    submit()
    (plan.folder / "plan.json").unlink()
    assert run_index.predictions(outputs) == []


def test_logs_and_cancel(submit, fake_slurm, plan, outputs, run_script):
    submit(array_limit=3)
    for task in (10, 2, 0):
        files.write_text(plan.folder / "slurm" / "1" / f"101_{task}.log", f"task {task}\n")
    files.write_text(plan.folder / "merge" / "slurm" / "1" / "102.log", "merged\n")
    code, out, _ = run_script("logs", "--outputs", str(outputs))
    said = [line for line in out.splitlines() if line and "==>" not in line]
    assert (code, said) == (0, ["task 0", "task 2", "task 10", "merged"])
    code, out, _ = run_script("cancel", "--outputs", str(outputs))
    assert code == 0 and "cancelled 101  " in out and "cancelled 102  " in out
    assert fake_slurm.jobs == [] and fake_slurm.calls("scancel")[0]["words"] == ["101", "102"]
