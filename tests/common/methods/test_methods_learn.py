"""Every method learns a small real task: which of two debates a sentence is from.

MiniLM sees 96 sentences of the embedded corpus, each behind its debate's claim, and 60 others are scored. Its head
stays as it was drawn, so whatever is learned is the method's own doing. Methods that need a decoder do it on a
miniature one. The claim gives the answer away: a method that works is right nearly always, however a processor rounds.
"""

import copy
import dataclasses

import pytest
import torch
from marks import slow_except
from peft_cases import CAUSAL, NAMES, POSSIBLE, UNUSABLE
from pydantic import TypeAdapter
from torch import nn
from transformers import set_seed

from common.config import catalog
from common.config.dataset import Dataset
from common.config.methods import Method
from common.data.load import load_rows
from common.data.rows import Row
from common.hub import locate
from common.methods import adalora, attach, eva
from common.model.batching import StepSampler
from common.model.build import build_head, with_head
from common.model.heads import ClassificationHead, Head
from common.model.load import load_base, load_tokenizer, quiet_libraries

CLAIMS = ("Abortion should be legal.", "Vegans are right.")
COUNTS = {"train": 96, "test": 60}  # half of them from either debate
STEP = 4  # rows
HEAD = "classifier."  # in the names of what does not learn
WELL = 0.8  # share of the held-out rows; one answer for all gets half of them right

TOKENS = {"num_virtual_tokens": 8}
# What this model and so few steps need other than the library's defaults.
OPTIONS: dict[str, dict] = {
    "adalora": {"total_step": 8, "tfinal": 2},
    "c3a": {"block_size": 64},
    "ln_tuning": {"target_modules": ["LayerNorm"]},
    "lora": {"r": 8},
    "oft": {"oft_block_size": 32, "r": 0},
    "osf": {"effective_rank": 8, "target_modules": ["query", "value"]},
    "p_tuning": {**TOKENS, "encoder_hidden_size": 64},
    "prefix_tuning": TOKENS,
    "prompt_tuning": {**TOKENS, "prompt_tuning_init": "SAMPLE_VOCAB"},
    "tinylora": {"r": 16},
    "vblora": {"num_vectors": 32, "vector_length": 32, "topk": 2},
}
VARIANTS: dict[str, dict] = {
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "lora_bias": {"lora_bias": True},
    "bias": {"bias": "all"},
    "velora": {"velora_config": {}},
    "kasa": {"kasa_config": {}},
    "random": {"init_lora_weights": False, "lora_alpha": 1},  # B is not zero: a larger update would drown the base
    "eva": {"init_lora_weights": "eva", "target_modules": ["query", "value"]},
    **{
        start: {"init_lora_weights": start}
        for start in ("gaussian", "olora", "pissa", "pissa_niter_4", "orthogonal", "mica")
    },
}
ENCODERS = {name for kind, name in POSSIBLE if kind == "bert"}
METHODS: dict[str, dict] = {
    "full": {"name": "full"},
    "last-layers": {"name": "last-layers", "k": 1},
    "lora-from-scratch": {"name": "lora-from-scratch", "r": 8},
    "adapters-houlsby": {"name": "adapters", "placement": "houlsby"},
    "adapters-pfeiffer": {"name": "adapters", "placement": "pfeiffer"},
    **{name: {"name": name, **OPTIONS.get(name, {})} for name in sorted(ENCODERS)},
    **{f"lora-{key}": {"name": "lora", "r": 8, **options} for key, options in VARIANTS.items()},
}
# The more a method can move at once, the smaller its steps.
RATES = {
    **dict.fromkeys((key for key, method in METHODS.items() if method["name"] == "lora"), 1e-3),
    **dict.fromkeys(("lora-from-scratch", "last-layers", "osf"), 1e-3),
    **dict.fromkeys(("gralora", "miss", "randlora"), 3e-3),
    **dict.fromkeys(("adalora", "adamss", "boft", "hira", "hra", "ia3", "loha", "lokr", "prompt_tuning"), 3e-2),
    **dict.fromkeys(("beft", "road", "supertuning", "tinylora"), 3e-2),
    **dict.fromkeys(("prefix_tuning", "pvera", "vera"), 1e-1),
    "c3a": 1.0,
    "fourierft": 3e-1,
    "full": 2e-4,
    "lora-random": 3e-3,
    "p_tuning": 2e-3,
    "unilora": 2e-1,
}
EPOCHS = {
    **dict.fromkeys(("beft", "prompt_tuning", "pvera", "road", "tinylora", "unilora", "vblora"), 2),
    "p_tuning": 3,
}
DECODERS = {
    "adaption_prompt": {"adapter_len": 8, "adapter_layers": 2},
    "shadow": {},
    "trainable_tokens": {"token_indices": list(range(5, 398))},
}
DECODER_RATES = {"adaption_prompt": 6e-2, "shadow": 5e-3, "trainable_tokens": 3e-2}  # shadow trains a layer of its own


