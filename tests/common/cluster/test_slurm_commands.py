"""Slurm's commands: what they print is read right, and what they do not answer is an error."""

import os

import pytest

from common.cluster import slurm_commands
from common.cluster.slurm_commands import ActiveJob, EndedJob
from common.core.errors import SlurmError


def line(**changes):
    job = {"id": "17", "name": "a-b", "state": "PENDING", "node": "", "elapsed": "0:00", "limit": "8:00:00"}
    return job | {"reason": "Priority", "comment": "peftable-1"} | changes


def test_an_empty_queue(fake_slurm):
    assert slurm_commands.queue() == []
    [call] = fake_slurm.calls()
    assert call["name"] == "squeue" and "--me" in call["words"]


def test_jobs_of_the_queue(fake_slurm):
    fake_slurm.set(
        jobs=[
            line(reason="(Nodes required for job are DOWN, DRAINED or reserved)"),
            line(id="18_3", state="RUNNING", node="n[1-2]", elapsed="1-02:03:04", limit="UNLIMITED", reason="None"),
            line(id="19", comment="(null)", name="mine"),
            line(id="20", comment="a|b|c", state="COMPLETING"),
            line(id="21", comment="of\nsomebody|else"),
            line(id="22", name="with\nbreak"),
        ]
    )
    found = {job.id: job for job in slurm_commands.queue()}
    assert list(found) == ["17", "18_3", "19", "20", "21"]
    assert found["17"].reason == "(Nodes required for job are DOWN, DRAINED or reserved)"
    assert not found["17"].is_running and found["17"].comment == "peftable-1"
    assert found["18_3"] == ActiveJob("18_3", "a-b", "RUNNING", "n[1-2]", "1-02:03:04", "UNLIMITED", "", "peftable-1")
    assert found["18_3"].is_running and found["20"].is_running
    assert (found["19"].comment, found["20"].comment, found["21"].comment) == ("", "a|b|c", "of")


def test_accounting(fake_slurm, monkeypatch):
    past = {"id": "17", "state": "FAILED", "code": "3:0", "node": "n1", "elapsed": "60", "name": "a|b"}
    fake_slurm.set(
        past=[
            past,
            past | {"id": "18", "state": "CANCELLED by 1000", "node": "None assigned"},
            past | {"id": "19_2", "state": "OUT_OF_MEMORY", "code": "0:125"},
            past | {"id": "20", "state": "", "name": "a\nb"},
        ]
    )
    monkeypatch.setenv("LOGNAME", "somebody")
    found = slurm_commands.accounting(["17"], "2026-11-21T03:12:00Z")
    assert found["17"] == EndedJob("17", "a|b", "FAILED", "3:0", "n1", "60")
    assert (found["18"].state, found["18"].node) == ("CANCELLED", "")
    assert found["19_2"].state == "OUT_OF_MEMORY" and found["20"].state == ""
    [call] = fake_slurm.calls()
    assert "--starttime=2026-11-21T03:12:00" in call["words"] and call["environment"]["TZ"] == "UTC"
    assert f"--user={os.getuid()}" in call["words"] and "--jobs=17" in call["words"]


def test_cancel(fake_slurm):
    fake_slurm.set(jobs=[line(), line(id="18_0"), line(id="18_1"), line(id="19")])
    slurm_commands.cancel(["17", "18_0", "99"])
    assert fake_slurm.calls("scancel")[0]["words"] == ["17", "18", "99"]  # an array as a whole
    assert [job["id"] for job in fake_slurm.jobs] == ["19"]
    slurm_commands.cancel([])
    assert len(fake_slurm.calls("scancel")) == 1


def test_what_sbatch_would_say(fake_slurm):
    said = slurm_commands.test_only("#!/bin/bash\n")
    assert said == "Job 99 to start at 2026-11-21T12:00:00 using 1 processors on nodes n1 in partition main"
    assert fake_slurm.calls("sbatch")[0]["text"] == "#!/bin/bash\n"
    fake_slurm.set(refuse="Invalid account")
    with pytest.raises(SlurmError, match="sbatch: error: Batch job submission failed: Invalid account"):
        slurm_commands.test_only("")


