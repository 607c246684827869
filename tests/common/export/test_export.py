"""common/export: an exported folder labels texts as its run did, or is not written."""

import shutil
import socket
from pathlib import Path

import exports
import numpy as np
import peft_cases
import pytest
from huggingface_hub import constants
from marks import slow_except

from common.config import catalog
from common.core.errors import ModelError, RunError
from common.core.files import read_json, read_jsonl, write_json
from common.data.load import load_rows
from common.data.rows import Row
from common.evaluation import inference
from common.export import export
from common.export.common_files import write_scores
from common.export.export import export_run
from common.export.source import load_trained_run
from common.hub import locate
from common.model import exported as exported_model
from common.runs import run_folder
from common.runs.exported import MERGED, ONNX, PEFT, load_export_config
from common.runs.run_config import job_of

LABELS = ["con ≠ pro", "neu 🙂", 'a | "b" `c`']  # a dataset refuses labels with line breaks
LORA = {"name": "lora", "r": 4, "lora_alpha": 8, "target_modules": "all-linear", "modules_to_save": ["pooler"]}
METHODS = {
    "lora": LORA,
    "lora-from-scratch": {"name": "lora-from-scratch", "r": 4, "modules_to_save": ["pooler"]},
    "last-layers": {"name": "last-layers", "k": 1},
    "dora": {**LORA, "use_dora": True},
    "pissa": {**LORA, "init_lora_weights": "pissa"},
    "ia3": {"name": "ia3", "target_modules": ["query", "value"], "feedforward_modules": []},
    "ln_tuning": {"name": "ln_tuning", "target_modules": ["LayerNorm"]},
    "full": {"name": "full"},
}
CASES = [
    *((method, PEFT) for method in METHODS if method != "full"),
    *((method, MERGED) for method in ("lora", "lora-from-scratch", "last-layers", "dora", "full")),
]
NARROW = {  # for layers of 16 and 32 units
    "c3a": {"block_size": 16},
    "miss": {"r": 8},
    "oft": {"oft_block_size": 16, "r": 0},
    "psoft": {"r": 8},
    "road": {"group_size": 16},
    "shira": {"r": 4},
}
ENCODERS = [
    *((family, kind) for family in ("roberta", "electra", "distilbert") for kind in (PEFT, MERGED)),
    *((family, kind) for family in ("deberta", "modernbert") for kind in (PEFT, MERGED, ONNX)),  # own attention
]
PROMPTS = [("gemma", PEFT), ("llama", MERGED), ("qwen", PEFT), ("mistral", MERGED), ("llama-instruct", PEFT)]


@pytest.fixture
def dataset():
    """stance-sample with labels that are hard to write down."""
    plain = catalog.load_dataset("stance-sample").model_dump(mode="json", by_alias=True, exclude_defaults=True)
    plain |= {"schema": 1, "labels": LABELS, "label_map": dict(zip(("con", "neu", "pro"), LABELS, strict=True))}
    return type(catalog.load_dataset("stance-sample")).model_validate(plain)


@pytest.fixture
def exported(tiny_job, rows_dir, dataset, tmp_path, monkeypatch):
    """`exported("lora", "peft")` → (run, exported folder), of the tiny BERT with a classification head."""
    exports.prove_in_this_process(monkeypatch)

    def make(method: str, kind: str, dtype: str | None = None, **settings: object):
        job = tiny_job(**{"method": METHODS[method], "max_length": 24, **settings})
        run = exports.make_run(tmp_path / "run", job, dataset, rows_dir)
        export_run(run, tmp_path / "exported", kind, dtype)
        return run, tmp_path / "exported"

    return make


@pytest.mark.parametrize(("method", "kind"), slow_except([("lora", PEFT), ("last-layers", PEFT)], CASES))
def test_every_method_of_a_classification_head(exported, tiny_model, method, kind):
    run, folder = exported(method, kind)
    proof = read_json(folder / "proof.json")
    assert (proof["test_rows_count"], proof["changed_labels_count"]) == (12, 0)
    _labels_alike(run, folder, None if kind == MERGED else tiny_model)


