import numpy as np
import pytest
import torch

from common.model.batching import Encoded, StepSampler, collate, is_on_cpu, token_batches


def lengths_of(count, seed=0):
    """Lengths as texts have them: many short, few long."""
    return np.random.default_rng(seed).lognormal(3.3, 0.6, count).astype(int).clip(3, 256).tolist()


def epoch(sampler, number):
    sampler.set_epoch(number)
    return list(sampler)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 128, 1000])
@pytest.mark.parametrize("number", [0, 1, 5])
def test_an_epoch_visits_every_row_once(count, number):
    sampler = StepSampler(lengths_of(count), batch_size=8, seed=1)
    steps = epoch(sampler, number)
    assert sorted(index for step in steps for index in step) == list(range(count))
    assert len(steps) == len(sampler) == -(-count // 8)
    assert sorted(map(len, steps))[1:] == [8] * (len(steps) - 1)


def test_the_order_depends_on_seed_and_epoch_alone():
    lengths = lengths_of(200)
    orders = [epoch(StepSampler(lengths, 8, seed), number) for seed in (1, 2) for number in (0, 1)]
    assert epoch(StepSampler(lengths, 8, 1), 0) == orders[0]
    assert len({str(order) for order in orders}) == 4


def test_rows_meet_other_rows_in_the_next_epoch():
    sampler = StepSampler(lengths_of(400), 8, seed=1)
    first, second = ({frozenset(step) for step in epoch(sampler, number)} for number in (0, 1))
    assert not first & second


def test_going_back_to_an_epoch_repeats_it():
    sampler = StepSampler(lengths_of(100), 8, seed=1)
    before = epoch(sampler, 3)
    epoch(sampler, 4)
    assert epoch(sampler, 3) == before


def test_the_short_step_does_not_always_hold_the_same_rows():
    sampler = StepSampler(lengths_of(101), 10, seed=1)
    short = [next(step for step in epoch(sampler, number) if len(step) == 1)[0] for number in range(20)]
    assert len(set(short)) > 10
    assert np.median([sampler.lengths[index] for index in short]) < np.percentile(sampler.lengths, 90)


def padded(steps, lengths):
    return sum(len(step) * max(lengths[index] for index in step) for step in steps)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_padding_costs_little(seed):
    lengths = lengths_of(2000, seed)
    real = sum(lengths)
    random = np.random.default_rng(seed).permutation(2000).reshape(-1, 16).tolist()
    assert padded(random, lengths) > 1.8 * real
    assert padded(epoch(StepSampler(lengths, 16, seed), 0), lengths) < 1.25 * real
    assert padded(token_batches(lengths, 4096), lengths) < 1.15 * real


@pytest.mark.parametrize("budget", [16, 64, 500, 4096])
def test_token_batches_keep_to_the_budget(budget):
    lengths = lengths_of(300)
    batches = token_batches(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(300))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget
    longest = [max(lengths[index] for index in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_token_batches_are_filled():
    assert token_batches([4, 4, 4, 4, 4], 8) == [[0, 1], [2, 3], [4]]
    assert token_batches([2, 20, 2], 4) == [[1], [0, 2]]
    assert token_batches([], 8) == []


def encoded(ids, types=None, label=None, weight=1.0):
    return Encoded(input_ids=ids, token_type_ids=types, label=label, weight=weight, truncated=False)


def test_collate_pads_on_the_right():
    batch = collate([encoded([5, 6, 7], [0, 0, 1], 1, 2.0), encoded([8], [0], 0)], pad_token_id=9)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]
    assert batch["weights"].tolist() == [2.0, 1.0]
    integers = {name for name, tensor in batch.items() if tensor.dtype == torch.int64}
    assert integers == {"input_ids", "attention_mask", "token_type_ids", "labels"}
    assert batch["weights"].dtype == torch.float32


def test_collate_leaves_out_what_rows_have_not():
    batch = collate([encoded([5])], pad_token_id=0)
    assert set(batch) == {"input_ids", "attention_mask", "weights"}


def test_a_real_token_equal_to_the_pad_token_is_attended():
    assert collate([encoded([0, 0]), encoded([1])], pad_token_id=0)["attention_mask"].tolist() == [[1, 1], [1, 0]]


def test_padding_is_limited_where_it_is_asked():
    lengths = [50, 50, 49, 40, 39, 39, 7]
    assert token_batches(lengths, 10_000) == [[0, 1, 2, 3, 4, 5, 6]]
    assert token_batches(lengths, 10_000, most_padding=2) == [[0, 1, 2], [3, 4, 5], [6]]
    assert token_batches(lengths, 100, most_padding=2) == [[0, 1], [2], [3, 4], [5], [6]]


def test_which_models_run_on_a_cpu():
    layer = torch.nn.Linear(1, 1)
    assert is_on_cpu(layer) and is_on_cpu(torch.nn.Identity())
    assert not is_on_cpu(layer.to("meta"))
