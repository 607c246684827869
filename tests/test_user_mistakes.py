"""What users get wrong: one message that says what to do, an exit code of its class, no traceback, nothing written."""

import json
import shutil
from pathlib import Path

import pytest
import tiny_causal

from common.core import files

CONFIG, DATA, MODEL, RUN = 2, 3, 4, 5  # exit codes


@pytest.fixture
def refused(run_script, tmp_path):
    """Run a script that must refuse: returns its message."""

    def run(script: str, words: list[str], code: int) -> str:
        before = listing(tmp_path)
        found, out, err = run_script(script, *words)
        assert found == code, (found, out, err)
        assert err.startswith("error: ")
        assert err.count("error: ") == 1 and "Traceback" not in err
        assert "test (n=" not in out and "sound" not in out
        assert listing(tmp_path) == before
        return err

    return run


def listing(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def change(words: list[str], option: str, value: str | None) -> list[str]:
    """Replace an option's value, or leave the option out."""
    position = words.index(option)
    return words[:position] + ([option, value] if value is not None else []) + words[position + 2 :]


def override(words: list[str], *overrides: str) -> list[str]:
    position = words.index("--outputs")
    return [*words[:position], *overrides, *words[position:]]


SCRIPTS = ["train", "check", "evaluate", "baseline"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_model(refused, tiny_arguments, script):
    message = refused(script, change(tiny_arguments(), "--model", None), CONFIG)
    assert "MODEL= is missing" in message and "minilm-lora" in message


@pytest.mark.parametrize("script", SCRIPTS)
def test_unknown_model(refused, tiny_arguments, script):
    message = refused(script, change(tiny_arguments(), "--model", "minilm-lroa"), CONFIG)
    assert "MODEL=minilm-lroa" in message and "Did you mean 'minilm-lora'?" in message and "jobs/" in message


@pytest.mark.parametrize("script", SCRIPTS)
def test_unknown_dataset(refused, tiny_arguments, script):
    message = refused(script, [*tiny_arguments(), "--dataset", "stance-smaple"], CONFIG)
    assert "DATASET=stance-smaple" in message and "Did you mean 'stance-sample'?" in message


@pytest.mark.parametrize("script", ["train", "check", "baseline"])
def test_a_dataset_whose_columns_are_not_there(refused, tiny_arguments, script):
    message = refused(script, [*tiny_arguments(), "--dataset", "cmv-stance"], DATA)
    assert "train.jsonl" in message and "column 'topic'" in message and "Columns found: id, claim" in message


def test_missing_files(refused, tiny_arguments, tmp_path):
    message = refused("train", change(tiny_arguments(), "--data-dir", str(tmp_path / "nowhere")), DATA)
    assert "nowhere: there is no such folder" in message
    (tmp_path / "empty").mkdir()
    message = refused("train", change(tiny_arguments(), "--data-dir", str(tmp_path / "empty")), DATA)
    assert "no split found" in message and "xlsx, csv, tsv, jsonl, parquet" in message
    # The dataset's own files, when no folder is given: those of cmv-stance are the user's to bring.
    words = [*tiny_arguments(data=False), "--dataset", "cmv-stance"]
    assert "data/cmv-stance/train.xlsx: there is no such file" in refused("train", words, DATA)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("script", ["train", "check"])
def test_a_missing_split(refused, tiny_arguments, rows_dir, script, split):
    (rows_dir / f"{split}.jsonl").unlink()
    assert f"no {split} rows" in refused(script, tiny_arguments(), DATA)


def edit(path: Path, number: int, **cells: object) -> None:
    records = files.read_jsonl(path)
    for key, value in cells.items():
        if value is None:
            del records[number][key]
        else:
            records[number][key] = value
    files.write_jsonl(path, records)


@pytest.mark.parametrize(
    ("split", "cells", "parts"),
    [
        ("train", {"stance": "prro"}, ["row 5", "'stance'", "'prro'", "Did you mean 'pro'", "con, neu, pro"]),
        ("test", {"stance": ""}, ["row 5", "'stance'", "an empty cell"]),
        ("validation", {"sentence": " "}, ["row 5", "'sentence'", "empty"]),
        ("train", {"claim": None}, ["row 5", "'claim'", "empty"]),
        ("train", {"id": "train0"}, ["row 5", "'train0'", "row 1"]),
    ],
)
def test_a_wrong_cell_is_named(refused, tiny_arguments, rows_dir, split, cells, parts):
    edit(rows_dir / f"{split}.jsonl", 4, **cells)
    for script in ("train", "check"):
        message = refused(script, tiny_arguments(), DATA)
        for part in [f"{split}.jsonl", *parts]:
            assert part in message


def test_a_file_that_is_no_table(refused, tiny_arguments, rows_dir):
    text = (rows_dir / "train.jsonl").read_text()
    (rows_dir / "train.jsonl").write_text(text.replace('{"id": "train3"', "{id: train3"))
    message = refused("train", tiny_arguments(), DATA)
    assert "train.jsonl: cannot be read as jsonl: line 4" in message


def test_nothing_to_learn(refused, tiny_arguments, rows_dir):
    path = rows_dir / "train.jsonl"
    records = files.read_jsonl(path)
    path.write_text("")
    refused("train", tiny_arguments(), DATA)
    files.write_jsonl(path, [record for record in records if record["stance"] == "neu"])
    message = refused("train", tiny_arguments(), DATA)
    assert "every train row has the label 'neu'" in message and "at least two" in message
    files.write_jsonl(path, [record for record in records if record["stance"] != "con"])
    assert "no train row has the label con" in refused("train", tiny_arguments(), DATA)


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("training.epohcs=3", ["training.epohcs", "Did you mean 'epochs'"]),
        ("trianing.epochs=3", ["trianing", "Did you mean 'training'"]),
        ("training.epochs=many", ["training.epochs", "'many'"]),
        ("training.epochs=0", ["training.epochs", "greater than 0"]),
        ("training.epochs", ["key=value"]),
        ("method.alpha=3", ["method.alpha", "Allowed here", "lora_alpha"]),
        ("method.name=loar", ["'loar'", "Did you mean 'lora'", "last-layers"]),
        ("precision=float64", ["precision", "float64", "bfloat16"]),
        ("head=promt", ["head", "classification", "prompt"]),
        ("decoding=generate", ["prompt head"]),
        ("double_quantization=true", ["nf4"]),
        ("method.name=full quantization=nf4", ["full", "quantization: none"]),
        ("training.eval_every=never", ["eval_every"]),
        ("training.class_weights=balance", ["class_weights", "balance"]),
        ("training.best_metric=f1", ["best_metric", "validation_f1_macro"]),
    ],
)
def test_wrong_overrides(refused, tiny_arguments, word, parts):
    for script in ("train", "check"):
        message = refused(script, override(tiny_arguments(), word), CONFIG)
        for part in parts:
            assert part in message, message