def test_a_run_of_an_older_version(tiny_job, rows_dir, dataset, tmp_path, monkeypatch):
    """Its saved model does not say how texts are cut; its config.yaml decides."""
    exports.prove_in_this_process(monkeypatch)
    job = tiny_job(method=LORA, max_length=24)
    run = exports.make_run(tmp_path / "run", job, dataset, rows_dir)
    saved = run.folder / run_folder.MODEL / "peftable.json"
    write_json(saved, {key: value for key, value in read_json(saved).items() if key not in ("truncation", "pooling")})
    export_run(load_trained_run(run.folder, run.config), tmp_path / "exported", MERGED, None)
    _labels_alike(run, tmp_path / "exported", None)


def _labels_alike(run, folder, base: Path | None) -> None:
    found = exports.labels(folder, [row.texts for row in run.rows], base)
    wanted = [record["predicted"] for record in read_jsonl(run.folder / "predictions-test.jsonl")]
    assert found == [str(label) for label in wanted]


@pytest.mark.parametrize(("family", "kind"), slow_except([("gemma", PEFT)], PROMPTS))
def test_every_family_with_a_prompt_head(prompt_job, rows_dir, tmp_path, monkeypatch, family, kind):
    exports.prove_in_this_process(monkeypatch)
    job = prompt_job(family, max_length=200)
    run = exports.make_run(tmp_path / "run", job, catalog.load_dataset("stance-sample"), rows_dir)
    export_run(run, tmp_path / "exported", kind, None)
    found = exports.labels(
        tmp_path / "exported", [row.texts for row in run.rows], None if kind == MERGED else Path(job.model)
    )
    assert found == [record["predicted"] for record in read_jsonl(run.folder / "predictions-test.jsonl")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "name"),
    [
        *(("classification", name) for kind, name in peft_cases.POSSIBLE if kind == "bert"),
        *(("prompt", name) for name in peft_cases.CAUSAL),
    ],
)
def test_every_method_of_the_peft_library(tiny_job, prompt_job, rows_dir, tmp_path, monkeypatch, head, name):
    """As an adapter, and merged or refused with the reason; nothing is written that does not pass its proof."""
    exports.prove_in_this_process(monkeypatch)
    make_job, settings = (tiny_job, {"max_length": 24}) if head == "classification" else (prompt_job, {})
    given = ("minilm-lora",) if head == "classification" else ("llama",)
    method = {"name": name, **peft_cases.OPTIONS.get(name, {}), **NARROW.get(name, {})}
    method |= peft_cases.ON_BERT.get(name, {}) if head == "classification" else {}
    job = make_job(*given, **settings, method=method)
    run = exports.make_run(tmp_path / "run", job, catalog.load_dataset("stance-sample"), rows_dir)
    export_run(run, tmp_path / "adapter", PEFT, None)
    _labels_alike(run, tmp_path / "adapter", Path(job.model))
    try:
        export_run(run, tmp_path / "merged", MERGED, None)
    except ModelError as error:
        assert "FORMAT=peft" in str(error) and not (tmp_path / "merged").exists()
    else:
        _labels_alike(run, tmp_path / "merged", None)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "kind"), ENCODERS)
