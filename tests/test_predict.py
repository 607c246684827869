"""scripts/predict.py: every format keeps its columns and rows; nothing is overwritten unasked."""

import math
import shutil

import pandas as pd
import pytest

from common import files, tablefiles

LABELS = ["con", "neu", "pro"]
ADDED = ["predicted", "probability_con", "probability_neu", "probability_pro"]
FORMATS = [f"{name}{gz}" for name in tablefiles.FORMATS for gz in ("", ".gz")]


@pytest.fixture
def table(trained):
    """New texts in an order that lengths do not have, with columns of their own; labels are not needed."""
    rows = [
        {"note": f"n{number}", "sentence": "good idea " * (number * 5 % 7 + 1) + "ä", "claim": "Claim 1.", "empty": ""}
        for number in range(9)
    ]
    return pd.DataFrame(rows, dtype=object)


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format(run_script, trained, table, tmp_path, ending):
    _, folder = trained
    source = tmp_path / f"some texts.{ending}"
    tablefiles.write_table(source, table)
    original = source.read_bytes()
    code, out, err = run_script("predict", "--run", str(folder), "--input", str(source))
    assert (code, err) == (0, "")
    output = tmp_path / f"some texts.predicted.{ending}"
    assert str(output) in out and "9 rows labelled" in out
    assert source.read_bytes() == original
    read, found = tablefiles.read_table(source), tablefiles.read_table(output)
    assert list(found.columns) == [*table.columns, *ADDED]
    pd.testing.assert_frame_equal(found[list(table.columns)], read)
    probabilities = found[ADDED[1:]].astype(float)
    assert probabilities.sum(axis=1).tolist() == pytest.approx([1] * 9, abs=3e-6)
    best = [LABELS[index] for index in probabilities.to_numpy().argmax(axis=1)]
    assert found["predicted"].tolist() == best


def test_predictions_equal_those_of_the_run(run_script, trained, tmp_path):
    """The test rows as an input file give the scores of predictions-test.jsonl, row by row."""
    from common import runs

    _, folder = trained
    source = f"{runs.thaw(folder).data_dir}/test.jsonl"
    output = tmp_path / "out.csv"
    assert run_script("predict", "--run", str(folder), "--input", source, "--output", str(output))[0] == 0
    found = tablefiles.read_table(output)
    records = files.read_jsonl(folder / "predictions-test.jsonl")
    assert found["id"].tolist() == [record["id"] for record in records]
    assert found["predicted"].tolist() == [record["predicted"] for record in records]
    for label in LABELS:
        wanted = [math.exp(record["scores"][label]) for record in records]
        assert found[f"probability_{label}"].astype(float).tolist() == pytest.approx(wanted, abs=2e-6)


def test_by_model_and_by_a_moved_run(run_script, trained, table, tmp_path):
    arguments, folder = trained
    tablefiles.write_table(tmp_path / "a.csv", table)
    words = ["--input", str(tmp_path / "a.csv"), "--output"]
    assert run_script("predict", *arguments, *words, str(tmp_path / "one.csv"))[0] == 0
    moved = tmp_path / "somewhere else" / "kept"
    moved.parent.mkdir()
    folder.rename(moved)
    shutil.rmtree(tmp_path / "outputs")
    assert run_script("predict", "--run", str(moved), *words, str(tmp_path / "two.csv"))[0] == 0
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    assert run_script("predict", *arguments, *words, str(tmp_path / "three.csv"))[0] == 5


@pytest.mark.parametrize("job", ["minilm-full", "minilm-last-layers"])
def test_other_methods_predict_when_moved(run_script, tiny_arguments, tmp_path, job):
    extra = ["method.k=1"] if job == "minilm-last-layers" else []
    assert run_script("train", *tiny_arguments("training.epochs=1", *extra, job=job))[0] == 0
    [config] = (tmp_path / "outputs").rglob("config.yaml")
    records = files.read_jsonl(config.parent / "predictions-test.jsonl")
    config.parent.rename(tmp_path / "moved")
    code, _, err = run_script(
        "predict", "--run", str(tmp_path / "moved"), "--input", str(tmp_path / "rows" / "test.jsonl")
    )
    assert (code, err) == (0, "")
    found = tablefiles.read_table(tmp_path / "rows" / "test.predicted.jsonl")
    assert found["predicted"].tolist() == [record["predicted"] for record in records]


