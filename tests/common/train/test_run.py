"""One training run from build to metrics: loads, hashes, freed memory, attempts, divergence, and an exact resume."""

import os
import signal
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from marks import slow_except
from toy_runs import dataset
from transformers import PreTrainedModel

from common.core import files
from common.core.errors import Interrupted, ModelError
from common.data.rows import LoadedRows, Row
from common.evaluation import write_results
from common.model import base_identity, load, saved_model
from common.model.heads import ClassificationHead
from common.model.inspect import inner_model
from common.model.load import quiet_libraries
from common.runs.run_config import RunConfig
from common.train import callbacks, fit, row_checks, run

DATASET = dataset(labels=["con", "neu", "pro"])
TRAINING = {"training.epochs": 2, "training.batch_size": 3, "runtime.log_every": 4, "training.learning_rate": 0.003}


def rows(split: str, count: int) -> list[Row]:
    return [Row(f"{split}{n}", (f"Claim {n % 2}.", "really " * (n % 5) + f"idea {n}"), n % 3) for n in range(count)]


ROWS = LoadedRows({"train": rows("train", 24), "validation": rows("validation", 6), "test": rows("test", 6)}, DATASET)


@pytest.fixture
def train(tiny_job, tmp_path):
    """`train("folder", **overrides)` runs or resumes a run of 16 steps, and returns its folder."""
    quiet_libraries()

    def start(name: str, job_name: str = "minilm-lora", **overrides: object):
        job = tiny_job(job_name, **(TRAINING | overrides))
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        run.run(folder, RunConfig(job_name, "toy", "", 1, job, DATASET, "d" * 64), ROWS)
        return folder

    return start


def test_the_base_is_loaded_hashed_and_laid_out_twice(train, monkeypatch):
    """Once to train, and once for the reloaded model, which is compared and evaluated; both need the meta device."""
    loaded, hashed, laid_out = [], [], []
    meta_model = load.base_config.meta_model
    from_pretrained, sha256_file = load.from_pretrained, base_identity.sha256_file

    def count_load(kind, base, **options):
        found = from_pretrained(kind, base, **options)
        if isinstance(found, tuple) and isinstance(found[0], PreTrainedModel):
            loaded.append(base.name)
        return found

    def count_hash(path):
        hashed.append(path)
        return sha256_file(path)

    def count_layout(*arguments):
        laid_out.append(arguments)
        return meta_model(*arguments)

    monkeypatch.setattr(load, "from_pretrained", count_load)
    monkeypatch.setattr(load.base_config, "meta_model", count_layout)
    monkeypatch.setattr(base_identity, "sha256_file", count_hash)
    train("run")
    assert len(loaded) == len(hashed) == len(laid_out) == 2


METHODS = {
    "lora": ("minilm-lora", {}),
    "full": ("minilm-full", {}),
    "adalora": ("minilm-lora", {"method": {"name": "adalora", "target_modules": ["query"], "total_step": 16}}),
    "adapters": ("minilm-full", {"method": {"name": "adapters", "size": 4}}),
    "checkpointing": ("minilm-lora", {"runtime.activation_checkpointing": True}),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_trained_model_is_freed_before_the_reload(train, monkeypatch, name):
    job_name, overrides = METHODS[name]
    built, alive = [], []
    build_head, load_saved = run.build_head, saved_model.load

    def remember(*arguments):
        head = build_head(*arguments)
        built.extend(map(weakref.ref, [head, head.model, *head.model.parameters()]))
        return head

    def count(*arguments):
        alive.append(sum(reference() is not None for reference in built))
        return load_saved(*arguments)

    monkeypatch.setattr(run, "build_head", remember)
    monkeypatch.setattr(saved_model, "load", count)
    train("run", job_name, **overrides)
    assert built and alive == [0]


@pytest.mark.parametrize(
    ("place", "shift", "is_same"),
    [("cpu", 0.0, True), ("cpu", 1e-6, False), ("cuda", 5e-4, True), ("cuda", 2e-3, False), ("cuda", np.nan, False)],
)
def test_how_far_a_reloaded_model_may_differ(monkeypatch, tmp_path, tiny_job, place, shift, is_same):
    trained = np.log(np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], dtype=np.float32))
    again = trained + np.float32(shift) * np.array([[1, -1, 0], [0, 0, 1]], dtype=np.float32)
    monkeypatch.setattr(run.inference, "score", lambda *arguments: again)
    head = SimpleNamespace(device=torch.device(place))
    config = RunConfig("minilm-lora", "toy", "", 1, tiny_job("minilm-lora"), DATASET, "d" * 64)
    if is_same:
        found = run._check_reloaded(head, config, ROWS["test"][:2], trained, tmp_path)
        assert found == pytest.approx(shift, rel=1e-2)
    else:
        with pytest.raises(ModelError, match="scores differently from the trained one"):
            run._check_reloaded(head, config, ROWS["test"][:2], trained, tmp_path)


