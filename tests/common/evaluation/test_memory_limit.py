"""Where a GPU's memory does not suffice, batches are divided, every row is there once, and it is said once."""

import weakref
from types import SimpleNamespace

import pytest
import torch

from common.core.errors import ModelError, for_user, out_of_memory
from common.evaluation import memory_limit
from common.evaluation.memory_limit import Halving, free_memory


def fits(most: int, seen: list[int]):
    """Return work that runs out of memory with more than `most` rows."""

    def work(indices):
        seen.append(len(indices))
        if len(indices) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return [index * 10 for index in indices]

    return work


def test_batches_are_divided_until_they_fit(capsys):
    head, seen = SimpleNamespace(batch_parts=1), []
    halving = Halving("scoring", head)
    work = fits(3, seen)
    for batch in ([4, 9, 2, 7, 5, 1, 3, 8], [6, 0], [10, 11, 12, 13, 14]):
        parts = halving.run(batch, work)
        assert [index for part, _ in parts for index in part] == batch
        assert [value for _, values in parts for value in values] == [index * 10 for index in batch]
    assert head.batch_parts == 4 and seen == [8, 4, 2, 2, 2, 2, 1, 1, 2, 2, 1]  # later batches begin in four parts
    assert capsys.readouterr().out.count("out of memory while scoring") == 2
    assert [part for part, _ in Halving("scoring", head).run([1, 2, 3, 4], work)] == [[1], [2], [3], [4]]
    assert capsys.readouterr().out == ""  # the next scoring begins so, and does not say it again


def test_what_a_batch_had_allocated_is_free_before_its_parts_are_run(monkeypatch):
    class Activations:
        pass

    held, found = [], []

    def work(indices):
        activations = Activations()
        held.append(weakref.ref(activations))
        if len(indices) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(memory_limit, "free_memory", lambda: found.append(held[-1]()))
    Halving("scoring", SimpleNamespace(batch_parts=1)).run([1, 2, 3, 4], work)
    assert found == [None]  # the traceback, which refers to it, was gone


def test_a_row_that_does_not_fit():
    with pytest.raises(ModelError, match=r"out of memory in scoring a single row.*max_length"):
        Halving("scoring", SimpleNamespace(batch_parts=1)).run([1, 2, 3], fits(0, []))


def test_what_to_change():
    message = str(out_of_memory("a training step of one row with 512 tokens"))
    assert "512 tokens" in message and "max_length" in message and "quantization=nf4" in message


def test_torch_s_error_is_known_by_its_name():
    assert isinstance(for_user(torch.OutOfMemoryError("CUDA out of memory")), ModelError)
    other = RuntimeError("CUDA error: an illegal memory access was encountered")
    assert for_user(other) is other


def test_free_memory_is_given_back_to_the_card(monkeypatch):
    """Without it, the next model does not find the memory that cycles of the last one held."""

    class Node:
        pass

    node = Node()
    node.itself, alive = node, weakref.ref(node)
    del node
    found = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: found.append(alive()))
    free_memory()
    assert found == [None]  # the cycle was gone before
