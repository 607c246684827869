"""Batch texts: golden files, and what must hold whatever stands in a path or in the environment."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import golden_batch
import pytest

from common.cluster import profiles
from common.cluster.batch_script import batch_text, check_log_path
from common.config.catalog import names
from common.core.errors import ConfigError
from common.core.signals import SIGNALLED

AGAIN = "PYTHONPATH=scripts .venv/bin/python tests/support/golden_batch.py"
PRINTER = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]))"


def options(text):
    """Return the #SBATCH options as sbatch reads them."""
    lines = [shlex.split(line)[1] for line in text.splitlines() if line.startswith("#SBATCH")]
    return dict(line.removeprefix("--").partition("=")[::2] for line in lines)


@pytest.fixture
def executed(tmp_path):
    """Run a batch text with bash as Slurm would, its python being one that prints: (argv, folder, environment)."""
    python = tmp_path / "a 'python'"
    python.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{PRINTER}' \"$@\"\n")
    python.chmod(0o755)

    def run(task, profile, **environment):
        file = tmp_path / "batch.sh"
        file.write_text(batch_text(task, profile), encoding="utf-8")
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/home/me", "USER": "me"} | environment
        done = subprocess.run(["bash", file], env=environment, capture_output=True, text=True, cwd="/")
        return json.loads(done.stdout) if not done.returncode else (done.returncode, done.stdout, done.stderr)

    run.python = str(python)
    return run


# --- golden files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(golden_batch.texts()))
def test_the_text_is_the_golden_file(name):
    file = golden_batch.GOLDEN / f"{name}.sbatch"
    assert file.exists(), f"a new profile: {AGAIN}"
    assert batch_bytes(name) == file.read_bytes(), f"meant? then: {AGAIN}"


def batch_bytes(name):
    return golden_batch.texts()[name].encode()


def test_a_profile_without_a_golden_file_is_noticed(tmp_path, monkeypatch):
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name in ("_defaults", "local", *golden_batch.slurm_profiles()):
        (folder / f"{name}.yaml").write_bytes((profiles.PROFILES / f"{name}.yaml").read_bytes())
    (folder / "new.yaml").write_text("schema: 1\n")
    monkeypatch.setattr(profiles, "PROFILES", folder)
    missing = {name for name in golden_batch.texts() if not (golden_batch.GOLDEN / f"{name}.sbatch").exists()}
    assert missing == {"new"}


def test_no_golden_file_is_left_over():
    assert {file.stem for file in golden_batch.GOLDEN.glob("*.sbatch")} == set(golden_batch.texts())
    assert {"local", *golden_batch.slurm_profiles()} == set(names(profiles.PROFILES))


# --- what the text does ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "two words",
        "it's",
        'say "no"',
        "$HOME ${HOME}",
        "`id`",
        "50% done %x %J",
        "naïve 😀",
        "#1",
        "-n",
        "a;b",
    ],
)
def test_any_path_arrives_as_it_is(executed, tmp_path, name):
    run = tmp_path / name
    run.mkdir()
    words = (executed.python, "-u", "scripts/train.py", "--run", str(run))
    task = golden_batch.task(run, directory=str(run), command=words)
    argv, folder, environment = executed(task, profiles.load("testbed"))
    assert argv == list(words[1:])
    assert folder == str(run)
    assert environment["PEFTABLE_SUBMISSION"] == str(task.folder)
    # sbatch fills in %j and the like, and reads %% as %
    log = options(batch_text(task, profiles.load("testbed")))["output"]
    assert log.replace("%j", "17").replace("%%", "%") == f"{task.folder}/17.log"


@pytest.mark.parametrize("word", ["%j", "%t", "%A", "%a", "back\\slash", "line\nbreak"])
def test_a_path_that_no_job_can_log_to_is_refused(word):
    with pytest.raises(ConfigError, match="choose another OUTPUTS="):
        batch_text(golden_batch.task(Path("/work") / f"50{word}"), profiles.load("testbed"))
    with pytest.raises(ConfigError):
        check_log_path(Path("/work") / word)


def test_the_number_of_an_arrays_task_is_filled_in_alone(executed, tmp_path):
    words = (executed.python, "$SLURM_ARRAY_TASK_ID", "$SLURM_ARRAY_TASK_ID.json", "$HOME")
    task = golden_batch.task(tmp_path, directory=str(tmp_path), command=words, array=(3,))
    argv, _, _ = executed(task, profiles.load("testbed"), SLURM_ARRAY_TASK_ID="3")
    assert argv == ["3", "$SLURM_ARRAY_TASK_ID.json", "$HOME"]


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        ("/scratch/$USER/x", "/scratch/me/x"),
        ("${HOME}/x", "/home/me/x"),
        ("$(echo no)", "$(echo no)"),
        ("${X:-$(echo no)}", "$(echo no)"),
        ("`echo no`", "`echo no`"),
        ('say "no" \\ $', 'say "no" \\ $'),
        ("!!; echo no", "!!; echo no"),
    ],
)
def test_variables_of_the_profile_are_expanded_on_the_node_and_nothing_else(executed, tmp_path, value, arrives):
    profile = profiles.load("testbed").model_copy(update={"env": {"MINE": value}, "scratch": "$USER"})
    task = golden_batch.task(tmp_path, directory=str(tmp_path), command=(executed.python,))
    _, _, environment = executed(task, profile)
    assert environment["MINE"] == arrives
    assert environment["TMPDIR"] == "me"


def test_a_setup_line_that_fails_ends_the_job(executed, tmp_path):
    task = golden_batch.task(tmp_path, directory=str(tmp_path), command=(executed.python,))
    for line in ("module load CUDA", "false | cat"):
        code, out, _ = executed(task, profiles.load("testbed").model_copy(update={"setup": [line]}))
        assert code != 0 and out == ""
    tolerant = profiles.load("testbed").model_copy(update={"setup": ['echo "$UNSET" >&2', "export PS9=x"]})
    assert executed(task, tolerant)[2]["PS9"] == "x"  # conda's own scripts read unset variables


def test_the_time_limit_in_the_lines_of_the_setup_reaches_the_command(executed, tmp_path):
    task = golden_batch.task(tmp_path, directory=str(tmp_path), command=(executed.python,))
    plain = profiles.load("testbed")
    assert SIGNALLED not in executed(task, plain)[2]
    slow = plain.model_copy(update={"setup": ["(sleep 0.1; kill -USR2 $$) & sleep 0.3"]})
    assert executed(task, slow)[2][SIGNALLED] == "USR2"


def test_threads_follow_the_processors(executed, tmp_path):
    task = golden_batch.task(tmp_path, directory=str(tmp_path), command=(executed.python,))
    assert executed(task, profiles.load("testbed"))[2]["OMP_NUM_THREADS"] == "1"
    assert executed(task, profiles.load("testbed"), SLURM_CPUS_PER_TASK="6")[2]["OMP_NUM_THREADS"] == "6"


def test_our_options_cannot_be_missed():
    for name in golden_batch.slurm_profiles():
        found = options(batch_text(golden_batch.task(after=("7",)), profiles.load(name)))
        assert found["dependency"] == "afterany:7,singleton" and found["open-mode"] == "append"
        assert found["requeue"] == "" and found["signal"].startswith("B:USR2@") and found["nodes"] == "1"


def test_an_option_that_is_false_is_left_out():
    profile = profiles.load("testbed").model_copy(update={"sbatch": {"exclusive": True, "mail-type": False, "nice": 0}})
    found = options(batch_text(golden_batch.task(), profile))
    assert found["exclusive"] == "" and found["nice"] == "0" and "mail-type" not in found