def stop_at(monkeypatch, step: int) -> None:
    """Send SIGTERM to this process during a step, counted from 1: in a destructor, where Python drops exceptions."""

    class Signals:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step + 1 == step:
            Signals()

    monkeypatch.setattr(callbacks.RunCallback, "on_step_begin", on_step_begin)


@pytest.mark.parametrize("step", slow_except([6], [2, 6, 11]))
def test_a_run_stopped_inside_a_logging_window_logs_the_same_losses(train, monkeypatch, step):
    undisturbed = train("undisturbed")
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(Interrupted):
            train("stopped")
    stopped = train("stopped")
    first, second = (files.read_json(folder / "training.json") for folder in (undisturbed, stopped))
    assert sum("loss" in entry for entry in first["history"]) == 5  # the first step and four windows
    assert first["history"] == second["history"]
    for name in ("train_log.jsonl", "predictions-validation.jsonl", "predictions-test.jsonl"):
        assert (undisturbed / name).read_bytes() == (stopped / name).read_bytes(), name
    attempts = [files.read_json(folder / "metrics.json")["attempts"] for folder in (undisturbed, stopped)]
    assert [len(found) for found in attempts] == [1, 2]
    assert all(one["packages"]["torch"] == torch.__version__ and "cuda" in one["hardware"] for one in attempts[1])


def test_a_resumed_evaluation_keeps_the_loss_window(train, monkeypatch):
    """The signal comes during the evaluation after step 8, with `log_every` 3: the window has begun at step 6."""
    undisturbed = train("undisturbed", **{"runtime.log_every": 3})
    with monkeypatch.context() as patch:
        stop_at(patch, 8)
        with pytest.raises(Interrupted):
            train("stopped", **{"runtime.log_every": 3})
    assert (undisturbed / "train_log.jsonl").read_bytes() == (
        train("stopped", **{"runtime.log_every": 3}) / "train_log.jsonl"
    ).read_bytes()


def test_divergence_is_named_when_the_saved_model_is_compared(train, monkeypatch):
    fine_tune = run.fine_tune

    def diverge(head, *arguments):
        facts = fine_tune(head, *arguments)
        with torch.no_grad():
            next(p for p in head.model.parameters() if p.requires_grad).fill_(float("nan"))
        return facts

    monkeypatch.setattr(run, "fine_tune", diverge)
    with pytest.raises(ModelError, match=r"diverged.*training\.learning_rate"):
        train("run")


def test_divergence_in_the_last_step_is_named_by_the_evaluation(train, monkeypatch):
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        if state.global_step == state.max_steps - 1:
            with torch.no_grad():
                next(p for p in model.parameters() if p.requires_grad).fill_(float("nan"))

    monkeypatch.setattr(callbacks.RunCallback, "on_optimizer_step", on_optimizer_step)
    with pytest.raises(ModelError, match=r"after step 16.*diverged"):
        train("run")


def test_a_run_without_recorded_attempts_has_none_in_its_metrics(tmp_path, tiny_job):
    config = RunConfig("minilm-lora", "toy", "", 1, tiny_job(), DATASET, "d" * 64)
    scores = torch.log_softmax(torch.eye(3), 1).numpy()
    document = write_results.write_split(tmp_path, config, "test", rows("test", 3), scores, {})
    assert "attempts" not in document


