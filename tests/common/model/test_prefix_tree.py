"""A prefix tree has every common start once, and its mask lets each node see its ancestors."""

import random
from types import SimpleNamespace

import pytest
import torch

from common.model.prefix_tree import attention_mask, prefix_tree, shared_length, why_not


def sequences(seed: int) -> list[list[int]]:
    """Random sequences, some equal, some the beginning of others, some with a common start."""
    draw = random.Random(seed)
    starts = [[draw.randrange(3) for _ in range(draw.randrange(6))] for _ in range(3)]
    return [draw.choice(starts) + [draw.randrange(3) for _ in range(draw.randrange(1, 5))] for _ in range(12)]


@pytest.mark.parametrize("seed", range(20))
def test_every_common_start_is_there_once(seed):
    rows = sequences(seed)
    tree = prefix_tree(rows)
    assert [[tree.input_ids[node] for node in path] for path in tree.paths] == rows
    assert all([tree.position_ids[node] for node in path] == list(range(len(path))) for path in tree.paths)
    starts = {tuple(row[:length]) for row in rows for length in range(1, len(row) + 1)}
    assert len(tree.input_ids) == len(starts) == len({node for path in tree.paths for node in path})
    for path in tree.paths:
        for depth, node in enumerate(path):
            ancestors = [k for k in range(len(tree.ends)) if k <= node < tree.ends[k]]
            assert ancestors == path[: depth + 1]


def test_a_tree_by_hand():
    tree = prefix_tree([[5, 7, 8], [5, 7], [5, 9], [4]])
    assert tree.input_ids == [4, 5, 7, 8, 9] and tree.position_ids == [0, 0, 1, 2, 1]
    assert tree.ends == [1, 5, 4, 4, 5] and tree.paths == [[1, 2, 3], [1, 2], [1, 4], [0]]


def test_shared_length():
    assert shared_length([], [1]) == 0 and shared_length([1, 2], [1, 2]) == 2
    assert shared_length([1, 2, 3, 4], [1, 2, 3, 5, 6]) == 3 and shared_length([2, 1], [1, 1]) == 0


def config(**keys) -> SimpleNamespace:
    return SimpleNamespace(**{"model_type": "llama", "_attn_implementation": "sdpa", **keys})


def test_masks():
    tree = prefix_tree([[5, 7, 8], [5, 9]])  # nodes 5, 7, 8, 9
    positions, ends = torch.tensor(tree.position_ids), torch.tensor(tree.ends)
    seen = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1]]).bool()
    torch.testing.assert_close(attention_mask(config(), positions, ends, torch.float32)[0, 0], seen)
    near = seen.clone()
    near[2, 0] = False
    window = config(model_type="mistral", sliding_window=2)
    torch.testing.assert_close(attention_mask(window, positions, ends, torch.float32)[0, 0], near)
    ignored = config(sliding_window=2)  # Llama has no window, whatever its config carries
    torch.testing.assert_close(attention_mask(ignored, positions, ends, torch.float32)[0, 0], seen)
    mixed = config(model_type="gemma2", sliding_window=2, layer_types=["sliding_attention", "full_attention"])
    found = attention_mask(mixed, positions, ends, torch.float32)
    torch.testing.assert_close(found["full_attention"][0, 0], seen)
    torch.testing.assert_close(found["sliding_attention"][0, 0], near)
    added = attention_mask(config(_attn_implementation="eager"), positions, ends, torch.bfloat16)[0, 0]
    assert added.dtype == torch.bfloat16 and ((added == 0) == seen).all()
    assert (added[~seen] == torch.finfo(torch.bfloat16).min).all()


@pytest.mark.parametrize(
    ("keys", "method", "reason"),
    [
        ({}, None, None),
        ({}, "LORA", None),
        ({}, "SHADOW", "shadow"),
        ({"model_type": "bloom"}, None, "bloom"),
        ({"_attn_implementation": "flash_attention_2"}, None, "flash_attention_2"),
        ({"layer_types": ["full_attention", "linear_attention"]}, None, "linear_attention"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, None, "behind them"),
        ({"is_causal": False}, None, "behind them"),
    ],
)
def test_models_that_take_no_tree(keys, method, reason):
    found = why_not(SimpleNamespace(config=config(**keys)), method)
    assert found is None if reason is None else reason in found
