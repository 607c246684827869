"""A fresh virtual environment without this repository, in which an export must prove itself; made once, then shared."""

import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants

from common.core.errors import RunError
from common.core.files import remove, sha256, write_text
from common.core.locks import lock
from common.runs.exported import ONNX

_PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors", "numpy")
_PACKAGES_ONNX = ("onnxruntime", "tokenizers", "numpy")
# What a process needs to find programs, caches and devices; nothing by which it could find this repository.
_KEPT = (
    *("PATH", "HOME", "LANG", "TMPDIR", "HF_HOME", "HF_HUB_CACHE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"),
    "LD_LIBRARY_PATH",
)
_MADE = "complete"


def fresh_python(kind: str) -> Path:
    """Return the Python of a virtual environment with the packages of an export's format, in the installed versions.

    It lies in the cache folder of the models (HF_HOME), and is made when it is first needed: gigabytes, minutes.

    Args:
        kind: the format.

    Raises:
        RunError: it cannot be made.
    """
    names = _PACKAGES_ONNX if kind == ONNX else _PACKAGES
    requirements = [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]
    key = sha256("\n".join([platform.python_version(), *requirements]).encode())[:12]
    folder = Path(constants.HF_HOME).expanduser() / "peftable" / "environments-1" / key
    python = folder / "bin" / "python"
    with lock(folder.with_name(f".{key}.lock")):
        if not (folder / _MADE).is_file():
            print(f"making a fresh environment for the proof, once: {', '.join(requirements)}", flush=True)
            remove(folder)
            _run([sys.executable, "-m", "venv", str(folder)], None)
            _run([str(python), "-m", "pip", "install", "--quiet", "--no-input", *requirements], None)
            write_text(folder / _MADE, "\n".join(requirements) + "\n")
    return python


def _run(command: Sequence[str], environment: dict[str, str] | None) -> None:
    without = {key: value for key, value in (environment or os.environ).items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, env=without, capture_output=True, text=True, cwd=tempfile.gettempdir())
    if done.returncode:
        reason = "\n".join((done.stderr or done.stdout).strip().splitlines()[-4:])
        raise RunError(
            f"the fresh environment for the proof could not be made: {reason}\nIt is made once, and needs the package "
            "index: type the command where there is internet, with HF_HOME on a disk that both machines see."
        )


def run_isolated(python: Path, script: Path, arguments: Sequence[str]) -> tuple[int, str]:
    """Run a script in an environment, isolated from this process, and return its exit code and what it printed.

    The working folder is empty, PYTHONPATH is not passed on, and a base of the Hub comes from this machine's cache.
    """
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {"HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [str(python), "-I", "-X", "utf8", str(script.resolve()), *arguments],
            env=environment,
            cwd=empty,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
    return done.returncode, (done.stdout + ("\n" + done.stderr if done.returncode else "")).strip()
