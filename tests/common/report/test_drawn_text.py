"""Plots and tables take any label and title."""

import dataclasses
import warnings

import matplotlib
import pytest
from toy_runs import finished_run, run_config

from common.core.formatting import markdown_table, markdown_text, text_table
from common.report import comparison_plots, drawn_text, plots, readme_tables, results

ODD = {
    "mathematics": "$\\frac{",
    "pipe": "a | b",
    "lines": "one\ntwo\r\nthree",
    "long": "word " * 1_000,
    "Chinese": "支持",
    "Arabic": "مؤيد",
    "emoji": "👍🏽",
    "control": "\x1b[31mred\x00",
    "unassigned": "\U000effff",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_any_label_and_title_is_drawn(tmp_path, text):
    is_label = text.isprintable()  # the schema refuses labels with control characters
    labels = [text if is_label else "a", "b", "c"]
    for seed in (1, 2):
        finished_run(
            tmp_path / "outputs", run_config(seed=seed, labels=labels, title=text, mean_f1_labels=["b", "c"]), rows=6
        )
    found = results.load(tmp_path / "outputs")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "Glyph … missing from font"
        drawn = plots.draw("toy", found, tmp_path / "plots")
    assert {path.name.split(".")[1] for path in drawn} >= {"confusion", "accuracy-parameters"}
    assert all(path.stat().st_size < 500_000 for path in drawn)
    header, rows = readme_tables.errors_table(found)
    lines = markdown_table(header, rows).splitlines()
    assert len(lines) == len(rows) + 2 and all(line.count("|") == len(header) + 1 for line in lines)


def test_labels_that_no_font_can_draw_are_numbers():
    drawn_text.choose_fonts(["a"])
    assert matplotlib.rcParams["font.family"] == ["DejaVu Sans"]
    assert drawn_text.labels(["a", "\U000effff", "مؤيد"]) == ["a", "label 2", "label 3"]
    assert drawn_text.explanation(["a", "\U000effff"]).startswith("label n: the n-th label")
    assert drawn_text.explanation(["a", "naïve –"]) == ""
    assert drawn_text.title("Toy \U000effff\nstance") == "Toy ? stance"


def test_texts_are_cut():
    assert drawn_text.cut("a\n b", 10) == "a b" and drawn_text.cut("x" * 20, 10) == "x" * 9 + "…"
    assert len(markdown_text("x" * 5_000)) == 300 and markdown_text("a\nb") == "a&#10;b"


def test_a_table_on_a_terminal():
    table = text_table(("name", "n"), [("a\nb\x1b[2J", "1"), ("x" * 5_000, "2")])
    assert len(table.splitlines()) == 4 and max(map(len, table.splitlines())) == 303
    assert "a\\nb\\x1b[2J" in table and "\x1b" not in table


def test_one_dataset_that_cannot_be_drawn_stops_no_other(tmp_path, run_script, monkeypatch):
    for name in ("toy", "other"):
        finished_run(tmp_path / "outputs", dataclasses.replace(run_config(), dataset_name=name), rows=6)
    real = plots.confusion

    def broken(title, result, name):
        if result.dataset == "other":
            raise ValueError("Image size of 99999x99999 pixels is too large")
        return real(title, result, name)

    monkeypatch.setattr(plots, "confusion", broken)
    code, out, err = run_script("collect", "--here", "--outputs", str(tmp_path / "outputs"))
    assert code == 0 and "Results on toy" in out and "Results on other" in out and "toy.confusion.png" in out
    assert "other: not all of its plots could be drawn: ValueError: Image size" in err


def test_of_many_labels_the_worst_are_drawn(tmp_path):
    labels = [f"intent {number}" for number in range(150)]
    finished_run(tmp_path / "outputs", run_config(labels=labels), rows=300, right=290)
    [result] = results.load(tmp_path / "outputs")
    figure = plots.confusion("Toy", result, "model")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        f"intent {number}" for number in [*range(10), *range(140, 150)]
    ]
    assert len(axes.texts) == 400 and "the 20 of 150 labels with most errors" in axes.get_title()
    figure = comparison_plots.error_rate_by_class("Toy", [result])
    assert len(figure.axes[0].get_xticklabels()) == 20 and "the 20 worst of 150 labels" in figure.get_suptitle()
