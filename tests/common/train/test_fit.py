"""Fine-tuning: loss and gradients of a step in any micro-batches, checkpoints, the log, and checks of the arguments."""

import contextlib
import json
import weakref

import pytest
import torch
import torch.nn.functional as F
from toy_runs import dataset
from transformers import TrainingArguments, set_seed

from common.config import catalog
from common.config.dataset import Dataset
from common.core import files
from common.core.errors import ConfigError, ModelError, RunError
from common.data.rows import Row
from common.model import batching, precision, saved_model
from common.model.build import build_head
from common.model.inspect import parameter_counts
from common.model.load import quiet_libraries
from common.train import arguments, callbacks, fit, trainer
from common.train.arguments import check_training_arguments
from common.train.checkpoints import list_checkpoints

DATASET = dataset(labels=["con", "neu", "pro"])
LABELS = list(DATASET.labels)


def make_rows(count: int, weights: list[float] | None = None) -> list[Row]:
    """Rows of very different lengths, so that a small token budget cuts a step into many micro-batches."""
    return [
        Row(
            id=f"r{number}",
            texts=(f"Claim {number % 2}.", " ".join(["word", "idea", "thing"][: number % 3 + 1] * (1 + number))),
            label=(0, 0, 0, 1, 2, 2)[number % 6],
            weight=weights[number] if weights else 1.0,
        )
        for number in range(count)
    ]


@pytest.fixture
def make_trainer(tiny_job, tmp_path):
    quiet_libraries()

    def make(rows: list[Row], **overrides: object) -> trainer.StepTrainer:
        job = tiny_job("minilm-full", **overrides)
        set_seed(3)
        head = build_head(job, DATASET)
        dataset = catalog.load_dataset("stance-sample")
        return trainer.StepTrainer(head, job, dataset, rows, rows, tmp_path / "checkpoints", 3, [])

    return make


def one_step(trainer: trainer.StepTrainer, indices: list[int]) -> tuple[float, dict[str, torch.Tensor], int]:
    """Return loss, gradients and the number of micro-batches of one step over the given rows."""
    rows = [trainer.encoded[index] for index in indices]
    parts = trainer.micro_batches(rows)
    trainer.model.zero_grad()
    loss = trainer.training_step(trainer.model, (rows, parts))
    gradients = {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}
    return loss.item(), gradients, len(parts)


def defined_loss(trainer: trainer.StepTrainer, indices: list[int], class_weights: list[float], smoothing: float = 0.0):
    """Return the loss by its definition, in one batch: sum of w_i * cross-entropy_i over sum of w_i; and gradients."""
    rows = [trainer.encoded[index] for index in indices]
    batch = batching.collate(rows, trainer.head.pad_token_id)
    labels, weights = batch.pop("labels"), batch.pop("weights")
    trainer.model.zero_grad()
    logits = trainer.model(**batch).logits
    losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    weights = weights * torch.tensor(class_weights)[labels]
    loss = (losses * weights).sum() / weights.sum()
    loss.backward()
    return loss.item(), {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-6, msg=lambda text, name=name: name + text)
    assert max(gradient.abs().max() for gradient in one.values()) > 1e-3  # comparing zeros would prove nothing


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_micro_batches_do_not_change_loss_or_gradients(make_trainer, smoothing):
    indices = list(range(12))
    found = {}
    for budget in (16, 64, 100_000):
        trainer = make_trainer(
            make_rows(12), **{"training.token_budget": budget, "training.label_smoothing": smoothing}
        )
        found[budget] = one_step(trainer, indices)
    assert [parts for _, _, parts in found.values()] == sorted((p for _, _, p in found.values()), reverse=True)
    assert found[100_000][2] == 1 and found[16][2] == 12
    loss, gradients = defined_loss(trainer, indices, [1.0, 1.0, 1.0], smoothing)
    for found_loss, found_gradients, _ in found.values():
        assert found_loss == pytest.approx(loss, abs=1e-6)
        assert_same(found_gradients, gradients)