def test_an_existing_output_is_kept_without_force(run_script, trained, table, tmp_path):
    _, folder = trained
    tablefiles.write_table(tmp_path / "a.csv", table)
    (tmp_path / "out.csv").write_text("mine")
    words = ["--run", str(folder), "--input", str(tmp_path / "a.csv"), "--output", str(tmp_path / "out.csv")]
    code, _, err = run_script("predict", *words)
    assert code == 5 and "exists already" in err and "FORCE=1" in err
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert run_script("predict", *words, "--force")[0] == 0
    assert list(tablefiles.read_table(tmp_path / "out.csv").columns) == [*table.columns, *ADDED]


@pytest.mark.parametrize("name", ["predicted", "probability_pro"])
def test_a_clashing_column_is_refused(run_script, trained, table, tmp_path, name):
    _, folder = trained
    tablefiles.write_table(tmp_path / "a.csv", table.assign(**{name: "x"}))
    code, _, err = run_script("predict", "--run", str(folder), "--input", str(tmp_path / "a.csv"))
    assert code == 3 and f"'{name}'" in err and "rename" in err
    assert not (tmp_path / "a.predicted.csv").exists()


def test_an_empty_cell_names_its_row(run_script, trained, table, tmp_path):
    _, folder = trained
    table.loc[4, "sentence"] = "  "
    tablefiles.write_table(tmp_path / "a.csv", table)
    code, _, err = run_script("predict", "--run", str(folder), "--input", str(tmp_path / "a.csv"))
    assert code == 3 and "a.csv, row 6, column 'sentence'" in err  # the header is row 1
    assert not (tmp_path / "a.predicted.csv").exists()


def test_a_missing_column_and_a_missing_file(run_script, trained, table, tmp_path):
    _, folder = trained
    tablefiles.write_table(tmp_path / "a.csv", table.rename(columns={"claim": "Claim"}))
    code, _, err = run_script("predict", "--run", str(folder), "--input", str(tmp_path / "a.csv"))
    assert code == 3 and "no column 'claim'" in err and "Did you mean 'Claim'" in err
    code, _, err = run_script("predict", "--run", str(folder), "--input", str(tmp_path / "b.csv"))
    assert code == 3 and "there is no such file" in err


def test_an_unknown_format_is_refused_before_the_work(run_script, trained, table, tmp_path):
    _, folder = trained
    tablefiles.write_table(tmp_path / "a.csv", table)
    words = ["--run", str(folder), "--input", str(tmp_path / "a.csv"), "--output", str(tmp_path / "out.txt")]
    code, _, err = run_script("predict", *words)
    assert code == 3 and "unknown file format" in err and "parquet" in err


def test_a_table_without_rows(run_script, trained, table, tmp_path):
    _, folder = trained
    tablefiles.write_table(tmp_path / "a.csv", table.iloc[:0])
    code, out, err = run_script("predict", "--run", str(folder), "--input", str(tmp_path / "a.csv"))
    assert (code, err) == (0, "") and "0 rows labelled" in out
    assert list(tablefiles.read_table(tmp_path / "a.predicted.csv").columns) == [*table.columns, *ADDED]


def test_one_text(run_script, trained):
    _, folder = trained
    record = files.read_jsonl(folder / "predictions-test.jsonl")[0]
    code, out, err = run_script("predict", "--run", str(folder), "--text", "Claim 0. || bad idea number 0")
    assert (code, err) == (0, "")
    first, *rest = out.splitlines()
    assert first == record["predicted"]
    found = {line.split()[0]: float(line.split()[1]) for line in rest}
    assert set(found) == set(LABELS) and list(found.values()) == sorted(found.values(), reverse=True)
    for label in LABELS:
        assert found[label] == pytest.approx(math.exp(record["scores"][label]), abs=1e-4)


@pytest.mark.parametrize(
    ("text", "count"), [("only one", 1), ("one || two || three", 3), ("one ||", 1), ("||", 0), ("", 0)]
)
def test_a_wrong_number_of_texts(run_script, trained, text, count):
    _, folder = trained
    code, _, err = run_script("predict", "--run", str(folder), f"--text={text}")
    assert code == 3 and f"TEXT holds {count} texts" in err
    assert "TEXT='<claim> || <sentence>'" in err


def test_run_and_model_exclude_each_other(run_script, trained):
    arguments, folder = trained
    code, _, err = run_script("predict", "--run", str(folder), *arguments, "--text", "a || b")
    assert code == 2 and "either RUN=<folder> or MODEL=<job>" in err
