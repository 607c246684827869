"""What the tests on a card share: they are skipped without one, the memory is free before each, figures are written."""

import contextlib
import gc
import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.cli.main import prepare_libraries
from common.core import files, gpus

ROOT = Path(__file__).resolve().parents[2]
_STARTED = time.monotonic()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests, with the reason, where torch sees no NVIDIA GPU."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    if here and (reason := _why_not()):
        for item in here:
            item.add_marker(pytest.mark.skip(reason=reason))


def _why_not() -> str | None:
    if importlib.util.find_spec("torch") is None:
        return f"{sys.executable} has no torch"
    prepare_libraries()
    import torch

    return None if torch.cuda.is_available() else "torch sees no NVIDIA GPU"


@pytest.fixture(autouse=True)
def _free_card() -> Iterator[None]:
    """Begin with an empty card, without a cap, and with new peaks."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.reset_peak_memory_stats()
    yield


@pytest.fixture
def figures() -> Iterator[dict[str, Any]]:
    """The figures of this card, in outputs/published/hardware/ or in $OUT; what a test adds is written there."""
    import torch

    from common.runs import provenance

    card = torch.cuda.get_device_properties(0)
    folder = Path(os.environ.get("OUT", ROOT / "outputs" / "published" / "hardware"))
    file = folder / f"{card.name.lower().replace(' ', '-')}.json"
    found: dict[str, Any] = files.read_json(file) if file.exists() else {}
    found |= {"schema": 1, "measured_by": provenance.of_process()}
    found["card"] = {
        "name": card.name,
        "memory_bytes": card.total_memory,
        "capability": f"{card.major}.{card.minor}",
        "cuda": torch.version.cuda,
        "driver": gpus.driver_version(),
    }
    yield found
    found["tests_s"] = round(time.monotonic() - _STARTED, 1)  # up to the last test that has figures
    files.write_json(file, found)


@pytest.fixture
def script(run_script: Any) -> Any:
    """`script("train", "--model", …, code=0)` runs a script in this process, and returns stdout, or stderr."""

    def run(name: str, *words: str, code: int = 0) -> str:
        found, out, error = run_script(name, *words)
        assert found == code, f"{name} {words}\n{out[-2000:]}\n{error[-4000:]}"
        return out if code == 0 else error

    return run


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function; in the context that it returns, models of this process run on the CPU."""
    import torch

    from common.model import device

    @contextlib.contextmanager
    def there() -> Iterator[None]:
        threads = torch.get_num_threads()
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        try:
            with monkeypatch.context() as patch:
                patch.setattr(device, "choose", lambda: torch.device("cpu"))
                yield
        finally:
            torch.set_num_threads(threads)

    return there
