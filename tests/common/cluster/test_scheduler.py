"""Which cluster is meant, and what a submission looks like from outside."""

import dataclasses
import sys
from pathlib import Path

import golden_batch
import pytest

from common.cluster import local_queue, profiles
from common.cluster.scheduler import LocalScheduler, SlurmScheduler, choose_cluster
from common.cluster.task import make_task
from common.config.catalog import CODE, ROOT
from common.core.errors import ConfigError, SlurmError


@pytest.fixture
def task(tmp_path):
    """A task whose folder is there."""
    (tmp_path / "a run" / "slurm" / "1").mkdir(parents=True)
    return golden_batch.task(tmp_path / "a run", directory=str(tmp_path))


# --- choose ----------------------------------------------------------------------------------------------------------


def test_the_cluster_that_answers(fake_slurm, tmp_path):
    cluster = choose_cluster("auto", tmp_path)
    assert cluster.name == "testbed" and cluster.profile == profiles.load("testbed")
    assert isinstance(cluster.scheduler, SlurmScheduler)


def test_a_cluster_without_a_profile(fake_slurm, tmp_path):
    fake_slurm.set(cluster="palmetto")
    with pytest.raises(ConfigError) as raised:
        choose_cluster("auto", tmp_path)
    assert "the Slurm cluster 'palmetto', and there is no slurm/palmetto.yaml" in str(raised.value)
    assert "CLUSTER=local" in str(raised.value)


def test_a_cluster_that_does_not_answer(fake_slurm, tmp_path):
    fake_slurm.set(down=True)
    with pytest.raises(SlurmError):
        choose_cluster("auto", tmp_path)


def test_commands_without_a_configuration(fake_slurm, tmp_path):
    fake_slurm.set(cluster=None)
    assert choose_cluster("auto", tmp_path).name == "local"


def test_no_slurm_is_this_machine(no_slurm, tmp_path):
    cluster = choose_cluster("auto", tmp_path)
    assert (cluster.name, cluster.profile.executor) == ("local", "local")
    assert isinstance(cluster.scheduler, LocalScheduler) and cluster.scheduler.queue == tmp_path / ".queue"


def test_a_name_is_taken_at_its_word(fake_slurm, tmp_path):
    fake_slurm.set(down=True)
    assert choose_cluster("local", tmp_path).name == "local"
    assert choose_cluster("example-gres", tmp_path).name == "example-gres"
    assert fake_slurm.calls() == []
    with pytest.raises(ConfigError, match="Did you mean 'testbed'"):
        choose_cluster("testbd", tmp_path)


# --- Slurm -----------------------------------------------------------------------------------------------------------


def test_a_submission(fake_slurm, task):
    profile = profiles.load("example-gres")
    assert SlurmScheduler().submit(task, profile) == "101"
    [call] = fake_slurm.calls("sbatch")
    assert call["text"] == golden_batch.batch_text(task, profile)
    # The batch file lies in the submission's folder, beside the log; nothing is pickled.
    assert (task.folder / "101_submission.sh").read_text() == call["text"]
    assert list(task.folder.parent.rglob("*.pkl")) == []
    [job] = SlurmScheduler().jobs().values()
    assert (job.id, job.name, job.comment) == ("101", task.name, task.token)


def test_a_refusal_is_one_message(fake_slurm, task, capfd):
    fake_slurm.set(refuse="Invalid account or account/partition combination specified")
    with pytest.raises(SlurmError, match=r"^sbatch: error: Batch job submission failed: Invalid account"):
        SlurmScheduler().submit(task, profiles.load("testbed"))
    assert capfd.readouterr() == ("", "")  # submitit would print it, too


def test_no_sbatch(no_slurm, task):
    with pytest.raises(SlurmError):
        SlurmScheduler().submit(task, profiles.load("testbed"))


def test_sbatch_sees_no_secret(fake_slurm, task, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MY_PASSWORD", "hf_secret")
    monkeypatch.setenv("MINE", "kept")
    SlurmScheduler().submit(task, profiles.load("testbed"))
    [call] = fake_slurm.calls("sbatch")
    assert "hf_secret" not in str(call) and call["environment"]["MINE"] == "kept"
    assert not any("hf_secret" in file.read_text() for file in task.folder.iterdir())


def test_an_array_is_one_job(fake_slurm, task):
    shards = dataclasses.replace(task, array=(0, 1, 2))
    assert SlurmScheduler().submit(shards, profiles.load("testbed")) == "101"
    job = fake_slurm.jobs[0]
    assert job["options"]["array"] == "0-2%16"
    fake_slurm.set(jobs=[job | {"id": "101_0"}, job | {"id": "101_1"}])
    assert SlurmScheduler().jobs()[task.name].id == "101_0"


def test_what_slurm_would_say(fake_slurm, task):
    assert "to start at" in SlurmScheduler().check(task, profiles.load("testbed"))
    assert fake_slurm.jobs == []


# --- this machine ----------------------------------------------------------------------------------------------------


def test_an_entry_of_the_queue(tmp_path, task, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    values = {"HF_HOME": "$SCRATCH/hf", "WANDB_API_KEY": "${HF_TOKEN}"}
    profile = profiles.load("local").model_copy(update={"env": values})
    scheduler = LocalScheduler(tmp_path)
    assert scheduler.submit(task, profile) == "local-1"
    [(path, entry)] = local_queue.entries(tmp_path / ".queue")
    assert entry.expanded == values  # the worker expands them
    assert entry.environment["PEFTABLE_SUBMISSION"] == str(task.folder)
    assert entry.command == list(task.command) and entry.log == str(task.folder / "local.log")
    assert "hf_secret" not in path.read_text()
    assert scheduler.jobs()[task.name].id == "local-1" and scheduler.ended(["local-1"], "") == {}
    assert scheduler.stop(["local-1"]) == []
    assert scheduler.jobs() == {}


def test_how_many_at_a_time(tmp_path, task, no_slurm):
    profile = profiles.load("local")
    assert LocalScheduler(tmp_path).check(task, profile) == "on this machine, 1 at a time"
    assert LocalScheduler(tmp_path, 3).check(task, profile) == "on this machine, 3 at a time"


def test_a_task_is_a_script_of_this_repository(tmp_path):
    one, other = (make_task("name", ["train", "--run", "x"], tmp_path, CODE, after=("1",)) for _ in range(2))
    assert one.command == (sys.executable, "-u", str(CODE / "scripts" / "train.py"), "--run", "x")
    assert one.directory == ROOT and Path(one.command[2]).is_file() and one.after == ("1",)
    assert one.token != other.token
    assert Path(sys.executable).is_absolute()