def test_every_family_of_encoders(tiny_job, tiny_encoder, rows_dir, tmp_path, monkeypatch, family, kind):
    exports.prove_in_this_process(monkeypatch)
    lora = {"name": "lora", "r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
    settings = tiny_encoder(family)
    run = exports.make_run(
        tmp_path / "run",
        tiny_job(**settings, method=lora, max_length=24),
        catalog.load_dataset("stance-sample"),
        rows_dir,
    )
    export_run(run, tmp_path / "exported", kind, None)
    _labels_alike(run, tmp_path / "exported", Path(str(settings["model"])) if kind == PEFT else None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "kind"), [("gemma", MERGED), ("llama", PEFT), ("qwen", ONNX)]
)  # with a pad token, and without
def test_decoders_with_a_classification_head(prompt_job, rows_dir, tmp_path, monkeypatch, family, kind):
    exports.prove_in_this_process(monkeypatch)
    job = prompt_job(family, head="classification", max_length=40)
    run = exports.make_run(tmp_path / "run", job, catalog.load_dataset("stance-sample"), rows_dir)
    export_run(run, tmp_path / "exported", kind, None)
    _labels_alike(run, tmp_path / "exported", None if kind == MERGED else Path(job.model))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PEFT, MERGED])
def test_a_quantised_run_is_scored_again_over_the_whole_base(prompt_job, rows_dir, tmp_path, monkeypatch, kind):
    exports.prove_in_this_process(monkeypatch)
    job = prompt_job("qwen", quantization="nf4", dtype="bfloat16", precision="bfloat16", max_length=200)
    run = exports.make_run(tmp_path / "run", job, catalog.load_dataset("stance-sample"), rows_dir)
    export_run(run, tmp_path / "exported", kind, None)
    proof = read_json(tmp_path / "exported" / "proof.json")
    assert proof["largest_difference"] > 1e-4 and proof["test_rows_count"] == 12
    assert "differ from those of the run" in (tmp_path / "exported" / "README.md").read_text(encoding="utf-8")
    assert read_json(tmp_path / "exported" / "config.json").get("quantization_config") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "dtype", "settings"),
    [
        ("lora", "int8", {}),
        ("adapters", "float32", {}),
        ("last-layers", "float32", {"pooling": "mean"}),
    ],
)
def test_a_graph_computes_what_transformers_cannot(exported, run_script, monkeypatch, method, dtype, settings):
    monkeypatch.setitem(METHODS, "adapters", {"name": "adapters", "size": 4})
    run, folder = exported(method, ONNX, dtype, **settings)
    proof = read_json(folder / "proof.json")
    assert proof["largest_difference"] < (0.5 if dtype == "int8" else 1e-4)
    if dtype == "float32":
        _labels_alike(run, folder, None)
    else:
        _rows_do_not_depend_on_each_other(run, folder)
    row = run.rows[0]
    code, out, err = run_script("predict", "--run", str(folder), "--text", " || ".join(row.texts))
    assert code == 0, err
    assert out.splitlines()[0] == exports.labels(folder, [row.texts])[0]


def _rows_do_not_depend_on_each_other(run, folder) -> None:
    texts = [row.texts for row in run.rows]
    together, alone = exports.scores(folder, texts), [exports.scores(folder, [row])[0] for row in texts]
    assert np.array_equal(together, alone)
    head = exported_model.load(job_of(load_export_config(folder)), run.dataset, folder, False)
    np.testing.assert_allclose(inference.score(head, run.rows, 4_096, "rows"), together, rtol=0, atol=1e-6)


def test_merged_weights_of_16_bits_are_scored_again(exported):
    _, folder = exported("lora", MERGED, "bfloat16")
    assert read_json(folder / "config.json")["dtype"] == "bfloat16"
    proof = read_json(folder / "proof.json")
    assert 1e-5 < proof["largest_difference"] < 0.1
    assert "accuracy_interval_95" in proof["export"]


def test_no_file_names_this_machine(exported, tiny_model):
    run, folder = exported("lora", PEFT)
    names = [
        str(tiny_model),
        str(run.folder),
        str(folder.parent),
        str(Path.home()),
        str(Path.cwd()),
        socket.gethostname(),
    ]
    for file in folder.rglob("*"):
        assert file.stat().st_mode == (folder / "check.py").stat().st_mode, f"{file} cannot be read by others"
        content = file.read_bytes()
        assert not [name for name in names if len(name) > 4 and name.encode() in content], file
        for row in run.rows:
            assert row.texts[1].encode() not in content, f"{file} contains a text"
    adapter = read_json(folder / "adapter_config.json")
    assert adapter["base_model_name_or_path"] == tiny_model.name
    assert list(read_json(folder / "config.json")["id2label"].values()) == LABELS


