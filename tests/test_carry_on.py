"""train.py and baseline.py with --run: a run that exists is carried to its end by its frozen config alone."""

import contextlib
import shlex
import shutil

import pytest

from common.config import catalog
from common.core import files
from common.runs import run_folder, run_lock


@pytest.fixture
def created(trained, tmp_path, monkeypatch):
    """A run of which nothing but its config.yaml is there, and no job to read; and the finished run it must equal."""
    finished = trained[1]
    folder = tmp_path / "a run"
    folder.mkdir()
    shutil.copy(finished / "config.yaml", folder)
    jobs = tmp_path / "no jobs"
    jobs.mkdir()
    shutil.copy(catalog.JOBS / "_defaults.yaml", jobs)
    monkeypatch.setattr(catalog, "JOBS", jobs)
    return folder, finished


def test_a_created_run_is_carried_to_its_end(run_script, created, monkeypatch):
    folder, finished = created
    config = (folder / "config.yaml").read_bytes()
    code, out, err = run_script("train", "--run", str(folder))
    assert (code, err) == (0, "") and "a run is finished: test (n=12)" in out
    name = "predictions-test.jsonl"
    assert (folder / name).read_bytes() == (finished / name).read_bytes()
    assert (folder / "config.yaml").read_bytes() == config
    monkeypatch.setattr("common.data.load.load_all_splits", None)  # a finished run needs no rows
    code, out, _ = run_script("train", "--run", str(folder))
    assert code == 0 and "is finished: test (n=12)" in out


def test_changed_rows_are_refused_and_recorded(run_script, created):
    folder, _ = created
    data_dir = str(run_folder.load_run_config(folder).data_dir)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(run_folder.load_run_config(folder).data_sha256, "a" * 64))
    code, _, err = run_script("train", "--run", str(folder))
    assert code == 5 and "the rows have changed" in err and data_dir in err and "a" * 64 in err
    failure = files.read_json(folder / "failure.json")
    assert failure["expected"] and failure["continue_with"] == f"make train RUN={shlex.quote(str(folder))}"


def test_the_recipe_is_checked_at_the_first_start(run_script, created):
    folder, _ = created
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("optim: adamw_torch", "optim: adamw_trch"))
    code, _, err = run_script("train", "--run", str(folder))
    assert code == 2 and "optim 'adamw_trch' is not known" in err
    assert files.read_json(folder / "failure.json")["error"].startswith("ConfigError: training: optim")
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize("baseline", ["tfidf", "untuned"])
def test_a_created_baseline(run_script, tiny_arguments, tmp_path, baseline):
    words = tiny_arguments()
    if baseline == "tfidf":
        words = [*words[words.index("--outputs") :], "--dataset", "stance-sample"]
    assert run_script("baseline", *words, "--baseline", baseline)[0] == 0
    [config] = (tmp_path / "outputs").rglob("config.yaml")
    folder = tmp_path / "created"
    folder.mkdir()
    shutil.copy(config, folder)
    code, out, err = run_script("baseline", "--run", str(folder))
    assert (code, err) == (0, "") and "test (n=12)" in out
    name = "predictions-test.jsonl"
    assert (folder / name).read_bytes() == config.with_name(name).read_bytes()
    code, out, _ = run_script("baseline", "--run", str(folder))
    assert code == 0 and "test (n=12)" in out
    code, _, err = run_script("train", "--run", str(folder))
    assert code == 5 and f"make baseline RUN={folder}" in err


@pytest.mark.parametrize("script", ["train", "baseline"])
def test_finished_by_another_start_while_this_one_waited(
    run_script, created, tiny_arguments, tmp_path, monkeypatch, script
):
    """Nothing is scored, loaded or written again."""
    folder, finished = created
    if script == "baseline":
        words = tiny_arguments()
        words = [*words[words.index("--outputs") :], "--dataset", "stance-sample", "--baseline", "majority"]
        assert run_script("baseline", *words, "--force")[0] == 0
        [finished] = (path.parent for path in (tmp_path / "outputs").rglob("baseline-majority/metrics.json"))
        shutil.copy(finished / "config.yaml", folder)
    original = run_lock.acquire

    @contextlib.contextmanager
    def late(path):
        shutil.copy(finished / "metrics.json", path)
        with original(path):
            yield

    monkeypatch.setattr(run_lock, "acquire", late)
    monkeypatch.setattr("common.data.load.load_all_splits", None)
    monkeypatch.setattr("common.data.load.load_rows", None)
    code, out, err = run_script(script, "--run", str(folder))
    assert (code, err) == (0, "") and "test (n=12)" in out
    assert (folder / "metrics.json").read_bytes() == (finished / "metrics.json").read_bytes()
    assert not (folder / "failure.json").exists()


def test_each_verb_for_its_own(run_script, created):
    folder, finished = created
    code, _, err = run_script("baseline", "--run", str(finished))
    assert code == 5 and f"make train RUN={finished}" in err
    code, _, err = run_script("train", "--run", str(folder.parent))
    assert code == 5 and "there is no run here" in err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--model", "minilm-lora"), "MODEL"),
        (("--set", "method.r=4", "--force"), "SET, FORCE"),
        (("--seed", "2"), "SEED"),
        (("--data-dir", "x", "--outputs", "y"), "DATA_DIR, OUTPUTS"),
    ],
)
def test_run_goes_alone(run_script, created, words, named):
    folder, _ = created
    for script in ("train", "baseline"):
        code, _, err = run_script(script, "--run", str(folder), *words)
        assert code == 2 and f"goes without {named}: " in err
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml"]