def test_the_name_of_the_cluster(fake_slurm):
    assert slurm_commands.cluster_name() == "testbed"


@pytest.mark.parametrize(
    "ask",
    [
        slurm_commands.queue,
        slurm_commands.cluster_name,
        lambda: slurm_commands.cancel(["1"]),
        lambda: slurm_commands.test_only(""),
    ],
)
def test_silence_is_an_error(fake_slurm, monkeypatch, ask):
    fake_slurm.set(down=True)
    with pytest.raises(SlurmError, match="Unable to contact slurm controller") as raised:
        ask()
    assert raised.value.exit_code == 7 and not raised.value.is_absent
    fake_slurm.set(down=False, slow=dict.fromkeys(("squeue", "scontrol", "scancel", "sbatch"), 5))
    monkeypatch.setattr(slurm_commands, "TIMEOUT_S", 0.3)
    with pytest.raises(SlurmError, match=r"Slurm has not answered within 0\.3 s"):
        ask()


def test_no_accounting(fake_slurm):
    fake_slurm.set(accounting=False)
    with pytest.raises(SlurmError, match="accounting storage is disabled"):
        slurm_commands.accounting(["17"], "2026-11-21T03:12:00Z")


def test_no_slurm(no_slurm):
    assert slurm_commands.cluster_name() is None
    for ask in (slurm_commands.queue, lambda: slurm_commands.accounting(["17"], "2026-11-21T03:12:00Z")):
        with pytest.raises(SlurmError, match="Slurm is not installed") as raised:
            ask()
        assert raised.value.is_absent


def test_slurm_without_a_configuration_is_no_cluster(fake_slurm):
    fake_slurm.set(cluster=None)
    assert slurm_commands.cluster_name() is None
    with pytest.raises(SlurmError, match="Could not establish a configuration source") as raised:
        slurm_commands.queue()
    assert raised.value.is_absent


def test_a_job_made_within_a_job_is_none_of_its_tasks(fake_slurm, monkeypatch):
    for name in (
        "SLURM_ARRAY_JOB_ID",
        "SLURM_ARRAY_TASK_ID",
        "SLURM_RESTART_COUNT",
        "SLURM_JOB_ID",
        "SBATCH_TIMELIMIT",
    ):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    slurm_commands.test_only("")
    [call] = fake_slurm.calls()
    assert "7" not in call["environment"].values()
    assert call["environment"]["SLURM_CONF"] == "/etc/slurm/slurm.conf"


def test_asked_to_stop(fake_slurm):
    """One that has ended since, or is ending, is no error; one that runs on is."""
    job = {"name": "a", "node": "", "elapsed": "", "limit": "", "reason": "", "comment": ""}
    jobs = [job | {"id": "17", "state": "COMPLETING"}, job | {"id": "18", "state": "RUNNING"}]
    fake_slurm.set(jobs=jobs, deaf=["17", "19"])
    slurm_commands.stop(["17", "18", "19"])
    assert [call["words"][-1] for call in fake_slurm.calls("scancel")] == ["17", "18", "19"]
    fake_slurm.set(jobs=jobs, deaf=["18"])
    with pytest.raises(SlurmError, match="Invalid job id 18"):
        slurm_commands.stop(["17", "18"])


def test_no_command_sees_a_secret(fake_slurm, monkeypatch):
    known = ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD")
    for name in (*known, "GH_PAT", "DB_PWD", "OPENAI_KEY"):
        monkeypatch.setenv(name, "hf_secret")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("SLURM_JWT", "needed")
    slurm_commands.queue()
    slurm_commands.test_only("")
    for call in fake_slurm.calls():
        assert "hf_secret" not in str(call) and call["environment"]["SLURM_JWT"] == "needed"
        assert call["environment"]["TOKENIZERS_PARALLELISM"] == "false" and "PWD" in call["environment"]
