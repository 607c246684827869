import re
from pathlib import Path

import pytest
from toy_runs import finished_run, run_config

from common.core.errors import ReportError
from common.core.formatting import markdown_table
from common.report import readme_tables, results, variant_grid
from common.report.results import Result

README = Path("README.md")
TEXT = """# Title

<!-- results:begin -->
old
<!-- results:end -->

middle
<!-- cost:begin --><!-- cost:end -->
<!-- errors:begin --><!-- errors:end --><!-- fit:begin --><!-- fit:end -->
end
"""


@pytest.fixture
def found(tmp_path):
    finished_run(tmp_path, baseline="majority", right=2, train_s=None)
    for seed, right in ((1, 4), (2, 3), (3, 3)):
        finished_run(tmp_path, run_config(seed=seed), right=right, gpu_memory_peak_bytes=None)
    return results.load(tmp_path)


def test_results_table(found):
    header, rows = readme_tables.results_table(found)
    assert header == ["model", "seeds", "accuracy", "macro-F1", "weighted F1", "MCC"]
    assert rows[0][:3] == ["majority class", "1", "50.0"]
    assert rows[1][:3] == ["minilm-lora", "3", "83.3 ± 14.4"]  # of 100, 75, 75


def test_the_leading_score_comes_first(tmp_path):
    finished_run(tmp_path, run_config(mean_f1_labels=["con"], score="f1_mean_labels"), right=4)
    header, rows = readme_tables.results_table(results.load(tmp_path))
    assert header[:4] == ["model", "seeds", "mean F1 of con", "accuracy"]
    assert rows[0][2] == "100.0"


def test_a_missing_metric_is_a_dash():
    document = {"score": "test_accuracy", "test_accuracy": 0.5, "test_f1_macro": None}
    _, rows = readme_tables.results_table([Result("toy", "a", "", "", (document,))])
    assert rows == [["a", "1", "50.0", "–", "–", "–"]]


def test_cost_table(found):
    header, rows = readme_tables.cost_table(found)
    assert len(rows) == 1  # baselines cost nothing worth a row
    row = dict(zip(header, rows[0], strict=True))
    assert row["parameters"] == "22,713,986"
    assert row["share"] == "4.40 %"
    assert row["train time"] == "2 min 05 s"
    assert row["examples/s"] == "–"
    assert row["peak memory"] == "–"
    assert row["on"] == "Intel Xeon, 2 threads"


def test_memory_is_that_of_the_device(tmp_path):
    peaks = {"gpu_memory_peak_bytes": 8e9, "cpu_memory_peak_bytes": 2e9}
    finished_run(tmp_path, run_config(seed=1), hardware={"gpu": "H200", "cpu": "x", "threads": 8}, **peaks)
    header, rows = readme_tables.cost_table(results.load(tmp_path))
    assert dict(zip(header, rows[0], strict=True))["peak memory"] == "8.0 GB"
    assert rows[0][-1] == "H200"


def test_blocks_hold_title_table_and_plots(found):
    blocks = readme_tables.blocks(found, {"toy": ["plots/toy.learning-curves.png"]})
    assert list(blocks) == ["results", "errors", "fit", "cost"]
    assert "**Toy stance** (`toy`, 4 test rows)" in blocks["results"]
    assert '<img src="plots/toy.learning-curves.png" alt="Toy stance: learning curves"' in blocks["results"]
    assert "| minilm-lora | 3 | 83.3 ± 14.4 |" in blocks["results"]


def test_blocks_without_results():
    assert all("No results are published yet" in text for text in readme_tables.blocks([], {}).values())


def test_insert_replaces_what_lies_between_and_nothing_else():
    text = readme_tables.insert(TEXT, {"results": "new", "cost": "dear"}, README)
    assert text == TEXT.replace("old", "new").replace("cost:begin --><!--", "cost:begin -->\ndear\n<!--")


def test_insert_is_idempotent(found):
    contents = readme_tables.blocks(found, {})
    once = readme_tables.insert(TEXT, contents, README)
    assert readme_tables.insert(once, contents, README) == once
    readme_tables.compare(once, contents, README)


