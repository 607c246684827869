import re

from toy_runs import finished_run, run_config

from common.report import readme_tables, results
from common.report.comparisons import compare
from common.report.result import Result

LABELS = {"labels": ["con", "neu", "pro"], "title": "Three labels"}


def points(row):
    """The cells without intervals; test_comparisons.py looks at these."""
    return [re.sub(r" \[.*\]$", "", cell) for cell in row]


# --- the table of README.md ------------------------------------------------------------------------------------------


def test_summary_has_a_row_per_baseline_and_method(swept):
    header, rows = readme_tables.summary_table(swept)
    found = [dict(zip(header, points(row), strict=True)) for row in rows]
    assert [row["model"] for row in found] == [
        "minilm-lora, untuned",
        "minilm-emotion-full",
        "minilm-emotion-lora (r=8, alpha=8)",
    ]
    assert [row["method"] for row in found] == ["baseline", "full", "lora-from-scratch"]
    assert {row["dataset"] for row in found} == {"Three labels"}
    assert found[-1] | {"seeds": "2", "score": "50.0 ± 0.0", "trainable": "4.40 %"} == found[-1]


def test_summary_shows_cost_where_it_was_measured(found):
    header, rows = readme_tables.summary_table(found)
    majority, model = (dict(zip(header, points(row), strict=True)) for row in rows)
    assert majority == {
        **{"dataset": "Toy stance", "model": "majority class", "method": "baseline", "seeds": "1", "score": "50.0"},
        "vs best": "≈ best",
        **dict.fromkeys(("trainable", "training time", "peak memory"), "–"),
    }
    assert model["training time"] == "1 min 01 s" and model["score"] == "83.3 ± 14.4"


def test_summary_names_the_prompt_head():
    document = {"dataset_title": "Toy", "score": "test_accuracy", "test_accuracy": 0.5, "head": "prompt"}
    _, [row] = readme_tables.summary_table([Result("toy", "a", "", "", (document,), {"method.name": "lora"})])
    assert row == ["Toy", "a", "lora, prompt head", "1", "50.0 [–]", "best", "–", "–", "–"]


# --- all tables ------------------------------------------------------------------------------------------------------


def test_results_table(found):
    header, rows = readme_tables.results_table(found, compare(found))
    assert header == ["model", "seeds", "accuracy", "macro-F1", "weighted F1", "MCC", "vs best"]
    assert points(rows[0])[:3] == ["majority class", "1", "50.0"]
    assert points(rows[1])[:3] == ["minilm-lora", "3", "83.3 ± 14.4"]  # of 100, 75, 75
    assert [row[-1] for row in rows] == ["≈ best", "best"]  # four rows show nothing
    assert all(re.fullmatch(r"[-0-9.± ]+ \[-?[0-9.]+, -?[0-9.]+\]", cell) for row in rows for cell in row[2:6])


def test_the_leading_score_comes_first(tmp_path):
    finished_run(tmp_path, run_config(mean_f1_labels=["con"], score="f1_mean_labels"), right=4)
    found = results.load(tmp_path)
    header, rows = readme_tables.results_table(found, compare(found))
    assert header[:4] == ["model", "seeds", "mean F1 of con", "accuracy"]
    assert points(rows[0])[2] == "100.0"


def test_a_missing_metric_is_a_dash():
    document = {"score": "test_accuracy", "test_accuracy": 0.5, "test_f1_macro": None}
    found = [Result("toy", "a", "", "", (document,))]
    _, rows = readme_tables.results_table(found, compare(found))
    assert rows == [["a", "1", "50.0 [–]", "–", "–", "–", "best"]]


def test_cost_table(found):
    header, rows = readme_tables.cost_table(found)
    assert len(rows) == 1  # of baselines nothing is trained
    assert dict(zip(header, rows[0], strict=True)) == {
        "model": "minilm-lora",
        "parameters": "22,713,986",
        "trainable": "1,000,000",
        "share": "4.40 %",
        "training time": "1 min 01 s",
        "peak memory": "–",
        "hardware": "Intel Xeon, 2 threads",
    }


