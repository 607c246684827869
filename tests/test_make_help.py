import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def make_help():
    spec = importlib.util.spec_from_file_location("make_help", ROOT / "scripts" / "make_help.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def printed(make_help, capsys):
    assert make_help.main([str(ROOT / "Makefile")]) == 0
    return capsys.readouterr().out


def test_variables_jobs_and_datasets_are_listed(printed):
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"^option\.(\w+) *:= \S+ +# (.*)$", text, re.MULTILINE)
    assert len(named) == len(re.findall(r"^option\.", text, re.MULTILINE))  # each has a meaning
    for name, meaning in [*named, ("PYTHON", "interpreter")]:
        assert re.search(rf"^  {name} +{re.escape(meaning)}", printed, re.MULTILINE)
    jobs = re.search(r"^Available MODELs: (.*)$", printed, re.MULTILINE)[1].split(", ")
    assert jobs == sorted(path.stem for path in (ROOT / "jobs").glob("[!_]*.yaml"))
    datasets = re.search(r"^Available DATASETs: (.*)$", printed, re.MULTILINE)[1].split(", ")
    assert datasets == sorted(path.stem for path in (ROOT / "data").glob("[!_]*.yaml"))


def test_groups_stand_above_their_targets(printed):
    lines = printed.splitlines()
    assert lines.index("Experiments") < next(i for i, line in enumerate(lines) if line.startswith("  train "))
    assert lines.index("Development") < next(i for i, line in enumerate(lines) if line.startswith("  lint "))


def test_values_are_shown(make_help, capsys, monkeypatch):
    monkeypatch.setenv("MODEL", "minilm-lora")
    make_help.main([str(ROOT / "Makefile")])
    assert re.search(r"^  MODEL .*\[minilm-lora\]$", capsys.readouterr().out, re.MULTILINE)


def test_an_old_python_is_refused(make_help, monkeypatch, capsys):
    assert make_help.main(["--python-version"]) == 0
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    assert make_help.main(["--python-version"]) == 2
    assert "this is Python 3.9; peftable needs 3.11 or newer" in capsys.readouterr().err


def test_only_the_standard_library_is_imported():
    text = (ROOT / "scripts" / "make_help.py").read_text(encoding="utf-8")
    imported = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
    assert imported <= set(sys.stdlib_module_names)
