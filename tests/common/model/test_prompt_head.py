"""The prompt head: scores equal every answer scored alone, losses and gradients equal TRL's SFTTrainer's."""

import numpy as np
import pytest
import tiny_causal
import torch
from marks import slow_except
from toy_runs import dataset
from transformers import AutoModelForCausalLM, set_seed

from common.core import files
from common.core.errors import ConfigError, ModelError
from common.data.rows import Row
from common.evaluation import inference, write_results
from common.hub import locate
from common.model.build import build_head, row_encoder
from common.model.inspect import inner_model
from common.model.load import load_tokenizer
from common.model.prompt_head import IGNORED, PromptHead
from common.runs.run_config import RunConfig
from common.train.trainer import StepTrainer

FAMILIES = list(tiny_causal.FAMILIES)
PROMPT = {"system": "You judge.", "user": "Is it pro or con?\nClaim: {claim}\nSentence: {sentence}\nStance:"}
LABELS = ["con", "neu", "pro"]
ANSWERS = {
    "single tokens": None,
    "several tokens": {"con": "against", "neu": "unclear maybe", "pro": "favor"},
    "a common start": {"con": "pro-life", "neu": "maybe", "pro": "pro-choice"},
    "one begins another": {"con": "pro-choice", "neu": "pro", "pro": "pro-choice good"},
}
ROWS = [
    Row(f"r{n}", (f"Claim {n}.", ("bad idea " * (n * 5 % 7) + "really").strip()), n % 3, weight=1.0 + n % 2)
    for n in range(8)
]


def described(answers=None, **changes):
    return dataset(labels=LABELS, prompt=PROMPT, answers=answers, **changes)


@pytest.fixture(scope="module")
def build(prompt_job, tiny_causal_model):
    """`build("qwen", dataset, **overrides)` → (head, job): LoRA on a tiny model, with updates as if trained."""

    def head(family: str, data=None, changes: dict | None = None, **overrides: object):
        job = prompt_job(family, tiny_causal_model(family, **(changes or {})), **overrides)
        set_seed(3)
        built = build_head(job, data or described())
        with torch.no_grad():
            for name, parameter in built.model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.2)
        built.model.eval()
        return built, job

    return head


def alone(head, rows, normalized: bool = False) -> np.ndarray:
    """Score every answer by itself: batch of one, no padding, all logits, token after token."""
    lines = []
    with torch.no_grad():
        for encoded in head.encoder.encode(rows):
            line = []
            for answer in head.scored:
                ids = torch.tensor([encoded.input_ids + answer])
                logs = head.model(input_ids=ids).logits.float().log_softmax(-1)[0]
                start = len(encoded.input_ids) - 1
                terms = [logs[start + index, token].item() for index, token in enumerate(answer)]
                line.append(sum(terms) / (len(terms) if normalized else 1))
            lines.append(line)
    return torch.tensor(lines, dtype=torch.float64).log_softmax(-1).numpy()


@pytest.mark.parametrize("normalized", [False, True], ids=["summed", "normalised"])
@pytest.mark.parametrize("answers", ANSWERS)
@pytest.mark.parametrize("family", slow_except(["qwen"], FAMILIES))
def test_scores_are_those_of_every_answer_alone(build, family, answers, normalized):
    head, _ = build(family, described(ANSWERS[answers]), length_normalization=normalized)
    assert isinstance(head, PromptHead) and head.length_normalization == normalized
    assert all(len(a) == 1 for a in head.scored) == (answers == "single tokens")
    expected = alone(head, ROWS, normalized)
    assert np.ptp(expected, axis=1).min() > 0.01  # there is something to confuse
    for budget in (16, 400, 100_000):
        found = inference.score(head, ROWS, budget, "test")
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_end_of_turn_counts_only_where_answers_have_several_tokens(build):
    head, _ = build("qwen")
    [row] = head.encoder.encode(ROWS[:1])
    assert head.scored == [answer[:-1] for answer in head.encoder.answer_ids]
    assert head.scoring_tokens(row) == len(row.input_ids)
    head, _ = build("qwen", described(ANSWERS["one begins another"]))
    assert head.scored == head.encoder.answer_ids
    # pro and pro-choice are read off pro-choice good, which they begin: one sequence is enough for all three.
    longest = head.encoder.answer_ids[2]
    assert (
        head.scoring_tokens(row) == head.with_whole_rows().scoring_tokens(row) == len(row.input_ids) + len(longest) - 1
    )


