"""Provenance of results: git commit, package versions, hardware and time; no host names and no paths."""

import importlib.metadata
import os
import platform
import resource
import subprocess
from pathlib import Path
from typing import Any

from common.config.catalog import ROOT
from common.core.files import utc_now

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "datasets", "scikit-learn", "pandas", "numpy")


def collect() -> dict[str, Any]:
    """Return git commit and dirty flag, package versions, Python, platform, Slurm job id and the UTC time."""
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if changes is None else bool(changes),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "time": utc_now(),
    }


def hardware() -> dict[str, Any]:
    """Return the GPU's name (None on a CPU), CPU model and the threads that torch uses."""
    import torch

    return {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
    }


def memory_peaks() -> dict[str, int | None]:
    """Return the peak memory in bytes so far: of the GPU's allocator (None without a GPU) and of this process."""
    import torch

    return {
        "gpu_memory_peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        "cpu_memory_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,  # KiB on Linux
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


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