@pytest.mark.parametrize("use", [readme_tables.insert, readme_tables.compare])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TEXT.replace("<!-- results:end -->", ""), r"results:end --> stands there 0 times"),
        (TEXT + "<!-- results:begin -->", r"results:begin --> stands there 2 times"),
        ("<!-- results:end --><!-- results:begin -->", r"results:end --> comes before <!-- results:begin"),
    ],
)
def test_wrong_markers_are_named(use, text, problem):
    with pytest.raises(ReportError, match=f"README.md: .*{problem}"):
        use(text, {"results": "new"}, README)


def inserted(found):
    contents = readme_tables.blocks(found, {})
    return readme_tables.insert(TEXT, contents, README), contents


def test_compare_names_the_cell(found):
    text, contents = inserted(found)
    with pytest.raises(ReportError) as raised:
        readme_tables.compare(text.replace("83.3 ± 14.4", "93.3 ± 14.4", 1), contents, README)
    message = str(raised.value)
    for part in ["table 'results'", "row 'minilm-lora'", "column 'accuracy'", "'93.3 ± 14.4'", "'83.3 ± 14.4'"]:
        assert part in message
    assert "make report" in message


def test_compare_names_the_block_and_the_line(found):
    text, contents = inserted(found)
    with pytest.raises(ReportError, match=r"block 'results', line 1: found '\*\*Toy\*\*"):
        readme_tables.compare(text.replace("**Toy stance**", "**Toy**", 1), contents, README)
    with pytest.raises(ReportError, match=r"block 'cost': 6 lines, should be 5"):
        readme_tables.compare(text.replace("<!-- cost:end", "| more | 1 |\n<!-- cost:end"), contents, README)


def test_compare_sees_a_cell_too_many(found):
    text, contents = inserted(found)
    line = next(line for line in text.splitlines() if line.startswith("| majority"))
    with pytest.raises(ReportError, match="block 'results', line"):
        readme_tables.compare(text.replace(line, line + " 1 |"), contents, README)


def test_compare_of_a_name_with_a_pipe():
    new = markdown_table(["model", "n"], [["a|b", "1"]])
    text = TEXT.replace("old", markdown_table(["model", "n"], [["a|b", "2"]]))
    with pytest.raises(ReportError, match=r"row 'a\|b', column 'n': found '2'"):
        readme_tables.compare(text, {"results": new}, README)


# --- sweeps, errors, fit ---------------------------------------------------------------------------------------------

LABELS = {"labels": ["con", "neu", "pro"], "title": "Three labels"}


@pytest.fixture
def swept(tmp_path):
    """A baseline, another model, and four variants of one job, of which one is the job itself (rank 8, alpha 16)."""
    finished_run(tmp_path, run_config(**LABELS), baseline="untuned", right=2)
    finished_run(tmp_path, run_config("minilm-emotion-full", **LABELS), right=4)
    for r, alpha in ((16, 32), (8, 16), (8, 8), (16, 16)):
        overrides = {"method.r": r, "method.alpha": alpha}
        for seed in (1, 2):
            config = run_config("minilm-emotion-lora", seed, overrides, **LABELS)
            finished_run(tmp_path, config, right=2 + (r == 16), train_right=4 if r == 16 else None)
    return results.load(tmp_path)


def test_variants_have_a_table_of_their_own(swept):
    (first, others), (job, table) = readme_tables.result_tables(swept)
    assert (first, job) == ("", "minilm-emotion-lora")
    assert [row[0] for row in others[1]] == ["minilm-lora, untuned", "minilm-emotion-full"]
    header, rows = table
    assert header[:5] == ["r", "alpha", "alpha / r", "seeds", "accuracy"]
    assert [row[:5] for row in rows] == [
        ["8", "8", "1", "2", "50.0 ± 0.0"],
        ["8", "16", "2", "2", "50.0 ± 0.0"],
        ["16", "16", "1", "2", "75.0 ± 0.0"],
        ["16", "32", "2", "2", "75.0 ± 0.0"],
    ]


def test_without_variants_there_is_one_table(found):
    assert readme_tables.result_tables(found) == [("", readme_tables.results_table(found))]


