"""The Makefile: names and wiring only, and every value arrives as it was given."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import HANG_S

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "Makefile").read_text(encoding="utf-8")
PUBLIC = re.search(r"^\.PHONY: (.*)$", TEXT, re.MULTILINE)[1].split()
OPTIONS = dict(re.findall(r"^option\.(\w+) *:= (\S+)", TEXT, re.MULTILINE))  # variable to option
TAKEN = {target: names.split() for target, names in re.findall(r"^takes\.(\S+) := (.*)$", TEXT, re.MULTILINE)}
VARIABLES = list(OPTIONS)

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def rules():
    """Return {target: recipe lines} as they stand in the file."""
    found, target = {}, None
    for line in TEXT.splitlines():
        if head := re.match(r"([\w./-]+):(?!=)", line):
            target = head[1]
            found[target] = []
        elif line.startswith("\t"):
            found[target].append(line)
    return found


def environment():
    """The environment without what a `make test` around us has set."""
    hidden = {*VARIABLES, "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON", "PY"}
    return {name: value for name, value in os.environ.items() if name not in hidden}


def make(folder, *arguments):
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )


@pytest.fixture
def project(tmp_path):
    """A copy of the Makefile with an environment that is up to date and a python that prints its arguments."""
    folder = tmp_path / "project"
    (folder / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("requirements.txt", "requirements-demo.txt", "requirements-dev.txt"):
        (folder / name).write_text("")
    python = folder / ".venv" / "bin" / "python"
    # No interpreter in the first line of a script: there its path must not hold a space.
    printer = "import sys; print(repr(sys.argv[1:]))"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{printer}" "$@"\n')
    python.chmod(0o755)
    for stamp in ("requirements", "demo", "dev"):
        (folder / ".venv" / stamp).write_text("")
    return folder


def arguments_of(project, *words):
    done = make(project, *words)
    assert done.returncode == 0, done.stderr
    return eval(done.stdout)


def test_recipes_are_at_most_two_lines_without_shell_logic():
    for target, recipe in rules().items():
        assert len(recipe) <= 2, target
        assert not re.search(r"\b(if|for|while|case)\b.*;", " ".join(recipe)), target


def test_every_public_target_exists():
    assert set(PUBLIC) <= set(rules())


def test_every_script_of_a_recipe_exists():
    named = re.findall(r"scripts/\w+\.py", TEXT)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_make_alone_prints_help_with_every_public_target():
    done = make(ROOT, f"PYTHON={sys.executable}")
    assert done.returncode == 0, done.stderr
    listed = re.findall(r"^  ([a-z-]+) ", done.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(PUBLIC)
    assert done.stdout == make(ROOT, "help", f"PYTHON={sys.executable}").stdout


@pytest.mark.parametrize("verb", ["train", "baseline", "predict"])
def test_a_run_folder_is_passed_on(project, verb):
    assert arguments_of(project, verb, "RUN=outputs/a b/seed-1") == [f"scripts/{verb}.py", "--run=outputs/a b/seed-1"]


def test_train_passes_what_is_given_and_nothing_else(project):
    assert arguments_of(project, "train", "MODEL=minilm-lora") == ["scripts/train.py", "--model=minilm-lora"]
    assert arguments_of(project, "train") == ["scripts/train.py"]
    assert arguments_of(project, "train", "MODEL=m", "SEED=0", "FORCE=1", "DATASET=d", "OUTPUTS=o", "DATA_DIR=x") == [
        *("scripts/train.py", "--model=m", "--dataset=d", "--seed=0"),
        *("--data-dir=x", "--outputs=o", "--force"),
    ]


def test_fetch_passes_what_is_given(project):
    assert arguments_of(project, "fetch") == ["scripts/fetch.py"]
    assert arguments_of(project, "fetch", "MODEL=m", "DATASET=d", "DRY_RUN=1") == [
        *("scripts/fetch.py", "--model=m", "--dataset=d", "--dry-run"),
    ]


def test_bench_passes_what_is_given(project):
    assert arguments_of(project, "bench", "MODEL=m", "SET=max_length=64", "MEMORY_GB=24", "JSON=1") == [
        *("scripts/bench.py", "--model=m", "--set=max_length=64", "--memory-gb=24", "--json"),
    ]


@pytest.mark.parametrize(("value", "options"), [("1", ["--force"]), ("yes", ["--force"]), ("0", []), ("", [])])
def test_a_flag_is_off_with_0(project, value, options):
    assert arguments_of(project, "train", f"FORCE={value}") == ["scripts/train.py", *options]


def test_a_dry_run_shows_the_command(project):
    done = make(project, "-n", "train", "MODEL=minilm-lora", "SEED=2")
    assert " ".join(done.stdout.split()) == '.venv/bin/python scripts/train.py --model="$MODEL" --seed="$SEED"'


VALUES = [
    "two words",
    "it's",
    'say "no"',
    "$HOME $(HOME) ${HOME} $$",
    "`id`; id | id > id & id",
    "#hash",
    "back\\slash\\",
    "a,b) $(call x",
    "stars * ?",
    "naïve – 😀",
    "%",
    "method.target_modules=[query, key] training.epochs=1",
]


@pytest.mark.parametrize("value", VALUES)
def test_any_value_arrives_as_given(project, value):
    assert arguments_of(project, "check", f"MODEL={value}") == ["scripts/check.py", f"--model={value}"]


def test_values_of_the_environment_arrive_too(project):
    done = subprocess.run(
        ["make", "predict"], cwd=project, env=environment() | {"TEXT": "$x 'y'"}, capture_output=True, text=True
    )
    assert eval(done.stdout) == ["scripts/predict.py", "--text=$x 'y'"]


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_variable_is_taken_by_a_target(variable):
    assert any(variable in names for names in TAKEN.values())


@pytest.mark.parametrize("target", sorted(set(TAKEN) - {"help"}))
def test_every_script_takes_the_options_of_its_target(target):
    """The script's own --help lists them."""
    script = re.search(r"scripts/\w+\.py", " ".join(rules()[target]))[0]
    done = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=True)
    for name in TAKEN[target]:
        assert OPTIONS[name].rstrip("=") in done.stdout, name


