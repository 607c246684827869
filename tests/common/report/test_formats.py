"""report/formats.py and report/latex.py: tables for papers and spreadsheets."""

import shutil
import subprocess
from functools import partial

import openpyxl
import pandas as pd
import pytest
from toy_runs import finished_run, run_config

from common.core.formatting import markdown_table
from common.report import formats, latex, readme_tables, results
from common.report.records import Standing

HOSTILE = '50 % of $x_1 & {y}^2 #3 ~ \\input{/etc/passwd} <a> | "q" [b] *'


def test_one_file_per_table(swept, tmp_path):
    for form, ending in (("markdown", "md"), ("latex", "tex")):
        assert formats.write(form, swept, tmp_path / form, {}) == []
        names = {file.name for file in (tmp_path / form).iterdir()}
        assert names == {
            f"{name}.{ending}"
            for name in (
                "summary",
                "toy-scores",
                "toy-scores-minilm-emotion-lora",
                "toy-errors",
                "toy-fit",
                "toy-cost",
                "toy-tests",
            )
        }
    text = (tmp_path / "markdown" / "toy-cost.md").read_text(encoding="utf-8")
    assert text.endswith(f"\n\n{markdown_table(*readme_tables.cost_table(swept))}\n")


def test_a_folder_is_replaced(found, tmp_path):
    (tmp_path / "latex").mkdir()
    (tmp_path / "latex" / "gone-scores.tex").write_text("of a dataset that is not there any more")
    formats.write("latex", found, tmp_path / "latex", {})
    assert not (tmp_path / "latex" / "gone-scores.tex").exists()


@pytest.mark.parametrize("form", ["csv", "xlsx"])
def test_spreadsheets_have_numbers(found, tmp_path, form):
    formats.write(form, found, tmp_path / form, {id(found[1]): Standing(0.4, 0.9, "≈ best")})
    read = pd.read_csv if form == "csv" else partial(pd.read_excel, engine="openpyxl")
    table = read(tmp_path / form / f"results.{form}").set_index("model")
    row = table.loc["minilm-lora"]
    assert (row["seeds"], row["score"], row["mark"]) == (3, "test_accuracy", "≈ best")
    assert row["test_accuracy_mean"] == pytest.approx((1 + 0.75 + 0.75) / 3)
    assert row["test_accuracy_sd"] == pytest.approx(0.25 / 3**0.5)
    assert (row["score_low"], row["score_high"], row["train_s"]) == (0.4, 0.9, 61.0)
    assert pd.isna(table.loc["majority class", "mark"]) and pd.isna(table.loc["majority class", "train_s"])
    runs = read(tmp_path / form / f"runs.{form}")
    assert runs[runs["model"] == "minilm-lora"]["test_accuracy"].tolist() == [1.0, 0.75, 0.75]
    labels = read(tmp_path / form / f"labels.{form}")
    assert labels[["model", "label"]].values.tolist()[2:] == [["minilm-lora", "con"], ["minilm-lora", "pro"]]


def test_a_label_is_no_formula(tmp_path):
    config = run_config(labels=["=1+1", "@SUM(A1)", "pro"])
    finished_run(tmp_path / "outputs", config)
    formats.write("xlsx", results.load(tmp_path / "outputs"), tmp_path / "xlsx", {})
    sheet = openpyxl.load_workbook(tmp_path / "xlsx" / "labels.xlsx").active
    cells = [row[2] for row in sheet.iter_rows(min_row=2)]
    assert [(cell.value, cell.data_type) for cell in cells] == [("=1+1", "s"), ("@SUM(A1)", "s"), ("pro", "s")]


def test_characters_that_pdflatex_lacks_are_named(tmp_path):
    config = run_config(labels=["café", "naïve ≈ ±", "否定"], title="Toy")
    finished_run(tmp_path / "outputs", config)
    [note] = formats.write("latex", results.load(tmp_path / "outputs"), tmp_path / "latex", {})
    assert note == "toy-errors.tex: compile it with lualatex or xelatex, pdflatex cannot print 否定"


def test_special_characters_are_escaped():
    assert latex.escaped("a_b & 5 %") == r"a\_b \& 5 \%"
    assert latex.escaped("69.5 ± 1.8 [63.2, 75.1]") == r"69.5 $\pm$ 1.8 [63.2, 75.1]"
    assert latex.escaped("\\ \x1b") == r"\textbackslash{} \textbackslash{}x1b"


@pytest.mark.slow
@pytest.mark.parametrize("packages", ["booktabs", "booktabs,graphicx"])
def test_latex_compiles_as_it_is(swept, tmp_path, packages):
    """In a document with booktabs, every table, also with hostile labels; with graphicx all fit into the line."""
    if shutil.which("pdflatex") is None:
        pytest.skip("there is no TeX: apt-get install texlive-latex-recommended")
    config = run_config("minilm-imdb-lora", labels=[HOSTILE, "–…éßœ ≈", "[start", "*star"], title=HOSTILE)
    finished_run(tmp_path / "outputs", config)
    formats.write("latex", swept, tmp_path / "tables", {})
    formats.write("latex", results.load(tmp_path / "outputs"), tmp_path / "hostile", {})
    inputs = [
        rf"\input{{{file.relative_to(tmp_path).with_suffix('').as_posix()}}}"
        for folder in ("tables", "hostile")
        for file in sorted((tmp_path / folder).iterdir())
    ]
    rows = [["[a]", "1"], ["*b", "69.5 ± 1.8 [63.2, 75.1]"]]
    own = latex.table("own", "marks", ["model", "score"], rows)
    document = [r"\documentclass{article}", rf"\usepackage{{{packages}}}", r"\begin{document}", *inputs, own]
    (tmp_path / "paper.tex").write_text("\n".join([*document, r"\end{document}"]), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "paper.log").read_text(encoding="utf-8", errors="replace")
    assert (
        "Missing character" not in log and "LaTeX Error" not in log and (tmp_path / "paper.pdf").stat().st_size > 9_000
    )
