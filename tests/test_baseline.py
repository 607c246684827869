"""scripts/baseline.py: majority, TF-IDF and the untuned model leave the same kind of files as a fine-tuned run."""

import json
import math
from collections import Counter

import pytest
import tiny_causal
import torch

from common.core import files
from common.core.errors import ConfigError, RunError
from common.evaluation import embedding, metrics
from common.report import results
from common.runs.run_folder import load_run_config


def words(tiny_arguments, rows_dir, tmp_path, baseline: str) -> list[str]:
    if baseline == "untuned":
        return [*tiny_arguments(), "--baseline", "untuned"]
    common = ["--data-dir", str(rows_dir), "--outputs", str(tmp_path / "outputs")]
    return ["--dataset", "stance-sample", "--baseline", baseline, *common]


@pytest.mark.parametrize("baseline", ["majority", "tfidf", "untuned"])
def test_files_and_metrics(run_script, tiny_arguments, rows_dir, tmp_path, baseline):
    arguments = words(tiny_arguments, rows_dir, tmp_path, baseline)
    code, out, err = run_script("baseline", *arguments)
    assert (code, err) == (0, "")
    assert "test (n=12): accuracy" in out and out.startswith("device: ") == (baseline == "untuned")
    [config] = (tmp_path / "outputs").rglob("config.yaml")
    folder = config.parent
    assert folder.name == f"baseline-{baseline}"
    job = "minilm-lora" if baseline == "untuned" else "classical"
    assert folder.relative_to(tmp_path / "outputs").parts[:2] == ("stance-sample", job)
    for split, name in (("validation", "metrics-validation.json"), ("test", "metrics.json")):
        document, records = files.read_json(folder / name), files.read_jsonl(folder / f"predictions-{split}.jsonl")
        again = json.loads(json.dumps(metrics.prefixed(split, metrics.compute(records, ["con", "neu", "pro"]))))
        assert {key: document[key] for key in again} == again
        assert document["baseline"] == baseline and document["job"] == job
        assert document["params_total_count"] > 0
        assert [record["id"] for record in records] == [f"{split}{number}" for number in range(12)]
        for record in records:
            assert math.fsum(map(math.exp, record["scores"].values())) == pytest.approx(1, abs=1e-5)
    before = {path: path.read_bytes() for path in folder.rglob("predictions-*")}
    stamp = (folder / "metrics.json").stat().st_mtime_ns
    assert run_script("baseline", *arguments)[0] == 0
    assert (folder / "metrics.json").stat().st_mtime_ns == stamp  # finished: left alone
    assert run_script("baseline", *arguments, "--force")[0] == 0
    assert {path: path.read_bytes() for path in folder.rglob("predictions-*")} == before  # and reproducible
    assert len([path for path in folder.parent.iterdir() if ".replaced-" in path.name]) == 1


def test_majority_scores_are_the_labels_shares(run_script, tiny_arguments, rows_dir, tmp_path):
    records = files.read_jsonl(rows_dir / "train.jsonl")
    keep = {"con": 2, "neu": 9, "pro": 16}  # of 16 each
    seen: Counter[str] = Counter()
    kept = []
    for record in records:
        seen[record["stance"]] += 1
        if seen[record["stance"]] <= keep[record["stance"]]:
            kept.append(record)
    files.write_jsonl(rows_dir / "train.jsonl", kept)
    assert run_script("baseline", *words(tiny_arguments, rows_dir, tmp_path, "majority"))[0] == 0
    counts = Counter(r["stance"] for r in files.read_jsonl(rows_dir / "train.jsonl"))
    [path] = (tmp_path / "outputs").rglob("predictions-test.jsonl")
    for record in files.read_jsonl(path):
        assert record["predicted"] == "pro"
        for label, score in record["scores"].items():
            assert math.exp(score) == pytest.approx(counts[label] / counts.total(), abs=1e-5)


def test_tfidf_learns_words(run_script, tiny_arguments, rows_dir, tmp_path):
    assert run_script("baseline", *words(tiny_arguments, rows_dir, tmp_path, "tfidf"))[0] == 0
    [path] = (tmp_path / "outputs").rglob("metrics.json")
    document = files.read_json(path)
    assert document["test_accuracy"] > 0.9
    assert document["regularisation_c"] in (0.3, 1.0, 3.0, 10.0, 30.0) and document["train_s"] > 0


SAMPLE = ("--set", "training.max_train_samples=6")