def rows(split: str) -> list[Row]:
    """The rows of either debate, labelled 0 and 1; texts are claim and sentence."""
    every = load_rows(catalog.load_dataset("stance-sample"))[split]
    return [
        dataclasses.replace(row, label=label)
        for label, claim in enumerate(CLAIMS)
        for row in [row for row in every if row.group == claim][: COUNTS[split] // 2]
    ]


def task(**changes: object) -> Dataset:
    return catalog.load_dataset("stance-sample").with_labels(["con", "pro"]).model_copy(update=changes)


def train(head: Head, train_rows: list[Row], rate: float, epochs: int) -> None:
    encoded = head.encoder.encode(train_rows)
    sampler = StepSampler([head.training_tokens(row) for row in encoded], STEP, seed=0)
    if eva.needs_batches(head.model):
        batches = [head.training_batch([encoded[index] for index in step]) for step in sampler]
        eva.initialise(head.model, batches, head.device, head.losses)
    parameters = [p for name, p in head.model.named_parameters() if p.requires_grad and HEAD not in name]
    optimizer = torch.optim.Adam(parameters, lr=rate)
    total = epochs * len(sampler)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / total)  # the last steps are small
    head.model.train()
    steps = 0
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for step in sampler:
            batch = head.training_batch([encoded[index] for index in step])
            (head.losses(batch) / head.terms(batch)).mean().backward()
            optimizer.step()
            falling.step()
            steps += 1
            if (ranks := adalora.allocator(head.model)) is not None:
                ranks.update_and_allocate(steps)
            optimizer.zero_grad()


def accuracy(head: Head, test_rows: list[Row]) -> float:
    head.model.eval()
    encoded = sorted(head.encoder.encode(test_rows), key=head.scoring_tokens)
    with torch.no_grad():
        scores = torch.cat([head.scores(head.scoring_batch(encoded[i : i + 20])) for i in range(0, len(encoded), 20)])
    return (scores.argmax(dim=1) == torch.tensor([row.label for row in encoded])).double().mean().item()


# --- on the real encoder ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def debates(fresh) -> dict[str, list[Row]]:
    """The rows, labelled against what a head that nothing has trained says of most of them."""
    labelled = {split: rows(split) for split in COUNTS}
    if accuracy(fresh({"name": "none"}), labelled["test"]) <= 0.5:
        return labelled
    return {split: [dataclasses.replace(row, label=1 - row.label) for row in labelled[split]] for split in COUNTS}


@pytest.fixture(scope="module")
def fresh():
    """`fresh(method)` → MiniLM with a method, and a head that is the same every time."""
    quiet_libraries()
    job, _ = catalog.load_job("minilm-full", {"max_length": 12})
    tokenizer = load_tokenizer(locate.locate(job.model, job.revision))
    set_seed(0)
    base = load_base(job, task(), tokenizer.pad_token_id)

    def make(method: dict) -> ClassificationHead:
        set_seed(1)
        model = attach(copy.deepcopy(base), TypeAdapter(Method).validate_python(method))
        return with_head(job, task(), model, tokenizer)

    return make


def test_every_usable_method_is_here():
    assert {method["name"] for method in METHODS.values()} >= ENCODERS
    assert ENCODERS | set(DECODERS) == set(NAMES) - UNUSABLE
    assert set(DECODERS) <= set(CAUSAL)


def test_a_head_that_nothing_has_trained_is_no_better_than_chance(fresh, debates):
    assert accuracy(fresh({"name": "none"}), debates["test"]) <= 0.5


@pytest.mark.parametrize("key", slow_except(["lora", "lora-from-scratch"], METHODS))
def test_it_learns_on_an_encoder(fresh, debates, key):
    head = fresh(METHODS[key])
    drawn = weights(head.model)
    train(head, debates["train"], RATES.get(key, 1e-2), EPOCHS.get(key, 1))
    assert torch.equal(weights(head.model), drawn)
    assert accuracy(head, debates["test"]) >= WELL


def weights(model: nn.Module) -> torch.Tensor:
    """All copies of the head's parameters, one behind the other."""
    return torch.cat([p.detach().flatten().clone() for name, p in model.named_parameters() if HEAD in name])


# --- on a decoder, by the prompt head --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", DECODERS)
def test_it_learns_on_a_decoder(prompt_job, tiny_causal_model, name):
    folder = tiny_causal_model("llama", hidden_size=64, num_attention_heads=4, initializer_range=0.2)
    job = prompt_job("llama", folder, method={"name": name, **DECODERS[name]}, max_length=64)
    prompt = task().prompt.model_copy(update={"system": None, "user": "{sentence} {claim}"})
    set_seed(1)
    head = build_head(job, task(prompt=prompt))
    assert accuracy(head, rows("test")) <= 0.6
    train(head, rows("train"), DECODER_RATES[name], epochs=12)
    assert accuracy(head, rows("test")) >= WELL
