"""NVIDIA GPUs of this machine, found without torch: how many there are, their driver, and who asks for one."""

import os
import re
import shutil
import subprocess
from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia")
_DEVICES = Path("/dev")
_SLURM_NUMBERS = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")  # which GPUs: "0" is the first one
_SLURM_COUNTS = ("SLURM_GPUS_ON_NODE", "SLURM_GPUS")
_HIDDEN = ("", "-1", "NoDevFiles")  # of CUDA_VISIBLE_DEVICES: no GPU, on purpose


def count() -> int:
    """Return the number of NVIDIA GPUs, by nvidia-smi, or else by the kernel's driver and the device files."""
    if shutil.which("nvidia-smi"):
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
        if found := sum(line.startswith("GPU ") for line in done.stdout.splitlines()):
            return found
    known = len(list((_DRIVER / "gpus").glob("*")))
    return known or sum(bool(re.fullmatch(r"nvidia\d+", file.name)) for file in _DEVICES.glob("nvidia*"))


def driver_version() -> str | None:
    """Return the version of NVIDIA's kernel driver, None where it is not loaded."""
    try:
        text = (_DRIVER / "version").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", text)
    return found[0] if found else None


def visible() -> list[str] | None:
    """Return the GPUs that CUDA_VISIBLE_DEVICES names; [] where it hides all, None where it is not set."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return None
    return [] if given.strip() in _HIDDEN else [part.strip() for part in given.split(",") if part.strip()]


def expected() -> str | None:
    """Return why this process should have a GPU, as the beginning of a sentence; None where nothing says so."""
    named = visible()
    if named == []:
        return None
    given = [name for name in _SLURM_NUMBERS if os.environ.get(name)]
    given += [name for name in _SLURM_COUNTS if os.environ.get(name, "0") not in ("", "0")]
    if allocated := next(iter(given), None):
        return f"Slurm has given this job a GPU ({allocated}={os.environ[allocated]})"
    if named:
        return f"CUDA_VISIBLE_DEVICES={','.join(named)} asks for a GPU"
    if found := count():
        return f"this machine has {found} NVIDIA GPU{'s' if found > 1 else ''}"
    return None