def test_without_weights_the_loss_is_the_plain_mean(make_trainer):
    trainer = make_trainer(make_rows(12), **{"training.token_budget": 64})
    loss, _, parts = one_step(trainer, list(range(12)))
    batch = batching.collate(trainer.encoded, trainer.head.pad_token_id)
    labels = batch.pop("labels")
    batch.pop("weights")
    with torch.no_grad():
        plain = F.cross_entropy(trainer.model(**batch).logits, labels)
    assert parts > 1
    assert loss == pytest.approx(plain.item(), abs=1e-6)


# --- a GPU whose memory does not suffice, on a CPU that says so -------------------------------------------------------


def run_out_above(monkeypatch, trainer: trainer.StepTrainer, tokens: int) -> None:
    """Let the forward pass of more padded tokens run out of memory."""
    losses, tries = trainer.head.losses, []

    def bounded(batch, smoothing):
        if batch["input_ids"].numel() > tokens:
            tries.append(batch)
            assert len(tries) < 30, "it is tried for ever"
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return losses(batch, smoothing)

    monkeypatch.setattr(trainer.head, "losses", bounded)


def test_a_step_that_does_not_fit_begins_again_with_half_the_budget(make_trainer, monkeypatch, capsys):
    trainer = make_trainer(make_rows(12), **{"training.token_budget": 512})
    indices = list(range(12))
    loss, gradients, parts = one_step(trainer, indices)
    prepared = trainer.micro_batches(trainer.encoded)  # ahead of time, by the processes of the loader
    longest = max(len(row.input_ids) for row in trainer.encoded)
    assert longest < 128 < max(batch["input_ids"].numel() for batch in trainer.micro_batches(trainer.encoded))
    run_out_above(monkeypatch, trainer, 128)
    found, found_gradients, _ = one_step(trainer, indices)
    assert found == pytest.approx(loss, abs=1e-6)
    assert_same(found_gradients, gradients)
    assert trainer.budget == 128 and len(trainer.micro_batches(trainer.encoded)) > parts
    out = capsys.readouterr().out
    assert "training.token_budget 512: going on with 256" in out and "256: going on with 128" in out
    one_step(trainer, indices)
    trainer.training_step(trainer.model, (trainer.encoded, prepared))
    assert capsys.readouterr().out == ""  # it is said once


def test_the_budget_halves_below_the_longest_row_too(make_trainer, monkeypatch, capsys):
    trainer = make_trainer(make_rows(24), **{"training.token_budget": 4096, "training.batch_size": 24})
    longest = max(len(row.input_ids) for row in trainer.encoded)
    run_out_above(monkeypatch, trainer, longest)
    one_step(trainer, list(range(24)))
    assert capsys.readouterr().out.count("out of memory") < 10
    assert all(batch["input_ids"].numel() <= longest for batch in trainer.micro_batches(trainer.encoded))


def test_in_the_end_each_row_is_alone(make_trainer, monkeypatch):
    trainer = make_trainer(make_rows(12), **{"training.token_budget": 512})
    losses, tries = trainer.head.losses, []

    def of_one_row(batch, smoothing):
        if len(batch["labels"]) > 1:
            tries.append(batch)
            assert len(tries) < 30, "it is tried for ever"
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses(batch, smoothing)

    loss, gradients, _ = one_step(trainer, list(range(12)))
    monkeypatch.setattr(trainer.head, "losses", of_one_row)
    found, found_gradients, _ = one_step(trainer, list(range(12)))
    assert found == pytest.approx(loss, abs=1e-6)
    assert_same(found_gradients, gradients)


