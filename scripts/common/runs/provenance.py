"""Provenance of results: git commit, package versions, hardware and time; no host names and no paths."""

import functools
import importlib.metadata
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

from common.core import files, gpus
from common.runs.code_snapshot import code_facts

ATTEMPTS = "attempts.jsonl"  # in the run folder: the provenance of every process that worked on the run

_PACKAGES = (
    *("torch", "transformers", "peft", "accelerate", "bitsandbytes", "tokenizers", "datasets"),
    *("scikit-learn", "pandas", "numpy"),
)


@functools.cache
def of_process() -> dict[str, Any]:
    """Return `collect()` of the first call in this process.

    A later commit or edit does not change the code that this process has loaded. Commands call it when they start.
    """
    return collect()


def record_attempt(folder: Path) -> None:
    """Append the provenance of this process and its hardware to the run's attempts.

    Where the last attempt ran other code, say so: the result is then of two versions of the code.
    """
    before = next((one for one in reversed(attempts(folder)) if one.get("code_sha256")), None)
    if before is not None and before["code_sha256"] != of_process()["code_sha256"]:
        print(
            f"{folder}: resumed with other code. Before: {_described(before)}. Now: {_described(of_process())}.",
            file=sys.stderr,
            flush=True,
        )
    files.append_jsonl(folder / ATTEMPTS, of_process() | {"hardware": hardware()})


def attempts(folder: Path) -> list[dict[str, Any]]:
    """Return the provenance of every attempt of a run, oldest first; [] for a folder without recorded attempts."""
    file = folder / ATTEMPTS
    return files.read_jsonl(file) if file.exists() else []


def collect() -> dict[str, Any]:
    """Return hash, git commit and dirty flag of the code, package versions, platform, Slurm job id and UTC time."""
    return {
        **code_facts(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "time": files.utc_now(),
    }


def hardware() -> dict[str, Any]:
    """Return GPU, CUDA and driver version (None without a GPU), CPU model and the threads that torch uses."""
    import torch

    has_gpu = torch.cuda.is_available()
    return {
        "gpu": torch.cuda.get_device_name() if has_gpu else None,
        "cuda": torch.version.cuda if has_gpu else None,
        "driver": gpus.driver_version() if has_gpu else None,
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
    }


def memory_peaks() -> dict[str, int | None]:
    """Return the peaks in bytes so far: allocated and reserved on the GPU (None without a GPU), and of this process."""
    import torch

    has_gpu = torch.cuda.is_available()
    return {
        "gpu_memory_peak_bytes": torch.cuda.max_memory_allocated() if has_gpu else None,
        "gpu_memory_reserved_peak_bytes": torch.cuda.max_memory_reserved() if has_gpu else None,
        "cpu_memory_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,  # KiB on Linux
    }


def _described(code: dict[str, Any]) -> str:
    """Return which code an attempt ran, for a person."""
    commit = f"commit {code['git_commit'][:10]}" if code.get("git_commit") else "no commit"
    return f"{commit}{' with changes' if code.get('git_dirty') else ''} (content {code['code_sha256'][:10]})"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str | None:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as stream:
            return next((line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")), None)
    except OSError:
        return None
