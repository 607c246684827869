"""scripts/predict.py: every format keeps its columns and rows; nothing is overwritten unasked."""

import math
import shutil
import subprocess
import sys
import time

import pandas as pd
import pytest
from marks import slow_except

from common.config import catalog
from common.core import files
from common.data import table_files
from common.data.table_reader import read_table
from common.data.table_writer import write_table
from common.predict import merge, shards
from common.predict.create_plan import create_plan
from common.predict.inputs import input_files
from common.runs import run_folder

LABELS = ["con", "neu", "pro"]
ADDED = ["predicted", "probability_con", "probability_neu", "probability_pro"]
FORMATS = [f"{name}{gz}" for name in table_files.FORMATS for gz in ("", ".gz")]


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
    write_table(source, table)
    original = source.read_bytes()
    code, out, err = run_script("predict", "--run", str(folder), "--input", str(source))
    assert (code, err) == (0, "")
    output = tmp_path / f"some texts.predicted.{ending}"
    assert str(output) in out and "9 rows predicted" in out and out.splitlines()[1].startswith("device: ")
    assert source.read_bytes() == original
    read, found = read_table(source), read_table(output)
    assert list(found.columns) == [*table.columns, *ADDED]
    pd.testing.assert_frame_equal(found[list(table.columns)], read)
    probabilities = found[ADDED[1:]].astype(float)
    assert probabilities.sum(axis=1).tolist() == pytest.approx([1] * 9, abs=3e-6)
    best = [LABELS[index] for index in probabilities.to_numpy().argmax(axis=1)]
    assert found["predicted"].tolist() == best


def test_predictions_equal_those_of_the_run(run_script, trained, tmp_path):
    """The test rows as an input file give the scores of predictions-test.jsonl, row by row."""
    from common.runs import run_folder

    _, folder = trained
    source = f"{run_folder.load_run_config(folder).data_dir}/test.jsonl"
    output = tmp_path / "out.csv"
    assert run_script("predict", "--run", str(folder), "--input", source, "--output", str(output))[0] == 0
    found = read_table(output)
    records = files.read_jsonl(folder / "predictions-test.jsonl")
    assert found["id"].tolist() == [record["id"] for record in records]
    assert found["predicted"].tolist() == [record["predicted"] for record in records]
    for label in LABELS:
        wanted = [math.exp(record["scores"][label]) for record in records]
        assert found[f"probability_{label}"].astype(float).tolist() == pytest.approx(wanted, abs=2e-6)


def test_by_model_and_by_a_moved_run(run_script, trained, table, tmp_path):
    arguments, folder = trained
    write_table(tmp_path / "a.csv", table)
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
    found = read_table(tmp_path / "rows" / "test.predicted.jsonl")
    assert found["predicted"].tolist() == [record["predicted"] for record in records]


def test_an_existing_output_is_kept_without_force(run_script, trained, table, tmp_path):
    _, folder = trained
    write_table(tmp_path / "a.csv", table)
    (tmp_path / "out.csv").write_text("mine")
    words = ["--run", str(folder), "--input", str(tmp_path / "a.csv"), "--output", str(tmp_path / "out.csv")]
    code, _, err = run_script("predict", *words)
    assert code == 5 and "exists already" in err and "FORCE=1" in err
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert run_script("predict", *words, "--force")[0] == 0
    assert list(read_table(tmp_path / "out.csv").columns) == [*table.columns, *ADDED]


@pytest.mark.parametrize("name", ["predicted", "probability_pro"])
def test_a_clashing_column_is_refused(run_script, trained, table, tmp_path, name):
    _, folder = trained
    write_table(tmp_path / "a.csv", table.assign(**{name: "x"}))
    code, _, err = run_script("predict", "--run", str(folder), "--input", str(tmp_path / "a.csv"))
    assert code == 3 and f"'{name}'" in err and "rename" in err
    assert not (tmp_path / "a.predicted.csv").exists()


