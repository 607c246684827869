"""What the tests on a card share: the scripts as a user runs them, and the figures that the tests measure."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.core import files, gpus

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests, with the reason, where torch sees no NVIDIA GPU."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    if not here:
        return
    import torch

    if not torch.cuda.is_available():
        for item in here:
            item.add_marker(pytest.mark.skip(reason="torch sees no NVIDIA GPU"))


@pytest.fixture(scope="session")
def figures() -> Any:
    """A dictionary that is written to outputs/published/hardware/<card>.json (or to $OUT) when the tests have ended."""
    import torch

    name = torch.cuda.get_device_name().lower().replace(" ", "-")
    file = Path(os.environ.get("OUT", ROOT / "outputs" / "published" / "hardware")) / f"{name}.json"
    found: dict[str, Any] = files.read_json(file) if file.exists() else {}  # of tests that are not chosen now
    card = torch.cuda.get_device_properties(0)
    found |= {"schema": 1}
    found["card"] = {
        "name": card.name,
        "memory_bytes": card.total_memory,
        "capability": f"{card.major}.{card.minor}",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "driver": gpus.driver_version(),
    }
    yield found
    files.write_json(file, found)


@pytest.fixture
def script() -> Any:
    """`script("train", "--model", …, code=0, NAME="value")` runs a script, without network, and returns its stdout."""

    def run(name: str, *words: str, code: int = 0, **variables: str) -> str:
        command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *words]
        environment = os.environ | {"HF_HUB_OFFLINE": "1"} | variables
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == code, f"{name} {words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout if code == 0 else done.stderr

    return run
