"""Plans, parts and the merge, with scores that are computed from each row's text, without a model."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toy_scores
from toy_runs import run_config
from toy_scores import Score, table, truth

from common.core import files, signals
from common.core.errors import ConfigError, DataError, ModelError, RunError
from common.data.table_reader import read_table
from common.data.table_writer import write_table
from common.predict import shards, workers
from common.predict.columns import prediction_columns
from common.predict.create_plan import create_plan
from common.predict.inputs import input_files, output_file
from common.predict.merge import merge_parts, merge_report, merge_summary
from common.predict.plan import read_plan

LABELS = ["con", "pro"]
ENDINGS = ["csv", "tsv", "jsonl", "parquet", "xlsx", "csv.gz", "jsonl.gz", "parquet.gz"]


@pytest.fixture
def model(tmp_path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    return tmp_path / "model"


@pytest.fixture
def plan_of(tmp_path, model):
    """`plan_of([file, …], output="o.csv", shards=3)` plans with parts of 4 rows."""

    def create(paths, output="out.csv", count=3, **options):
        options = {"config": run_config(), "model": model, "adapter": False, "part_rows": 4, **options}
        return create_plan(tmp_path / output, paths, shards=count, **options)

    return create


def written(path: Path, frame: pd.DataFrame) -> Path:
    write_table(path, frame)
    return path


def work(plan, score=None):
    for number in range(plan.shards):
        shards.score_shard(plan, number, score or Score())


def unsharded(paths, output: Path) -> None:
    """What predict.py does with the whole input at once."""
    frame = pd.concat([read_table(path) for path in paths], ignore_index=True)
    scores = truth(frame["sentence"].map(str).tolist())
    write_table(output, frame.assign(**prediction_columns(scores, LABELS)))


@pytest.mark.parametrize(
    ("ending", "rows", "count"),
    [
        *((ending, 29, 3) for ending in ENDINGS),
        *((ending, 0, 3) for ending in ("csv", "jsonl", "parquet", "xlsx")),
        *(("parquet", rows, count) for rows, count in [(1, 3), (2, 5), (24, 2), (9, 1)]),
    ],
)
def test_every_size_and_format(tmp_path, plan_of, ending, rows, count):
    source = written(tmp_path / f"in.{ending}", table(rows))
    if rows == 0 and ending.startswith("jsonl"):
        with pytest.raises(DataError, match="no column 'claim'"):
            plan_of([source])
        return
    plan = plan_of([source], f"out.{ending}", count)
    bounds = [plan.bounds(number) for number in range(count)]
    assert bounds[0][0] == 0 and bounds[-1][1] == rows == plan.rows
    assert all(one[1] == other[0] for one, other in itertools.pairwise(bounds))
    assert max(stop - start for start, stop in bounds) - min(stop - start for start, stop in bounds) <= 1
    work(plan)
    report = merge_parts(plan)
    assert report["rows"] == rows and report["shards"] == count
    unsharded([source], tmp_path / f"whole.{ending}")
    pd.testing.assert_frame_equal(read_table(plan.output), read_table(tmp_path / f"whole.{ending}"))
    if ending in ("csv", "tsv", "jsonl"):
        assert plan.output.read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()


@pytest.mark.parametrize("one", ["csv", "jsonl", "parquet", "xlsx"])
@pytest.mark.parametrize("other", ["csv", "jsonl", "parquet", "xlsx"])
def test_from_one_format_to_another(tmp_path, plan_of, one, other):
    frame = table(13).assign(part=np.arange(13) / 7, whole=range(13))
    if one != "xlsx":  # there an empty cell is an empty text, which parquet cannot hold among numbers
        frame["gap"] = [None, *range(12)]
    source = written(tmp_path / f"in.{one}", frame)
    plan = plan_of([source], f"out.{other}", 2)
    work(plan)
    merge_parts(plan)
    unsharded([source], tmp_path / f"whole.{other}")
    pd.testing.assert_frame_equal(read_table(plan.output), read_table(tmp_path / f"whole.{other}"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_many_small_files(tmp_path, plan_of, ending):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "_SUCCESS").write_text("")
    (folder / ".crc").write_text("")
    sizes, first = [3, 0, 9, 1, 0, 6], 0
    for number, size in enumerate(sizes):
        written(folder / f"part-{number}.{ending}", table(size, first))
        first += size
    paths = input_files(folder)
    assert [path.name for path in paths] == [f"part-{number}.{ending}" for number in range(6)]
    assert input_files(folder / f"part-*.{ending}") == paths
    assert output_file(None, folder, paths) == tmp_path / f"corpus.predicted.{ending}"
    plan = plan_of(paths, f"out.{ending}")
    assert [file.rows for file in plan.inputs] == sizes
    work(plan)
    merge_parts(plan)
    found = read_table(plan.output)
    assert found["n"].tolist() == [str(n) for n in range(19)]
    wanted = prediction_columns(truth(found["sentence"].tolist()), LABELS)
    assert found["predicted"].tolist() == wanted["predicted"]
    assert found["probability_pro"].astype(float).tolist() == wanted["probability_pro"].tolist()


def test_which_files_an_input_means(tmp_path):
    one, other = written(tmp_path / "a.csv", table(1)), written(tmp_path / "b[1].csv", table(1))
    assert input_files(one) == [one] and input_files(other) == [other]
    assert input_files(tmp_path / "*.csv") == [one, other]
    with pytest.raises(ConfigError, match="OUTPUT=<file>"):
        output_file(None, tmp_path / "*.csv", [one, other])
    with pytest.raises(ConfigError, match=r"OUTPUT=.* lies in the folder INPUT="):
        output_file(tmp_path / "out.csv", tmp_path, [one, other])
    with pytest.raises(DataError, match="there is no file"):
        input_files(tmp_path / "*.jsonl")
    written(tmp_path / "c.jsonl", table(1))
    with pytest.raises(DataError, match="differ in format"):
        input_files(tmp_path)
    (tmp_path / "c.jsonl").rename(tmp_path / "c.doc")
    with pytest.raises(DataError, match=r"c\.doc: unknown file format"):
        input_files(tmp_path)
    (tmp_path / "c.doc").unlink()
    (tmp_path / "deeper").mkdir()
    with pytest.raises(DataError, match=r"holds the folder deeper"):
        input_files(tmp_path)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "xlsx"])
def test_a_bad_row_is_found_before_the_work(tmp_path, plan_of, ending):
    good, frame = written(tmp_path / f"a.{ending}", table(3)), table(5)
    frame.loc[3, "sentence"] = " "
    bad = written(tmp_path / f"b.{ending}", frame)
    place = 4 if ending in ("jsonl", "parquet") else 5
    with pytest.raises(DataError, match=rf"b\.{ending}, row {place}, column 'sentence': the cell is empty"):
        plan_of([good, bad])
    assert not (tmp_path / "out.csv.shards").exists()


def test_columns(tmp_path, plan_of):
    one = written(tmp_path / "a.csv", table(3))
    other = written(tmp_path / "b.csv", table(3)[["n", "sentence", "claim", "id"]])
    assert plan_of([one, other]).columns == list(table(0).columns)
    written(other, table(3).drop(columns="n"))
    with pytest.raises(DataError, match=r"b\.csv: its columns differ from those of .*a\.csv; only one of both has n"):
        plan_of([one, other], "new.csv")
    written(other, table(3).drop(columns="claim"))
    with pytest.raises(DataError, match=r"b\.csv: there is no column 'claim'"):
        plan_of([one, other], "new.csv")
    for name in ("predicted", "probability_pro"):
        written(one, table(3).assign(**{name: "x"}))
        with pytest.raises(DataError, match=f"there is a column '{name}' already"):
            plan_of([one], "new.csv")


def test_wrong_plans(tmp_path, plan_of, monkeypatch):
    source = written(tmp_path / "a.csv", table(3))
    with pytest.raises(ConfigError, match="is one of the inputs"):
        plan_of([source], "a.csv")
    with pytest.raises(DataError, match=r"a\.txt: tables are not written in this format"):
        plan_of([source], "a.txt")
    with pytest.raises(DataError, match="no such file"):
        plan_of([tmp_path / "b.csv"])
    with pytest.raises(ModelError, match="no saved model"):
        plan_of([source], model=tmp_path / "nothing")
    with pytest.raises(RunError, match="there is no plan here"):
        read_plan(tmp_path / "out.csv.shards")
    monkeypatch.setattr("common.predict.create_plan._XLSX_ROWS", 2)
    with pytest.raises(DataError, match="xlsx holds 2 rows, the input has 3"):
        plan_of([source], "out.xlsx")
    with pytest.raises(ConfigError, match="no shard 3; allowed are 0 to 2"):
        shards.score_shard(plan_of([source]), 3, Score())


def test_the_same_plan_continues_and_another_is_refused(tmp_path, plan_of, model):
    source = written(tmp_path / "a.csv", table(30))
    plan = plan_of([source])
    assert read_plan(plan.folder) == plan
    shards.score_shard(plan, 0, Score())
    parts = sorted((plan.folder / "parts").iterdir())
    assert plan_of([source]) == plan
    moved = written(tmp_path / "elsewhere" / "a.csv", table(30))
    assert plan_of([moved]).id == plan.id  # a path is no difference
    assert plan_of([source]) == plan and sorted((plan.folder / "parts").iterdir()) == parts
    with pytest.raises(RunError, match=r"number of shards: 3 → 4\n(.*\n)*.*FORCE=1"):
        plan_of([source], count=4)
    with pytest.raises(RunError, match="seed: 1 → 2"):
        plan_of([source], config=run_config(seed=2))
    with pytest.raises(RunError, match="number of files: 1 → 2"):
        plan_of([source, moved])
    (model / "weights").write_text("2")
    with pytest.raises(RunError, match="weights of the model: "):
        plan_of([source])
    (model / "weights").write_text("1")
    written(source, table(31))
    with pytest.raises(RunError, match=r"input 1 \(a\.csv\): "):
        plan_of([source])
    assert sorted((plan.folder / "parts").iterdir()) == parts
    again = plan_of([source], force=True)
    assert again.rows == 31 and again.replace and not (plan.folder / "parts").exists()


def test_a_continued_plan_does_not_read_the_rows_again(tmp_path, plan_of, monkeypatch):
    source = written(tmp_path / "a.csv", table(30))
    plan = plan_of([source])
    monkeypatch.setattr("common.predict.create_plan._survey", None)
    assert plan_of([source]) == plan


def test_a_stopped_shard_goes_on_with_its_first_missing_part(tmp_path, plan_of, capsys):
    plan = plan_of([written(tmp_path / "a.csv", table(30))])
    with pytest.raises(KeyboardInterrupt):
        shards.score_shard(plan, 1, Score(fails_after=2))
    assert sorted(path.name for path in (plan.folder / "parts").iterdir()) == ["10-14.parquet", "14-18.parquet"]
    assert shards.unfinished(plan) == [0, 1, 2]
    score = Score()
    assert shards.score_shard(plan, 1, score) == 2 and score.rows == [2]
    assert "rows 10 to 20 are finished, 2 of them now" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (plan.folder / "parts").iterdir()}
    assert shards.score_shard(plan, 1, score) == 0 and score.rows == [2]
    assert {path: path.stat().st_mtime_ns for path in (plan.folder / "parts").iterdir()} == before
    assert shards.unfinished(plan) == [0, 2]
    with pytest.raises(RunError) as caught:
        merge_parts(plan)
    message = str(caught.value)
    assert "2 of 3 shards are not finished" in message and "shard 0: rows 0 to 4 missing" in message
    assert f"python scripts/predict.py --plan {plan.folder} --shard 0 2" in message
    assert not plan.output.exists()


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def _rewrite(**changes):
    def spoil(path):
        part = pq.read_table(path)
        for name, values in changes.items():
            place = part.column_names.index(name)
            part = part.set_column(place, name, pa.array(values, part.column(place).type))
        pq.write_table(part, path)

    return spoil


def _other_plan(path):
    part = pq.read_table(path)
    facts = json.loads(part.schema.metadata[b"peftable"]) | {"plan": "another"}
    pq.write_table(part.replace_schema_metadata({"peftable": json.dumps(facts)}), path)


SPOILT = {
    "truncated": (_truncate, "broken"),
    "empty": (lambda path: path.write_bytes(b""), "broken"),
    "no facts": (lambda path: pq.write_table(pq.read_table(path).replace_schema_metadata(None), path), "broken"),
    "another plan's": (_other_plan, "made for another plan"),
    "a copy of another": (lambda path: path.write_bytes(path.with_name("0-4.parquet").read_bytes()), "other rows"),
    "a row twice": (_rewrite(row=[10, 11, 11, 13]), "other rows"),
    "a row less": (lambda path: pq.write_table(pq.read_table(path).slice(1), path), "other rows"),
    "no prediction": (_rewrite(predicted=[0, None, 0, 1]), "missing values"),
    "other columns": (
        lambda path: pq.write_table(pq.read_table(path).drop(["probability_pro"]), path),
        "other columns",
    ),
    "gone": (Path.unlink, "missing"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_part_is_found_and_made_again(tmp_path, plan_of, how):
    plan = plan_of([written(tmp_path / "a.csv", table(30))])
    work(plan)
    spoil, message = SPOILT[how]
    path = plan.folder / "parts" / "10-14.parquet"
    good = pq.read_table(path)
    spoil(path)
    with pytest.raises(RunError, match=f"shard 1: rows 10 to 14 {message}"):
        merge_parts(plan)
    assert not plan.output.exists()
    score = Score()
    work(plan, score)
    assert score.rows == [4] and pq.read_table(path).equals(good)
    assert merge_parts(plan)["rows"] == 30


def test_a_flipped_bit_changes_no_value_unseen(tmp_path, plan_of):
    plan = plan_of([written(tmp_path / "a.csv", table(4))], count=1)
    work(plan)
    path = plan.folder / "parts" / "0-4.parquet"
    good, content = pq.read_table(path), path.read_bytes()
    seen = 0
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for place in range(0, footer, 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            assert shards.read_part(plan, 0, 4)[0].equals(good), place  # in what no reader looks at
        except RunError:
            seen += 1
    assert seen > 20


def test_a_part_too_many(tmp_path, plan_of):
    plan = plan_of([written(tmp_path / "a.csv", table(30))])
    work(plan)
    parts = plan.folder / "parts"
    (parts / "8-12.parquet").write_bytes((parts / "10-14.parquet").read_bytes())
    with pytest.raises(RunError, match=r"8-12\.parquet: no part of this plan"):
        merge_parts(plan)
    (parts / "8-12.parquet").rename(parts / ".8-12.elsewhere-1.partial.parquet")  # as a kill leaves it
    assert merge_parts(plan)["parts"] == 9
    assert len(list(parts.iterdir())) == 9


def test_the_input_or_the_model_changes_in_between(tmp_path, plan_of, model):
    source = written(tmp_path / "a.csv", table(30))
    plan = plan_of([source])
    shards.score_shard(plan, 0, Score())
    content = source.read_bytes()
    written(source, table(29))
    with pytest.raises(DataError, match=r"a\.csv: has changed since the plan was made"):
        shards.score_shard(plan, 1, Score())
    source.unlink()
    with pytest.raises(DataError, match=r"a\.csv: is gone since the plan was made"):
        shards.score_shard(plan, 1, Score())
    source.write_bytes(content)
    (model / "weights").write_text("2")
    with pytest.raises(RunError, match="the model has changed since the plan was made"):
        shards.score_shard(plan, 1, Score())
    (model / "weights").write_text("1")
    work(plan)
    source.write_bytes(content.replace(b"plain 0", b"plain 1"))  # as many rows and bytes
    with pytest.raises(DataError, match=r"a\.csv: has changed since the plan was made"):
        merge_parts(plan)
    assert not plan.output.exists()


def test_an_output_that_is_there(tmp_path, plan_of):
    source = written(tmp_path / "a.csv", table(9))
    plan = plan_of([source])
    work(plan)
    plan.output.write_text("mine")
    with pytest.raises(RunError, match=r"out\.csv exists already"):
        merge_parts(plan)
    assert merge_report(plan) is None and plan.output.read_text() == "mine"
    plan = plan_of([source], force=True)
    work(plan)
    report = merge_parts(plan)
    assert merge_report(plan) == report
    with plan.output.open("a") as stream:
        stream.write("\n")
    assert merge_report(plan) is None


def test_what_it_cost(tmp_path, plan_of, monkeypatch):
    plan = plan_of([written(tmp_path / "a.csv", table(30))])
    score = Score()
    work(plan, score)
    for number, path in enumerate(sorted((plan.folder / "parts").iterdir())):
        part = pq.read_table(path)
        gpu = "H200" if number < 6 else None
        facts = json.loads(part.schema.metadata[b"peftable"])
        assert facts["seconds"] >= 0 and facts["gpu"] is None
        rows = len(part)
        facts |= {"seconds": rows * 2.0, "cpu_seconds": rows * 4.0, "ended": 1000.0 + number * 10, "gpu": gpu}
        facts |= {"process": f"node-{number % 2}" if gpu else "slow"}
        pq.write_table(part.replace_schema_metadata({"peftable": json.dumps(facts)}), path)
    report = merge_parts(plan)
    assert [entry["rows_per_s"] for entry in report["processes"]] == [0.5, 0.5, 0.5]
    assert sum(entry["rows"] for entry in report["processes"]) == 30
    assert report["gpu_hours_per_million_rows"] == pytest.approx(2e6 / 3600, abs=1e-3)
    assert report["cpu_hours_per_million_rows"] == pytest.approx(4e6 / 3600, abs=1e-3)
    assert files.read_json(plan.folder / "report.json") == report
    line = merge_summary(plan, report)
    assert "30 rows predicted in 3 shards, every row once" in line and "(3 processes, 0.5 to 0.5 each)" in line
    assert "5.6e+02 GPU hours per million rows" in line


def test_temporary_names_differ_by_host_and_process(tmp_path, monkeypatch):
    names = []
    for host, pid in (("one", 1), ("two", 1), ("one", 2)):
        monkeypatch.setattr(files.socket, "gethostname", lambda host=host: host)
        monkeypatch.setattr(files.os, "getpid", lambda pid=pid: pid)
        with files.atomic_path(tmp_path / "0-4.parquet") as partial:
            names.append(partial.name)
            partial.write_text("")
    assert len(set(names)) == 3


SLOW = """
import sys, time
sys.path[:0] = {paths!r}
from pathlib import Path
from toy_scores import Score
from common.predict import shards
from common.predict.plan import read_plan

