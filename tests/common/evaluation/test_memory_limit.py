"""Where a GPU's memory does not suffice, batches are divided, every row is there once, and it is said once."""

import pytest
import torch

from common.core.errors import ModelError
from common.evaluation.memory_limit import Halving, out_of_memory


def fits(most: int, seen: list[int]):
    """Return work that runs out of memory with more than `most` rows."""

    def work(indices):
        seen.append(len(indices))
        if len(indices) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return [index * 10 for index in indices]

    return work


def test_batches_are_divided_until_they_fit(capsys):
    halving, seen = Halving("scoring"), []
    work = fits(3, seen)
    for batch in ([4, 9, 2, 7, 5, 1, 3, 8], [6, 0], [10, 11, 12, 13, 14]):
        parts = halving.run(batch, work)
        assert [index for part, _ in parts for index in part] == batch
        assert [value for _, values in parts for value in values] == [index * 10 for index in batch]
    assert halving.parts == 4 and seen == [8, 4, 2, 2, 2, 2, 1, 1, 2, 2, 1]  # later batches begin in four parts
    assert capsys.readouterr().out.count("out of memory while scoring") == 2


def test_a_row_that_does_not_fit():
    with pytest.raises(ModelError, match=r"out of memory in scoring a single row.*max_length"):
        Halving("scoring").run([1, 2, 3], fits(0, []))


def test_what_to_change():
    message = str(out_of_memory("a training step of one row with 512 tokens"))
    assert "512 tokens" in message and "max_length" in message and "quantization=nf4" in message
