"""NVIDIA GPUs of this machine, found without torch: how many there are, their driver, and who asks for one."""

import os
import re
import shutil
import subprocess
from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia")
_DEVICES = Path("/dev")
_SLURM_NUMBERS = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")  # which GPUs: "0" is the first one
_SLURM_COUNTS = ("SLURM_GPUS_ON_NODE",)
# Before Ampere; Slurm's types may write a name as one word: gtx1080ti, 2080ti.
_NO_BFLOAT16 = re.compile(r"\b(([kmp]\d{1,3}|t4|v100)s?\b|gtx|titan|quadro|(rtx ?)?20[678]0(ti|s)?\b)", re.I)
_HIDDEN = ("", "-1", "NoDevFiles")  # of CUDA_VISIBLE_DEVICES: no GPU, on purpose


def count() -> int:
    """Return the number of NVIDIA GPUs, by nvidia-smi, or else by the device files or the kernel's driver."""
    if found := sum(line.startswith("GPU ") for line in _ask("-L")):
        return found
    devices = [file for file in _DEVICES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", file.name)]
    # A container, or a job without a GPU, may see the files of GPUs that it must not use.
    return sum(map(_can_be_opened, devices)) if devices else len(list((_DRIVER / "gpus").glob("*")))


def driver_version() -> str | None:
    """Return the version of NVIDIA's driver, None where it is not known."""
    try:
        text = (_DRIVER / "version").read_text(encoding="utf-8")
    except OSError:  # WSL2 has no such file
        return next(iter(_ask("--query-gpu=driver_version", "--format=csv,noheader")), None)
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
    if "SLURM_JOB_ID" in os.environ and not named and not given and not _slurm_counts():
        return None  # the node may have GPUs, which are not for this job
    given += _slurm_counts()
    if allocated := next(iter(given), None):
        return f"Slurm has given this job a GPU ({allocated}={os.environ[allocated]})"
    if named:
        return f"CUDA_VISIBLE_DEVICES={','.join(named)} asks for a GPU"
    if found := count():
        return f"this machine has {found} NVIDIA GPU{'s' if found > 1 else ''}"
    return None


def lacks_bfloat16(name: str) -> bool:
    """Return whether a card is older than bfloat16, by its name ("Tesla T4") or its type in Slurm ("v100")."""
    return _NO_BFLOAT16.search(name.replace("_", " ").replace("-", " ")) is not None


def no_bfloat16(name: str) -> str:
    """Return what a job in bfloat16 is told of a card without it."""
    return (
        f"{name} has no bfloat16, and would compute it many times slower. Set precision=float16, and dtype=float16 "
        "where dtype is bfloat16, or use a card from 2020 on (Ampere or later)."
    )


def _slurm_counts() -> list[str]:
    return [name for name in _SLURM_COUNTS if os.environ.get(name, "0") not in ("", "0")]


def _ask(*options: str) -> list[str]:
    """Return the lines that nvidia-smi prints; none where it is missing, fails or hangs."""
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        done = subprocess.run(["nvidia-smi", *options], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def _can_be_opened(file: Path) -> bool:
    try:
        os.close(os.open(file, os.O_RDWR))
    except OSError:
        return False
    return True
