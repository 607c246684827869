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


@pytest.mark.parametrize("guide", ["README.md", "slurm/README.md"])
def test_the_driver_that_a_gpu_needs_is_told(guide):
    """The oldest one, where a driver is spoken of, and what runs on the CPU all the same."""
    about = [part for part in re.split(r"\n\n|\n#", text(guide)) if "driver" in part]
    assert about and all("CUDA 13" in part and "580" in part and "ALLOW_CPU=1" in part for part in about)


def test_equal_bits_are_promised_on_a_cpu_alone():
    files = [ROOT / guide for guide in GUIDES] + sorted((ROOT / "scripts").rglob("*.py"))
    promises = [
        (file.name, sentence)
        for file in files
        for sentence in re.split(r"(?<=[.:])\s+(?=[A-Z`])|\n\n", file.read_text(encoding="utf-8"))
        if re.search(r"\b(bit|byte) (for|by) (bit|byte)\b|\bequal bits\b", sentence)
    ]
    assert len(promises) > 3 and [one for one in promises if not re.search(r"\b[CG]PU\b", one[1])] == []


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16"])
def test_every_precision_is_described_with_its_cards(precision):
    [row] = re.findall(rf"^\| `{precision}` \| .*$", text("jobs/README.md"), re.MULTILINE)
    assert re.search("GPU|card", row) or precision == "float32"


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