def test_what_a_step_had_made_is_gone_before_it_begins_again(make_trainer, monkeypatch):
    """The activations, so that there is room for them, and the gradients of the micro-batches that did fit."""
    stepper = make_trainer(make_rows(12), **{"training.token_budget": 64})
    _, gradients, parts = one_step(stepper, list(range(12)))
    losses, held, found = stepper.head.losses, [], []

    class Activations:
        pass

    def second_does_not_fit(batch, smoothing):
        activations = Activations()
        held.append(weakref.ref(activations))
        if len(held) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses(batch, smoothing)

    def look():
        found.append((held[-1](), all(parameter.grad is None for parameter in stepper.model.parameters())))

    monkeypatch.setattr(stepper.head, "losses", second_does_not_fit)
    monkeypatch.setattr(trainer, "free_memory", look)
    _, again, _ = one_step(stepper, list(range(12)))
    assert parts > 2 and found == [(None, True)]
    assert_same(again, gradients)


def test_a_single_row_that_does_not_fit(make_trainer, monkeypatch):
    trainer = make_trainer(make_rows(12), **{"training.token_budget": 512})
    run_out_above(monkeypatch, trainer, 4)
    with pytest.raises(ModelError, match=r"out of memory in a training step of one row with \d+ tokens.*max_length"):
        one_step(trainer, list(range(12)))


def test_the_largest_step_is_tried_and_leaves_nothing(make_trainer, monkeypatch):
    settings = {"training.batch_size": 4, "training.token_budget": 512}
    dropout = {"hidden_dropout_prob": 0.5}  # takes random numbers
    trainer = make_trainer(make_rows(12), **settings, model_config_overrides=dropout)
    before = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}
    state, seen = torch.get_rng_state(), []
    losses = trainer.head.losses

    def record(batch, smoothing):
        seen.extend(batch["attention_mask"].sum(dim=1).tolist())
        return losses(batch, smoothing)

    monkeypatch.setattr(trainer.head, "losses", record)
    trainer.try_largest_step()
    assert sorted(seen) == sorted(len(row.input_ids) for row in trainer.encoded)[-4:]
    assert torch.equal(torch.get_rng_state(), state)
    for name, parameter in trainer.model.named_parameters():
        assert parameter.grad is None and torch.equal(parameter, before[name])


def test_one_look_at_the_device_a_step(make_trainer, monkeypatch):
    """A step on the meta device, where reading a value is an error: so the CPU never waits, but for the loss itself."""
    trainer = make_trainer(make_rows(12), **{"training.token_budget": 32})
    meta, looks = torch.device("meta"), []
    trainer.model.to(meta)
    trainer.class_weights = trainer.class_weights.to(meta)
    monkeypatch.setitem(vars(trainer.args), "_setup_devices", meta)  # what `args.device` returns
    monkeypatch.setattr(precision, "_in_float32", lambda device: contextlib.nullcontext())  # there is no autocast

    def is_finite(value):
        looks.append(tuple(value.shape))
        return True

    monkeypatch.setattr(torch, "isfinite", is_finite)
    assert trainer.args.device == trainer.head.device == meta
    batches = [trainer._on_device(batch) for batch in trainer.micro_batches(trainer.encoded)]
    trainer.training_step(trainer.model, (trainer.encoded, batches))
    assert len(batches) > 3 and looks == [()]
    assert all(parameter.grad is not None for parameter in trainer.model.parameters())


def test_batches_are_pinned_and_copied_while_the_cpu_goes_on(make_trainer, monkeypatch):
    rows, plain = make_rows(6), make_trainer(make_rows(6))
    loader = plain.get_train_dataloader()
    assert not loader.pin_memory and not loader._non_blocking
    monkeypatch.setattr(arguments.device, "choose", lambda: torch.device("cuda"))
    monkeypatch.setattr(trainer, "head_is_on_gpu", lambda head: True)
    there = trainer.StepTrainer(plain.head, plain.job, plain.dataset, rows, rows, plain.folder, 3, [])
    loader = there.get_train_dataloader()
    assert loader.pin_memory and loader._non_blocking
    asked = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: asked.append("pin") or tensor)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *place, **how: asked.append(how) or tensor)
    batch = {"input_ids": torch.ones(1, 2)}
    batching.moved(batching.pinned(batch, torch.device("cuda")), torch.device("cuda"))
    assert asked == ["pin", {"non_blocking": True}]
    assert batching.pinned(batch, torch.device("cpu")) is batch


