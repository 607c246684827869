"""Runs on a real Slurm that are requeued, pre-empted, cancelled or lose their node end with the metrics of others."""

import os
import signal
import subprocess
import sys
import time

import pytest
from lab import STEPS_OF_EPOCH, assert_same, is_alive, last_step, lasting, read

LONG = lasting(20)  # a third of a minute
HERE = ("--cluster", "testbed")


def test_six_jobs_on_two_nodes_give_the_report_of_local_runs(lab, cluster):
    several = ("--all", "--jobs", "minilm-lora,minilm-full", *HERE)
    said = lab.submit(*several)
    assert "7 submitted" in said  # six runs and the report
    assert "after 6 jobs" in said
    again = lab.submit(*several)
    assert "submitted" not in again and "resumed" not in again
    assert len(cluster.squeue()) <= 7
    lab.wait_queue_empty()
    assert len(lab.finished()) == 6
    nodes = {job["NodeList"] for folder in lab.finished() for job in cluster.sacct(lab.job_id(folder), "-X")}
    assert nodes == {"n1", "n2"}
    report = lab.log(lab.outputs / ".collect")
    assert "Results on stance-sample" in report and "majority class" in report and "error:" not in report
    for job in ("minilm-lora", "minilm-full"):
        [trained] = [folder for folder in lab.folders(job) if folder.name == "seed-1"]
        assert_same(lab.undisturbed(job=job), trained)
    assert "6 finished" in lab.submit(*several)
    assert cluster.squeue() == []


def test_a_run_longer_than_its_time_limit_continues_three_times(lab, cluster):
    # Slurm counts limits in minutes and signals early. A start takes about twice as long as the imports, and must fit.
    before = time.monotonic()
    imports = [sys.executable, "-c", "import torch, transformers, peft"]
    subprocess.run(imports, check=True, env=os.environ | {"TORCHDYNAMO_DISABLE": "1"})  # as our scripts import them
    minutes = 2 + int((time.monotonic() - before) / 20)
    epochs = 20
    settings = lasting(epochs)
    lab.profile("hasty", lead_s=10, step_s=150 * minutes / epochs / STEPS_OF_EPOCH)
    lab.submit("--cluster", "hasty", "--resources", f"time={minutes}", settings=settings)
    folder = lab.folder()
    undisturbed = lab.undisturbed(settings)
    lab.wait_finished(folder, seconds=600 * minutes)
    requeues = (folder / "slurm" / "1" / "requeues.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(requeues) >= 3, requeues
    assert len(list(folder.glob("slurm/*/*.log"))) == 1  # one job all the time
    assert_same(undisturbed, folder)


def test_scontrol_requeue(lab, cluster, partition):
    lab.submit(*HERE, settings=LONG)
    folder = lab.folder()
    lab.wait_checkpoint(folder)
    partition("down")  # so that it does not start again before we have looked
    try:
        cluster.call("scontrol", "requeue", lab.job_id(folder))
        cluster.wait_until(lambda: "1 requeued" in lab.status(), "status: 1 requeued")
    finally:
        partition("up")
    undisturbed = lab.undisturbed(LONG)
    lab.wait_finished(folder)
    assert read(folder / "owner.json")["attempt"] == 2
    assert_same(undisturbed, folder)


def test_preemption(lab, cluster):
    lab.submit(*HERE, "--seeds", "1,2", settings=LONG)
    folders = lab.folders()
    for folder in folders:
        lab.wait_checkpoint(folder)
    for node in ("n1", "n2"):
        cluster.submit("sleep 5", "--partition=high", "--gres=gpu:1", "--account=lab", f"--nodelist={node}")
    lab.wait_finished(*folders)
    assert all(read(folder / "owner.json")["attempt"] == 2 for folder in folders)
    assert_same(lab.undisturbed(LONG), folders[0])
    assert_same(lab.undisturbed(LONG, seed=2), folders[1])


@pytest.mark.parametrize("command", ["make cancel", "scancel"])
def test_cancelled_and_submitted_again(lab, cluster, command):
    lab.submit(*HERE, settings=LONG)
    folder = lab.folder()
    lab.wait_checkpoint(folder)
    if command == "scancel":
        cluster.call("scancel", lab.job_id(folder))
    else:
        assert "cancelling" in lab.run("cancel", "--outputs", lab.outputs).stdout
    lab.wait_queue_empty()
    assert last_step(folder) > 0 and not (folder / "metrics.json").exists()
    cluster.wait_until(lambda: "1 cancelled" in lab.status(), "status: cancelled")
    assert "resumed" in lab.submit(*HERE, settings=LONG)
    lab.wait_finished(folder)
    assert read(folder / "submit.json")["number"] == 2
    assert "continuing from checkpoint-" in lab.log(folder)
    assert_same(lab.undisturbed(LONG), folder)


def test_the_node_is_lost_and_its_process_still_runs(lab, cluster):
    lab.submit(*HERE, settings=LONG)
    folder = lab.folder()
    lab.wait_checkpoint(folder)
    old = read(folder / "owner.json")
    node = next(job["node"] for job in cluster.squeue() if job["id"] == lab.job_id(folder))
    os.kill(old["pid"], signal.SIGSTOP)  # as on a node that has lost its network, and comes back
    try:
        reached = last_step(folder)  # no earlier than the checkpoint from which the other node continues
        cluster.daemon("kill", f"slurmd-{node}")
        cluster.wait_until(lambda: read(folder / "owner.json")["attempt"] == 2, "a start on the other node")
        lab.wait_step(folder, reached + 1)
        assert is_alive(old["pid"])
        os.kill(old["pid"], signal.SIGCONT)
        lab.wait_finished(folder)
        assert read(folder / "owner.json")["attempt"] == 2 and read(folder / "owner.json")["pid"] != old["pid"]
        cluster.wait_until(lambda: not is_alive(old["pid"]), "the old process has stopped by itself")
    finally:
        if is_alive(old["pid"]):
            os.kill(old["pid"], signal.SIGKILL)
    assert not (folder / "failure.json").exists()
    assert "newer" in lab.log(folder)  # what the old one said at its end
    assert_same(lab.undisturbed(LONG), folder)


@pytest.mark.parametrize("moment", ["running", "queued"])
def test_a_changed_job_is_refused_with_the_difference(lab, partition, moment):
    if moment == "queued":
        partition("down")
    settings = lasting(200)  # longer than the second submission takes; it is cancelled after the test
    lab.submit(*HERE, settings=settings)
    if moment == "running":
        lab.wait_step(lab.folder(), 1)  # it has read the rows; before, it would refuse the changed ones itself, and end
    rows = (lab.rows / "train.jsonl").read_text(encoding="utf-8")
    (lab.rows / "train.jsonl").write_text(rows.replace("idea", "thought"), encoding="utf-8")
    said = lab.submit(*HERE, settings=settings, check=False)
    assert "refused" in said and "data.sha256" in said and "cancel" in said
