"""scripts/collect.py: write and check the tables of the published runs."""

import re
import shutil
from pathlib import Path

import pytest
from marks import slow_except
from toy_runs import finished_run, run_config

from common.core import files, yaml_io
from common.evaluation import intervals
from common.runs import run_folder

README = """# Title

before

<!-- results:begin -->
old
<!-- results:end -->
<!-- speed:begin -->
<!-- speed:end -->

after
"""


@pytest.fixture(scope="module")
def results(trained_outputs, tmp_path_factory, run_main) -> Path:
    """An outputs folder with a run of two seeds and a baseline. Copy it."""
    outputs = tmp_path_factory.mktemp("results") / "outputs"
    shutil.copytree(trained_outputs, outputs)
    folder = next(outputs.rglob("metrics.json")).parent
    rows = run_folder.load_run_config(folder).data_dir
    words = ["--dataset", "stance-sample", "--outputs", str(outputs), "--data-dir", rows, "--baseline", "majority"]
    assert run_main("baseline", *words) == 0
    second = folder.with_name("seed-2")
    shutil.copytree(folder, second)
    config = yaml_io.read(second / "config.yaml")
    config["run"]["seed"] = 2
    files.write_text(second / "config.yaml", yaml_io.dump(config))
    document = files.read_json(second / "metrics.json")
    files.write_json(second / "metrics.json", document | {"seed": 2, "test_accuracy": 0.5})
    first = files.read_json(folder / "metrics.json")
    files.write_json(folder / "metrics.json", first | {"test_accuracy": 0.6})
    return outputs


@pytest.fixture
def collect(run_script, results, tmp_path):
    """`collect(*options)` on a copy of `results`, its README, and the folder of its first seed."""
    outputs = tmp_path / "outputs"
    shutil.copytree(results, outputs)
    readme = tmp_path / "README.md"
    readme.write_text(README, encoding="utf-8")

    def run(*options: str):
        places = ["--outputs", str(outputs), "--published", str(tmp_path / "published")]
        return run_script("collect", *places, "--readme", str(readme), *options)

    return run, readme, next(outputs.rglob("seed-1"))


