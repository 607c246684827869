"""What to do when a GPU's memory does not suffice: free it, try smaller batches, or say what to change."""

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch

from common.core.errors import ModelError


def free_memory() -> None:
    """Free tensors that refer to each other in cycles, and give the cached memory of a GPU back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def out_of_memory(doing: str) -> ModelError:
    """Return the error for work that does not fit; `doing` is text such as "scoring one row with 512 tokens"."""
    return ModelError(
        f"out of memory in {doing}. Lower max_length, set quantization=nf4 and, for training, "
        "runtime.activation_checkpointing=true, or use a card with more memory. make check estimates what a job needs."
    )


class Halving:
    """Runs batches of rows, each in as few parts as the memory allows.

    Args:
        doing: the work, for messages: "scoring".

    Attributes:
        parts: into how many parts a batch is divided; it doubles when the memory does not suffice.
    """

    def __init__(self, doing: str) -> None:
        self.doing, self.parts = doing, 1

    def run(self, indices: Sequence[int], work: Callable[[Sequence[int]], Any]) -> list[tuple[Sequence[int], Any]]:
        """Return pairs of indices and results that together are the batch, in order.

        Args:
            indices: of the rows of a batch.
            work: does it for some of them.

        Raises:
            ModelError: a single row does not fit.
        """
        while True:
            size = -(-len(indices) // self.parts)
            parts = [indices[first : first + size] for first in range(0, len(indices), size)]
            try:
                return [(part, work(part)) for part in parts]
            except torch.OutOfMemoryError:
                pass  # what it had allocated is free when its traceback is gone
            if size == 1:
                raise out_of_memory(f"{self.doing} a single row")
            free_memory()
            self.parts *= 2
            print(f"out of memory while {self.doing}: going on with batches in {self.parts} parts", flush=True)
