"""README.md and the guides: links lead to files, commands exist, the README stays short."""

import re
import shutil
from pathlib import Path

import pytest

from common.config import catalog

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = "outputs/published/README.md"
GUIDES = [
    "README.md",
    "CONTRIBUTING.md",
    "data/README.md",
    "jobs/README.md",
    "slurm/README.md",
    "outputs/README.md",
    PUBLISHED,
]


def text(guide: str) -> str:
    return (ROOT / guide).read_text(encoding="utf-8")


def test_the_readme_is_short():
    assert (ROOT / "README.md").stat().st_size <= 12 * 1024


@pytest.mark.parametrize("guide", GUIDES)
def test_links_lead_to_files(guide):
    links = re.findall(r"\]\(([^)#]+)\)|<img src=\"([^\"]+)\"", text(guide))
    for link in (target for pair in links for target in pair if target and "://" not in target):
        assert ((ROOT / guide).parent / link).exists(), f"{guide}: {link}"


@pytest.mark.parametrize("guide", GUIDES)
def test_commands_are_targets_of_the_makefile(guide):
    makefile = text("Makefile")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    taken = {target: names.split() for target, names in re.findall(r"^takes\.(\S+) := (.*)$", makefile, re.MULTILINE)}
    for command in re.findall(r"(?:^    |`)((?:PYTHON=\S+ )?make [^`#\n]*)", text(guide), re.MULTILINE):
        words = command.split("make ", 1)[1].split() or ["help"]
        assert words[0] in targets or words[0].startswith((".venv/", "TARGET")), f"{guide}: {command}"
        given = {word.split("=")[0] for word in words if re.match(r"[A-Z_]+=", word)}
        assert given <= {*taken.get(words[0], ()), "PYTHON"}, f"{guide}: {command}"  # make refuses any other


@pytest.mark.parametrize("guide", ["README.md", "data/README.md", "jobs/README.md"])
def test_yaml_examples_are_valid(guide, tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "JOBS", tmp_path)
    monkeypatch.setattr(catalog, "DATASETS", tmp_path)
    shutil.copy(ROOT / "jobs" / "_defaults.yaml", tmp_path)
    examples = [block for block in re.findall(r"```yaml\n(.*?)```", text(guide), re.DOTALL) if "schema: 1" in block]
    assert examples
    for example in examples:
        (tmp_path / "example.yaml").write_text(example, encoding="utf-8")
        catalog.load_job("example") if "model:" in example else catalog.load_dataset("example")