def test_an_empty_cell_names_its_row(run_script, trained, table, tmp_path):
    _, folder = trained
    table.loc[4, "sentence"] = "  "
    write_table(tmp_path / "a.csv", table)
    code, _, err = run_script("predict", "--run", str(folder), "--input", str(tmp_path / "a.csv"))
    assert code == 3 and "a.csv, row 6, column 'sentence'" in err  # the header is row 1
    assert not (tmp_path / "a.predicted.csv").exists()


def test_a_missing_column_and_a_missing_file(run_script, trained, table, tmp_path):
    _, folder = trained
    write_table(tmp_path / "a.csv", table.rename(columns={"claim": "Claim"}))
    code, _, err = run_script("predict", "--run", str(folder), "--input", str(tmp_path / "a.csv"))
    assert code == 3 and "no column 'claim'" in err and "Did you mean 'Claim'" in err
    code, _, err = run_script("predict", "--run", str(folder), "--input", str(tmp_path / "b.csv"))
    assert code == 3 and "there is no such file" in err


def test_an_unknown_format_is_refused_before_the_work(run_script, trained, table, tmp_path):
    _, folder = trained
    write_table(tmp_path / "a.csv", table)
    words = ["--run", str(folder), "--input", str(tmp_path / "a.csv"), "--output", str(tmp_path / "out.txt")]
    code, _, err = run_script("predict", *words)
    assert code == 3 and "out.txt: tables are not written in this format" in err and "parquet" in err


def test_a_table_without_rows(run_script, trained, table, tmp_path):
    _, folder = trained
    write_table(tmp_path / "a.csv", table.iloc[:0])
    code, out, err = run_script("predict", "--run", str(folder), "--input", str(tmp_path / "a.csv"))
    assert (code, err) == (0, "") and "0 rows predicted" in out
    assert list(read_table(tmp_path / "a.predicted.csv").columns) == [*table.columns, *ADDED]


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


# --- shards ----------------------------------------------------------------------------------------------------------


def long_table(count: int) -> pd.DataFrame:
    """Rows of all lengths, with ids and texts that formats find hard."""
    rows = [
        {
            "id": f"r{number}, \"quoted\"\n'{number}'",
            "sentence": "good bad idea – 中文 😀 " * (number * 5 % 7 + 1) + f"number {number}",
            "claim": f"Claim {number % 3}.\nSecond line.",
        }
        for number in range(count)
    ]
    return pd.DataFrame(rows, dtype=object)