@pytest.mark.parametrize(
    ("overrides", "code", "parts"),
    [
        (["training.optim=adamw_torhc"], CONFIG, ["optim", "adamw_torhc", "Did you mean 'adamw_torch'"]),
        (["training.lr_scheduler_type=linaer"], CONFIG, ["linaer", "Did you mean 'linear'"]),
        (["method={name: none}"], CONFIG, ["method none trains nothing", "BASELINE=untuned"]),
        (["training.best_metric=validation_f1_mean_labels"], CONFIG, ["f1_mean_labels", "data/stance-sample.yaml"]),
        (["training.class_weights={proo: 2.0}"], CONFIG, ["'proo'", "Did you mean 'pro'"]),
        (["max_length=300"], MODEL, ["max_length is 300", "256 positions", "8 to 256"]),
        (["method={name: last-layers, k: 7}"], MODEL, ["k is 7", "0 to 2"]),
        (["method={name: lora, target_modules: [q_proj]}"], MODEL, ["q_proj", "query", "value"]),
        (
            ["method={name: lora, target_modules: [query, valeu]}"],
            MODEL,
            ["'valeu' names no module", "'value'", "query"],
        ),
        (["method.layers_to_transform=[1, 2]"], MODEL, ["layers_to_transform names 2", "2 layers", "0 to 1"]),
        (["method={name: loha, layers_to_transform: 7}"], MODEL, ["layers_to_transform names 7", "2 layers"]),
        (["method.modules_to_save=[pooler, poller]"], MODEL, ["modules_to_save: 'poller'", "'pooler'", "encoder"]),
        (["method={name: ia3, modules_to_save: [score]}"], MODEL, ["ia3, method.modules_to_save: 'score'", "pooler"]),
        (["method.exclude_modules=[query, vlaue]"], MODEL, ["exclude_modules: 'vlaue'", "'value'"]),
        (["method.rank_pattern={'layer.0.*query': 4, q_proj: 4}"], MODEL, ["rank_pattern: 'q_proj'", "dense, key"]),
        (["method.alpha_pattern={quer: 4}"], MODEL, ["alpha_pattern: 'quer'", "Did you mean 'query'"]),
        (["method.rank_pattern={'quer[': 4}"], MODEL, ["rank_pattern: 'quer['"]),
        (["model_config_overrides={hidden_dropout: 0.1}"], MODEL, ["'hidden_dropout'", "hidden_dropout_prob"]),
    ],
)
def test_recipes_that_only_the_libraries_can_judge(refused, tiny_arguments, overrides, code, parts):
    for script in ("train", "check"):
        message = refused(script, override(tiny_arguments(), *overrides), code)
        for part in parts:
            assert part in message, message