@pytest.mark.parametrize("baseline", ["majority", "tfidf"])
def test_a_classical_baseline_learns_from_a_sample_of_the_train_rows(
    run_script, tiny_arguments, rows_dir, tmp_path, baseline
):
    whole = words(tiny_arguments, rows_dir, tmp_path, baseline)
    assert run_script("baseline", *whole)[0] == 0
    assert run_script("baseline", *whole, *SAMPLE)[0] == 0
    folders = sorted(path.parent for path in (tmp_path / "outputs").rglob("metrics.json"))
    names = [folder.relative_to(tmp_path / "outputs" / "stance-sample" / "classical").as_posix() for folder in folders]
    assert names == [f"baseline-{baseline}", f"training.max_train_samples=6/baseline-{baseline}"]
    assert load_run_config(folders[1]).max_train_samples == 6
    [full, sampled] = [files.read_jsonl(folder / "predictions-test.jsonl") for folder in folders]
    assert (full != sampled) == (baseline == "tfidf")  # a stratified sample has the same shares
    result = results.load(tmp_path / "outputs")
    assert any("max_train_samples=6" in one.name for one in result) and len({one.name for one in result}) == 2
    (rows_dir / "train.jsonl").write_text("\n".join((rows_dir / "train.jsonl").read_text().splitlines()[:40]) + "\n")
    assert run_script("baseline", *whole, *SAMPLE)[0] == RunError.exit_code  # other rows


@pytest.mark.parametrize("setting", ["method.r=4", "training.epochs=1", "training.max_train_samples=x"])
def test_a_classical_baseline_refuses_what_it_would_ignore(run_script, tiny_arguments, rows_dir, tmp_path, setting):
    code, _, err = run_script("baseline", *words(tiny_arguments, rows_dir, tmp_path, "tfidf"), "--set", setting)
    assert code == ConfigError.exit_code
    assert setting.partition("=")[0] in err and "training.max_train_samples" in err
    assert not (tmp_path / "outputs").exists()


def test_untuned_has_a_seed_and_trains_nothing(run_script, tiny_arguments, tmp_path):
    assert run_script("baseline", *tiny_arguments(seed=3))[0] == 0
    [path] = (tmp_path / "outputs").rglob("metrics.json")
    document = files.read_json(path)
    assert document["seed"] == 3 and document["params_trainable_count"] == 0
    code, _, err = run_script("baseline", *tiny_arguments(seed=4))
    assert code == 5 and "seed: 3 → 4" in err


def test_untuned_takes_a_method_that_would_not_fit(run_script, tiny_arguments):
    assert run_script("baseline", *tiny_arguments("method={name: last-layers, k: 99}"))[0] == 0


