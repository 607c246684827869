"""The device of a process: the first GPU; the CPU where there is none; an error where there should be one."""

import pytest
import torch

from common.config import catalog
from common.core import gpus
from common.core.errors import ModelError
from common.model import device


@pytest.fixture
def machine(monkeypatch):
    """`machine(sees=…, capability=…, expected=…)`: what torch sees, and why there should be a GPU."""

    def make(sees: int = 0, capability: tuple[int, int] = (9, 0), expected: str | None = None) -> None:
        device.choose.cache_clear()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: sees > 0)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: sees)
        monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        properties = type("Properties", (), {"total_memory": 16e9})
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: properties)
        monkeypatch.setattr(gpus, "expected", lambda: expected)
        monkeypatch.setattr(gpus, "driver_version", lambda: "535.104" if expected or sees else None)

    yield make
    monkeypatch.undo()
    device.choose.cache_clear()


def test_without_a_gpu(machine, monkeypatch, capsys):
    machine()
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)  # a Mac's own is left alone
    device.announce()
    assert device.choose() == torch.device("cpu") and capsys.readouterr().out.startswith("device: CPU, ")


def test_the_first_of_several_gpus(machine, monkeypatch, capsys):
    machine(sees=4)
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    device.announce()
    assert device.choose().type == "cuda" and chosen == [0]
    out = capsys.readouterr().out
    assert out.startswith("device: Tesla T4 (16.0 GB), CUDA ") and "driver 535.104" in out


def test_a_gpu_that_torch_does_not_see(machine, monkeypatch):
    machine(expected="this machine has 1 NVIDIA GPU")
    with pytest.raises(ModelError) as caught:
        device.choose()
    said = ("this machine has 1 NVIDIA GPU, but torch sees none", "Driver: 535.104", torch.__version__, "CUDA 13.0")
    for part in (*said, "ALLOW_CPU=1"):
        assert part in str(caught.value)
    monkeypatch.setenv("ALLOW_CPU", "1")
    assert device.choose().type == "cpu"


def test_a_card_without_bfloat16(machine):
    slow, _ = catalog.load_job("minilm-lora", {"precision": "bfloat16"})
    exact, _ = catalog.load_job("minilm-lora", {"precision": "float32"})
    machine(sees=1, capability=(7, 5))
    device.check(exact)
    with pytest.raises(ModelError, match=r"Tesla T4 has no bfloat16.*precision=float16"):
        device.check(slow)
    device.check(catalog.load_job("minilm-lora", {"precision": "float16"})[0])
    machine(sees=1, capability=(8, 9))
    device.check(slow)
    machine()
    device.check(slow)


def test_float16_needs_a_gpu_where_it_trains(machine):
    job, _ = catalog.load_job("minilm-lora", {"precision": "float16", "dtype": "float16"})
    machine()
    device.check(job, trains_here=False)  # as `make check` on a login node
    with pytest.raises(ModelError, match=r"float16 .*needs a GPU.*precision=float32"):
        device.check(job)


@pytest.mark.parametrize(("seconds", "said"), [(0.3, "takes 3.0 times as long as float32"), (0.05, None)])
def test_bfloat16_that_is_slow_on_a_processor_is_said(machine, monkeypatch, seconds, said):
    machine()
    plain, bfloat16 = (catalog.load_job("minilm-lora", {"precision": name})[0] for name in ("float32", "bfloat16"))
    assert device.gemm_seconds(torch.float32) > 0 and device.gemm_seconds(torch.bfloat16) > 0
    monkeypatch.setattr(device, "gemm_seconds", {torch.float32: 0.1, torch.bfloat16: seconds}.get)
    hint = device.bfloat16_hint(bfloat16)
    assert device.bfloat16_hint(plain) is None and (said in hint if said else hint is None)
    machine(sees=1)
    assert device.bfloat16_hint(bfloat16) is None
