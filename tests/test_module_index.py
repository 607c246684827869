"""scripts/module_index.py: the list of modules agrees with the docstrings."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def module_index():
    spec = importlib.util.spec_from_file_location("module_index", ROOT / "scripts" / "module_index.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_agrees_with_the_docstrings(module_index, capsys):
    assert module_index.main(["--check"]) == 0, capsys.readouterr().err


def test_every_module_has_a_line(module_index):
    text = module_index.index()
    for path in module_index.COMMON.rglob("*.py"):
        if path.name != "__init__.py":
            assert re.search(rf"^- `{path.stem}`: \S", text, re.MULTILINE), f"{path} has no docstring"


def test_a_changed_docstring_is_seen_and_written(module_index, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module_index, "COMMON", tmp_path)
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "files.py").write_text('"""Read and write files.\n\nMore.\n"""\n')
    assert module_index.main(["--check"]) == 1 and "make format" in capsys.readouterr().err
    assert module_index.main([]) == 0
    assert "\n## core\n*what every package needs*\n\n- `files`: Read and write files.\n" in (
        tmp_path / "README.md"
    ).read_text(encoding="utf-8")
    assert module_index.main(["--check"]) == 0