class Slow(Score):
    def __call__(self, rows, progress):
        time.sleep(0.03)
        return super().__call__(rows, progress)

shards.score_shard(read_plan(Path({plan!r})), 0, Slow())
"""


def _process(plan) -> subprocess.Popen:
    """A shard in a process of its own, slowly."""
    paths = [str(Path(shards.__file__).parents[2]), str(Path(toy_scores.__file__).parent)]
    return subprocess.Popen([sys.executable, "-c", SLOW.format(paths=paths, plan=str(plan.folder))])


@pytest.mark.slow
def test_killed_in_the_middle_and_two_at_once(tmp_path, plan_of):
    source = written(tmp_path / "a.jsonl", table(100))
    plan = plan_of([source], "out.jsonl", 1)
    process = _process(plan)
    while len(list((plan.folder / "parts").glob("[!.]*"))) < 5:
        assert process.poll() is None
    process.kill()
    assert process.wait() == -9
    parts = sorted((plan.folder / "parts").glob("[!.]*"))
    assert 5 <= len(parts) < 25
    times = {path: path.stat().st_mtime_ns for path in parts}
    both = [_process(plan), _process(plan)]
    assert [process.wait() for process in both] == [0, 0]
    assert all(path.stat().st_mtime_ns == before for path, before in times.items())
    merge_parts(plan)
    unsharded([source], tmp_path / "whole.jsonl")
    assert plan.output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("moment", ["check_fences", "fsync"])
def test_a_merge_that_is_stopped_around_the_rename(tmp_path, plan_of, monkeypatch, moment):
    plan = plan_of([written(tmp_path / "a.csv", table(10))])
    for number in range(3):
        shards.score_shard(plan, number, Score())

    def stop(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"common.predict.merge.{moment}", stop)
        merge_parts(plan)
    assert plan.output.exists() == (moment == "fsync") == bool(merge_report(plan))
    report = merge_report(plan) or merge_parts(plan)
    assert report["rows"] == 10 and read_table(plan.output)["id"].tolist() == list(table(10)["id"])
    assert not list(plan.folder.glob(".whole.*"))


def test_processes_and_gpus(monkeypatch):
    assert workers._environment(3, 4, ["0", "2"])["CUDA_VISIBLE_DEVICES"] == "2"
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    assert workers._environment(0, 2, [])["OMP_NUM_THREADS"] == str(max(cores // 2, 1))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert workers._environment(0, 2, [])["OMP_NUM_THREADS"] == "7"


def test_a_process_that_fails(monkeypatch, tmp_path, plan_of, capfd):
    """The others go on to their end; a message says what to do."""
    plan = plan_of([written(tmp_path / "a.csv", table(30))])
    monkeypatch.setattr(workers, "_visible_gpus", list)
    monkeypatch.setattr(shards, "shard_command", lambda folder, *numbers: ["scripts/make_help.py", f"no {numbers}"])
    with pytest.raises(RunError, match=r"2 of 2 processes failed \(exit code 1.*The same command resumes"):
        workers.score_shards(plan, 2, Score())
    assert "no (0, 2)" in (err := capfd.readouterr().err) and "no (1,)" in err


def test_stopping_stops_all_processes(monkeypatch, tmp_path, plan_of):
    plan = plan_of([written(tmp_path / "a.csv", table(30))])
    script = tmp_path / "sleep.py"
    unblock = "signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})"  # as `signals.keep` does in our scripts
    script.write_text(f"import signal, time; {unblock}; time.sleep(60)")
    started = []

    class Process(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

        def wait(self, *arguments, **options):
            if len(started) == 2 and self.poll() is None and not stopped:
                stopped.append(True)
                raise KeyboardInterrupt
            return super().wait(*arguments, **options)

    stopped: list[bool] = []
    monkeypatch.setattr(workers, "_visible_gpus", list)
    monkeypatch.setattr(signals.subprocess, "Popen", Process)
    monkeypatch.setattr(shards, "shard_command", lambda folder, *numbers: [str(script)])
    with pytest.raises(KeyboardInterrupt):
        workers.score_shards(plan, 2, Score())
    assert [process.poll() for process in started] == [-15, -15]


def test_labels_may_mix_words_and_numbers(tmp_path, plan_of):
    config = run_config(labels=["no", 1])
    plan = plan_of([written(tmp_path / "a.csv", table(9))], "out.jsonl", config=config)
    work(plan)
    merge_parts(plan)
    assert set(read_table(plan.output)["predicted"]) == {"no", 1}


@pytest.mark.parametrize(("safe", "expected"), [(True, "'=a"), (False, "=a")])
@pytest.mark.parametrize("ending", ["csv", "tsv.gz"])
def test_a_label_that_is_a_formula(plan_of, tmp_path, capsys, ending, safe, expected):
    config = run_config()
    labels = {"dataset": config.dataset.with_labels(["=a", "pro"])}
    paths = [written(tmp_path / "in.csv", table(9).assign(note="=1+1"))]
    plan = plan_of(paths, f"out.{ending}", config=dataclasses.replace(config, **labels), safe_csv=safe)
    assert read_plan(plan.folder) == plan
    work(plan)
    merge_parts(plan)
    found = set(read_table(plan.output)["predicted"])
    assert found == {expected, "pro"}
    assert "9 cells of the input's own columns begin with = + - or @" in capsys.readouterr().err
    assert set(read_table(plan.output)["note"]) == {"=1+1"}