def test_variants_alone_have_no_other_table(tmp_path):
    for r in (4, 8):
        finished_run(tmp_path, run_config(overrides={"method.r": r}))
    [(job, (header, rows))] = readme_tables.result_tables(results.load(tmp_path))
    assert (job, header[:2]) == ("minilm-lora", ["r", "seeds"])
    assert [row[0] for row in rows] == ["4", "8"]


def test_errors_are_one_minus_recall(swept):
    header, rows = readme_tables.errors_table(swept)
    assert header == ["model", "con", "neu", "pro", "all"]
    # 4 rows with the labels con, neu, pro, con, of which the first 2 are right: con 1 of 2 wrong, pro 1 of 1.
    assert rows[0] == ["minilm-lora, untuned", "50.0", "0.0", "100.0", "50.0"]
    assert rows[1] == ["minilm-emotion-full", "0.0", "0.0", "0.0", "0.0"]
    assert rows[2][:2] == ["minilm-emotion-lora (r=8, alpha=8)", "50.0 ± 0.0"]


def test_a_label_without_test_rows_has_no_error(tmp_path):
    finished_run(tmp_path, run_config(**LABELS), rows=2, right=1)
    _, rows = readme_tables.errors_table(results.load(tmp_path))
    assert rows == [["minilm-lora", "0.0", "100.0", "–", "50.0"]]


def test_fit_sets_train_beside_test(swept):
    header, rows = readme_tables.fit_table(swept)
    assert header == [
        *("model", "train accuracy", "test accuracy", "train loss", "test loss"),
        *("trainable share", "train CPU time", "train time"),
    ]
    assert [row[0] for row in rows] == [f"minilm-emotion-lora (r=16, alpha={alpha})" for alpha in (16, 32)]
    # Of 4 rows a wrong one costs -ln 0.1, a right one -ln 0.8.
    losses = ["0.223 ± 0.000", "0.743 ± 0.000"]
    assert rows[0][1:] == ["100.0 ± 0.0", "75.0 ± 0.0", *losses, "4.40 %", "–", "2 min 05 s"]


def test_fit_counts_the_seeds_whose_train_rows_were_scored(tmp_path):
    finished_run(tmp_path, run_config(seed=1), right=4, train_right=4, train_cpu_s=61.0)
    finished_run(tmp_path, run_config(seed=2), right=0)
    _, [row] = readme_tables.fit_table(results.load(tmp_path))
    assert row[:3] == ["minilm-lora", "100.0", "100.0"] and row[6] == "1 min 01 s"


def test_blocks_of_a_sweep(swept):
    paths = [f"plots/toy.{name}.png" for name in ("confusion", "errors", "fit", "rank")]
    blocks = readme_tables.blocks(swept, {"toy": paths})
    assert "`minilm-emotion-lora`, by what varies:\n\n| r | alpha | alpha / r | seeds |" in blocks["results"]
    assert re.findall(r"toy\.(\w+)\.png", blocks["results"]) == ["confusion", "rank"]
    assert re.findall(r"toy\.(\w+)\.png", blocks["errors"]) == ["errors"]
    assert re.findall(r"toy\.(\w+)\.png", blocks["fit"]) == ["fit"]
    assert blocks["errors"].startswith("**Three labels** (`toy`)\n\n| model | con | neu | pro | all |")
    assert "| minilm-emotion-lora (r=8, alpha=16) |" in blocks["cost"] and "method." not in blocks["cost"]
    text = readme_tables.insert(TEXT, blocks, README)
    readme_tables.compare(text, blocks, README)


def test_two_labels_without_a_sweep_have_no_errors_and_no_fit(found):
    blocks = readme_tables.blocks(found, {})
    assert blocks["errors"].startswith("No data set with more than two labels, and no sweep")
    assert "`make evaluate MODEL=… SPLIT=train`" in blocks["fit"]
    assert not variant_grid.has_errors_to_show(found)


def test_compare_names_a_variant_by_its_settings(swept):
    blocks = readme_tables.blocks(swept, {})
    text = readme_tables.insert(TEXT, blocks, README)
    with pytest.raises(ReportError, match=r"row '8, 16, 2', column 'accuracy': found '51.0 ± 0.0'"):
        readme_tables.compare(text.replace("| 8 | 16 | 2 | 2 | 50.0", "| 8 | 16 | 2 | 2 | 51.0"), blocks, README)
