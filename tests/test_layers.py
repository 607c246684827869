"""The house's order, enforced: a module imports from lower layers only, scripts never import each other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

# Lowest first. A module may import from the layers above its own line, never from its own layer or below it.
LAYERS = [
    {"errors", "stats", "tables", "templates", "footprint"},
    {"files", "slurm"},
    {"yamlio", "progress", "strict", "hubfaults", "owners"},
    {"methods", "requeue", "resources"},
    {"refusals", "entry"},
    {"config"},
    {"architectures", "catalog", "cells", "metrics", "tablefiles"},
    {"hub", "runs", "places", "miniature", "rehearsal", "profiles", "records", "localqueue", "tablestreams"},
    {"data", "provenance", "peft.wrapping", "pretrained", "fetching", "batchtext", "appending", "runfolders"},
    {"truncation", "quantization", "batching", "datachecks", "classical", "shapes", "cli", "cluster", "states"},
    {"peft.last_layers", "peft.library", "peft.eva", "peft.adalora", "peft.lora", "peft.adapters"},
    {"peft", "encoding", "prompts", "sweeps"},
    {"scope", "handover", "heads", "labelling", "keeping"},
    {"submission", "prompt_head", "plans"},
    {"models", "scoring", "shards"},
    {"lanes", "merging", "arrays", "saved", "recipes", "callbacks", "evaluation", "memory", "twins", "downloads"},
    {"steptrainer"},
    {"training", "benchmarks"},
    {"results"},
    {"grids"},
    {"styles"},
    {"comparisons"},
    {"reports", "plots"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
NO_TORCH = ["collect.py", "fetch.py", "make_help.py", "submit.py", "status.py", "cancel.py", "logs.py", "worker.py"]


def modules() -> dict[str, Path]:
    """Return every module below scripts/common by its dotted name."""
    found = {}
    for path in (SCRIPTS / "common").rglob("*.py"):
        parts = path.relative_to(SCRIPTS / "common").with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            found[name] = path
    return found


def imported(path: Path) -> set[str]:
    """Return the names below `common` that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "common":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("common."):
            names.add(str(node.module).removeprefix("common."))
        elif isinstance(node, ast.Import):
            names |= {alias.name.removeprefix("common.") for alias in node.names if alias.name.startswith("common.")}
    return names


def test_every_module_has_a_layer():
    assert set(modules()) == set(LEVEL)


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_go_downwards(name):
    wrong = [other for other in imported(modules()[name]) if LEVEL[other] >= LEVEL[name]]
    assert not wrong, f"{name} (layer {LEVEL[name]}) imports {wrong}"


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.name)
def test_scripts_do_not_import_each_other(path):
    others = {script.stem for script in SCRIPTS.glob("*.py")}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.module not in others
        elif isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & others


@pytest.mark.parametrize("script", NO_TORCH)
def test_login_node_scripts_do_not_import_torch(script):
    code = (
        f"import sys, runpy; sys.path.insert(0, {str(SCRIPTS)!r}); sys.argv = [{script!r}, '--help'];\n"
        "try:\n"
        f"    runpy.run_path({str(SCRIPTS / script)!r}, run_name='imported')\n"
        "finally:\n"
        "    print('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"
