"""The card and the libraries that meet on it: quantised products, memory, waits, masks. Needs no network."""

import warnings
from pathlib import Path

import pytest
from on_card import SHORT

ENCODER = ["--model", "minilm-lora", "--dataset", "stance-sample"]


def test_the_card(figures):
    import bitsandbytes.cextension
    import torch

    assert figures["card"]["driver"] and figures["card"]["cuda"]
    assert bitsandbytes.cextension.lib.compiled_with_cuda
    assert torch.backends.cuda.matmul.fp32_precision != "tf32"  # heads and losses in float32 are float32


@pytest.mark.parametrize("double", [False, True])
def test_nf4_means_the_same_on_both_sides(figures, double):
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    torch.manual_seed(0)
    weight = torch.randn(256, 512, device="cuda")
    packed, state = quantize_4bit(weight, blocksize=64, compress_statistics=double, quant_type="nf4")
    here = dequantize_4bit(packed, state)
    state.to("cpu")
    there = dequantize_4bit(packed.cpu(), state)
    name = f"nf4{' with double quantisation' if double else ''}, difference of a weight"
    figures[name] = float((here.cpu() - there).abs().max())
    torch.testing.assert_close(here.cpu(), there, rtol=1e-5, atol=1e-6)
    assert 0 < float((here - weight).abs().max()) < 1  # it was rounded, and is the same matrix


def test_int8_products_are_exact():
    import torch
    from bitsandbytes.functional import int8_linear_matmul

    torch.manual_seed(0)
    tokens, weight = (torch.randint(-127, 128, (rows, 256), dtype=torch.int8) for rows in (32, 64))
    found = int8_linear_matmul(tokens.cuda(), weight.cuda())
    assert torch.equal(found.cpu(), tokens.int() @ weight.int().T)


def test_the_trained_model_is_gone_before_the_reload(script, tmp_path, figures, monkeypatch):
    import torch

    from common.model import saved_model

    seen, load = [], saved_model.load

    def measured(*arguments):
        seen.append(torch.cuda.memory_allocated())
        return load(*arguments)

    monkeypatch.setattr(saved_model, "load", measured)
    before = torch.cuda.memory_allocated()
    script("train", *ENCODER, "--outputs", str(tmp_path), "--set", *SHORT)
    figures["bytes left before the reload"] = seen[0] - before
    assert len(seen) == 1 and seen[0] - before < 20e6  # the model alone is 91e6


def trainer_of(name: str, tmp_path: Path):
    """Return a trainer of 32 rows whose steps have several micro-batches; "prompt" and "decoder" are a tiny Llama."""
    import tiny_causal

    from common.config import catalog
    from common.data.load import load_rows
    from common.model.build import build_head
    from common.train.trainer import StepTrainer

    dataset, settings = catalog.load_dataset("stance-sample"), {"training.token_budget": 128}
    if name != "encoder":
        settings = {"training.token_budget": 512, "max_length": 512}
        settings |= {"head": "prompt" if name == "prompt" else "classification"}
        folder = tiny_causal.make("llama-instruct", tmp_path / "model", max_position_embeddings=2048)
        settings = tiny_causal.overrides("llama-instruct", folder, settings)
    job, _ = catalog.load_job("minilm-lora", settings)
    rows = load_rows(dataset)["train"][:32]
    head = build_head(job, dataset)
    return StepTrainer(head, job, dataset, rows, rows[:4], tmp_path / "run" / "checkpoints", 1, [])


@pytest.mark.parametrize("name", ["encoder", "decoder", "prompt"])
def test_the_cpu_waits_once_a_step(figures, tmp_path, name):
    import torch

    trainer = trainer_of(name, tmp_path)
    step = next(iter(trainer.get_train_dataloader()))
    trainer.training_step(trainer.head.model, step)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer.training_step(trainer.head.model, step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = sum("synchroniz" in str(one.message) for one in caught)
    figures[f"host syncs a step, {name}"] = {"micro_batches": len(step[1]), "syncs": waits}
    assert len(step[1]) > 2 and waits == 1  # whether the loss is finite; none once for every micro-batch


def test_out_of_memory_halves_the_micro_batches(script, tmp_path, figures):
    import torch
    from on_card import metrics

    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(1e9 / total)
    settings = [*SHORT, "training.batch_size=256", "training.token_budget=65536"]
    said = script("train", *ENCODER, "--outputs", str(tmp_path), "--set", *settings)
    found = metrics(tmp_path)
    figures["token budget that 1 GB leaves of 65,536"] = found["train_token_budget"]
    assert found["train_token_budget"] < 65536 and found["steps"] == 1
    assert "going on with" in said and said.index("going on with") < said.index("steps stay the same")


@pytest.mark.parametrize(("family", "attention"), [("llama", "sdpa"), ("mistral", "sdpa"), ("gemma2", "eager")])
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-4), ("bfloat16", 5e-2)])
def test_a_prefix_tree_scores_as_rows_alone(figures, family, attention, dtype, bound):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from common.model.layouts import Answered, PaddedLayout, TreeLayout
    from common.model.losses import answer_losses

    sizes = {"vocab_size": 500, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "head_dim": 32}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "sliding_window": 16}
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **sizes, **heads)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=getattr(torch, dtype)).cuda()
    prompts = [[1, *range(10, 40), *range(50 + 7 * n, 55 + 8 * n)] for n in range(20)]
    rows = [Answered(prompt, [[5, 6], [5, 7, 8], [9]]) for prompt in prompts]
    found = []
    for layout in (TreeLayout(model.eval(), 0), PaddedLayout(model, 0)):
        batch = {key: value.cuda() for key, value in layout.batch(rows).items()}
        with torch.no_grad():
            logits = layout.logits(batch, dtype).float()
        found.append(answer_losses(logits, batch["places"], batch["tokens"]))
    difference = float((found[0] - found[1]).abs().max())
    figures[f"prefix tree, {family}, {dtype}, difference in nats"] = difference
    assert difference < bound