def test_one_device_whatever_the_trainer_sees(tiny_job, tmp_path, monkeypatch):
    job = tiny_job("minilm-full")
    found = arguments.training_arguments(job, tmp_path, 1)
    assert found.use_cpu and found.device.type == "cpu"  # also on a Mac, whose GPU the Trainer would take
    monkeypatch.setattr(arguments.device, "choose", lambda: torch.device("cuda"))
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: self._n_gpu or 4))  # 0 here: four are seen
    found = arguments.training_arguments(job, tmp_path, 1)
    assert not found.use_cpu and found.dataloader_pin_memory and found.accelerator_config.non_blocking
    assert found.n_gpu == 1


def test_the_loss_of_float16_is_scaled_on_a_gpu(tiny_job, tmp_path, monkeypatch):
    half = tiny_job("minilm-full", precision="float16", method={"name": "lora", "r": 4})
    monkeypatch.setattr(arguments.device, "choose", lambda: torch.device("cuda"))
    assert arguments.training_arguments(half, tmp_path, 1).fp16
    assert not arguments.training_arguments(tiny_job("minilm-full", precision="bfloat16"), tmp_path, 1).fp16


def test_gradients_that_no_scale_makes_finite_are_divergence(make_trainer):
    class Scaler:
        """As torch.amp.GradScaler, whose scale is halved for every step that is not finite."""

        def scale(self, loss):
            return loss

        def get_scale(self):
            return 2.0 if trainer.state.global_step < 17 else 0.5

    trainer = make_trainer(make_rows(12))
    trainer.accelerator.scaler = Scaler()
    one_step(trainer, [0, 1])
    trainer.state.global_step = 17
    with pytest.raises(ModelError, match=r"float16 are not finite before step 18.*diverged"):
        one_step(trainer, [0, 1])


# 12 rows hold con, neu, pro 6, 2, 4 times: balanced is 12 / (3 n_c).
@pytest.mark.parametrize(
    ("chosen", "weights"),
    [("balanced", [12 / 18, 12 / 6, 12 / 12]), ({"neu": 5.0, "pro": 0.5}, [1.0, 5.0, 0.5]), ("none", [1.0] * 3)],
)
@pytest.mark.parametrize("budget", [16, 100_000])
def test_class_and_row_weights_make_a_weighted_mean(make_trainer, chosen, weights, budget):
    row_weights = [0.5, 1.0, 2.0, 3.0, 1.0, 0.1, 1.0, 1.0, 4.0, 1.0, 1.0, 1.0]
    trainer = make_trainer(
        make_rows(12, row_weights), **{"training.token_budget": budget, "training.class_weights": chosen}
    )
    assert trainer.class_weights.tolist() == pytest.approx(weights)
    indices = [0, 1, 3, 4, 5, 8, 11]
    loss, gradients, parts = one_step(trainer, indices)
    assert (parts == 1) == (budget == 100_000)
    wanted_loss, wanted_gradients = defined_loss(trainer, indices, weights)
    assert loss == pytest.approx(wanted_loss, abs=1e-6)
    assert_same(gradients, wanted_gradients)
    unweighted, _ = defined_loss(make_trainer(make_rows(12)), indices, [1.0] * 3)
    assert abs(loss - unweighted) > 1e-5


def test_the_short_step_is_a_mean_over_its_own_rows(make_trainer):
    trainer = make_trainer(make_rows(11), **{"training.batch_size": 4, "training.token_budget": 32})
    steps = list(trainer.get_train_dataloader())
    sizes = [sum(len(batch["labels"]) for batch in batches) for _, batches in steps]
    assert sizes == [len(rows) for rows, _ in steps]
    assert sorted(sizes) == [3, 4, 4]
    short = steps[sizes.index(3)]
    trainer.model.zero_grad()
    loss = trainer.training_step(trainer.model, short).item()
    losses = []
    with torch.no_grad():
        for batch in short[1]:
            inputs = {key: value for key, value in batch.items() if key not in ("labels", "weights")}
            losses += F.cross_entropy(trainer.model(**inputs).logits, batch["labels"], reduction="none").tolist()
    assert loss == pytest.approx(sum(losses) / 3, abs=1e-6)