def test_wall_clock_time_and_memory_are_shown_of_a_gpu_alone(tmp_path):
    facts = {"gpu_memory_peak_bytes": 8e9, "cpu_memory_peak_bytes": 2e9, "train_s": 125.0}
    hardware = {"cpu": "x", "threads": 8}
    finished_run(tmp_path, run_config("minilm-full"), hardware={"gpu": None, **hardware}, **facts)
    finished_run(tmp_path, run_config("minilm-lora"), hardware={"gpu": "H200", **hardware}, **facts)
    _, rows = readme_tables.cost_table(results.load(tmp_path))
    assert [row[-3:] for row in rows] == [["–", "2.0 GB", "x, 8 threads"], ["2 min 05 s", "8.0 GB", "H200"]]


def test_variants_have_a_table_of_their_own(swept):
    (first, others), (job, table) = readme_tables.score_tables(swept)
    assert (first, job) == ("", "minilm-emotion-lora")
    assert [row[0] for row in others[1]] == ["minilm-lora, untuned", "minilm-emotion-full"]
    header, rows = table
    assert header[:5] == ["r", "alpha", "alpha / r", "seeds", "accuracy"]
    assert [points(row)[:5] for row in rows] == [
        ["8", "8", "1", "2", "50.0 ± 0.0"],
        ["8", "16", "2", "2", "50.0 ± 0.0"],
        ["16", "16", "1", "2", "75.0 ± 0.0"],
        ["16", "32", "2", "2", "75.0 ± 0.0"],
    ]


def test_without_variants_there_is_one_table(found):
    assert readme_tables.score_tables(found) == [("", readme_tables.results_table(found, compare(found)))]


def test_variants_alone_have_no_other_table(tmp_path):
    for r in (4, 8):
        finished_run(tmp_path, run_config(overrides={"method.r": r}))
    [(job, (header, rows))] = readme_tables.score_tables(results.load(tmp_path))
    assert (job, header[:2]) == ("minilm-lora", ["r", "seeds"])
    assert [row[0] for row in rows] == ["4", "8"]


def test_error_rates_are_one_minus_recall(swept):
    header, rows = readme_tables.errors_table(swept)
    assert header == ["model", "con", "neu", "pro", "all"]
    # 4 rows with the labels con, neu, pro, con, of which the first 2 are right: con 1 of 2 wrong, pro 1 of 1.
    assert points(rows[0]) == ["minilm-lora, untuned", "50.0", "0.0", "100.0", "50.0"]
    assert points(rows[1]) == ["minilm-emotion-full", "0.0", "0.0", "0.0", "0.0"]
    assert points(rows[2])[:2] == ["minilm-emotion-lora (r=8, alpha=8)", "50.0 ± 0.0"]


def test_a_label_without_test_rows_has_no_error_rate(tmp_path):
    finished_run(tmp_path, run_config(**LABELS), rows=2, right=1)
    _, rows = readme_tables.errors_table(results.load(tmp_path))
    assert rows == [
        ["minilm-lora", "0.0 [0.0, 97.5]", "100.0 [2.5, 100.0]", "–", "50.0 [0.0, 100.0]"]  # exact for one row
    ]


def test_fit_has_train_and_test(swept):
    header, rows = readme_tables.fit_table(swept)
    assert header == [
        *("model", "train accuracy", "test accuracy", "train loss", "test loss"),
        *("trainable", "training time"),
    ]
    assert [row[0] for row in rows] == [f"minilm-emotion-lora (r=16, alpha={alpha})" for alpha in (16, 32)]
    # Of 4 rows a wrong one costs -ln 0.1, a right one -ln 0.8.
    losses = ["0.223 ± 0.000", "0.743 ± 0.000"]
    assert points(rows[0])[1:] == ["100.0 ± 0.0", "75.0 ± 0.0", *losses, "4.40 %", "–"]


def test_fit_counts_the_seeds_whose_train_rows_were_scored(tmp_path):
    finished_run(tmp_path, run_config(seed=1), right=4, train_right=4, train_cpu_s=61.0)
    finished_run(tmp_path, run_config(seed=2), right=0)
    _, [row] = readme_tables.fit_table(results.load(tmp_path))
    assert points(row)[:3] == ["minilm-lora", "100.0", "100.0"] and row[6] == "1 min 01 s"