@pytest.mark.parametrize("script", ["train", "check", "baseline"])
@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("package:no_such_package/model", ["'no_such_package' is not installed", "make setup"]),
        ("nobody/no-such-model", ["nobody/no-such-model", "HF_HUB_OFFLINE"]),
        ("{folder}", ["contains no config.json"]),
    ],
)
def test_a_model_that_is_not_there(refused, tiny_arguments, tmp_path, script, model, parts):
    (tmp_path / "no model").mkdir()
    words = tiny_arguments()
    words[words.index("--set") + 1] = f'model="{model.format(folder=tmp_path / "no model")}"'
    message = refused(script, words, MODEL)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("seed", ["one", "-1", "1.5", "4294967296"])
def test_a_bad_seed(refused, tiny_arguments, seed):
    message = refused("train", [*tiny_arguments(), f"--seed={seed}"], CONFIG)
    assert f"SEED is '{seed}'" in message and "0 to 4294967295" in message


def test_an_option_that_does_not_exist(refused, tiny_arguments):
    assert "--sede" in refused("train", [*tiny_arguments(), "--sede", "1"], CONFIG)


def test_before_training(refused, tiny_arguments, tmp_path):
    for script, words in (
        ("evaluate", tiny_arguments()),
        ("predict", [*tiny_arguments(data=False), "--text", "A. || B."]),
    ):
        message = refused(script, words, RUN)
        assert "there is no such run" in message and "make train MODEL=minilm-lora" in message
        assert "SET=" in message
    (tmp_path / "file.csv").write_text("claim,sentence\na,b\n")
    words = ["--run", str(tmp_path / "no-run"), "--input", str(tmp_path / "file.csv")]
    assert "there is no run here" in refused("predict", words, RUN)


def test_a_run_that_stopped_before_its_model(refused, tiny_arguments, tmp_path, trained_outputs):
    shutil.copytree(trained_outputs, tmp_path / "outputs")
    folder = next((tmp_path / "outputs").rglob("metrics.json")).parent
    (folder / "metrics.json").unlink()
    shutil.rmtree(folder / "model")
    message = refused("evaluate", override(tiny_arguments(data=False), "training.epochs=2"), RUN)
    assert "the run is not finished" in message and "make train" in message


def test_changed_config(refused, trained, tmp_path):
    arguments, folder = trained
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("weight_decay: 0.01", "weight_decay: 0.02"))
    for script in ("train", "evaluate"):
        message = refused(script, [*arguments, "--data-dir", data_dir(folder)], RUN)
        assert "training.weight_decay: 0.02 → 0.01" in message


def data_dir(folder: Path) -> str:
    from common.runs import run_folder

    return str(run_folder.load_run_config(folder).data_dir)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "either INPUT=<file> or TEXT=<text>"),
        (["--text", "a || b", "--input", "x.csv"], "either INPUT=<file> or TEXT=<text>"),
    ],
)
def test_predict_needs_one_thing(refused, tiny_arguments, words, part):
    assert part in refused("predict", [*tiny_arguments(data=False), *words], CONFIG)


def test_a_run_folder_whose_config_is_broken(refused, trained):
    _, folder = trained
    (folder / "config.yaml").write_text("schema: 1\nrun: [\n")
    message = refused("predict", ["--run", str(folder), "--text", "a || b"], RUN)
    assert "config.yaml, line" in message
    (folder / "config.yaml").write_text("schema: 1\nrun: {}\n")
    assert "not the config of a run" in refused("predict", ["--run", str(folder), "--text", "a || b"], RUN)


def test_the_error_classes_have_their_own_codes():
    from common.core import errors

    classes = [errors.ConfigError, errors.DataError, errors.ModelError, errors.RunError, errors.ReportError]
    assert [cls.exit_code for cls in classes] == [2, 3, 4, 5, 6] and errors.Interrupted.exit_code == 75