def test_training_ends_equal_in_one_micro_batch_and_in_many(tiny_job, tmp_path):
    """The whole loop, so the Trainer adds no scaling of its own: after 4 SGD steps the weights are the same."""
    quiet_libraries()
    rows, dataset = make_rows(12), catalog.load_dataset("stance-sample")
    states, logs = [], []
    for budget in (16, 100_000):
        job = tiny_job(
            "minilm-full",
            **{
                "training.optim": "sgd",
                "training.learning_rate": 0.1,
                "training.epochs": 1,
                "training.batch_size": 3,
                "training.token_budget": budget,
                "training.warmup_steps": 0,
                "runtime.log_every": 1,
            },
        )
        set_seed(1)
        head = build_head(job, DATASET)
        before = {name: value.clone() for name, value in head.model.state_dict().items()}
        folder = tmp_path / str(budget)
        folder.mkdir()
        facts = fit.train(head, job, dataset, rows, rows[:3], folder, 1, folder / "log.jsonl")
        assert facts["steps"] == facts["best_step"] == 4
        states.append(head.model.state_dict())
        logs.append([entry["loss"] for entry in files.read_jsonl(folder / "log.jsonl") if "loss" in entry])
    assert len(logs[0]) == 4
    assert logs[0] == pytest.approx(logs[1], abs=1e-5)
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=1e-5)
    assert (states[0]["classifier.weight"] - before["classifier.weight"]).abs().max() > 1e-3


def test_every_epoch_visits_every_row_once(make_trainer):
    trainer = make_trainer(make_rows(11), **{"training.batch_size": 4})
    loader = trainer.get_train_dataloader()
    assert len(loader) == 3
    lengths = sorted(len(row.input_ids) for row in trainer.encoded)
    seen = sorted(int(n) for _, batches in loader for batch in batches for n in batch["attention_mask"].sum(dim=1))
    assert seen == lengths


