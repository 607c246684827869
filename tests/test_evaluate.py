"""scripts/evaluate.py: the same files again, other splits, and adapters that peft made elsewhere."""

import shutil
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from common.core import files
from common.evaluation import metrics
from common.runs import run_folder


def timeless(document: dict) -> dict:
    return {k: v for k, v in document.items() if k != "provenance" and not k.endswith(("_s", "_examples_per_s"))}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_files_of_training_come_again(run_script, trained, split):
    arguments, folder = trained
    predictions = folder / f"predictions-{split}.jsonl"
    document = folder / ("metrics.json" if split == "test" else f"metrics-{split}.json")
    before, figures = predictions.read_bytes(), files.read_json(document)
    predictions.unlink()
    files.write_json(document, {"spoilt": True})
    code, out, err = run_script("evaluate", *arguments, "--split", split)
    assert (code, err) == (0, "")
    assert out.startswith("device: ") and f"{split} (n=12): accuracy" in out
    assert predictions.read_bytes() == before
    assert timeless(files.read_json(document)) == timeless(figures)
    assert files.read_json(document)["train_s"] == figures["train_s"]


def test_an_unfinished_run_is_not_finished_by_evaluating_it(run_script, trained):
    arguments, folder = trained
    (folder / "metrics.json").unlink()
    code, _, err = run_script("evaluate", *arguments)
    assert code == 5 and "the run is not finished. Finish it: make train" in err
    assert not (folder / "metrics.json").exists()


def test_a_base_that_has_changed_is_refused(run_script, tiny_arguments, tiny_model, tmp_path):
    """Scores of an adapter on another base are nobody's scores: neither evaluated, nor predicted with, nor resumed."""
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    given = tiny_arguments("training.epochs=1")
    arguments = [f'model="{base}"' if word.startswith("model=") else word for word in given]
    assert run_script("train", *arguments)[0] == 0
    weights = load_file(base / "model.safetensors")
    save_file({name: value * 3 for name, value in weights.items()}, base / "model.safetensors")
    predict = [word for word in arguments if word != "--data-dir" and "rows" not in word]
    for script, words in (("evaluate", arguments), ("predict", [*predict, "--text=a || b"])):
        code, _, err = run_script(script, *words)
        assert code == 4 and "was trained on a base whose weights had SHA-256" in err


def test_the_train_split_can_be_scored(run_script, trained):
    arguments, folder = trained
    assert run_script("evaluate", *arguments, "--split", "train")[0] == 0
    records = files.read_jsonl(folder / "predictions-train.jsonl")
    assert len(records) == 48 and files.read_json(folder / "metrics-train.json")["train_n"] == 48
    document = files.read_json(folder / "metrics-train.json")
    assert document["score"] == "train_accuracy" and document["train_cpu_s"] > 0
    assert document["train_s"] == files.read_json(folder / "metrics.json")["train_s"]  # of training, not of scoring


def test_test_is_the_default_split_and_the_rows_are_remembered(run_script, trained):
    arguments, folder = trained
    (folder / "predictions-test.jsonl").unlink()
    assert "--data-dir" not in arguments
    assert run_script("evaluate", *arguments)[0] == 0
    assert len(files.read_jsonl(folder / "predictions-test.jsonl")) == 12


def test_other_rows_are_refused(run_script, trained, rows_dir):
    arguments, folder = trained
    before = (folder / "predictions-test.jsonl").read_bytes()
    text = (rows_dir / "test.jsonl").read_text()
    (rows_dir / "test.jsonl").write_text(text.replace("idea number 3", "another text"))
    code, _, err = run_script("evaluate", *arguments, "--data-dir", str(rows_dir))
    assert code == 5 and "data.sha256" in err
    assert (folder / "predictions-test.jsonl").read_bytes() == before


def test_runtime_may_change(run_script, trained):
    arguments, folder = trained
    before = (folder / "predictions-test.jsonl").read_bytes()
    position = arguments.index("training.epochs=2")
    words = [*arguments[: position + 1], "runtime.score_token_budget=300", *arguments[position + 1 :]]
    assert run_script("evaluate", *words)[0] == 0
    assert (folder / "predictions-test.jsonl").read_bytes() == before


def test_an_unknown_split(run_script, trained):
    code, _, err = run_script("evaluate", *trained[0], "--split", "dev")
    assert code == 2 and err.startswith("error: ") and "validation" in err