def test_check_prints_nothing_on_stdout_when_it_refuses(run_script, tiny_arguments, rows_dir):
    edit(rows_dir / "train.jsonl", 0, stance="?")
    code, out, _ = run_script("check", *tiny_arguments(), "--json")
    assert code == DATA and out == ""
    assert json.loads(run_script("check", *tiny_arguments(), "--no-data", "--json")[1])["job"] == "minilm-lora"


# --- prompts ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def prompt_words(tiny_causal_model, rows_dir, tmp_path):
    """`prompt_words("qwen", max_length=900)` → arguments of the scripts for a job of the prompt head."""

    def words(family: str, **changes: object) -> list[str]:
        settings = tiny_causal.words(family, tiny_causal_model(family), **changes)
        places = ["--outputs", str(tmp_path / "outputs"), "--data-dir", str(rows_dir)]
        return ["--model", "minilm-lora", "--set", *settings, *places]

    return words


@pytest.fixture
def data_set(monkeypatch, tmp_path):
    """`data_set(prompt={…})` writes data/mine.yaml like stance-sample's, some keys changed; None takes one away."""
    from common.config import catalog
    from common.core import yaml_io

    def write(**changes: object) -> None:
        document = yaml_io.read(catalog.ROOT / "data" / "stance-sample.yaml") | changes
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        kept = {key: value for key, value in document.items() if value is not None}
        (folder / "mine.yaml").write_text(json.dumps(kept), encoding="utf-8")
        monkeypatch.setattr(catalog, "DATASETS", folder)

    return write


@pytest.mark.parametrize("script", ["train", "check", "baseline"])
@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"prompt": {"user": "{claim} {sentense}?"}}, ["column 'sentense'", "Did you mean 'sentence'", "claim"]),
        ({"prompt": {"user": "{claim}?"}}, ["does not use the text column 'sentence'", "{sentence}"]),
        ({"prompt": {"user": "{claim} {sentence"}}, ["write a literal brace twice"]),
        ({"prompt": {"user": "{claim} {sentence} {}"}}, ["is not a column"]),
        ({"prompt": {"user": ""}}, ["prompt.user"]),
        ({"answers": {"con": "no", "pro": "yes"}}, ["answers must have every label once", "con, neu, pro"]),
        ({"answers": {"con": "no", "neu": "no", "pro": "yes"}}, ["answers must differ"]),
    ],
)
def test_a_wrong_prompt(refused, prompt_words, data_set, script, changes, parts):
    data_set(**changes)
    message = refused(script, [*prompt_words("qwen"), "--dataset", "mine"], CONFIG)
    for part in ["mine.yaml", *parts]:
        assert part in message, message


@pytest.mark.parametrize("script", ["train", "check", "baseline"])
def test_a_prompt_job_on_a_data_set_without_a_prompt(refused, prompt_words, data_set, script):
    data_set(prompt=None)
    message = refused(script, [*prompt_words("qwen"), "--dataset", "mine"], CONFIG)
    assert "has no `prompt`" in message and "data/_example.yaml" in message


@pytest.mark.parametrize("script", ["train", "check", "baseline"])
def test_a_prompt_that_swallows_its_answers(refused, prompt_words, data_set, script):
    data_set(prompt={"user": "{claim} {sentence} Stance: "})
    message = refused(script, [*prompt_words("llama"), "--dataset", "mine"], MODEL)
    assert "'con'" in message and "end the prompt without a space" in message


@pytest.mark.parametrize("script", ["train", "check", "baseline"])
def test_more_tokens_than_positions(refused, prompt_words, script):
    message = refused(script, prompt_words("gemma", max_length=600), MODEL)
    assert "max_length is 600" in message and "512 positions" in message


@pytest.mark.parametrize("script", ["train", "check", "baseline"])
def test_a_prompt_longer_than_max_length(refused, prompt_words, script):
    message = refused(script, prompt_words("gemma", max_length=24), MODEL)
    assert "even without its texts" in message and "max_length is 24" in message


@pytest.mark.parametrize("script", ["train", "check"])
def test_a_prompt_job_on_an_encoder(refused, tiny_arguments, script):
    message = refused(script, override(tiny_arguments(), "head=prompt", "method.modules_to_save=null"), MODEL)
    assert "head prompt needs a causal language model, and bert reads in both directions" in message