@pytest.mark.parametrize(
    ("metric", "values", "cuts"),
    [
        # Patience 0: cut at every evaluation that is no better than the best so far.
        ("validation_f1_macro", [0.3, 0.5, 0.7, 0.6, 0.8], [0, 0, 0, 1, 1]),
        ("validation_loss", [0.8, 0.6, 0.4, 0.5, 0.3], [0, 0, 0, 1, 1]),
    ],
)
@pytest.mark.parametrize("given", [False, True])
def test_plateau_follows_the_best_metric(make_trainer, monkeypatch, metric, values, cuts, given):
    mode = "min" if metric == "validation_loss" else "max"
    options = {"patience": 0, "factor": 0.5} | ({"mode": mode} if given else {})
    recipe = {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": options, "best_metric": metric}
    overrides = {f"training.{key}": value for key, value in recipe.items()}
    trainer = make_trainer(make_rows(6), **overrides, **{"training.learning_rate": 0.8})
    trainer.create_optimizer_and_scheduler(num_training_steps=10)
    measured = iter(values)
    monkeypatch.setattr(
        trainer, "evaluate", lambda **_: {metric.replace("validation_", "eval_"): next(measured), "eval_runtime": 1.0}
    )
    rates = []
    for _ in values:
        trainer._evaluate(trial=None, ignore_keys_for_eval=None)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == [0.8 * 0.5**count for count in cuts]


# --- checks of the training arguments --------------------------------------------------------------------------------


def test_sound_training_arguments_pass(tiny_job):
    shape = check_training_arguments(tiny_job(), catalog.load_dataset("stance-sample"), [])
    assert shape.counts == parameter_counts(build_head(tiny_job(), catalog.load_dataset("stance-sample")).model)
    dataset = catalog.load_dataset("stance-sample")
    for chosen in ("balanced", "none", {"con": 2.0}):
        check_training_arguments(tiny_job("minilm-lora", **{"training.class_weights": chosen}), dataset, make_rows(6))
        check_training_arguments(tiny_job("minilm-lora", **{"training.class_weights": chosen}), dataset, [])


def test_a_job_s_precision_is_checked_with_its_arguments(tiny_job):
    """`make check` looks from a login node, too; `make train` trains here, on a CPU."""
    half = tiny_job("minilm-lora", precision="float16")
    check_training_arguments(half, catalog.load_dataset("stance-sample"), [], trains_here=False)
    with pytest.raises(ModelError, match=r"float16 .*needs a GPU"):
        check_training_arguments(half, catalog.load_dataset("stance-sample"), [])


@pytest.mark.parametrize("kind", ["reduce_lr_on_plateau", "greedy"])
@pytest.mark.parametrize(("metric", "right", "wrong"), [("accuracy", "max", "min"), ("loss", "min", "max")])
def test_a_scheduler_follows_the_mode_of_its_metric(tiny_job, kind, metric, right, wrong):
    def check(mode):
        changes = {
            "lr_scheduler_type": kind,
            "lr_scheduler_kwargs": {"mode": mode},
            "best_metric": f"validation_{metric}",
        }
        job = tiny_job("minilm-lora", **{f"training.{key}": value for key, value in changes.items()})
        check_training_arguments(job, catalog.load_dataset("stance-sample"), [])

    check(right)
    with pytest.raises(ConfigError) as raised:
        check(wrong)
    assert str(raised.value).count("\n") == 0
    for part in (f"mode: {wrong}", kind, f"validation_{metric}", f"is {right}", "leave `mode` out"):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("overrides", "error", "parts"),
    [
        ({"training.optim": "adamw_torhc"}, ConfigError, ["adamw_torhc", "Did you mean 'adamw_torch'"]),
        ({"training.lr_scheduler_type": "linaer"}, ConfigError, ["linaer", "Did you mean 'linear'"]),
        ({"training.class_weights": {"prro": 2.0}}, ConfigError, ["'prro'", "Did you mean 'pro'"]),
        ({"method": {"name": "none"}}, ConfigError, ["none trains nothing", "BASELINE=untuned"]),
        ({"max_length": 257}, ModelError, ["257", "256 positions", "8 to 256"]),
        ({"method": {"name": "last-layers", "k": 3}}, ModelError, ["3", "0 to 2"]),
    ],
)
def test_wrong_training_arguments_are_refused(tiny_job, overrides, error, parts):
    with pytest.raises(error) as caught:
        check_training_arguments(
            tiny_job("minilm-lora", **overrides), catalog.load_dataset("stance-sample"), make_rows(6)
        )
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("values", "greater", "patience", "expected"),
    [
        ([], True, 1, False),
        ([0.5], True, 1, False),
        ([0.5, 0.4], True, 1, True),
        ([0.5, 0.4], True, 2, False),
        ([0.5, 0.4, 0.5], True, 2, True),  # equal is no improvement
        ([0.5, 0.4, 0.6], True, 2, False),
        ([0.5, 0.4], False, 1, False),
        ([0.4, 0.5, 0.6], False, 2, True),
        ([0.5, 0.4, 0.3], True, None, False),
    ],
)
def test_patience(values, greater, patience, expected):
    history = [{"loss": 1.0}, *({"eval_x": value} for value in values), {"loss": 0.9}]
    assert callbacks.is_exhausted(history, "eval_x", greater, patience) is expected


def test_checkpoints_leave_out_partial_ones(tmp_path):
    for name in ("checkpoint-10", "checkpoint-9", ".checkpoint-11.partial", "checkpoint-x"):
        (tmp_path / name).mkdir()
    assert [step for step, _ in list_checkpoints(tmp_path)] == [9, 10]