def test_a_model_for_other_labels_is_refused(run_script, trained):
    arguments, folder = trained
    description = files.read_json(folder / "model" / "peftable.json")
    files.write_json(folder / "model" / "peftable.json", description | {"labels": ["pro", "neu", "con"]})
    code, _, err = run_script("evaluate", *arguments)
    assert code == 4 and "saved for the labels pro, neu, con" in err


# --- adapters made with plain peft -----------------------------------------------------------------------------------


def test_an_adapter_is_evaluated_and_predicts(run_script, tiny_arguments, make_adapter, tiny_model, tmp_path):
    adapter, model = make_adapter("my adapter")
    code, out, err = run_script("evaluate", *tiny_arguments(), "--adapter", str(adapter))
    assert (code, err) == (0, "") and out.startswith("device: ")
    [document] = (tmp_path / "outputs").rglob("metrics.json")
    assert document.parent.name.startswith("adapter-my_adapter-")
    records = files.read_jsonl(document.parent / "predictions-test.jsonl")
    figures = files.read_json(document)
    assert figures["test_accuracy"] == metrics.compute(records, ["con", "neu", "pro"])["accuracy"]
    assert figures["seed"] is None and len(figures["adapter_sha256"]) == 64
    assert figures["params_trainable_count"] == 0

    # The same scores as with peft alone.
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = files.read_jsonl(Path(run_folder.load_run_config(document.parent).data_dir) / "test.jsonl")
    for row, record in list(zip(rows, records, strict=True))[:4]:
        with torch.no_grad():
            logits = model(**tokenizer(row["claim"], row["sentence"], return_tensors="pt")).logits
        assert list(record["scores"].values()) == pytest.approx(logits.log_softmax(-1)[0].tolist(), abs=1e-5)

    words = [
        *tiny_arguments(data=False),
        "--adapter",
        str(adapter),
        "--text",
        f"{rows[0]['claim']}||{rows[0]['sentence']}",
    ]
    code, out, err = run_script("predict", *words)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == records[0]["predicted"]


def test_another_adapter_of_the_same_name_has_its_own_folder(run_script, tiny_arguments, make_adapter, tmp_path):
    for rank in (1, 2):
        adapter, _ = make_adapter("same", r=rank)
        assert run_script("evaluate", *tiny_arguments(), "--adapter", str(adapter))[0] == 0
    assert len(list((tmp_path / "outputs").rglob("metrics.json"))) == 2


def without_head(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    save_file({name: value for name, value in load_file(file).items() if "classifier" not in name}, file)


@pytest.mark.parametrize(
    ("options", "spoil", "part"),
    [
        ({"task_type": peft.TaskType.FEATURE_EXTRACTION}, None, "task_type is FEATURE_EXTRACTION; needed is SEQ_CLS"),
        ({"labels": 2}, None, "with 3 labels"),
        ({}, without_head, "has no trained head (classifier)"),
        (
            {},
            lambda folder: (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin"),
            "adapter_model.safetensors is missing; other weight formats are not read",
        ),
        ({}, lambda folder: (folder / "adapter_config.json").unlink(), "adapter_config.json is missing"),
    ],
    ids=["task", "labels", "headless", "pickled", "no-config"],
)
def test_adapters_that_do_not_fit(run_script, tiny_arguments, make_adapter, tmp_path, options, spoil, part):
    adapter, _ = make_adapter("adapter", **options)
    if spoil:
        spoil(adapter)
    words = [*tiny_arguments(), "--adapter", str(adapter)]
    for script, arguments in (
        ("evaluate", words),
        ("predict", [*tiny_arguments(data=False), "--adapter", str(adapter), "--text", "a || b"]),
    ):
        code, _, err = run_script(script, *arguments)
        assert code == 4 and part in err
        assert err.startswith("error: ") and "Traceback" not in err
    assert not list((tmp_path / "outputs").rglob("*"))


def test_an_adapter_folder_that_is_not_there(run_script, tiny_arguments, tmp_path):
    code, _, err = run_script("evaluate", *tiny_arguments(), "--adapter", str(tmp_path / "nowhere"))
    assert code == 4 and "there is no such folder" in err
    assert not (tmp_path / "outputs").exists()