@pytest.mark.parametrize(
    ("words", "refused", "allowed"),
    [
        (["cancel", "SEED=1"], "SEED", ["MODEL", "DATASET", "OUTPUTS"]),
        (["train", "MDOEL=minilm-lora"], "MDOEL", ["MODEL"]),
        (["check", "logs", "MODEL=m", "SEED=1"], "SEED", ["NO_DATA", "OUTPUTS"]),
        (["test", "MODEL=m"], "MODEL", ["no variable"]),
    ],
)
def test_a_variable_without_effect_is_refused(project, words, refused, allowed):
    done = make(project, *words)
    assert done.returncode == 2 and done.stdout == ""
    assert f": {refused} is given, and has no effect" in done.stderr
    assert all(name in done.stderr for name in allowed)


def test_several_goals_share_what_each_takes(project):
    done = make(project, "check", "train", "MODEL=m", "SEED=2", "JSON=1")
    assert [eval(line) for line in done.stdout.splitlines()] == [
        ["scripts/check.py", "--model=m", "--json"],
        ["scripts/train.py", "--model=m", "--seed=2"],
    ]


def test_other_variables_of_the_environment_are_left_alone(project):
    given = environment() | {"SEED": "1", "TEXT": "x", "OTHER": "y"}
    done = subprocess.run(["make", "logs"], cwd=project, env=given, capture_output=True, text=True)
    assert eval(done.stdout) == ["scripts/logs.py"]


def test_the_tests_on_a_card_take_another_python_as_it_is(project):
    """A machine with a card may have a python of its own, and no network: nothing is installed there."""
    shutil.copy(project / ".venv" / "bin" / "python", project / "python3")
    shutil.rmtree(project / ".venv")
    words = arguments_of(project, "test-gpu", "PY=./python3")
    assert words[:3] == ["-m", "pytest", "tests/gpu"] and not (project / ".venv").exists()


def test_a_failure_fails_the_target(project):
    (project / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 5\n")
    done = make(project, "train", "MODEL=x")
    assert done.returncode != 0
    assert "Error 5" in done.stderr


def test_clean_keeps_results(project):
    (project / "outputs").mkdir()
    assert make(project, "clean").returncode == 0
    assert not (project / ".venv").exists()
    assert (project / "outputs").is_dir()


def test_spaces_in_the_projects_own_path(tmp_path, project):
    moved = Path(shutil.move(project, tmp_path / "my project"))
    for stamp in ("requirements", "demo", "dev"):
        (moved / ".venv" / stamp).touch()
    assert arguments_of(moved, "report", "CHECK=1") == ["scripts/collect.py", "--check"]


def test_submission_passes_what_is_given(project):
    words = arguments_of(project, "submit", "MODEL=m", "SEEDS=1, 2", "CLUSTER=c", "RESOURCES=time=02:00:00 qos=a b")
    assert words == [
        *("scripts/submit.py", "--model=m", "--seeds=1, 2", "--cluster=c", "--resources=time=02:00:00 qos=a b"),
    ]
    assert arguments_of(project, "submit-all", "JOBS=a-* b") == ["scripts/submit.py", "--all", "--jobs=a-* b"]
    dry = arguments_of(project, "submit-all", "DRY_RUN=1")
    assert dry == ["scripts/submit.py", "--all", "--dry-run"]
    assert arguments_of(project, "submit-check") == ["scripts/submit.py", "--dry-run", "--all"]
    assert arguments_of(project, "submit-check", "MODEL=m") == ["scripts/submit.py", "--dry-run", "--model=m"]
    assert arguments_of(project, "status", "WATCH=1") == ["scripts/status.py", "--watch"]
    for verb in ("logs", "cancel"):
        assert arguments_of(project, verb, "MODEL=m", "DATASET=d") == [
            *(f"scripts/{verb}.py", "--model=m", "--dataset=d"),
        ]
