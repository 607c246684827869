"""What to do when a GPU's memory does not suffice in inference: free it, and go on with smaller batches."""

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch

from common.core.errors import out_of_memory
from common.model.heads import Head


def free_memory() -> None:
    """Free tensors that refer to each other in cycles, and give the cached memory of a GPU back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def used_budget(head: Head, token_budget: int) -> int:
    """Return the token budget of a head's batches in inference: less where the memory was full."""
    return max(token_budget // head.batch_parts, 1)


class Halving:
    """Runs batches of rows, each in as few parts as the memory allows.

    `head.batch_parts` doubles when the memory does not suffice. The next work of the head begins with it.

    Args:
        doing: the work, for messages: "scoring".
        head: does the work.
    """

    def __init__(self, doing: str, head: Head) -> None:
        self.doing, self.head = doing, head

    def run(self, indices: Sequence[int], work: Callable[[Sequence[int]], Any]) -> list[tuple[Sequence[int], Any]]:
        """Return pairs of indices and results that together are the batch, in order.

        Args:
            indices: of the rows of a batch.
            work: does it for some of them.

        Raises:
            ModelError: a single row does not fit.
        """
        while True:
            size = -(-len(indices) // self.head.batch_parts)
            parts = [indices[first : first + size] for first in range(0, len(indices), size)]
            try:
                return [(part, work(part)) for part in parts]
            except torch.OutOfMemoryError:
                pass  # what it had allocated is free when its traceback is gone
            if size == 1:
                raise out_of_memory(f"{self.doing} a single row")
            free_memory()
            self.head.batch_parts *= 2
            print(
                f"out of memory while {self.doing}: going on with batches in {self.head.batch_parts} parts", flush=True
            )
