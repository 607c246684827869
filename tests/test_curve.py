"""scripts/curve.py: its runs resume alone, and it prints what more rows would bring."""

import numpy as np
import pytest
from conftest import SHARED

from common.core.errors import ConfigError, RunError
from common.evaluation import classical, power_law, resampling
from common.report import curves, results


@pytest.fixture
def words(rows_dir, tmp_path):
    return ["--dataset", "stance-sample", "--data-dir", str(rows_dir), "--outputs", str(tmp_path / "outputs")]


@pytest.fixture
def runs_here(monkeypatch, run_main):
    """Scripts run in this process; their names and arguments are noted, and `fails` is the number of one that fails."""
    from common.cli import options

    class Runs(list):
        fails = -1

    done = Runs()

    def run(command):
        done.append(command)
        return 1 if len(done) - 1 == done.fails else run_main(command[0].rpartition("/")[2][:-3], *command[1:])

    monkeypatch.setattr(options, "run", run)
    return done


def test_sizes_are_run_once_and_the_curve_is_printed(run_script, runs_here, words, tmp_path):
    words += ["--baseline", "tfidf", "--sizes", "25,50,75,100"]
    code, out, err = run_script("curve", *words)
    assert (code, err) == (0, "") and len(runs_here) == 4
    assert "[4/4] make baseline DATASET=stance-sample" in out
    assert (
        "More labels? stance-sample, accuracy by train rows (test, %)" in out and "12 rows" in out and "48 rows" in out
    )
    assert "TF-IDF + logistic regression: " in out and "20 rows" in out
    assert (tmp_path / "outputs/plots/curves/stance-sample.more-labels.png").is_file()
    counts = {one.curve_rows: one.documents[0]["train_count"] for one in results.load_all(tmp_path / "outputs")}
    assert counts == {12: 12, 24: 24, 36: 36, None: 48}
    code, out, _ = run_script("curve", *words)
    assert code == 0 and len(runs_here) == 4 and "4 of 4 runs are finished and are skipped." in out
    code, out, _ = run_script("collect", "--here", "--outputs", str(tmp_path / "outputs"))
    assert code == 0 and "More labels?" in out and "max_train_samples" not in out


def test_a_size_that_fails_stops_no_other(run_script, runs_here, words):
    runs_here.fails = 1
    code, out, err = run_script("curve", *words, "--baseline", "tfidf", "--sizes", "25,50,100")
    assert code == 1 and len(runs_here) == 3
    assert "error: 1 of 3 runs failed:" in err and "max_train_samples=24" in err
    assert "a curve needs at least 4" in out


def test_a_finished_size_of_other_rows_is_refused(run_script, runs_here, words, rows_dir):
    words += ["--baseline", "tfidf", "--sizes", "50,100"]
    assert run_script("curve", *words)[0] == 0
    lines = (rows_dir / "train.jsonl").read_text().splitlines()
    (rows_dir / "train.jsonl").write_text("\n".join([*lines[:-1], lines[-1].replace("idea", "thought")]) + "\n")
    code, _, err = run_script("curve", *words)
    assert code == RunError.exit_code and "data.sha256" in err


def test_the_same_runs_as_jobs(run_script, fake_slurm, words):
    code, out, err = run_script("submit", "--model", "minilm-lora", *words, "--per-label", "--sizes", "2,4")
    assert (code, err) == (0, "") and "testbed: 6 submitted." in out
    sample = "training.max_train_samples=12,training.sampling=balanced"
    for run in (f"minilm-lora/{sample}/seed-1", f"classical/{sample}/baseline-tfidf", f"{sample}/baseline-embedding"):
        assert run in out
    code, _, err = run_script("submit", "--all", "--sizes", "50")
    assert code == ConfigError.exit_code and "make curve" in err


@pytest.mark.slow
def test_the_curve_up_to_40_percent_predicts_the_score_at_100(run_script, runs_here, tmp_path, monkeypatch):
    """On 4,000 of the rows with six emotions, by TF-IDF with one regularisation, which takes a fifth of the time."""
    rows = SHARED / "emotion"
    if not (rows / "train.jsonl").is_file():
        pytest.skip(f"the rows are not there: {rows}")
    monkeypatch.setattr(classical, "_STRENGTHS", (10.0,))
    words = ["--dataset", "emotion", "--data-dir", str(rows), "--outputs", str(tmp_path), "--baseline", "tfidf"]
    words += ["--set", "training.max_train_samples=4000"]
    assert run_script("curve", *words, "--sizes", "5,10,15,20,30,40,100")[0] == 0
    [curve] = curves.find(results.load_all(tmp_path))
    *known, whole = curve.points
    assert whole.rows == 4000 and known[-1].rows == 1600
    outcomes = [point.result.outcomes[0] for point in known]
    units = resampling.units(outcomes[0].gold, np.stack([one.predicted for one in outcomes]), 6, None)
    sizes = [point.rows for point in known]
    found = power_law.forecast(units, sizes, "accuracy", (), 500, 1, until=whole.rows)
    score = whole.result.mean("test_accuracy")
    assert found.low[-1] <= score <= found.high[-1], (found.low[-1], score, found.high[-1])
    assert found.high[-1] - found.low[-1] < 0.25  # the interval says something
