"""GPUs are counted, and what asks for one is found, without torch."""

import subprocess

import pytest

from common.core import gpus


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """`machine(cards=2, driver="535.104", devices=2)`: the files of NVIDIA's driver; nothing in the environment."""

    def make(cards: int = 0, driver: str | None = None, devices: int = 0) -> None:
        for number in range(cards):
            (tmp_path / "driver" / "gpus" / f"0000:0{number}:00.0").mkdir(parents=True)
        if driver:
            (tmp_path / "driver").mkdir(exist_ok=True)
            text = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Tue Sep 19 2023\nGCC version: 12"
            (tmp_path / "driver" / "version").write_text(text)
        (tmp_path / "dev").mkdir(exist_ok=True)
        for name in ["nvidiactl", "nvidia-uvm", *(f"nvidia{number}" for number in range(devices))]:
            (tmp_path / "dev" / name).touch()

    monkeypatch.setattr(gpus, "_DRIVER", tmp_path / "driver")
    monkeypatch.setattr(gpus, "_DEVICES", tmp_path / "dev")
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "SLURM_GPUS", *gpus._SLURM_NUMBERS, *gpus._SLURM_COUNTS):
        monkeypatch.delenv(name, raising=False)
    return make


def test_counting_without_nvidia_smi(machine):
    assert gpus.count() == 0 and gpus.driver_version() is None and gpus.expected() is None
    machine(cards=2, driver="535.104.05")
    assert gpus.count() == 2 and gpus.driver_version() == "535.104.05"
    assert gpus.expected() == "this machine has 2 NVIDIA GPUs"


def test_counting_device_files(machine):
    machine(devices=3)  # as in a container
    assert gpus.count() == 3


def test_a_gpu_of_the_node_that_is_not_for_this_job(machine, monkeypatch):
    machine(cards=4, devices=4)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert gpus.expected() is None  # --gres=none
    monkeypatch.setenv("SLURM_JOB_GPUS", "2")
    assert "Slurm has given this job a GPU" in gpus.expected()


def test_device_files_that_cannot_be_opened(machine, monkeypatch):
    machine(cards=2, devices=2)  # as in a job whose cgroup hides them, or in a container
    monkeypatch.setattr(gpus, "_can_be_opened", lambda file: file.name == "nvidia1")
    assert gpus.count() == 1


def test_nvidia_smi_that_hangs(machine, monkeypatch, tmp_path):
    machine(cards=1)
    (tmp_path / "nvidia-smi").touch(mode=0o755)

    def hangs(*arguments, **options):
        raise subprocess.TimeoutExpired(arguments, 30)

    monkeypatch.setattr(subprocess, "run", hangs)
    assert gpus.count() == 1 and gpus.driver_version() is None


def test_nvidia_smi_counts_where_it_can(machine, tmp_path):
    machine(cards=1)
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho 'GPU 1: A (UUID: y)'\n")
    script.chmod(0o755)
    assert gpus.count() == 2
    script.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n")
    assert gpus.count() == 1


@pytest.mark.parametrize(
    ("variables", "named", "reason"),
    [
        ({}, None, None),
        ({"CUDA_VISIBLE_DEVICES": ""}, [], None),
        ({"CUDA_VISIBLE_DEVICES": "-1", "SLURM_JOB_GPUS": "0"}, [], None),  # hidden on purpose
        ({"CUDA_VISIBLE_DEVICES": "0, GPU-5"}, ["0", "GPU-5"], "CUDA_VISIBLE_DEVICES=0,GPU-5 asks for a GPU"),
        ({"SLURM_GPUS_ON_NODE": "2"}, None, "Slurm has given this job a GPU (SLURM_GPUS_ON_NODE=2)"),
        ({"SLURM_GPUS_ON_NODE": "0"}, None, None),
        ({"SLURM_GPUS": "1"}, None, None),  # of an allocation that this shell is not in
        ({"SLURM_JOB_GPUS": "0"}, None, "Slurm has given this job a GPU (SLURM_JOB_GPUS=0)"),
    ],
)
def test_who_asks_for_a_gpu(machine, monkeypatch, variables, named, reason):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert gpus.visible() == named and gpus.expected() == reason


@pytest.mark.parametrize(
    "name",
    [
        *("Tesla T4", "Tesla V100-SXM2-32GB", "Tesla P100-PCIE-16GB", "NVIDIA GeForce RTX 2080 Ti", "NVIDIA TITAN RTX"),
        *("v100", "v100s", "tesla_t4", "k40", "gtx1080ti", "gtx_1080_ti", "rtx2080ti", "rtx_2080_ti", "2080ti"),
        *("titanxp", "quadro_rtx_6000"),
    ],
)
def test_cards_before_bfloat16(name):
    assert gpus.lacks_bfloat16(name)


@pytest.mark.parametrize(
    "name",
    [
        *("NVIDIA A100-SXM4-40GB", "NVIDIA GeForce RTX 4080", "h100", "NVIDIA L4", "rtx_3090", "rtx_2000_ada"),
        *("RTX 2050", "a40", "rtx3080ti", "rtx_a6000", "gh200", "NVIDIA RTX 6000 Ada Generation", "l40s"),
    ],
)
def test_cards_with_bfloat16(name):
    assert not gpus.lacks_bfloat16(name)
