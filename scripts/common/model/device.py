"""The one device on which this process runs its models: chosen once, and said before anything is loaded."""

import functools
import os
import time

import torch

from common.config.job import Job
from common.core import gpus
from common.core.errors import ModelError

ALLOW_CPU = "ALLOW_CPU"  # environment variable: 1 runs on the CPU although there should be a GPU
_BFLOAT16_FROM = 8  # cards of an earlier compute capability (T4, V100, RTX 20xx) emulate bfloat16


@functools.cache
def choose() -> torch.device:
    """Return the first GPU that this process sees, or the CPU.

    Apple's GPUs are not used: quantised layers and bfloat16 differ there.

    Raises:
        ModelError: there is a GPU, or one was asked for, and torch sees none.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(0)
        return torch.device("cuda")
    expected = gpus.expected()
    if expected and os.environ.get(ALLOW_CPU, "0") in ("", "0"):
        built = f"is built for {_toolkit()}" if _toolkit() else "is a build for CPUs only"
        raise ModelError(
            f"{expected}, but torch sees none. Driver: {_driver()}; torch {torch.__version__} {built}. Update the "
            f"driver (CUDA 13 needs 580 or newer), or install the build of torch for your CUDA; in a container or a "
            f"job, ask for the GPU. {ALLOW_CPU}=1 before the command runs it on the CPU."
        )
    return torch.device("cpu")


def announce() -> None:
    """Print the device, before anything is loaded."""
    if choose().type == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory / 1e9
        found = f"{torch.cuda.get_device_name()} ({memory:.1f} GB), {_toolkit()}, driver {_driver()}"
    else:
        threads = torch.get_num_threads()
        found = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    print(f"device: {found}", flush=True)


def check(job: Job, trains_here: bool = True) -> None:
    """Check that the device computes in the job's precision.

    Args:
        job: its precision.
        trains_here: whether this process trains it.

    Raises:
        ModelError: as `choose`; the GPU has no instructions for bfloat16, and would emulate it; or training in
            float16 on a CPU.
    """
    if choose().type != "cuda":
        if job.precision == "float16" and trains_here:
            raise ModelError(
                "training in float16 scales its loss, which needs a GPU, and torch sees none; on a CPU set "
                "precision=float32 and dtype=float32."
            )
    elif job.precision == "bfloat16" and torch.cuda.get_device_capability()[0] < _BFLOAT16_FROM:
        raise ModelError(gpus.no_bfloat16(torch.cuda.get_device_name()))


def bfloat16_hint(job: Job) -> str | None:
    """Return a sentence if the job computes in bfloat16 on a processor that is slower in it, by a product timed now.

    What a processor says of itself does not tell: some with instructions for bfloat16 are slower in it.
    """
    if choose().type != "cpu" or job.precision != "bfloat16":
        return None
    times = gemm_seconds(torch.bfloat16) / gemm_seconds(torch.float32)
    if times < 1:
        return None
    return (
        f'on this processor bfloat16 takes {times:.1f} times as long as float32: SET="precision=float32 dtype=float32" '
        "is faster where the memory suffices."
    )


def gemm_seconds(dtype: torch.dtype) -> float:
    """Return the least CPU seconds of three products of 256 tokens with a weight of 512 x 512, after a warm-up."""
    tokens, weight = torch.ones(256, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
    taken = []
    for _ in range(4):
        start = time.process_time()
        torch.nn.functional.linear(tokens, weight)
        taken.append(time.process_time() - start)
    return max(min(taken[1:]), 1e-9)


def _toolkit() -> str | None:
    """Return what torch is built for, None for CPUs only."""
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    return f"ROCm {torch.version.hip}" if torch.version.hip else None


def _driver() -> str:
    return gpus.driver_version() or "not known"