def test_rows_share_what_they_have_in_common(build):
    head, _ = build("qwen", described(ANSWERS["several tokens"]))
    whole = head.with_whole_rows()
    encoded = head.encoder.encode(ROWS)
    assert head.unshared is None and whole.scoring_batch(encoded)["input_ids"].numel() > 3 * (
        head.scoring_batch(encoded)["input_ids"].numel()
    )
    np.testing.assert_allclose(
        inference.score(head, ROWS, 10_000, "test"), inference.score(whole, ROWS, 10_000, "test"), atol=2e-5
    )


def test_columns_are_labels_in_the_order_of_the_yaml(build):
    turned = dataset(labels=["pro", "con", "neu"], prompt=PROMPT)
    one = inference.score(build("qwen")[0], ROWS, 500, "test")
    other = inference.score(build("qwen", turned)[0], ROWS, 500, "test")
    np.testing.assert_allclose(other, one[:, [2, 0, 1]], atol=1e-6)
    assert np.abs(one - other).max() > 0.01


def test_soft_capping_and_a_sliding_window_smaller_than_the_prompt(build):
    answers = described(ANSWERS["several tokens"])
    shape = {"final_logit_softcapping": 0.5, "attn_logit_softcapping": 1.0, "query_pre_attn_scalar": 1}
    head, _ = build("gemma", answers, shape | {"sliding_window": 8})
    inner = inner_model(head.model)
    assert inner.config._attn_implementation == "eager" and inner.config.sliding_window == 8
    assert min(map(len, (row.input_ids for row in head.encoder.encode(ROWS)))) > 8
    found = inference.score(head, ROWS, 100_000, "test")
    np.testing.assert_allclose(found, alone(head, ROWS), atol=2e-5)
    wide, _ = build("gemma", answers, shape | {"sliding_window": 400})
    assert np.abs(inference.score(wide, ROWS, 100_000, "test") - found).max() > 1e-4  # the window does matter
    plain, _ = build("gemma", answers, shape | {"sliding_window": 8, "final_logit_softcapping": None})
    assert np.abs(inference.score(plain, ROWS, 100_000, "test") - found).max() > 1e-3


@pytest.mark.parametrize("family", slow_except(["qwen"], FAMILIES))
def test_bfloat16_comes_close_and_scores_in_float32(build, family):
    data = described(ANSWERS["several tokens"])
    exact = inference.score(build(family, data)[0], ROWS, 500, "test")
    for options in ({"precision": "bfloat16"}, {"precision": "bfloat16", "dtype": "bfloat16"}):
        head, _ = build(family, data, **options)
        found = inference.score(head, ROWS, 500, "test")
        assert found.dtype == np.float32
        assert 1e-6 < np.abs(found - exact).max() < 0.5
        np.testing.assert_allclose(np.exp(found.astype(np.float64)).sum(axis=1), 1, atol=1e-5)


# --- training --------------------------------------------------------------------------------------------------------


def test_a_training_batch(build):
    head, _ = build("gemma", described(ANSWERS["several tokens"]))
    encoded = head.encoder.encode(ROWS[:5])
    batch = head.training_batch(encoded)
    padded = head.with_whole_rows().training_batch(encoded)
    for index, row in enumerate(encoded):
        answer = head.encoder.answer_ids[row.label]
        own = padded["attention_mask"][index].bool()
        assert padded["input_ids"][index][own].tolist() == row.input_ids + answer[:-1]
        assert padded["position_ids"][index][own].tolist() == list(range(len(row.input_ids) + len(answer) - 1))
        for one in (batch, padded):
            targets = one["tokens"][index, 0]
            assert targets[targets != IGNORED].tolist() == answer
        assert head.training_tokens(row) == len(row.input_ids) + len(answer) - 1
    assert batch["labels"].tolist() == [0, 1, 2, 0, 1] and batch["weights"].tolist() == [1, 2, 1, 2, 1]
    assert head.terms(batch).tolist() == [len(head.encoder.answer_ids[row.label]) for row in encoded]
    with pytest.raises(ValueError, match="without a label"):
        head.training_batch(head.encoder.encode([Row("r", ("a", "b"), None)]))