def test_scores_that_are_not_finite_are_divergence(train, monkeypatch, tmp_path):
    score, calls = run.inference.score, []

    def broken(head, rows, *arguments):
        calls.append(len(rows))
        found = score(head, rows, *arguments)
        return np.full_like(found, np.nan) if len(calls) > 4 else found  # training and the reload are over

    monkeypatch.setattr(run.inference, "score", broken)
    with pytest.raises(ModelError, match=r"6 of 6 rows of (validation|test) have scores that are not finite"):
        train("run")
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_predictions_of_one_label_are_said(train, monkeypatch, capsys):
    score = run.inference.score

    def constant(head, rows, *arguments):
        return np.zeros_like(score(head, rows, *arguments)) + np.log(np.float32([0.5, 0.3, 0.2]))

    folder = train("learns")
    count = files.read_json(folder / "metrics.json")["test_predicted_labels_count"]
    out = capsys.readouterr().out
    assert out.startswith("device: ") and ("WARNING: all 6 predictions on test are one label" in out) == (count == 1)
    monkeypatch.setattr(run.inference, "score", constant)
    folder = train("constant")
    out = capsys.readouterr().out
    assert "WARNING: all 6 predictions on test are one label" in out and "class_weights=balanced" in out
    assert files.read_json(folder / "metrics.json")["test_predicted_labels_count"] == 1


def test_the_largest_step_is_tried_as_it_will_run(train, monkeypatch):
    seen = []

    def look(self):
        seen.append((inner_model(self.head.model).is_activation_checkpointing, self.state.global_step))

    monkeypatch.setattr(fit, "head_is_on_gpu", lambda head: True)
    monkeypatch.setattr(fit.StepTrainer, "try_largest_step", look)
    train("run", **{"runtime.activation_checkpointing": True})
    assert seen == [(True, 0)]


def test_where_the_memory_is_full_a_run_takes_the_same_steps(train, monkeypatch, capsys):
    """On a CPU that says so, in training and in scoring: smaller batches, which is said once and recorded."""
    settings = {
        **{"training.token_budget": 64, "runtime.score_token_budget": 64, "training.optim": "sgd"},
        "model_config_overrides": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    }
    plain = files.read_json(train("plain", "minilm-full", **settings) / "metrics.json")
    assert "out of memory" not in capsys.readouterr().out

    def bounded(work, tokens):
        def run(head, batch, *more):
            if batch["input_ids"].numel() > tokens:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return work(head, batch, *more)

        return run

    for name, tokens in (("losses", 30), ("scores", 40)):  # of 36 in a step, and 60 in a batch of scoring
        monkeypatch.setattr(ClassificationHead, name, bounded(getattr(ClassificationHead, name), tokens))
    full = files.read_json(train("full", "minilm-full", **settings) / "metrics.json")
    out = capsys.readouterr().out
    budgets = [[found[f"{work}_token_budget"] for work in ("train", "score")] for found in (plain, full)]
    assert budgets == [[64, 64], [32, 32]]
    assert out.count("out of memory with training.token_budget 64") == 1
    assert out.count("out of memory while scoring") == 2  # by the trained model, and by the reloaded one
    losses = [[entry["loss"] for entry in found["history"] if "loss" in entry] for found in (plain, full)]
    assert plain["steps"] == full["steps"] == 16 and losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert plain["reload_difference_nats"] == full["reload_difference_nats"] == 0.0


def test_out_of_memory_in_the_optimizer_is_one_message(train, monkeypatch):
    def fails(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", fails)
    with pytest.raises(ModelError, match="out of memory in an optimizer step"):
        train("run")


def test_counts_of_rows_by_an_older_version_are_made_again(tiny_job, tmp_path, capsys):
    files.write_json(tmp_path / row_checks.FILE, {"schema": 1})
    counts = row_checks.check_rows_of_run(tmp_path, tiny_job("minilm-lora"), DATASET, ROWS, None)
    assert counts["number_text_count"] == 0 and files.read_json(tmp_path / row_checks.FILE)["schema"] > 1
    assert "Unknown tokens" in capsys.readouterr().out