def test_classical_baselines_do_not_load_a_model(run_script, tiny_arguments, rows_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("common.evaluation.baselines.build_untuned", None)
    monkeypatch.setattr("common.model.load.load_base", None)
    assert run_script("baseline", *words(tiny_arguments, rows_dir, tmp_path, "majority"))[0] == 0


def test_an_unknown_baseline(run_script, tiny_arguments):
    code, _, err = run_script("baseline", *tiny_arguments(), "--baseline", "svm")
    assert code == 2 and "tfidf" in err and err.startswith("error: ")


@pytest.mark.parametrize(
    ("head", "own", "other"), [("prompt", "zero-shot", "untuned"), ("classification", "untuned", "zero-shot")]
)
def test_every_head_has_its_own_baseline(run_script, tiny_causal_model, rows_dir, tmp_path, head, own, other):
    settings = tiny_causal.words("qwen", tiny_causal_model("qwen"), head=head)
    places = ["--data-dir", str(rows_dir), "--outputs", str(tmp_path / "outputs")]
    words = ["--model", "minilm-lora", "--set", *settings, *places]
    code, _, err = run_script("baseline", *words, "--baseline", other)
    assert code == 2 and f"BASELINE={other}: minilm-lora has head {head}, whose baselines are {own}" in err
    assert not (tmp_path / "outputs").exists()
    assert run_script("baseline", *words)[0] == run_script("baseline", *words, "--baseline", own)[0] == 0
    [path] = (tmp_path / "outputs").rglob("metrics.json")
    assert path.parent.name == f"baseline-{own}" and files.read_json(path)["head"] == head


# --- few-shot and embedding ------------------------------------------------------------------------------------------


@pytest.fixture
def prompt_words(tiny_causal_model, rows_dir, tmp_path):
    """Arguments of a job with the prompt head."""
    settings = tiny_causal.words("qwen", tiny_causal_model("qwen"), head="prompt")
    places = ["--data-dir", str(rows_dir), "--outputs", str(tmp_path / "outputs")]
    return ["--model", "minilm-lora", "--set", *settings, *places]


def test_few_shot_shows_train_rows_of_every_label(run_script, prompt_words, rows_dir, tmp_path):
    words = [*prompt_words, "--baseline", "few-shot", "--shots", "4"]
    for seed in ("1", "2"):
        assert run_script("baseline", *words, "--seed", seed)[0] == 0
    found = {path.parent.name: files.read_json(path) for path in (tmp_path / "outputs").rglob("metrics.json")}
    assert set(found) == {"baseline-few-shot-4-seed-1", "baseline-few-shot-4-seed-2"}
    train = {record["id"]: record["stance"] for record in files.read_jsonl(rows_dir / "train.jsonl")}
    for document in found.values():
        shown = [train[one] for one in document["few_shot_ids"]]
        assert document["shots"] == len(shown) == 4 and sorted(map(shown.count, ("con", "neu", "pro"))) == [1, 1, 2]
    one, other = found.values()
    assert one["few_shot_ids"] != other["few_shot_ids"]
    code, out, _ = run_script("collect", "--here", "--outputs", str(tmp_path / "outputs"))
    assert code == 0 and "minilm-lora, few-shot with 4 examples" in out


def test_few_shot_needs_enough_rows(run_script, prompt_words, tmp_path):
    code, _, err = run_script("baseline", *prompt_words, "--baseline", "few-shot", "--shots", "60")
    assert code == 3 and "60 balanced examples need 20 train rows of the label" in err
    assert not (tmp_path / "outputs").exists()


def test_examples_that_do_not_fit_the_model(run_script, prompt_words, tmp_path):
    code, _, err = run_script("baseline", *prompt_words, "--baseline", "few-shot", "--shots", "40")
    assert code == 4 and "the examples of the prompt have" in err and "take fewer SHOTS" in err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("head", ["classification", "prompt"])
def test_embeddings_of_the_frozen_model(run_script, tiny_arguments, prompt_words, tmp_path, head):
    words = prompt_words if head == "prompt" else tiny_arguments()
    code, out, _ = run_script("baseline", *words, "--baseline", "embedding")
    assert code == 0 and "device: " in out.splitlines()[0]
    [path] = (tmp_path / "outputs").rglob("metrics.json")
    document = files.read_json(path)
    assert path.parent.name == "baseline-embedding" and document["test_n"] == 12
    assert document["pooling"] in (("mean", "last") if head == "prompt" else ("mean",))
    assert document["params_trainable_count"] % 3 == 0 and document["train_cpu_s"] > 0
    assert document["test_accuracy"] > 0.6  # the words give the labels away
    assert (path.parent / "metrics-validation.json").exists()


def test_embeddings_where_the_memory_is_full(run_script, tiny_arguments, monkeypatch, tmp_path):
    """On a CPU that says so: the same predictions with smaller batches, which is said once and recorded."""
    words = [*tiny_arguments(), "--baseline", "embedding"]
    assert run_script("baseline", *words)[0] == 0
    [path] = (tmp_path / "outputs").rglob("metrics.json")
    plain, scored = files.read_json(path), files.read_jsonl(path.parent / "predictions-test.jsonl")
    pool = embedding.pool

    def bounded(hidden, *more):
        if len(hidden) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return pool(hidden, *more)

    monkeypatch.setattr(embedding, "pool", bounded)
    code, out, _ = run_script("baseline", *words, "--force")
    assert code == 0 and 0 < out.count("out of memory while embedding") < 6
    document, again = files.read_json(path), files.read_jsonl(path.parent / "predictions-test.jsonl")
    assert document["score_token_budget"] < plain["score_token_budget"]
    assert [row["predicted"] for row in again] == [row["predicted"] for row in scored]


def test_a_calibrated_baseline_is_a_row_of_its_own(run_script, prompt_words, tmp_path):
    at = prompt_words.index("--data-dir")
    calibrated = [*prompt_words[:at], "calibration=content-free", *prompt_words[at:]]
    for words in (prompt_words, calibrated):
        assert run_script("baseline", *words)[0] == 0
    found = {files.read_json(path)["calibration"]: path.parent for path in (tmp_path / "outputs").rglob("metrics.json")}
    assert set(found) == {"none", "content-free"}
    predictions = [(folder / "predictions-test.jsonl").read_text() for folder in found.values()]
    assert predictions[0] != predictions[1]


def test_a_classical_baseline_asks_for_a_dataset(run_script):
    code, _, err = run_script("baseline", "--baseline", "majority")
    assert code == 2 and "DATASET=<dataset> is missing" in err and "MODEL" not in err