def test_the_best_checkpoint_is_loaded(tiny_job, tmp_path):
    """With a learning rate that destroys the model, the best step is an early one, and its weights are kept."""
    quiet_libraries()
    dataset = catalog.load_dataset("stance-sample")
    job = tiny_job(
        "minilm-full",
        **{
            "training.learning_rate": 0.5,
            "training.epochs": 4,
            "training.warmup_steps": 0,
            "training.best_metric": "validation_loss",
            "runtime.keep_checkpoints": True,
        },
    )
    set_seed(1)
    head = build_head(job, DATASET)
    facts = fit.train(head, job, dataset, make_rows(12), make_rows(6), tmp_path, 1, tmp_path / "log.jsonl")
    losses = {entry["step"]: entry["validation_loss"] for entry in facts["history"] if "validation_loss" in entry}
    assert len(losses) == 4
    assert facts["best_step"] == min(losses, key=lambda step: losses[step])
    kept = {step for step, _ in list_checkpoints(tmp_path / "checkpoints")}
    assert kept == {facts["best_step"], facts["steps"]}
    best = saved_model.load_file(tmp_path / "checkpoints" / f"checkpoint-{facts['best_step']}" / saved_model.PARAMETERS)
    for name, parameter in head.model.named_parameters():
        assert torch.equal(parameter, best[name]), name


def test_a_checkpoint_of_an_older_version_is_refused(tiny_job, tmp_path):
    quiet_libraries()
    old = tmp_path / "checkpoints" / "checkpoint-3"
    old.mkdir(parents=True)
    (old / "clock.json").write_text("{}")
    head = build_head(tiny_job(), DATASET)
    with pytest.raises(RunError, match=r"checkpoint-3: .*older version.*Remove .*checkpoints"):
        fit.train(head, tiny_job(), DATASET, make_rows(6), make_rows(6), tmp_path, 1, tmp_path / "log.jsonl")
    assert (old / "clock.json").exists()


def test_the_log_holds_what_training_did(tiny_job, tmp_path):
    quiet_libraries()
    dataset: Dataset = catalog.load_dataset("stance-sample")
    job = tiny_job("minilm-lora", **{"training.epochs": 2, "training.batch_size": 4, "runtime.log_every": 1})
    head = build_head(job, DATASET)
    facts = fit.train(head, job, dataset, make_rows(12), make_rows(6), tmp_path, 1, tmp_path / "log.jsonl")
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [entry["step"] for entry in entries if "loss" in entry]
    assert steps == [1, 2, 3, 4, 5, 6] and facts["steps"] == 6
    assert all({"loss", "grad_norm", "learning_rate"} <= entry.keys() for entry in entries if "loss" in entry)
    evaluated = [entry for entry in entries if "validation_loss" in entry]
    assert [entry["step"] for entry in evaluated] == [3, 6]
    assert all({"validation_accuracy", "validation_f1_macro"} <= entry.keys() for entry in evaluated)
    assert facts["train_s"] > 0 and facts["train_count"] == 12 and facts["train_truncated_count"] == 0


def test_a_warm_up_longer_than_the_run_is_refused(tiny_job):
    rows, dataset = make_rows(12), catalog.load_dataset("stance-sample")
    job = tiny_job("minilm-lora", **{"training.batch_size": 4, "training.epochs": 2, "training.warmup_steps": 7})
    with pytest.raises(ConfigError, match=r"warmup_steps is 7, but the run has 6 steps"):
        check_training_arguments(job, dataset, rows)
    within = tiny_job("minilm-lora", **{"training.batch_size": 4, "training.epochs": 2, "training.warmup_steps": 6})
    check_training_arguments(within, dataset, rows)


def test_a_checkpoint_of_an_older_version_has_no_loss_window(make_trainer):
    resumed = make_trainer(make_rows(2))
    resumed._tr_loss, resumed._globalstep_last_logged = torch.tensor(0.0), 7
    resumed.restore_loss_window({"seconds": 1.0})
    assert (resumed._tr_loss.item(), resumed._globalstep_last_logged) == (0.0, 7)
    resumed.restore_loss_window({"loss_window": {"sum": 1.5, "since_step": 5}})
    assert (resumed._tr_loss.item(), resumed._globalstep_last_logged) == (1.5, 5)