@pytest.fixture
def step_trainer(tmp_path):
    """`step_trainer(head, job, data, rows)` → our Trainer, not yet started."""

    def make(head, job, data, rows=ROWS) -> StepTrainer:
        return StepTrainer(head, job, data, rows, rows, tmp_path / "run" / "checkpoints", 1, [])

    return make


@pytest.fixture
def sft_trainer(tmp_path):
    """`sft_trainer(head, job, rows)` → TRL's Trainer over the same token ids, with the same adapter."""
    pytest.importorskip("trl")
    import datasets
    import peft
    import trl

    def make(head, job, rows):
        records = []
        for row in head.encoder.encode(rows):
            answer = head.encoder.answer_ids[row.label]
            records.append({"input_ids": row.input_ids + answer, "labels": [IGNORED] * len(row.input_ids) + answer})
        base = AutoModelForCausalLM.from_pretrained(job.model, attn_implementation=job.attention)
        trainer = trl.SFTTrainer(
            model=base,
            args=trl.SFTConfig(
                output_dir=str(tmp_path / "sft"),
                bf16=False,
                use_cpu=True,
                gradient_checkpointing=False,
                report_to="none",
                max_length=None,
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            train_dataset=datasets.Dataset.from_list(records),
            processing_class=head.encoder.tokenizer,
            peft_config=peft.LoraConfig(
                r=job.method.r, lora_alpha=job.method.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
        )
        assert trainer.args.loss_type == "nll"
        missing, unexpected = trainer.model.load_state_dict(head.model.state_dict(), strict=False)
        assert not missing and not unexpected
        return trainer, [trainer.data_collator([record]) for record in records], trainer.data_collator(records)

    return make


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("answers", ["single tokens", "several tokens"])
@pytest.mark.parametrize("family", slow_except(["qwen"], FAMILIES))
def test_losses_and_gradients_are_those_of_sft_trainer(build, step_trainer, sft_trainer, family, answers):
    data = described(ANSWERS[answers])
    rows = [Row(row.id, row.texts, row.label) for row in ROWS[:6]]
    head, job = build(family, data)
    theirs, ones, together = sft_trainer(head, job, rows)
    with torch.no_grad():
        batch = head.training_batch(head.encoder.encode(rows))
        ours = head.losses(batch) / head.terms(batch)
        expected = [theirs.compute_loss(theirs.model, dict(one)).item() for one in ones]
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-6)
    theirs.model.train()
    loss = theirs.compute_loss(theirs.model, dict(together))
    loss.backward()
    reference = gradients(theirs.model)
    assert reference and max(gradient.abs().max() for gradient in reference.values()) > 1e-3
    for budget in (16, 10_000):  # one row in a micro-batch, or all of them
        head.model.zero_grad()
        tight = job.model_copy(update={"training": job.training.model_copy(update={"token_budget": budget})})
        trainer = step_trainer(head, tight, data, rows)
        micro_batches = trainer.micro_batches(trainer.encoded)
        assert len(micro_batches) == (6 if budget == 16 else 1)
        step = trainer.training_step(head.model, (trainer.encoded, micro_batches))
        torch.testing.assert_close(step, loss.detach(), rtol=0, atol=1e-6)
        found = gradients(head.model)
        assert set(found) == set(reference)
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, reference[name], rtol=0, atol=1e-6, msg=name)


def test_weights_of_examples_and_classes_weigh_answer_tokens(build, step_trainer):
    data = described(ANSWERS["several tokens"])
    head, job = build("qwen", data, **{"training.class_weights": {"pro": 3.0}})
    trainer = step_trainer(head, job, data)
    batch = head.training_batch(trainer.encoded)
    with torch.no_grad():
        losses, terms = head.losses(batch), head.terms(batch)
    weights = torch.tensor([(3.0 if row.label == 2 else 1.0) * row.weight for row in ROWS])
    expected = (weights * losses).sum() / (weights * terms).sum()
    torch.testing.assert_close(trainer.training_step(head.model, (trainer.encoded, [batch])), expected)


def test_label_smoothing_spreads_over_the_vocabulary(build):
    head, _ = build("qwen", described(ANSWERS["several tokens"]))
    [encoded] = head.encoder.encode(ROWS[:1])
    batch = head.training_batch([encoded])
    with torch.no_grad():
        logs = head.model(input_ids=batch["input_ids"]).logits[0].log_softmax(-1)
        found = head.losses(batch, 0.2).item()
    answer = head.encoder.answer_ids[encoded.label]
    start = len(encoded.input_ids) - 1
    picked = [0.8 * logs[start + i, t].item() + 0.2 * logs[start + i].mean().item() for i, t in enumerate(answer)]
    assert found == pytest.approx(-sum(picked), abs=1e-5)


