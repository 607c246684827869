"""scripts/check.py: what it counts is what training finds; it writes nothing and needs no more than asked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from marks import slow_except
from waiting import HANG_S

from common.core import files
from common.data import leaks
from common.hub import download

ROOT = Path(__file__).resolve().parents[1]


def checked(run_script, arguments: list[str]) -> dict:
    code, out, err = run_script("check", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.mark.parametrize(
    ("job", "overrides"),
    slow_except(
        [("minilm-lora", ("method={name: lora, r: 3, target_modules: [query, dense]}",))],
        [
            ("minilm-lora", ("method={name: lora, r: 3, target_modules: [query, dense]}",)),
            ("minilm-lora", ()),
            ("minilm-full", ("method={name: adapters, placement: pfeiffer}",)),
            ("minilm-last-layers", ("method.k=1",)),
            ("minilm-full", ("training.class_weights=balanced",)),
        ],
    ),
)
def test_counts_equal_those_of_training(run_script, tiny_arguments, tmp_path, job, overrides):
    arguments = tiny_arguments("training.epochs=1", "max_length=12", *overrides, job=job)
    found = checked(run_script, arguments)
    assert not (tmp_path / "outputs").exists()
    assert run_script("train", *arguments)[0] == 0
    [folder] = [path.parent for path in (tmp_path / "outputs").rglob("metrics.json")]
    trained = files.read_json(folder / "training.json")
    for key in ("params_total_count", "params_trainable_count"):
        assert found[key] == trained[key] > 0
    assert found["splits"]["train"]["n"] == trained["train_count"] == 48
    assert found["tokens"]["train"]["truncated_count"] == trained["train_truncated_count"] > 0
    assert found["job"] == job and found["dataset"] == "stance-sample" and found["variant"] == folder.parent.name


def test_made_up_rows(run_script, tiny_arguments, rows_dir):
    """Duplicates within and between splits, a contradiction, truncation: each planted, each counted."""

    def row(number: int, sentence: str, label: str, claim: str = "Claim 0.") -> dict:
        return {"id": f"x{number}", "claim": claim, "sentence": sentence, "stance": label}

    train = files.read_jsonl(rows_dir / "train.jsonl")
    planted = [
        row(1, "the same words", "pro"),
        row(2, "The  same WORDS ", "pro"),  # up to case and spaces
        row(3, "the same words", "pro", claim="Claim 1."),  # another claim: another row
        row(4, "torn between", "con"),
        row(5, "long " * 300, "con"),
    ]
    files.write_jsonl(rows_dir / "train.jsonl", train + planted)
    test = files.read_jsonl(rows_dir / "test.jsonl")
    leak = [row(6, "the same words", "pro"), row(7, "torn between", "neu")]
    files.write_jsonl(rows_dir / "test.jsonl", test + leak)
    before = {path: path.read_bytes() for path in rows_dir.iterdir()}
    plain = {path.stem: files.read_jsonl(path) for path in before}

    found = checked(run_script, tiny_arguments())
    splits = found["splits"]
    assert {split: part["n"] for split, part in splits.items()} == {"train": 53, "validation": 12, "test": 14}
    for split, records in plain.items():
        for label in ("con", "neu", "pro"):
            assert splits[split]["labels"][label] == sum(record["stance"] == label for record in records)
        for claim in ("Claim 0.", "Claim 1."):
            assert splits[split]["groups"][claim] == sum(record["claim"] == claim for record in records)

    def key(record: dict) -> tuple[str, str]:
        return tuple(" ".join(record[name].lower().split()) for name in ("claim", "sentence"))

    within = {split: len(records) - len({key(r) for r in records}) for split, records in plain.items()}
    assert found["duplicates"]["within"] == within and within["train"] == 1
    shared = sum(key(record) in {key(r) for r in plain["train"]} for record in plain["test"])
    assert found["duplicates"]["between"]["test in train"] == shared >= 2
    assert found["contradictions"]["count"] == 1
    assert found["contradictions"]["examples"] == [[["train", "x4", "con"], ["test", "x7", "neu"]]]
    assert found["tokens"]["train"]["truncated_count"] == 1
    assert found["tokens"]["train"]["truncated_share"] == pytest.approx(1 / 53)
    assert found["tokens"]["train"]["max"] > 300
    assert {path: path.read_bytes() for path in rows_dir.iterdir()} == before

    code, out, err = run_script("check", *tiny_arguments())
    assert (code, err) == (0, "")
    assert "1 in train" in out and f"{shared} of test in train" in out
    assert "Identical texts with different labels: 1" in out and "train x4 = con; test x7 = neu" in out
    assert "1 (1.9%)" in out and out.rstrip().endswith("The job is sound.")


def test_clean_rows_are_called_clean(run_script, tiny_arguments):
    _, out, _ = run_script("check", *tiny_arguments("training.learning_rate=2e-5"))
    assert "hint: training.learning_rate 2e-05 is usual for full fine-tuning" in out
    assert "Identical texts with different labels: none" in out and "0 (0.0%)" in out


def test_token_lengths_are_the_tokenizers(run_script, tiny_arguments, rows_dir, tiny_model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = files.read_jsonl(rows_dir / "validation.jsonl")
    lengths = sorted(len(tokenizer(row["claim"], row["sentence"])["input_ids"]) for row in rows)
    found = checked(run_script, tiny_arguments())["tokens"]["validation"]
    assert (found["min"], found["max"]) == (lengths[0], lengths[-1])
    assert found["median"] == (lengths[5] + lengths[6]) / 2


def test_without_rows(run_script, tiny_arguments, rows_dir):
    for path in rows_dir.iterdir():
        path.unlink()
    found = checked(run_script, [*tiny_arguments("training.class_weights=balanced"), "--no-data"])
    assert "splits" not in found and "tokens" not in found
    assert found["params_total_count"] > found["params_trainable_count"] > 0


def test_a_plan_of_ranks_is_compared_with_the_rows_that_are_there(run_script, tiny_arguments):
    arguments = tiny_arguments("method={name: adalora, total_step: 50, tinit: 5, tfinal: 10}", "training.epochs=3")
    assert checked(run_script, [*arguments, "--no-data"])["params_trainable_count"] > 0
    code, _, err = run_script("check", *arguments)
    assert code == 2 and "method.total_step is 50, but the run has 9 steps" in err


def test_config_only_needs_no_torch_and_no_model(tmp_path):
    """As on a login node: neither the model nor the rows are looked for."""
    words = ["--model", "minilm-lora", "--set", "model=nobody/nothing", "--config-only", "--json"]
    code = (
        "import runpy, sys; sys.path.insert(0, 'scripts'); sys.argv = ['check.py', *sys.argv[1:]]\n"
        "try:\n    runpy.run_path('scripts/check.py', run_name='__main__')\n"
        "except SystemExit as stop:\n    print('code', stop.code)\n"
        "print([name for name in ('torch', 'transformers', 'peft', 'datasets') if name in sys.modules])"
    )
    arguments = [*words, "--dataset", "cmv-stance", "--outputs", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=HANG_S
    )
    *document, status, loaded = done.stdout.splitlines()
    assert (status, loaded) == ("code 0", "[]")
    found = json.loads("\n".join(document))
    assert found == {
        "schema": 1,
        "job": "minilm-lora",
        "variant": found["variant"],
        "dataset": "cmv-stance",
    }
    assert found["variant"].startswith("model=")


def test_config_only_still_reads_the_yaml(run_script, tiny_arguments):
    code, _, err = run_script("check", *tiny_arguments("training.epochs=-1"), "--config-only")
    assert code == 2 and "training.epochs" in err


def test_no_weights_are_read(run_script, tiny_arguments, tiny_model, tmp_path, monkeypatch):
    """The check works on a folder that has config and tokenizer alone."""
    import shutil

    folder = tmp_path / "without weights"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    arguments = tiny_arguments()
    whole = checked(run_script, arguments)
    arguments[arguments.index("--set") + 1] = f'model="{folder}"'
    assert checked(run_script, arguments)["params_total_count"] == whole["params_total_count"]
    _, out, _ = run_script("check", *arguments)
    assert out.rstrip().endswith("not looked at: the base's weights, which were not found.")
    with monkeypatch.context() as patch:  # of the Hub, offline
        patch.setattr(download, "check_weights", lambda base, loader: None)
        _, out, _ = run_script("check", *arguments)
    assert out.rstrip().endswith("not looked at: the base's weights, which could not be looked for.")
    (folder / "pytorch_model.bin").touch()
    code, _, err = run_script("check", *arguments)
    assert code == 4 and "no weights as safetensors" in err


def test_a_sweep_is_checked_in_every_variant(run_script, tiny_arguments, swept):
    arguments = tiny_arguments(job=swept("sweep: {method.r: [2, 4, 16]}"))
    found = checked(run_script, arguments)
    assert "variant" not in found and found["splits"]["train"]["n"] == 48
    assert [part["variant"].split(",")[0] for part in found["variants"][:2]] == ["method.r=2", "method.r=4"]
    counts = [part["params_trainable_count"] for part in found["variants"]]
    assert counts == sorted(set(counts))
    for part, r in zip(found["variants"], (2, 4, 16), strict=True):
        one = checked(run_script, tiny_arguments(f"method.r={r}", job="swept"))
        assert one["variant"] == part["variant"] and one["params_trainable_count"] == part["params_trainable_count"]
    assert found["memory_estimate_variant"] == found["variants"][2]["variant"]
    assert one["memory_estimate_bytes"] == found["memory_estimate_bytes"]
    code, out, _ = run_script("check", *arguments)
    assert code == 0 and "A sweep of 3 variants" in out and f"{counts[0]:,}" in out
    assert f"a training step of 4,096 tokens, of {found['memory_estimate_variant']}: about" in out
    assert out.count("Tokens") == 1 and out.rstrip().endswith("The job is sound.")
    code, out, _ = run_script("check", *arguments, "--config-only")
    assert code == 0 and "A sweep of 3 variants" in out and "parameters" not in out


def test_a_variant_that_cannot_be_is_named(run_script, tiny_arguments, swept):
    job = swept("sweep: {max_length: [64, 300]}")
    code, out, err = run_script("check", *tiny_arguments(job=job))
    assert (code, out) == (4, "")
    assert "error: SET=max_length=300 " in err and "max_length is 300" in err


@pytest.mark.slow
def test_a_known_model_needs_neither_hub_nor_data(run_script, tmp_path):
    """No tokenizer, no config, no rows: this machine has none of them."""
    found = checked(run_script, ["--model", "mistral-7b-v0.3", "--no-data", "--outputs", str(tmp_path)])
    assert (found["params_total_count"], found["params_trainable_count"]) == (7_127_461_888, 13_643_776)
    parts = found["memory_estimate_parts_bytes"]
    assert list(parts) == ["weights", "trainable_states", "activations", "workspace"]
    assert found["memory_estimate_bytes"] == sum(parts.values()) > 10e9


def test_memory_is_told_to_people(run_script, tiny_arguments):
    _, out, _ = run_script("check", *tiny_arguments(), "--no-data")
    assert "GPU memory of a training step of 4,096 tokens: about 0.0" in out and "trainable states 0.0" in out
    assert "GPU memory of scoring 16,384 tokens between two steps: about 0.0" in out


def test_memory_that_cannot_be_estimated_is_said_to_be_so(run_script, tiny_arguments):
    words = [*tiny_arguments("method={name: loha, target_modules: [query]}"), "--no-data"]
    code, out, err = run_script("check", *words)
    assert code == 0 and "activations cannot be estimated for method loha; without them weights 0.0" in out, err
    found = checked(run_script, words)
    assert found["memory_estimate_bytes"] is None
    parts = found["memory_estimate_parts_bytes"]
    assert parts.pop("activations") is None and parts.pop("workspace") is None
    assert min(parts.values()) > 0


def test_a_method_made_of_the_weights_has_no_figures_before_they_are_read(run_script, tiny_arguments):
    words = [*tiny_arguments("method={name: frod, target_modules: [query]}", job="minilm-full"), "--no-data"]
    code, out, err = run_script("check", *words)
    assert code == 0, err
    assert "Parameters and GPU memory of method frod depend on the base's weights" in out
    found = checked(run_script, words)
    assert found["params_total_count"] is found["params_trainable_count"] is found["memory_estimate_bytes"] is None


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_a_pooling_is_estimated(run_script, tiny_arguments, pooling):
    code, out, err = run_script("check", *tiny_arguments(f"pooling={pooling}", job="minilm-full"))
    assert code == 0 and "GPU memory of a training step" in out, err


def test_strict_refuses_a_leak_in_check_train_and_submit(run_script, tiny_arguments, rows_dir, tmp_path, no_slurm):
    code, _, err = run_script("check", *tiny_arguments(), "--strict", "--no-data")
    assert code == 2 and "STRICT" in err
    train = files.read_jsonl(rows_dir / "train.jsonl")
    for split in ("validation", "test"):  # the fixture's are rows of train
        files.write_jsonl(rows_dir / f"{split}.jsonl", [train[1] | {"id": split, "sentence": f"only in {split}"}])
    test = files.read_jsonl(rows_dir / "test.jsonl")
    leak = train[0] | {"id": "leak", "sentence": train[0]["sentence"].upper() + "."}
    files.write_jsonl(rows_dir / "test.jsonl", [*test, leak])
    found = checked(run_script, tiny_arguments())
    assert ["test", "leak", train[0]["id"]] in found["near_duplicates"]["leaked"]
    for script in ("check", "train", "submit"):
        code, _, err = run_script(script, *tiny_arguments(), "--strict")
        assert code == 3 and f"test leak = train {train[0]['id']}" in err, script
    assert not list(tmp_path.rglob("config.yaml"))


def test_training_counts_and_keeps_what_check_counts(run_script, trained, tiny_arguments):
    _, folder = trained
    document = files.read_json(folder / "metrics.json")
    found = checked(run_script, tiny_arguments())
    kept = files.read_json(folder / "checks.json")
    assert document["number_text_count"] == 0 and document["unknown_token_count"] == sum(
        part["unknown_token_count"] for part in found["tokens"].values()
    )
    for key in (
        "file_notes",
        "notes",
        "dropped_rows_count",
        "splits",
        "tokens",
        "duplicates",
        "near_duplicates",
        "contradictions",
        "near_contradictions",
    ):
        assert kept[key] == found[key], key
    assert document["near_duplicate_count"] == sum(found["near_duplicates"]["within"].values())
    assert document["leaked_count"] == 24 and document["contradiction_count"] == 0


def test_strict_looks_for_leaks_once(run_script, tiny_arguments, rows_dir, monkeypatch):
    train = files.read_jsonl(rows_dir / "train.jsonl")
    for split in ("validation", "test"):  # the fixture's are rows of train
        own = [one | {"id": f"{split} {n}", "sentence": f"{split} {n} " * 3} for n, one in enumerate(train[:6])]
        files.write_jsonl(rows_dir / f"{split}.jsonl", own)
    counted, find_leaks = [], leaks.find_leaks

    def count(*arguments):
        counted.append(arguments)
        return find_leaks(*arguments)

    monkeypatch.setattr(leaks, "find_leaks", count)
    code, _, err = run_script("train", *tiny_arguments("training.epochs=1"), "--strict")
    assert code == 0, err
    assert len(counted) == 1


def test_what_was_not_looked_at_is_named(run_script, tiny_arguments):
    _, out, _ = run_script("check", *tiny_arguments(), "--no-data")
    assert "not looked at: rows and their tokens; the base's weights." in out and "The job is sound." not in out
