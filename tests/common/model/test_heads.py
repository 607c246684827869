"""Encoding (pairs, truncation), and the arithmetic of the head (float32, also under bfloat16 autocast)."""

import pytest
import torch
import torch.nn.functional as F
from toy_runs import dataset
from transformers import set_seed

from common.data.rows import Row
from common.hub import locate
from common.methods.modules import head_modules
from common.model.batching import collate
from common.model.build import build_head
from common.model.encoding import Encoder
from common.model.inspect import inner_model
from common.model.load import load_tokenizer, quiet_libraries

DATASET = dataset(labels=["con", "neu", "pro"])
LABELS = list(DATASET.labels)


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_tokenizer(locate.Base(str(tiny_model), None))


def row(*texts: str, label: int | None = 0) -> Row:
    return Row(id="r", texts=texts, label=label)


def words(count: int) -> str:
    """Return a text of `count` words, each of which is one token."""
    return " ".join(["good", "idea", "time", "year", "day"][index % 5] for index in range(count))


def parts(tokenizer, encoded) -> tuple[int, int]:
    """Return the tokens of the first and of the second text, without special tokens."""
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id}
    kinds = [
        kind for token, kind in zip(encoded.input_ids, encoded.token_type_ids, strict=True) if token not in special
    ]
    return kinds.count(0), kinds.count(1)


def test_a_pair_is_a_true_pair(tokenizer):
    [encoded] = Encoder(tokenizer, 64).encode([row(words(2), words(3))])
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    first = tokenizer(words(2), add_special_tokens=False)["input_ids"]
    second = tokenizer(words(3), add_special_tokens=False)["input_ids"]
    assert encoded.input_ids == [cls, *first, sep, *second, sep]
    assert encoded.token_type_ids == [0, 0, 0, 0, 1, 1, 1, 1]
    assert not encoded.truncated and encoded.label == 0


def test_a_single_text(tokenizer):
    encoder = Encoder(tokenizer, 10)
    short, long = encoder.encode([row(words(3)), row(words(30))])
    assert short.token_type_ids == [0] * 5 and not short.truncated
    assert len(long.input_ids) == 10 and long.truncated
    assert long.input_ids[-1] == tokenizer.sep_token_id
    assert long.input_ids[1:-1] == tokenizer(words(8), add_special_tokens=False)["input_ids"]
    assert encoder.lengths([row(words(3)), row(words(30))]) == [5, 32]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (4, 40, (4, 13)),  # the second text is the longest: it alone is cut
        (40, 4, (13, 4)),
        (12, 13, (12, 5)),
        (17, 1, (16, 1)),
    ],
)
def test_truncation_touches_the_longest_text_alone(tokenizer, first, second, expected):
    [encoded] = Encoder(tokenizer, 20).encode([row(words(first), words(second))])
    assert parts(tokenizer, encoded) == expected
    assert len(encoded.input_ids) == 20 and encoded.truncated


def test_two_texts_too_long_on_their_own_are_both_cut(tokenizer):
    [encoded] = Encoder(tokenizer, 20).encode([row(words(40), words(60))])
    assert sum(parts(tokenizer, encoded)) == 17 and min(parts(tokenizer, encoded)) >= 8
    assert encoded.truncated


def test_a_row_of_exactly_max_length_is_whole(tokenizer):
    encoder = Encoder(tokenizer, 20)
    exact, over = encoder.encode([row(words(5), words(12)), row(words(5), words(13))])
    assert (len(exact.input_ids), exact.truncated) == (20, False)
    assert (len(over.input_ids), over.truncated) == (20, True)
    assert encoder.lengths([row(words(5), words(13))]) == [21]


def test_no_rows(tokenizer):
    assert Encoder(tokenizer, 20).encode([]) == []


# --- arithmetic ------------------------------------------------------------------------------------------------------