def test_padding_beside_longer_rows_changes_no_loss(build):
    head, _ = build("gemma", described(ANSWERS["several tokens"]))
    encoded = head.encoder.encode(ROWS)
    with torch.no_grad():
        together = head.losses(head.training_batch(encoded))
        one_by_one = torch.cat([head.losses(head.training_batch([row])) for row in encoded])
    torch.testing.assert_close(together, one_by_one, rtol=0, atol=2e-5)


# --- generation ------------------------------------------------------------------------------------------------------


def greedy(head, encoded) -> str:
    """Generate token after token, each the most probable, up to an end of turn."""
    ids = list(encoded.input_ids)
    ends = {head.encoder.tokenizer.eos_token_id, head.encoder.answer_ids[0][-1]}
    with torch.no_grad():
        for _ in range(head.encoder.longest_answer):
            ids.append(int(head.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] in ends:
                break
    return head.encoder.tokenizer.decode(ids[len(encoded.input_ids) :], skip_special_tokens=True).strip()


TAUGHT = [Row(f"t{n}", ("Claim.", text), n) for n, text in enumerate(["bad wrong", "maybe unclear", "good right"])]


def taught(head, rows, steps: int = 120) -> None:
    """Train until the model answers."""
    head.model.requires_grad_(True)
    optimizer = torch.optim.Adam(head.model.parameters(), lr=0.005)
    batch = head.training_batch(head.encoder.encode(rows))
    for _ in range(steps):
        optimizer.zero_grad()
        head.losses(batch).mean().backward()
        optimizer.step()


@pytest.mark.parametrize("family", slow_except(["qwen"], FAMILIES))
def test_generated_texts_are_the_greedy_ones(build, family):
    head, _ = build(family, described(ANSWERS["one begins another"]), decoding="generate")
    encoded = head.encoder.encode(ROWS)
    expected = [greedy(head, row) for row in encoded]
    assert len(set(expected)) > 1
    for budget in (16, 10_000):
        assert inference.generate(head, ROWS, budget, "test") == expected
    assert inference.generate(head, [], 16, "test") == []


@pytest.mark.parametrize("family", slow_except(["qwen"], FAMILIES))
def test_a_model_that_answers_is_understood(build, family):
    data = described(ANSWERS["one begins another"])
    head, _ = build(family, data, decoding="generate")
    taught(head, TAUGHT)
    texts = inference.generate(head, TAUGHT, 500, "test")
    assert set(texts) == {"pro", "pro-choice", "pro-choice good"}
    records = write_results.predictions(
        TAUGHT, inference.score(head, TAUGHT, 500, "test"), LABELS, texts, head.encoder.label_words
    )
    assert [record["predicted"] for record in records] == [LABELS[row.label] for row in TAUGHT]
    assert [record["generated"] for record in records] == texts


@pytest.mark.parametrize("decoding", ["score", "generate"])
def test_answers_with_spaces_around_them(build, decoding):
    data = described({"con": " pro ", "neu": "maybe", "pro": "good right "})
    head, _ = build("qwen", data, decoding=decoding)
    taught(head, TAUGHT)
    texts = inference.generate(head, TAUGHT, 500, "test") if decoding == "generate" else None
    records = write_results.predictions(
        TAUGHT, inference.score(head, TAUGHT, 500, "test"), LABELS, texts, head.encoder.label_words
    )
    assert [record["predicted"] for record in records] == [LABELS[row.label] for row in TAUGHT]


def test_an_empty_thought_is_no_part_of_the_generated_answer(tiny_causal_model, tmp_path, prompt_job):
    from transformers import AutoTokenizer

    folder = tmp_path / "thinks"
    AutoModelForCausalLM.from_pretrained(tiny_causal_model("qwen")).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny_causal_model("qwen"))
    tokenizer.chat_template = tiny_causal.CHATML.replace(
        "m['content'] +", "('<think>\n\n</think>\n\n' if m['role'] == 'assistant' else '') + m['content'] +"
    )
    tokenizer.save_pretrained(folder)
    head = build_head(prompt_job("qwen", folder, decoding="generate"), described())
    taught(head, TAUGHT)
    assert set(inference.generate(head, TAUGHT, 500, "test")) == set(LABELS)
    np.testing.assert_allclose(inference.score(head, TAUGHT, 500, "test"), alone(head, TAUGHT), atol=2e-5)


