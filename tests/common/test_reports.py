from pathlib import Path

import pytest
from common_helpers import finished_run, run_config

from common import reports, results
from common.errors import ReportError
from common.results import Result
from common.tables import markdown_table

README = Path("README.md")
TEXT = """# Title

<!-- results:begin -->
old
<!-- results:end -->

middle
<!-- cost:begin --><!-- cost:end -->
end
"""


@pytest.fixture
def found(tmp_path):
    finished_run(tmp_path, baseline="majority", right=2, train_s=None)
    for seed, right in ((1, 4), (2, 3), (3, 3)):
        finished_run(tmp_path, run_config(seed=seed), right=right, gpu_memory_peak_bytes=None)
    return results.load(tmp_path)


def test_results_table(found):
    header, rows = reports.results_table(found)
    assert header == ["model", "seeds", "accuracy", "macro-F1", "weighted F1", "MCC"]
    assert rows[0][:3] == ["majority class", "1", "50.0"]
    assert rows[1][:3] == ["minilm-lora", "3", "83.3 ± 14.4"]  # of 100, 75, 75


def test_the_leading_score_comes_first(tmp_path):
    finished_run(tmp_path, run_config(mean_f1_labels=["con"], score="f1_mean_labels"), right=4)
    header, rows = reports.results_table(results.load(tmp_path))
    assert header[:4] == ["model", "seeds", "mean F1 of con", "accuracy"]
    assert rows[0][2] == "100.0"


def test_a_missing_metric_is_a_dash():
    document = {"score": "test_accuracy", "test_accuracy": 0.5, "test_f1_macro": None}
    _, rows = reports.results_table([Result("toy", "a", "", "", (document,))])
    assert rows == [["a", "1", "50.0", "–", "–", "–"]]


def test_cost_table(found):
    header, rows = reports.cost_table(found)
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
    header, rows = reports.cost_table(results.load(tmp_path))
    assert dict(zip(header, rows[0], strict=True))["peak memory"] == "8.0 GB"
    assert rows[0][-1] == "H200"


def test_blocks_hold_title_table_and_plots(found):
    blocks = reports.blocks(found, {"toy": ["plots/toy.learning-curves.png"]})
    assert set(blocks) == {"results", "cost"}
    assert "**Toy stance** (`toy`, 4 test rows)" in blocks["results"]
    assert '<img src="plots/toy.learning-curves.png" alt="Toy stance: learning curves"' in blocks["results"]
    assert "| minilm-lora | 3 | 83.3 ± 14.4 |" in blocks["results"]


def test_blocks_without_results():
    assert all("No results are published yet" in text for text in reports.blocks([], {}).values())


def test_insert_replaces_what_lies_between_and_nothing_else():
    text = reports.insert(TEXT, {"results": "new", "cost": "dear"}, README)
    assert text == TEXT.replace("old", "new").replace("--><!--", "-->\ndear\n<!--")


def test_insert_is_idempotent(found):
    contents = reports.blocks(found, {})
    once = reports.insert(TEXT, contents, README)
    assert reports.insert(once, contents, README) == once
    reports.compare(once, contents, README)


@pytest.mark.parametrize("use", [reports.insert, reports.compare])
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
    contents = reports.blocks(found, {})
    return reports.insert(TEXT, contents, README), contents


def test_compare_names_the_cell(found):
    text, contents = inserted(found)
    with pytest.raises(ReportError) as raised:
        reports.compare(text.replace("83.3 ± 14.4", "93.3 ± 14.4", 1), contents, README)
    message = str(raised.value)
    for part in ["table 'results'", "row 'minilm-lora'", "column 'accuracy'", "'93.3 ± 14.4'", "'83.3 ± 14.4'"]:
        assert part in message
    assert "make report" in message


def test_compare_names_the_block_and_the_line(found):
    text, contents = inserted(found)
    with pytest.raises(ReportError, match=r"block 'results', line 1: found '\*\*Toy\*\*"):
        reports.compare(text.replace("**Toy stance**", "**Toy**", 1), contents, README)
    with pytest.raises(ReportError, match=r"block 'cost': 6 lines, should be 5"):
        reports.compare(text.replace("<!-- cost:end", "| more | 1 |\n<!-- cost:end"), contents, README)


def test_compare_sees_a_cell_too_many(found):
    text, contents = inserted(found)
    line = next(line for line in text.splitlines() if line.startswith("| majority"))
    with pytest.raises(ReportError, match="block 'results', line"):
        reports.compare(text.replace(line, line + " 1 |"), contents, README)


def test_compare_of_a_name_with_a_pipe():
    new = markdown_table(["model", "n"], [["a|b", "1"]])
    text = TEXT.replace("old", markdown_table(["model", "n"], [["a|b", "2"]]))
    with pytest.raises(ReportError, match=r"row 'a\|b', column 'n': found '2'"):
        reports.compare(text, {"results": new}, README)