def build(tiny_job, name: str, **overrides: object):
    quiet_libraries()
    set_seed(5)
    head = build_head(tiny_job(name, **overrides), DATASET)
    head.model.eval()
    return head


def a_batch(head, labels: bool = True):
    rows = [row("A claim.", words(count), label=count % 3 if labels else None) for count in (3, 9, 5)]
    return collate(head.encoder.encode(rows), head.pad_token_id)


def test_scores_are_log_probabilities_and_losses_are_theirs(tiny_job):
    head = build(tiny_job, "minilm-full")
    batch = a_batch(head)
    with torch.no_grad():
        scores, losses = head.scores(batch), head.losses(batch)
    torch.testing.assert_close(scores.exp().sum(dim=1), torch.ones(3))
    torch.testing.assert_close(losses, -scores[torch.arange(3), batch["labels"]])
    torch.testing.assert_close(
        head.losses(batch, 0.3),
        F.cross_entropy(head.logits(batch), batch["labels"], reduction="none", label_smoothing=0.3),
    )


@pytest.mark.parametrize("name", ["minilm-full", "minilm-lora", "minilm-last-layers"])
def test_the_head_computes_in_float32_under_bfloat16(tiny_job, name):
    options = {"method.k": 1} if name == "minilm-last-layers" else {}
    head = build(tiny_job, name, precision="bfloat16", **options)
    assert head.precision == "bfloat16"
    seen: dict[str, list[torch.dtype]] = {"backbone": [], "head": []}

    def watch(place: str):
        return lambda module, inputs, output: seen[place].append(output.dtype)

    inner = inner_model(head.model)
    inner.bert.encoder.layer[0].attention.self.query.register_forward_hook(watch("backbone"))
    linear = [
        module
        for part in head_modules(inner).values()
        for module in part.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    assert len(linear) == (2 if name == "minilm-lora" else 1)  # peft keeps the original beside the trained copy
    for module in linear:
        module.register_forward_hook(watch("head"))
    batch = a_batch(head)
    logits = head.logits(batch)
    assert seen["backbone"] == [torch.bfloat16]
    assert seen["head"] == [torch.float32]
    assert logits.dtype == torch.float32
    exact = build(tiny_job, name, **options).logits(batch)
    difference = (logits - exact).abs().max().item()
    assert 0 < difference < 0.05  # bfloat16 did run, and came close
    head.losses(batch).sum().backward()
    trained = [p for p in head.model.parameters() if p.requires_grad]
    assert trained and all(p.grad is not None and p.grad.dtype == torch.float32 for p in trained)


def test_float32_jobs_use_no_autocast(tiny_job):
    head = build(tiny_job, "minilm-full")
    seen = []
    inner_model(head.model).bert.encoder.layer[0].attention.self.query.register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )
    head.logits(a_batch(head))
    assert seen == [torch.float32]


def test_padding_does_not_change_scores(tiny_job):
    head = build(tiny_job, "minilm-full")
    alone = collate(head.encoder.encode([row("A claim.", words(3))]), head.pad_token_id)
    padded = collate(head.encoder.encode([row("A claim.", words(3)), row("A claim.", words(50))]), head.pad_token_id)
    with torch.no_grad():
        torch.testing.assert_close(head.scores(alone)[0], head.scores(padded)[0], rtol=0, atol=1e-5)


def test_a_pair_without_separators_gets_a_line_break(tiny_causal_model):
    tokenizer = load_tokenizer(locate.locate(str(tiny_causal_model("qwen")), "main"))
    encoder = Encoder(tokenizer, 40)
    [ids] = [encoded.input_ids for encoded in encoder.encode([row("A claim.", "A sentence.")])]
    assert tokenizer.decode(ids) == "A claim.\nA sentence."
    [cut] = encoder.encode([row("A claim.", "really " * 90)])
    assert cut.truncated and len(cut.input_ids) <= 40 and tokenizer.decode(cut.input_ids).startswith("A claim.\nreally")