def test_generated_texts_decide_and_invalid_ones_are_errors(build, tmp_path, monkeypatch):
    data = described()
    head, job = build("qwen", data, decoding="generate")
    config = RunConfig("minilm-lora", "toy", "", 1, job, data, "ab")
    texts = ["con", "neu", "pro", "con", "Pro", "", "I think pro", "pro"]  # gold: con neu pro con neu pro con neu
    monkeypatch.setattr(PromptHead, "generate", lambda self, rows: [texts.pop(0) for _ in rows])
    monkeypatch.setattr(inference, "token_batches", lambda lengths, budget: [[index] for index in range(len(lengths))])
    document = inference.score_split(tmp_path, config, "test", ROWS, head, {})
    records = files.read_jsonl(tmp_path / "predictions-test.jsonl")
    assert [record["predicted"] for record in records] == ["con", "neu", "pro", "con", None, None, None, "pro"]
    assert records[6]["generated"] == "I think pro" and set(records[6]["scores"]) == set(LABELS)
    assert document["test_invalid_share"] == 3 / 8
    assert document["test_accuracy"] == document["test_f1_micro"] == 0.5
    assert document["decoding"] == "generate" and document["length_normalization"] is False
    assert sum(map(sum, document["test_confusion"])) == 5


def test_scored_splits_say_so(build, tmp_path):
    data = described()
    head, job = build("qwen", data, length_normalization=True)
    config = RunConfig("minilm-lora", "toy", "", 1, job, data, "ab")
    document = inference.score_split(tmp_path, config, "test", ROWS, head, {})
    assert document["decoding"] == "score" and document["length_normalization"] is True
    assert "test_invalid_share" not in document
    assert "generated" not in files.read_jsonl(tmp_path / "predictions-test.jsonl")[0]


# --- logits in float32 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gemma", "qwen"])  # an own head, and one tied to the embeddings
def test_logits_are_float32_inside_autocast(build, family):
    head, _ = build(family, dtype="bfloat16", precision="bfloat16")
    seen = []
    output = head.model.get_base_model().get_output_embeddings()
    handle = output.register_forward_hook(lambda module, inputs, logits: seen.append((inputs[0], logits)))
    inference.score(head, ROWS[:2], 4096, "score")
    handle.remove()
    hidden, logits = seen[0]
    assert output.weight.dtype == torch.bfloat16 and logits.dtype == torch.float32
    torch.testing.assert_close(logits, hidden.float() @ output.weight.float().T, rtol=1e-5, atol=1e-5)
    assert (logits != logits.bfloat16().float()).any()


def test_a_template_with_a_clock_is_refused(tiny_causal_model, prompt_job):
    tokenizer = load_tokenizer(locate.locate(str(tiny_causal_model("qwen")), "main"))
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + tokenizer.chat_template
    with pytest.raises(ModelError, match="today's date"):
        row_encoder(prompt_job("qwen"), described(), tokenizer)


# --- calibration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", ANSWERS)
def test_calibrated_scores_are_divided_by_those_of_an_empty_row(build, answers):
    data = described(ANSWERS[answers])
    plain, _ = build("qwen", data)
    calibrated, _ = build("qwen", data, calibration="content-free")
    before, after = (inference.score(head, ROWS, 4096, "x") for head in (plain, calibrated))
    [prior] = inference.score(plain, [Row("empty", ("", ""), None)], 4096, "x")
    quotients = np.exp(before) / np.exp(prior)
    np.testing.assert_allclose(np.exp(after), quotients / quotients.sum(axis=1, keepdims=True), rtol=1e-4)
    [own] = inference.score(calibrated, [Row("empty", ("", ""), None)], 4096, "x")
    np.testing.assert_allclose(np.exp(own), 1 / 3, rtol=1e-5)  # knowing nothing, it prefers nothing


@pytest.mark.parametrize("settings", [{"head": "classification"}, {"decoding": "generate"}])
def test_calibration_belongs_to_scored_answers(prompt_job, settings):
    with pytest.raises(ConfigError, match="calibration"):
        prompt_job("qwen", calibration="content-free", **settings)
