"""A prefix tree gives every prompt the logits, losses and gradients of a pass of its own, and runs fewer tokens."""

import random
from types import SimpleNamespace

import peft_cases
import pytest
import torch
from marks import slow_except
from peft_cases import CAUSAL
from transformers import AutoConfig, AutoModelForCausalLM, set_seed

from common.config.methods import Adapters, LoraFromScratch
from common.methods import attach
from common.model import layouts, prefix_tree, tree_attention
from common.model.batching import Encoded
from common.model.layouts import Answered, PaddedLayout, TreeLayout
from common.model.losses import IGNORED, answer_losses
from common.model.prompt_head import PromptHead

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "attention_dropout": 0.0,
}
# What a family has of its own: windows shorter than a prompt, soft-capping, layers of two kinds.
OWN = {
    "mistral": {"sliding_window": 7},
    "phi3": {"sliding_window": 7},
    "starcoder2": {"sliding_window": 7, "residual_dropout": 0.0, "embedding_dropout": 0.0},
    "qwen2": {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
    "qwen3": {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
    "gemma2": {"sliding_window": 7, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    "gemma3_text": {"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    "smollm3": {"no_rope_layers": [1, 0, 1]},
    "ministral": {"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
}
FAMILIES = [*prefix_tree.ONE_MASK, *prefix_tree.MASK_PER_LAYER_TYPE]
WITH_SDPA = [family for family in FAMILIES if family != "gemma2"]  # transformers has no soft-capping in sdpa
BOTH = [*((family, "sdpa") for family in WITH_SDPA), *((family, "eager") for family in FAMILIES)]
OWN_METHODS = {"lora-from-scratch": LoraFromScratch(name="lora-from-scratch"), "adapters": Adapters(name="adapters")}
ANSWERS = [[5, 6, 7], [5, 8], [9, 7, 7, 7], [5]]


class Answers:
    """An encoder of which only the answers matter."""

    tokenizer = SimpleNamespace(pad_token_id=0)
    answer_ids = ANSWERS
    end_of_turn_length = 1


def rows(number: int = 9) -> list[Answered]:
    """Prompts of several lengths: all begin alike, some share a claim, two are equal."""
    draw = random.Random(0)
    claims = [[draw.randrange(10, 40) for _ in range(4)] for _ in range(2)]
    prompts = [[1, 11, 12] + claims[n % 2] + [draw.randrange(10, 40) for _ in range(2 + n)] for n in range(number)]
    return [Answered(prompt, ANSWERS) for prompt in [*prompts, prompts[0]]]


@pytest.fixture(autouse=True)
def attended(monkeypatch) -> list[int]:
    """Let trees have several parts, and return the queries of every call of sdpa below the attention over trees."""
    monkeypatch.setattr(tree_attention, "_PART", 8)
    plain, calls = tree_attention.sdpa_attention_forward, []

    def counted(module, query, *arguments, **options):
        calls.append(query.shape[2])
        return plain(module, query, *arguments, **options)

    monkeypatch.setattr(tree_attention, "sdpa_attention_forward", counted)
    return calls


@pytest.fixture(scope="module")
def model():
    """`model("qwen2", attention="eager")` → a tiny random model of a family."""

    def make(family: str, attention: str = "sdpa", **changes: object):
        set_seed(0)
        config = AutoConfig.for_model(family, **{**SIZES, **OWN.get(family, {}), **changes})
        made = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(8)  # otherwise attention hardly matters
        return made

    return make


def token_logs(layout, answered) -> torch.Tensor:
    """Return the log probability of every answer (B, A)."""
    batch = layout.batch(answered)
    return -answer_losses(layout.logits(batch, "float32").float(), batch["places"], batch["tokens"])


def one_by_one(model, answered) -> torch.Tensor:
    """Return the same from a plain pass for every answer."""
    found = torch.zeros(len(answered), len(ANSWERS))
    for index, row in enumerate(answered):
        for column, answer in enumerate(row.answers):
            logs = model(input_ids=torch.tensor([row.prompt + answer])).logits[0].float().log_softmax(-1)
            first = len(row.prompt) - 1
            found[index, column] = sum(logs[first + n, token] for n, token in enumerate(answer))
    return found


@pytest.mark.parametrize(("family", "attention"), BOTH)
def test_a_tree_gives_what_passes_of_their_own_give(model, family, attention, attended):
    made = model(family, attention)
    answered = rows()
    assert prefix_tree.why_not(made, None) is None
    with torch.no_grad():
        expected = one_by_one(made, answered)
        padded = token_logs(PaddedLayout(made, 0), answered)
        attended.clear()
        found = token_logs(TreeLayout(made, 0), answered)
    nodes = TreeLayout(made, 0).batch(answered)["input_ids"].numel()
    layers = made.config.num_hidden_layers
    if attention == "sdpa":
        assert sum(attended) == layers * nodes and len(attended) > 5 * layers
    assert expected.std(dim=0).min() > 0.05  # rows differ
    torch.testing.assert_close(padded, expected, rtol=1e-5, atol=5e-5)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=5e-5)
    if "sliding_window" in OWN.get(family, {}):  # and the window is the reason
        with torch.no_grad():
            wide = token_logs(TreeLayout(model(family, attention, sliding_window=100), 0), answered)
        assert (wide - found).abs().max() > 1e-3


def gradients(made, layout, batches) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the losses of all rows, and the gradients of their sum."""
    made.zero_grad()
    losses = []
    for batch in batches:
        own = answer_losses(layout.logits(batch, "float32").float(), batch["places"], batch["tokens"])
        own.sum().backward()
        losses.append(own.detach().flatten())
    return torch.cat(losses), {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}


def check_gradients(made, answered) -> None:
    """Compare a tree's losses and gradients with those of rows run one by one."""
    tree, padded = TreeLayout(made, 0), PaddedLayout(made, 0)
    expected, reference = gradients(made, padded, [padded.batch([row]) for row in answered])
    losses, found = gradients(made, tree, [tree.batch(answered)])
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=5e-5)
    assert set(found) == set(reference) and max(gradient.abs().max() for gradient in reference.values()) > 0.1
    for name, gradient in found.items():
        scale = float(reference[name].abs().max()) + 1e-3
        torch.testing.assert_close(gradient / scale, reference[name] / scale, rtol=0, atol=2e-4, msg=name)


@pytest.mark.parametrize(("family", "attention"), slow_except([("llama", "sdpa"), ("gemma2", "eager")], BOTH))
def test_the_gradient_is_the_sum_of_the_rows_gradients(model, family, attention):
    made = model(family, attention)
    check_gradients(made, [Answered(row.prompt, [ANSWERS[index % 4]]) for index, row in enumerate(rows())])


def test_so_it_is_with_activation_checkpointing(model):
    made = model("qwen2").train()
    made.activation_checkpointing_enable({"use_reentrant": False})
    check_gradients(made, [Answered(row.prompt, [ANSWERS[index % 4]]) for index, row in enumerate(rows())])


def test_what_is_shared_is_run_once(model):
    made, answered = model("llama"), rows()
    tree, padded = TreeLayout(made, 0), PaddedLayout(made, 0)
    starts = {tuple(s[:n]) for row in answered for s in row.sequences() for n in range(1, len(s) + 1)}
    assert tree.batch(answered)["input_ids"].numel() == len(starts)
    assert padded.batch(answered)["input_ids"].numel() > 3 * len(starts)
    alone = Answered([1, 11, 12], ANSWERS)
    assert tree.tokens(alone) == 3 + len([(5,), (5, 6), (9,), (9, 7), (9, 7, 7)])
    assert tree.batch([alone])["input_ids"].numel() == tree.tokens(alone)
    assert tree.batch([alone])["kept"].tolist() == list(range(2, 8))  # the prompt's last token and all below it
    # [5] and [5, 8] begin [5, 6, 7]: two passes for four answers.
    assert padded.batch([alone])["input_ids"].shape == (2, 6) and padded.tokens(alone) == 12
    assert padded.tokens(Answered([1, 2], [[3], [4]])) == 2


def test_places_and_tokens(model):
    layout = PaddedLayout(model("llama"), 0)
    batch = layout.batch([Answered([1, 11], [[5, 6], [9]]), Answered([1], [[7], [7, 7]])])
    assert batch["tokens"].tolist() == [[[5, 6], [9, IGNORED]], [[7, IGNORED], [7, 7]]]
    assert batch["input_ids"].tolist() == [[1, 11, 5], [0, 1, 7]] and batch["position_ids"].tolist() == [
        [0, 1, 2],
        [0, 0, 1],
    ]
    assert batch["places"].tolist() == [[[0, 1], [0, 0]], [[2, 0], [2, 3]]]


@pytest.mark.parametrize("budget", [1, 40, 100, 10_000])
def test_batches_keep_to_the_budget(model, monkeypatch, budget):
    monkeypatch.setattr(layouts, "_KEPT_SHARE", 2)
    made = model("llama")
    answered = rows(30)
    for layout in (TreeLayout(made, 0), PaddedLayout(made, 0)):
        groups = layout.groups(answered, budget)
        assert sorted(index for group in groups for index in group) == list(range(len(answered)))
        for group in groups:
            batch = layout.batch([answered[index] for index in group])
            assert batch["input_ids"].numel() <= max(budget, layout.tokens(answered[group[0]]))
            if isinstance(layout, TreeLayout) and len(group) > 1:
                assert len(batch["kept"]) * 2 <= budget
    assert len(TreeLayout(made, 0).groups(answered, 10_000)) == 1
    assert TreeLayout(made, 0).groups([], budget) == []


def test_a_tree_is_never_larger_than_pays(model):
    made = model("llama")
    assert TreeLayout(made, 0).most_tokens(100_000) == 1024 and TreeLayout(made, 0).most_tokens(100) == 100
    assert TreeLayout(made.to("meta"), 0).most_tokens(100_000) == 4096  # on a GPU
    assert TreeLayout(model("gemma2", "eager"), 0).most_tokens(100_000) == 512


@pytest.mark.parametrize("name", slow_except(["lora", "shadow"], [*CAUSAL, "lora-from-scratch", "adapters"]))
def test_with_every_method(name):
    """A row's scores are the same alone, without sharing."""
    chosen = OWN_METHODS[name] if name in OWN_METHODS else peft_cases.method(name)
    attached = attach(peft_cases.tiny_model("llama", "prompt"), chosen).eval()
    set_seed(1)
    with torch.no_grad():
        for parameter in attached.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))  # as if it had been trained
    head = PromptHead(attached, Answers(), "float32")
    assert (head.unshared is not None) == (name in ("adaption_prompt", "shadow"))
    whole, encoded = head.with_whole_rows(), [Encoded(row.prompt, None, 0, 1.0, False) for row in rows()]
    with torch.no_grad():
        found = head.scores(head.scoring_batch(encoded))
        alone = torch.cat([whole.scores(whole.scoring_batch([row])) for row in encoded])
    torch.testing.assert_close(found, alone, rtol=1e-5, atol=5e-5)


def test_the_parts_of_a_tree(attended):
    """Every node is in one part, which has the keys of all nodes that it sees, and few others."""
    tree = prefix_tree.prefix_tree([sequence for row in rows(40) for sequence in row.sequences()])
    ends = torch.tensor(tree.ends)
    parts = tree_attention.tree_parts(torch.tensor(tree.position_ids), ends)
    index = torch.arange(len(ends))
    assert torch.equal(torch.cat([index[part.start : part.stop] for part in parts]), index)
    seen = (index <= index[:, None]) & (index[:, None] < ends)
    for part in parts:
        assert len(set(part.keys.tolist())) == len(part.keys)
        is_key = torch.zeros(len(ends), dtype=torch.bool)
        is_key[part.keys] = True
        assert not seen[part.start : part.stop, ~is_key].any()
    pairs = sum((part.stop - part.start) * len(part.keys) for part in parts)
    assert 4 * pairs < len(ends) ** 2 and len(parts) > 10
    [whole] = tree_attention.tree_parts(torch.arange(5), torch.full((5,), 5))  # one sequence
    assert whole.keys.tolist() == list(range(5))


def test_other_passes_of_the_model_are_sdpa(model):
    made = model("llama")
    ids = torch.tensor([[1, 11, 12, 13], [1, 14, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    with torch.no_grad():
        before, written = made(ids, attention_mask=mask).logits, made.generate(ids[:1], max_new_tokens=3)
        TreeLayout(made, 0)
        assert torch.equal(made(ids, attention_mask=mask).logits, before)
        assert torch.equal(made.generate(ids[:1], max_new_tokens=3), written)
    assert "sdpa_tree" not in made.config.to_json_string()