@pytest.mark.parametrize(
    ("method", "kind", "settings", "reason"),
    [
        ("adapters", PEFT, {}, "FORMAT=onnx"),
        ("full", PEFT, {}, "FORMAT=merged"),
        ("last-layers", MERGED, {"pooling": "mean"}, "pooling mean"),
    ],
)
def test_what_transformers_cannot_compute_is_refused(exported, monkeypatch, tmp_path, method, kind, settings, reason):
    monkeypatch.setitem(METHODS, "adapters", {"name": "adapters", "size": 4})
    with pytest.raises(ModelError, match=reason):
        exported(method, kind, **settings)
    assert not (tmp_path / "exported").exists()


def test_an_export_that_labels_otherwise_is_not_written(exported, monkeypatch, tmp_path):
    whole = export.common_files.write_scores

    def wrong(folder, rows, scores, *others):
        whole(folder, rows, scores[:, ::-1], *others)

    monkeypatch.setattr(export.common_files, "write_scores", wrong)
    with pytest.raises(RunError, match="its own proof"):
        exported("lora", MERGED)
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_a_merge_that_changes_scores_is_not_written(exported, monkeypatch, tmp_path, dtype):
    """A run in bfloat16 has scores of its own; its export is compared with its model before the merge, in float32."""
    whole = export.weights.merge

    def wrong(model):
        merged = whole(model)
        merged.classifier.bias.data[0] += 0.01
        return merged

    settings = {"precision": "bfloat16"}
    exported("lora", MERGED, dtype, **settings)
    shutil.rmtree(tmp_path / "exported")
    shutil.rmtree(tmp_path / "run")
    monkeypatch.setattr(export.weights, "merge", wrong)
    with pytest.raises(RunError, match="merging changed the scores"):
        exported("lora", MERGED, dtype, **settings)
    assert not (tmp_path / "exported").exists()


def test_rows_with_equal_texts_have_equal_scores(tmp_path):
    rows = [Row("r1", ("a", "b"), 0), Row("r2", ("c", "d"), 0), Row("r3", ("a", "b"), 1)]
    scores = np.log([[0.7, 0.3], [0.5, 0.5], [0.7, 0.3]])
    write_scores(tmp_path, rows, scores, [], scores[:0], 1e-4)
    assert [entry["scores"][0] for entry in read_jsonl(tmp_path / "expected.jsonl")] == [-0.356675, -0.693147]
    scores[2] = np.log([0.6, 0.4])
    with pytest.raises(RunError, match="r1 and r3 have the same texts and different scores"):
        write_scores(tmp_path, rows, scores, [], scores[:0], 1e-4)


@pytest.mark.slow
def test_a_fold_is_exported_with_its_own_test_rows(tiny_job, rows_dir, dataset, tmp_path, monkeypatch):
    exports.prove_in_this_process(monkeypatch)
    plain = dataset.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    plain |= {"schema": 1, "splits": {"folds": 2, "fold": 2, "fractions": {"validation": 0.2}}}
    folds = type(dataset).model_validate(plain)
    run = exports.make_run(tmp_path / "run", tiny_job(method=METHODS["lora"], max_length=24), folds, rows_dir)
    assert {row.id for row in run.rows} == {row.id for row in load_rows(folds, rows_dir)["test"]}
    export_run(run, tmp_path / "exported", MERGED, None)
    assert read_json(tmp_path / "exported" / "proof.json")["test_rows_count"] == len(run.rows)
    _labels_alike(run, tmp_path / "exported", None)


