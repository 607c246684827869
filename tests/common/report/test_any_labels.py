"""Any labels survive the way from the YAML over the rows and the predictions file to the tables and plots."""

import html
import json
import re
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from any_labels import LABELS, as_read, usable
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_runs import PLAIN, dataset, finished_run, run_config

from common.config.dataset import Dataset
from common.config.label_values import label_text
from common.core import files, yaml_io
from common.core.formatting import markdown_text
from common.core.schema import validate
from common.data.load import load_rows
from common.data.table_writer import write_table
from common.data.visible_text import skeleton
from common.report import page, plot_style, plots, readme_tables, results
from common.runs import run_folder


@settings(max_examples=60, deadline=None)
@given(labels=LABELS.filter(usable), name=st.sampled_from(["csv", "tsv", "jsonl", "parquet"]))
def test_from_yaml_to_rows(labels, name):
    answers = {label: f"answer {number}" for number, label in enumerate(labels)}
    document = yaml_io.parse(yaml_io.dump(PLAIN | {"labels": labels, "answers": answers}), "toy.yaml")
    toy = validate(Dataset, document, "toy.yaml")
    assert toy.labels == as_read(labels)
    assert list(toy.answers) == [label_text(label) for label in labels]
    table = pd.DataFrame({"claim": "A", "sentence": "b", "stance": list(map(str, labels))}, dtype=object)
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder) / f"train.{name}", table)
        rows = load_rows(toy, Path(folder))
        assert [row.label for row in rows["train"]] == list(range(len(labels)))
        names = {re.sub(r"\.0+$", "", str(label)) for label in toy.labels}  # whole numbers, as pandas writes some
        if not all(re.fullmatch(r"0|-?[1-9]\d*", name) for name in names):
            names = {str(label) for label in toy.labels}
        if len({skeleton(name) for name in names}) == len(names) > 1:  # else two look alike, which is refused
            found = load_rows(dataset(labels="all"), Path(folder))
            assert set(map(str, found.dataset.labels)) == names


@settings(max_examples=40, deadline=None)
@given(labels=LABELS.filter(usable))
def test_from_a_run_to_the_tables(labels):
    with tempfile.TemporaryDirectory() as outputs:
        config = run_config(labels=labels, mean_f1_labels=labels, score="f1_mean_labels")
        folder = finished_run(Path(outputs), config, right=3, rows=2 * len(labels))
        assert run_folder.load_run_config(folder) == config
        records = files.read_jsonl(folder / "predictions-test.jsonl")
        assert [record["gold"] for record in records] == 2 * as_read(labels)
        assert all(list(record["scores"]) == [str(label) for label in as_read(labels)] for record in records)
        found = results.load(Path(outputs))
        header, _ = readme_tables.errors_table(found)
        assert [html.unescape(cell) for cell in header[1:-1]] == [str(label) for label in as_read(labels)]
        text = page.published_page(found, {}, {})
        if len(labels) > 2:  # else the page has no table of them
            line = "| " + " | ".join(["model", *map(markdown_text, as_read(labels)), "all"]) + " |"
            assert line in text.splitlines()
            assert line.count("|") == len(labels) + 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("not_entailment", "not_entailment"),
        ("$50 to $100", "&#36;50 to &#36;100"),
        ("_a_|*b*", "&#95;a&#95;&#124;&#42;b&#42;"),
        ("a&amp;<b>", "a&#38;amp;&#60;b&#62;"),
    ],
)
def test_markdown_shows_a_text_as_typed(text, shown):
    assert markdown_text(text) == shown
    assert html.unescape(shown) == text


def dollar_labels():
    file = SHARED.parent / "cases" / "dollar-labels.jsonl"
    if not file.exists():
        return ["$\\foo$", "$a_$", "b"]
    return list(dict.fromkeys(json.loads(line)["label"] for line in file.read_text(encoding="utf-8").splitlines()))


def test_dollar_signs_are_drawn_as_typed(tmp_path):
    labels = [*dollar_labels(), "$50 to $100"]
    for seed in (1, 2):
        config = run_config(seed=seed, labels=labels, title="From $\\bar to $5", mean_f1_labels=labels)
        finished_run(tmp_path / "outputs", config, rows=8, train_right=5)
    finished_run(tmp_path / "outputs", config, baseline="majority", rows=8)
    found = results.load(tmp_path / "outputs")
    drawn = plots.draw("toy", found, tmp_path / "plots")
    assert {path.name.split(".")[1] for path in drawn} >= {"confusion", "errors", "fit", "accuracy-parameters"}
    figure = plots.confusion("From $\\bar to $5", found[0], "$\\x$")
    plot_style.show_as_typed(figure)
    figure.canvas.draw()
    typed = [text for text in figure.findobj(plot_style.Text) if "$" in text.get_text()]
    assert {label for label in labels if "$" in label} <= {text.get_text() for text in typed}
    assert not any(text.get_parse_math() for text in typed)


def test_the_metrics_say_that_test_is_a_copy(tmp_path):
    folder = finished_run(tmp_path, run_config(splits={"test": "validation"}))
    assert files.read_json(folder / "metrics.json")["test_copied_from"] == "validation"
    assert "test_copied_from" not in files.read_json(finished_run(tmp_path, run_config(seed=2)) / "metrics.json")