def cells(text: str, first: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith(f"| {first}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def whole_text(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.suffix in (".json", ".yaml", ".md")]
    return "".join(path.read_text(encoding="utf-8") for path in files)


def test_the_whole_way(collect, tmp_path):
    run, readme, folder = collect
    page = tmp_path / "published" / "README.md"
    code, out, err = run()
    assert (code, err) == (0, "")
    assert out.count("published ") == 3 and out.count(": written\n") == 2
    assert "report/index.html: written. Open it" in out
    report = (tmp_path / "outputs" / "report" / "index.html").read_text(encoding="utf-8")
    assert "idea number" in report and "idea number" not in whole_text(tmp_path / "published")  # texts of the rows
    text, whole = readme.read_text(encoding="utf-8"), page.read_text(encoding="utf-8")
    for kept in ("# Title\n\nbefore\n", "\nafter\n"):
        assert kept in text
    assert "old" not in text
    row = cells(text, "Stance sample | minilm-lora")
    assert row[3] == "2" and re.fullmatch(r"55\.0 ± 7\.1 \[[0-9.]+, [0-9.]+\]", row[4])  # of 0.6 and 0.5
    assert row[5] == "best" and cells(text, "Stance sample | majority")[5] == "≈ best"
    assert cells(whole, "majority class | 1")[2].startswith("33.3 [")
    assert "12 test rows" in whole
    cost = whole.split("### Cost")[1]
    trainable = files.read_json(folder / "metrics.json")["params_trainable_count"]
    assert "majority" not in cost and f"{trainable:,}" in cells(cost, "minilm-lora")
    pictures = re.findall(r'<img src="([^"]+)"', whole)
    assert pictures and all((page.parent / path).read_bytes()[:4] == b"\x89PNG" for path in pictures)

    # A second time: nothing new, not a byte changed.
    stamp = readme.stat().st_mtime_ns, page.stat().st_mtime_ns
    code, out, _ = run()
    assert code == 0 and out.count(": unchanged") == 2 and not re.search("^published ", out, re.M)
    assert (readme.stat().st_mtime_ns, page.stat().st_mtime_ns) == stamp

    # The check passes without the runs themselves.
    shutil.rmtree(tmp_path / "outputs")
    code, out, err = run("--check")
    assert (code, err) == (0, "") and out.count("every cell agrees") == 2

    # An edited cell is named, in either file, and a check writes nothing.
    for file, good, place in ((readme, text, "column 'score'"), (page, whole, "column 'accuracy'")):
        bad = good.replace("55.0 ± 7.1", "65.0 ± 7.1", 1)
        file.write_text(bad, encoding="utf-8")
        code, _, err = run("--check")
        assert code == 6 and err.startswith("error: ")
        for part in (str(file), "minilm-lora", place, "'65.0 ± 7.1 [", "'55.0 ± 7.1 [", "make report"):
            assert part in err
        assert file.read_text(encoding="utf-8") == bad
        assert run()[0] == 0 and file.read_text(encoding="utf-8") == good


def test_a_changed_figure_of_a_curve_is_named(run_script, tmp_path, monkeypatch):
    """Table, sentence and plot are made of the published files alone, and the check reads the sentences, too."""
    monkeypatch.setattr(intervals, "DRAWS", 199)
    outputs, published, readme = tmp_path / "outputs", tmp_path / "published", tmp_path / "README.md"
    readme.write_text(README, encoding="utf-8")
    for rows, right in ((40, 12), (80, 22), (160, 28), (280, 32), (400, 34)):
        overrides = {"training.max_train_samples": rows, "training.sampling": "nested"} if rows < 400 else {}
        finished_run(outputs, run_config(overrides=overrides), right=right, rows=40, train_count=rows)
    words = ["--published", str(published), "--readme", str(readme)]
    code, _, err = run_script("collect", *words, "--outputs", str(outputs))
    assert (code, err) == (0, "")
    assert "another 200 rows" in (outputs / "report" / "index.html").read_text(encoding="utf-8")
    shutil.rmtree(outputs)
    words += ["--outputs", str(outputs)]
    page = published / "README.md"
    text = page.read_text(encoding="utf-8")
    assert run_script("collect", *words, "--check")[::2] == (0, "")
    [sentence] = [line for line in text.splitlines() if "another 200 rows" in line]
    [plot] = re.findall(r'<img src="(plots/curves/[^"]+)"', text)
    assert (published / plot).read_bytes()[:4] == b"\x89PNG" and "| 280 rows |" in text
    figure = re.search(r"\+[\d.]+ to", sentence)[0]
    for old, new in ((figure, "+9.9 to"), ("with 400 now", "with 401 now")):
        page.write_text(text.replace(old, new), encoding="utf-8")
        code, _, err = run_script("collect", *words, "--check")
        assert code == 6
        for part in (
            str(page),
            "'More labels?: Toy stance: accuracy by train rows'",
            sentence.replace(old, new),
            sentence,
        ):
            assert part in err
    page.write_text(text.replace("| 30.0 [", "| 31.0 ["), encoding="utf-8")
    code, _, err = run_script("collect", *words, "--check")
    assert code == 6 and "row 'minilm-lora', column '40 rows': found '31.0 [" in err
    page.write_text(text, encoding="utf-8")
    (published / plot).rename(published / plot.replace("toy", "gone"))  # of runs that are no longer published
    assert run_script("collect", *words)[0] == 0
    assert [path.name for path in (published / "plots" / "curves").iterdir()] == ["toy.more-labels.png"]


def test_a_removed_page_is_seen(collect, tmp_path):
    run, _, _ = collect
    assert run()[0] == 0
    (tmp_path / "published" / "README.md").unlink()
    code, _, err = run("--check")
    assert code == 6 and "published/README.md" in err and "make report" in err


def test_nothing_of_this_machine_is_published(collect, tmp_path):
    run, _, folder = collect
    assert run()[0] == 0
    published = [path for path in (tmp_path / "published").rglob("*") if path.suffix in (".json", ".yaml")]
    names = [path.name for path in published]
    assert set(names) == {"metrics.json", "metrics-validation.json", "config.yaml", "outcomes-test.json"}
    assert names.count("metrics.json") == names.count("config.yaml") == names.count("outcomes-test.json") == 3
    model = str(run_folder.load_run_config(folder).job.model)
    for path in published:
        text = path.read_text(encoding="utf-8")
        assert str(tmp_path) not in text and model not in text
        assert path.name.startswith("outcomes") or f"local:{model.rsplit('/', 1)[1]}" in text or "classical" in text


def test_a_removed_row_is_seen(collect):
    run, readme, _ = collect
    assert run()[0] == 0
    lines = readme.read_text(encoding="utf-8").splitlines(keepends=True)
    readme.write_text("".join(line for line in lines if "| majority" not in line), encoding="utf-8")
    code, _, err = run("--check")
    assert code == 6 and "majority class" in err


@pytest.mark.parametrize(
    "marker", slow_except(["<!-- results:end -->"], ["<!-- results:begin -->", "<!-- results:end -->"])
)
def test_a_missing_or_repeated_marker(collect, marker):
    run, readme, _ = collect
    assert run()[0] == 0
    filled = readme.read_text(encoding="utf-8")
    for text, count in ((filled.replace(marker, ""), 0), (filled + marker, 2)):
        readme.write_text(text, encoding="utf-8")
        for options in ((), ("--check",)):
            code, _, err = run(*options)
            assert code == 6 and f"the marker {marker} occurs {count} times" in err
        assert readme.read_text(encoding="utf-8") == text


def test_no_readme(collect):
    run, readme, _ = collect
    readme.unlink()
    code, _, err = run()
    assert code == 6 and "there is no such file" in err


def test_here_prints_and_publishes_nothing(collect, tmp_path):
    run, readme, folder = collect
    code, out, err = run("--here")
    assert (code, err) == (0, "")
    assert "Results on stance-sample (test, %)" in out and "55.0 ± 7.1 [" in out and "Cost" in out
    assert "\nHighest accuracy: minilm-lora" in out and "\nPaired tests (differences in points)\n" in out
    assert list((tmp_path / "outputs" / ".cache" / "statistics").rglob("*.json"))  # git ignores it
    assert "Error rate per class" in out and "Train and test" not in out
    document = files.read_json(folder / "metrics-validation.json")
    train = {key.replace("validation_", "train_"): value for key, value in document.items()}
    files.write_json(folder / "metrics-train.json", train)
    assert "Train and test (accuracy in %, loss in nats)" in run("--here")[1]
    assert list((tmp_path / "outputs" / "plots").glob("*.png"))
    assert not (tmp_path / "published").exists() and readme.read_text(encoding="utf-8") == README


def test_here_without_runs(run_script, tmp_path):
    code, _, err = run_script("collect", "--here", "--outputs", str(tmp_path))
    assert code == 6 and "there is no finished run here" in err


def test_unfinished_archived_and_demo_runs_are_no_results(collect, tmp_path):
    run, _, folder = collect
    shutil.copytree(folder, folder.with_name("seed-1.replaced-20261121T000000Z"))
    shutil.copytree(folder, tmp_path / "outputs" / "demo" / "stance-sample" / "x" / "seed-1")
    unfinished = folder.with_name("seed-3")
    shutil.copytree(folder, unfinished)
    (unfinished / "metrics.json").unlink()
    code, out, _ = run()
    assert code == 0 and out.count("published ") == 3
    assert not (tmp_path / "published" / "demo").exists()


def test_seeds_of_different_settings_are_not_averaged(collect):
    run, _, folder = collect
    config = folder.with_name("seed-2") / "config.yaml"
    config.write_text(config.read_text().replace("weight_decay: 0.01", "weight_decay: 0.5"))
    code, _, err = run("--here")
    assert code == 6 and "cannot be averaged" in err and "training.weight_decay: 0.01 → 0.5" in err


def test_expected_runs(run_script, trained, tmp_path):
    outputs, there = tmp_path / "outputs", str(trained[1].relative_to(tmp_path / "outputs"))
    expected = outputs / ".collect" / "expected.json"
    words = "--here", "--outputs", str(outputs), "--expect", str(expected)
    files.write_json(expected, {"schema": 1, "runs": [there], "after": []})
    assert run_script("collect", *words)[0] == 0
    missing = there.replace("seed-1", "seed-2")
    files.write_json(expected, {"schema": 1, "runs": [there, missing], "after": ["17"]})
    code, out, err = run_script("collect", *words)
    assert code == 5 and "Results on stance-sample" in out  # the finished runs are shown
    assert "1 of 2 runs have no metrics" in err and err.endswith(f"\n  {missing}\n")


def test_no_expected_run_has_metrics(run_script, tmp_path):
    """The list of missing runs is printed also where the report itself fails."""
    outputs = tmp_path / "outputs"
    files.write_json(outputs / "expected.json", {"schema": 1, "runs": ["toy/a/seed-1", "toy/a/seed-2"], "after": []})
    for where in (["--here"], ["--readme", str(tmp_path / "none.md")]):
        words = [*where, "--outputs", str(outputs), "--expect", str(outputs / "expected.json")]
        code, _, err = run_script("collect", *words)
        assert code == 5 and "2 of 2 runs have no metrics" in err and err.endswith("\n  toy/a/seed-2\n")
        assert ("there is no finished run here" if where == ["--here"] else "there is no such file") in err
    files.write_json(outputs / "expected.json", {"schema": 1, "runs": [], "after": []})
    assert run_script("collect", *words)[0] == 6  # the report's own


def test_tables_in_other_formats(collect, tmp_path):
    run, _, _ = collect
    folder = tmp_path / "outputs" / "report"
    code, out, err = run("--format", "latex")
    assert (code, err) == (0, "") and f"{folder / 'latex'}/: written" in out
    assert "55.0 $\\pm$ 7.1" in (folder / "latex" / "summary.tex").read_text(encoding="utf-8")
    code, out, _ = run("--here", "--format", "csv")
    assert code == 0 and "minilm-lora" in (folder / "csv" / "results.csv").read_text(encoding="utf-8")
    code, _, err = run("--check", "--format", "csv")
    assert code == 2 and "FORMAT has no effect with CHECK=1" in err
    assert run("--format", "pdf")[0] == 2