def test_spoilt_folders_and_wrong_bases_are_refused(exported, tiny_model, tmp_path):
    _, folder = exported("lora", PEFT)
    code, printed = exports.run_check(folder)
    assert code == 1 and "holds only what training changed" in printed and "name that folder as the base" in printed
    other = tmp_path / "other base"
    shutil.copytree(tiny_model, other)
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    code, printed = exports.run_check(folder, "--base", str(other))
    assert code == 1 and "another base" in printed
    assert exports.run_check(folder, "--base", str(tiny_model))[0] == 0
    moved = tmp_path / "moved elsewhere"
    shutil.move(folder, moved)
    assert exports.run_check(moved, "--base", str(tiny_model))[0] == 0
    (moved / "labels.json").write_text("{}")
    assert "labels.json has changed" in exports.run_check(moved, "--base", str(tiny_model))[1]
    with pytest.raises(ModelError, match=r"labels\.json has changed"):
        load_export_config(moved)
    (moved / "labels.json").unlink()
    assert "labels.json is missing" in exports.run_check(moved, "--base", str(tiny_model))[1]


def test_a_base_of_the_hub_is_loaded_at_its_commit_alone(exported, tiny_model, tmp_path, monkeypatch):
    cache, trained_at, later = tmp_path / "cache", "abc4" * 10, "def5" * 10
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    commits = cache / "models--someone--tiny-bert" / "snapshots"
    shutil.copytree(tiny_model, commits / trained_at)
    (commits.parent / "refs").mkdir()
    branch = commits.parent / "refs" / "main"
    branch.write_text(trained_at)
    locate.hub_commit.cache_clear()
    _, folder = exported("lora", PEFT, model="someone/tiny-bert")
    locate.hub_commit.cache_clear()  # what another test asks for is not here
    base = read_json(folder / "peftable.json")["base"]
    assert (base["hub"], base["commit"]) == ("someone/tiny-bert", trained_at)
    assert str(cache) not in "".join(file.read_text(errors="ignore") for file in folder.iterdir())
    shutil.copytree(commits / trained_at, commits / later)
    branch.write_text(later)
    assert exports.run_check(folder)[0] == 0  # the branch may move
    shutil.rmtree(commits / trained_at)
    code, printed = exports.run_check(folder)
    assert code == 1 and "someone/tiny-bert cannot be loaded" in printed and f"commit {trained_at}" in printed


def test_predict_and_evaluate_take_an_export(run_script, trained, tiny_model, tmp_path, monkeypatch):
    exports.prove_in_this_process(monkeypatch)
    words, folder = trained
    text = ["--text", "Claim 1. || good useful idea"]
    wanted = run_script("predict", "--run", str(folder), *text)
    assert wanted[0] == 0
    records = read_jsonl(folder / "predictions-test.jsonl")
    data_dir = run_folder.load_run_config(folder).data_dir
    for kind in (PEFT, MERGED):
        code, out, err = run_script("export", "--run", str(folder), "--to", str(tmp_path / kind), "--format", kind)
        assert code == 0, err
        assert out.startswith("device: ") and "12, 0 with another label" in out
        adapter = ["--adapter", str(tmp_path / kind)]
        assert run_script("predict", *words, *adapter, *text) == wanted
        code, _, err = run_script("evaluate", *words, *adapter, "--data-dir", str(data_dir))
        assert code == 0, err
        again = next(
            path for path in (tmp_path / "outputs").rglob("predictions-test.jsonl") if f"adapter-{kind}" in str(path)
        )
        for one, two in zip(read_jsonl(again), records, strict=True):
            assert one["predicted"] == two["predicted"]
            assert one["scores"] == pytest.approx(two["scores"], abs=1e-5)
    assert run_script("predict", "--run", str(tmp_path / MERGED), *text) == wanted
    code, _, err = run_script("predict", "--run", str(tmp_path / PEFT), *text)
    assert code == 4 and "is a local folder" in err and "ADAPTER=" in err
