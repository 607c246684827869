"""Write scripts/common/README.md: every module below scripts/common with the first line of its docstring.

    python scripts/module_index.py             (or: make format)
    python scripts/module_index.py --check     fail where the file differs (or: make lint)

Standard library only.
"""

import argparse
import ast
import sys
from pathlib import Path

COMMON = Path(__file__).resolve().parent / "common"
PACKAGES = {  # in the order of the imports, which tests/test_layers.py checks
    "core": "what every package needs",
    "config": "jobs, datasets and methods as validated YAML",
    "data": "tables, rows and splits",
    "hub": "where models and datasets are, and their download",
    "runs": "the run folder, its lock and its provenance",
    "methods": "what is trained: LoRA, adapters, last layers, the peft library",
    "model": "load a base model, encode rows, score them, save it",
    "evaluation": "scores, metrics and baselines",
    "train": "from a recorded config to a trained model",
    "cli": "how a command reads its options and ends",
    "cluster": "Slurm jobs and the queue of this machine",
    "predict": "predictions for many rows, in shards",
    "export": "a trained model as a folder that works without this repository",
    "report": "published results, tables and plots",
    "smoke": "tiny random models and fake data",
    "estimate": "memory and speed without a full training",
}
HEAD = """\
<!-- `make format` writes this file from the first lines of the docstrings. -->

# Modules of scripts/common

The packages in the order of the imports: a module imports from its own package and from those above it.
"""


def main(arguments: list[str]) -> int:
    """Write the index, or check it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="compare only; write nothing")
    file, text = COMMON / "README.md", index()
    if parser.parse_args(arguments).check:
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            print(f"error: {file} differs from the docstrings. Run: make format", file=sys.stderr)
            return 1
        return 0
    file.write_text(text, encoding="utf-8")
    return 0


def index() -> str:
    """Return the text of scripts/common/README.md."""
    parts = [HEAD]
    for package, content in PACKAGES.items():
        paths = sorted((COMMON / package).rglob("*.py"))
        lines = [f"- `{path.stem}`: {line}" for path in paths if (line := first_line(path))]
        parts.append("\n".join([f"## {package}", f"*{content}*", "", *lines]).replace("`__init__`", "the package"))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def first_line(path: Path) -> str:
    """Return the first line of a module's docstring, "" where it has none."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n", 1)[0].strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
