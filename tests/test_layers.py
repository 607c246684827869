"""The order of the packages, enforced: imports go one way, and scripts never import each other."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
SCRIPTS = TESTS.parent / "scripts"
COMMON = SCRIPTS / "common"

# The order of the work. A module imports from its own package and from those above it in this list only.
PACKAGES = [
    "core",
    "config",
    "data",
    "hub",
    "runs",
    "methods",
    "model",
    "evaluation",
    "train",
    "cli",
    "cluster",
    "predict",
    "export",
    "report",
    "smoke",
    "estimate",
]
TORCH_FREE_TESTS = ["core", "config", "data", "hub", "runs", "cli", "cluster", "predict", "report"]


def modules() -> dict[str, Path]:
    """Return every module below scripts/common by its dotted name; a package's `__init__` by the package's name."""
    found = {}
    for path in COMMON.rglob("*.py"):
        parts = path.relative_to(COMMON).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imported(path: Path) -> set[str]:
    """Return the modules below `common` that a file imports, also inside functions."""
    known, found = modules(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "common":
            package = str(node.module).removeprefix("common").removeprefix(".")
            for alias in node.names:
                name = f"{package}.{alias.name}".removeprefix(".")
                found.add(name if name in known else package)
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("common.") for alias in node.names if alias.name.startswith("common.")}
    return found


def test_every_package_has_its_place():
    assert {path.name for path in COMMON.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(PACKAGES)
    assert [path.name for path in COMMON.glob("*.py")] == ["__init__.py"]  # no module lies flat


def test_the_list_of_modules_has_the_packages_in_this_order():
    text = (COMMON / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == PACKAGES


def test_packages_import_nothing_by_themselves():
    inits = {path.parent.name for path in COMMON.rglob("__init__.py") if path.read_text(encoding="utf-8").strip()}
    assert inits == {"common", "methods"}  # the first keeps signals


@pytest.mark.parametrize("name", sorted(set(modules()) - {""}))
def test_imports_go_one_way(name):
    place = PACKAGES.index(name.split(".")[0])
    wrong = [other for other in imported(modules()[name]) if PACKAGES.index(other.split(".")[0]) > place]
    assert not wrong, f"{name} imports {wrong}, which come after it in PACKAGES"


def test_no_two_modules_import_each_other():
    imports = {name: imported(path) for name, path in modules().items()}
    done: set[str] = set()

    def follow(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a cycle of imports: {' → '.join([*way, name])}"
        if name not in done:
            for other in imports[name]:
                follow(other, (*way, name))
            done.add(name)

    for name in imports:
        follow(name, ())


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.name)
def test_scripts_do_not_import_each_other(path):
    others = {script.stem for script in SCRIPTS.glob("*.py")}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.module not in others
        elif isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & others


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_imports_another(path):
    """Fixtures lie in conftest.py, helpers in tests/support."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    assert not [name for name in found if name.split(".")[-1].startswith("test_")]


def test_scripts_import_no_torch_before_they_begin():
    """On a login node some never do; in all, torch must find the variables that `guard` sets for it."""
    code = (
        f"import sys, runpy; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "for script in sys.argv[1:]:\n"
        "    runpy.run_path(script, run_name='imported')\n"
        "    if 'torch' in sys.modules or 'transformers' in sys.modules:\n"
        "        sys.exit(f'{script} imports torch')"
    )
    scripts = sorted(map(str, SCRIPTS.glob("*.py")))
    done = subprocess.run([sys.executable, "-c", code, *scripts], capture_output=True, text=True)
    assert len(scripts) > 15 and (done.returncode, done.stderr) == (0, "")


def test_tests_of_text_and_files_do_not_import_torch():
    """Collecting them takes a second; a model is loaded by the tests that need one."""
    folders = [str(TESTS / "common" / name) for name in TORCH_FREE_TESTS]
    code = (
        "import sys, pytest\n"
        f"assert pytest.main(['--collect-only', '-qq', '-p', 'no:cacheprovider', *{folders!r}]) == 0\n"
        "print('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=TESTS.parent, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"