def same_predictions(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    """Batches are others, so that probabilities may differ by float32 noise; all else is equal."""
    exact = [name for name in wanted.columns if name not in ADDED[1:]]
    assert list(found.columns) == list(wanted.columns)
    pd.testing.assert_frame_equal(found[exact], wanted[exact])
    for name in ADDED[1:]:
        assert found[name].astype(float).tolist() == pytest.approx(wanted[name].astype(float).tolist(), abs=2e-6)


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr("common.predict.create_plan.PART_ROWS", 4)


@pytest.mark.parametrize("ending", slow_except(["csv"], ["csv", "jsonl.gz", "parquet", "xlsx"]))
def test_shards_give_what_the_whole_gives(run_script, trained, tmp_path, small_parts, ending):
    _, folder = trained
    source = tmp_path / f"a.{ending}"
    write_table(source, long_table(22))
    words = ["--run", str(folder), "--input", str(source), "--output"]
    assert run_script("predict", *words, str(tmp_path / f"whole.{ending}"))[0] == 0
    output = tmp_path / f"out.{ending}"
    code, out, err = run_script("predict", *words, str(output), "--shards", "3")
    assert (code, err) == (0, "") and out.splitlines()[1].startswith("device: ")
    assert "22 rows of 1 files in 3 shards" in out and "22 rows predicted in 3 shards, every row once" in out
    assert "CPU hours per million rows" in out
    same_predictions(read_table(output), read_table(tmp_path / f"whole.{ending}"))
    # The same command again says so, and touches nothing.
    before = output.stat().st_mtime_ns
    code, again, err = run_script("predict", *words, str(output), "--shards", "3")
    assert (code, err) == (0, "") and again.splitlines()[-1] == out.splitlines()[-1]
    assert output.stat().st_mtime_ns == before
    assert run_script("predict", *words, str(output), "--shards", "4")[0] == 5
    code, _, err = run_script("predict", *words, str(output), "--shards", "4", "--force")
    assert (code, err) == (0, "") and output.stat().st_mtime_ns != before


def test_each_shard_by_its_own_command(run_script, trained, tmp_path, small_parts):
    """As on a cluster: a plan, shards in any order from anywhere, the merge at last."""
    _, folder = trained
    (tmp_path / "corpus").mkdir()
    for number, rows in enumerate([5, 0, 9]):
        write_table(tmp_path / "corpus" / f"{number}.parquet", long_table(14).iloc[:rows])
    config = run_folder.load_run_config(folder)
    paths = input_files(tmp_path / "corpus")
    plan = create_plan(tmp_path / "out.csv", paths, config, folder / "model", False, 3)
    one, other = shards.shard_command(plan.folder, 2, 0)[1:], shards.shard_command(plan.folder, 1)[1:]
    merge = shards.merge_command(plan.folder)[1:]
    code, out, _ = run_script("predict", *one)
    assert code == 0 and out.startswith("device: ")
    code, _, err = run_script("predict", *merge)
    assert code == 5 and f"scripts/predict.py --plan {plan.folder} --shard 1" in err
    assert run_script("predict", *other)[0] == 0
    code, out, err = run_script("predict", *merge)
    assert (code, err) == (0, "") and "14 rows predicted in 3 shards" in out
    assert read_table(plan.output)["id"].tolist() == [*long_table(5)["id"], *long_table(9)["id"]]
    weights = next((folder / "model").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes() + b" ")
    for part in (plan.folder / "parts").iterdir():
        part.unlink()
    code, _, err = run_script("predict", *one)
    assert code == 5 and "the model has changed since the plan was made" in err


def test_a_task_of_an_array_scores_its_share(run_script, trained, tmp_path, small_parts):
    """Every third of the shards that are named, in one process; what is finished is not done again."""
    _, folder = trained
    write_table(tmp_path / "a.csv", long_table(24))
    plan = create_plan(
        tmp_path / "out.csv", [tmp_path / "a.csv"], run_folder.load_run_config(folder), folder / "model", False, 8
    )
    words = shards.shard_command(plan.folder, 0, 1, 2, 5, 6, 7)[1:]
    assert words == ["--plan", str(plan.folder), "--shard", "0-2", "5-7"]
    done = lambda: sorted(set(range(8)) - set(shards.unfinished(plan)))  # noqa: E731
    code, out, err = run_script("predict", *words, "--worker", "1", "3")
    assert (code, err, done()) == (0, "", [1, 6])
    assert out.count("are finished, 3 of them now") == 2
    code, out, _ = run_script("predict", *words, "--worker", "1", "3")
    assert code == 0 and out.count("are finished\n") == 2
    assert run_script("predict", *words, "--worker", "2", "3")[0] == 0
    assert done() == [1, 2, 6, 7]
    code, _, err = run_script("predict", "--plan", str(plan.folder), "--shard", "7-8")
    assert code == 2 and "there is no shard 8; allowed are 0 to 7" in err


@pytest.mark.slow
def test_processes_side_by_side(run_script, trained, tmp_path, small_parts):
    _, folder = trained
    write_table(tmp_path / "a.jsonl", long_table(22))
    words = ["--run", str(folder), "--input", str(tmp_path / "a.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    code, out, err = run_script("predict", *words, "--shards", "3", "--processes", "2")
    assert (code, err) == (0, "") and "(2 processes" in out
    assert [entry["rows"] for entry in files.read_json(tmp_path / "out.jsonl.shards" / "report.json")["processes"]] == [
        *(15, 7)
    ]


@pytest.mark.slow
def test_a_killed_prediction_continues(trained, run_script, tmp_path):
    """SIGKILL in the middle of the shards, then the same command: every row exactly once, as if undisturbed."""
    _, folder = trained
    write_table(tmp_path / "a.csv", long_table(40))
    paths, config = [tmp_path / "a.csv"], run_folder.load_run_config(folder)
    plan = create_plan(tmp_path / "out.csv", paths, config, folder / "model", False, 2, part_rows=1)
    script = str(catalog.ROOT / "scripts" / "predict.py")
    process = subprocess.Popen([sys.executable, script, *shards.shard_command(plan.folder, 0, 1)[1:]])
    while len(list((plan.folder / "parts").glob("[!.]*"))) < 3:
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    done = list((plan.folder / "parts").glob("[!.]*"))
    assert 3 <= len(done) < 40
    times = {path: path.stat().st_mtime_ns for path in done}
    assert run_script("predict", *shards.shard_command(plan.folder, 0, 1)[1:], "--merge")[0] == 0
    assert all(path.stat().st_mtime_ns == before for path, before in times.items())
    whole = tmp_path / "whole.csv"
    assert run_script("predict", "--run", str(folder), "--input", str(paths[0]), "--output", str(whole))[0] == 0
    same_predictions(read_table(plan.output), read_table(whole))


def test_an_adapter_in_shards(run_script, tiny_arguments, make_adapter, table, tmp_path):
    adapter, _ = make_adapter("mine")
    write_table(tmp_path / "a.csv", table)
    words = [*tiny_arguments(data=False), "--adapter", str(adapter), "--input", str(tmp_path / "a.csv"), "--output"]
    assert run_script("predict", *words, str(tmp_path / "whole.csv"))[0] == 0
    code, _, err = run_script("predict", *words, str(tmp_path / "out.csv"), "--shards", "2")
    assert (code, err) == (0, "")
    same_predictions(read_table(tmp_path / "out.csv"), read_table(tmp_path / "whole.csv"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plan", "x"], "--plan needs --shard or --merge"),
        (["--input", "a.csv", "--merge"], "these need --plan"),
        (["--input", "a.csv", "--shard", "0"], "these need --plan"),
        (["--text", "a || b", "--shards", "2"], "a TEXT is one row"),
        (["--text", "a || b", "--input", "a.csv"], "either INPUT=<file> or TEXT=<text>"),
        (["--input", "a.csv", "--processes", "2"], "PROCESSES goes with SHARDS"),
        (["--input", "a.csv", "--shards", "0"], "--shards: '0' is given; allowed is a whole number from 1"),
        (["--input", "a.csv", "--shards", "2", "--processes", "many"], "--processes: 'many' is given"),
        (["--plan", "x", "--merge", "--run", "y"], "--plan knows its model"),
        (["--plan", "x", "--merge", "--worker", "0", "2"], "--worker I N goes with --shard"),
        (["--plan", "x", "--shard", "0-3", "--worker", "2", "2"], "I is a whole number from 0 to N - 1"),
        (["--plan", "x", "--shard", "3-1"], "'3-1' is no number of a shard; allowed are such as 3 or 8-11"),
        (["--plan", "x", "--shard", "1", "3-"], "'3-' is no number of a shard"),
    ],
)
def test_options_that_contradict(run_script, words, message):
    code, _, err = run_script("predict", *words)
    assert code == 2 and message in err


def test_shards_before_the_work(run_script, trained, table, tmp_path):
    _, folder = trained
    (tmp_path / "corpus").mkdir()
    for name in ("a", "b"):
        write_table(tmp_path / "corpus" / f"{name}.csv", table)
    words = ["--run", str(folder), "--input", str(tmp_path / "corpus")]
    code, _, err = run_script("predict", *words)
    assert code == 2 and "means 2 files; give SHARDS=1" in err
    (tmp_path / "out.csv").write_text("mine")
    words += ["--output", str(tmp_path / "out.csv"), "--shards", "2"]
    code, _, err = run_script("predict", *words)
    assert code == 5 and "exists already" in err
    assert not (tmp_path / "out.csv.shards").exists() and (tmp_path / "out.csv").read_text() == "mine"
    assert run_script("predict", *words, "--force")[0] == 0
    assert len(read_table(tmp_path / "out.csv")) == 18


@pytest.mark.slow
def test_two_terminals_submit_once(fake_slurm, trained, tmp_path):
    """The second command waits for the first one's plan and submission, then finds both."""
    write_table(tmp_path / "a.csv", long_table(24))
    fake_slurm.set(slow={"sbatch": 1})
    words = ["--run", str(trained[1]), "--input", str(tmp_path / "a.csv"), "--output", str(tmp_path / "out.csv")]
    words += ["--shards", "4", "--outputs", str(tmp_path / "outputs")]
    command = [sys.executable, str(catalog.ROOT / "scripts" / "predict.py"), *words]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) for _ in range(2)]
    said = sorted(process.communicate()[0].splitlines()[-1] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert "job 101 is queued" in said[0] and "submitted 4 shards in 4 tasks as job 101" in said[1]
    assert len(fake_slurm.calls("sbatch")) == 2
    assert files.read_json(tmp_path / "out.csv.shards" / "submit.json")["job_id"] == "101"
    done = subprocess.run([*command, "--force"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 5 and "queued as job 101; cancel it first" in done.stderr
    (tmp_path / "out.csv.shards" / "plan.json").unlink()
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 5 and "queued as job 101; cancel it first" in done.stderr
    assert files.read_json(tmp_path / "out.csv.shards" / "submit.json")["job_id"] == "101"


def test_a_stopped_prediction_without_shards_resumes(run_script, trained, tmp_path, small_parts, monkeypatch):
    _, folder = trained
    write_table(tmp_path / "a.csv", long_table(40))
    words = ["predict", "--run", str(folder), "--input", str(tmp_path / "a.csv"), "--output"]
    assert run_script(*words, str(tmp_path / "whole.csv"))[0] == 0
    scored, real = [], shards.to_rows

    def stops(frame, *arguments, **options):
        scored.append(len(frame))
        if len(scored) == 3:
            raise KeyboardInterrupt
        return real(frame, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "to_rows", stops)
        assert run_script(*words, str(tmp_path / "out.csv"))[0] == 75
    parts = list((tmp_path / "out.csv.shards" / "parts").iterdir())
    assert len(parts) == 2 and not (tmp_path / "out.csv").exists()
    times = {part: part.stat().st_mtime_ns for part in parts}
    kept = []

    def merge_parts(plan):
        kept.extend(part.stat().st_mtime_ns == before for part, before in times.items())
        return merge.merge_parts(plan)

    monkeypatch.setattr("common.predict.table.merge_parts", merge_parts)
    assert run_script(*words, str(tmp_path / "out.csv"))[0] == 0
    assert kept == [True, True] and not (tmp_path / "out.csv.shards").exists()
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("options", [[], ["--shards", "2"]])
def test_the_input_is_never_replaced(run_script, trained, tmp_path, options):
    _, folder = trained
    write_table(tmp_path / "a.csv", long_table(4))
    before = (tmp_path / "a.csv").read_bytes()
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    for output in ("a.csv", "link.csv"):
        words = ["--input", str(tmp_path / "a.csv"), "--output", str(tmp_path / output), "--force", *options]
        code, _, err = run_script("predict", "--run", str(folder), *words)
        assert code == 2 and "is one of the inputs" in err
    assert (tmp_path / "a.csv").read_bytes() == before
