"""What goes wrong in one job is named by `make status`, with the log, and touches no other."""

import contextlib
import os
import signal
from pathlib import Path

import pytest
from lab import lasting, read

HERE = ("--cluster", "testbed")
LONG = lasting(300)


def settle(lab, cluster, state: str) -> str:
    """Wait until `make status` shows a state, and return all that it says."""
    cluster.wait_until(lambda: f"1 {state}" in lab.status(), f"status: 1 {state}\n{lab.status()}")
    return lab.status()


def test_an_error_with_a_reason(lab, cluster, partition):
    partition("down")  # it starts when the rows are others already
    lab.submit(*HERE)
    rows = (lab.rows / "train.jsonl").read_text(encoding="utf-8")
    (lab.rows / "train.jsonl").write_text(rows.replace("idea", "thought"), encoding="utf-8")
    partition("up")
    said = settle(lab, cluster, "failed")
    assert "rows" in said and f"log: {lab.folder()}" in said


def test_exit_3_in_a_setup_line(lab, cluster):
    lab.profile("odd", setup=["exit 3"])
    lab.submit("--cluster", "odd")
    assert "exit code 3:0" in settle(lab, cluster, "failed")


def test_a_setup_line_that_fails(lab, cluster):
    lab.profile("odd", setup=["module load CUDA/99"])
    lab.submit("--cluster", "odd")
    said = settle(lab, cluster, "failed")
    assert "module: command not found" in said and "exit code 127:0" in said
    assert not (lab.folder() / "owner.json").exists()  # training never began


def test_kill_9(lab, cluster):
    lab.submit(*HERE, settings=LONG)
    lab.wait_step(lab.folder(), 1)
    os.kill(read(lab.folder() / "owner.json")["pid"], signal.SIGKILL)
    assert "killed by signal 9" in settle(lab, cluster, "failed")
    assert "resumed" in lab.submit(*HERE, settings=LONG)


def test_out_of_memory(lab, cluster):
    if "ConstrainRAMSpace=yes" not in cluster.cgroup_conf():
        pytest.skip("this machine lets nobody write memory cgroups, so Slurm cannot limit memory")
    lab.submit(*HERE, "--resources", "mem_gb=0.1")
    assert "log:" in settle(lab, cluster, "out of memory")


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ("account=nobodys", "Invalid account"),
        ("gpu_type=h100", "Requested node configuration is not available"),
        ("time=3-00:00:00", "time limit is invalid"),
        ("partition=nowhere", "invalid partition"),
    ],
)
def test_what_sbatch_refuses(lab, cluster, resources, said):
    table = lab.submit(*HERE, "--resources", resources, check=False)
    assert "1 refused" in table and said in table
    status = lab.status()
    assert "1 refused" in status and said in status
    check = lab.run(
        "submit", "--dry-run", "--model", "minilm-lora", *lab.words(), *HERE, "--resources", resources, check=False
    )
    assert check.returncode == 7 and said in check.stdout
    assert cluster.squeue() == []
    assert "1 submitted" in lab.submit(*HERE)


def test_others_go_on(lab, cluster):
    lab.profile("odd", setup=["exit 3"])
    lab.submit("--cluster", "odd", "--seeds", "1")
    lab.submit(*HERE, "--seeds", "2,3")
    lab.wait_queue_empty()
    assert "1 failed, 2 finished" in lab.status()
    log = next(folder for folder in lab.folders() if folder.name == "seed-2")
    assert "accuracy" in lab.run("logs", "--outputs", lab.outputs, "--model", "minilm-lora").stdout
    assert "metrics.json" in os.listdir(log)


def files_with(word: bytes, *folders: Path) -> list[Path]:
    """The files below folders that hold a word; what Slurm removes meanwhile does not count."""
    found = []
    for path, _, names in (step for folder in folders for step in os.walk(folder)):
        for file in (Path(path, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                if file.is_file() and word in file.read_bytes():
                    found.append(file)
    return found


def test_no_secret_anywhere(lab, cluster, partition):
    partition("down")  # Slurm keeps a job's environment until it forgets the job
    lab.submit(*HERE)
    assert "environment" in {file.name for file in files_with(b"HF_HUB_OFFLINE", cluster.state_folder())}
    assert files_with(b"hf_neverprinted", cluster.state_folder(), lab.outputs) == []
    partition("up")
    lab.wait_queue_empty()
    assert len(lab.finished()) == 1
    assert files_with(b"hf_neverprinted", cluster.state_folder(), lab.outputs) == []
