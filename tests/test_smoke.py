"""`make smoke`: jobs pass, a job with an error is named and the others run, a dry run does nothing."""

import importlib.util
import json
import shutil
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest
from conftest import ROOT

from common.cli.main import guard
from common.config import catalog
from common.core import errors, yaml_io
from common.smoke import run_in_process


@pytest.fixture
def script(monkeypatch, tmp_path):
    """The script, in this process, with `tmp_path / "smoke"` to write into and a jobs folder of its own."""
    spec = importlib.util.spec_from_file_location("script_smoke", ROOT / "scripts" / "smoke.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "jobs").mkdir()
    shutil.copy(ROOT / "jobs" / "_defaults.yaml", tmp_path / "jobs")
    monkeypatch.setattr(catalog, "JOBS", tmp_path / "jobs")
    monkeypatch.setattr(module, "OUTPUTS", tmp_path / "smoke")
    monkeypatch.setattr(module, "WORKERS", 1)
    monkeypatch.setattr(sys, "argv", sys.argv)
    return module


@pytest.fixture
def smoke(script):
    """`smoke(*arguments)` → exit code."""
    return lambda *arguments: guard(script.main, list(arguments))


@pytest.fixture
def jobs(tmp_path):
    """`jobs(name, …)`: put jobs of the project into the folder."""
    return lambda *names: [shutil.copy(ROOT / "jobs" / f"{name}.yaml", tmp_path / "jobs") for name in names]


@pytest.mark.slow
def test_a_broken_job_is_named_and_the_others_go_on(smoke, jobs, tmp_path, capsys):
    jobs("minilm-lora", "llama-3-8b")
    (tmp_path / "jobs" / "broken.yaml").write_text("schema: 1\nmodel: x\nmethod: {name: lora}\nmax_lenght: 3\n")
    (tmp_path / "smoke" / "left over").mkdir(parents=True)
    assert smoke() == 1
    broken, reason, llama, minilm, report, verdict = capsys.readouterr().out.splitlines()
    assert broken.startswith("broken") and broken.endswith("FAILED: its tiny model and fake data")
    assert "max_lenght" in reason and "Did you mean 'max_length'?" in reason
    assert llama.startswith("llama-3-8b") and llama.endswith(" s  check, train, evaluate, predict, baseline")
    assert minilm.startswith("minilm-lora") and minilm.endswith(" s  check, train, evaluate, predict, baseline")
    assert report.endswith("collect") and verdict.startswith("3 jobs in ") and verdict.endswith(": 1 failed")
    assert not (tmp_path / "smoke" / "left over").exists()
    # The job's own settings are what ran.
    [frozen] = (tmp_path / "smoke").glob("cmv-stance/llama-3-8b/*/seed-1/config.yaml")
    job, own = yaml_io.read(frozen)["job"], yaml_io.read(ROOT / "jobs" / "llama-3-8b.yaml")
    assert (job["quantization"], job["precision"], job["method"]["r"]) == ("nf4", "bfloat16", own["method"]["r"])
    assert job["training"]["epochs"] == 1 and job["training"]["learning_rate"] == own["training"]["learning_rate"]
    metrics = json.loads((frozen.parent / "metrics.json").read_text())
    assert metrics["test_n"] == 12 and (frozen.parent / "metrics-validation.json").exists()
    assert list((tmp_path / "smoke" / "plots").glob("*.png"))


def test_a_failing_command_is_shown(smoke, jobs, tmp_path, capsys):
    jobs("minilm-lora")
    (tmp_path / "jobs" / "wrong.yaml").write_text(
        (tmp_path / "jobs" / "minilm-lora.yaml").read_text().replace("hidden_dropout_prob", "hidden_dropout_problem")
    )
    assert smoke("--model", "wrong") == 1
    printed = capsys.readouterr().out
    assert "FAILED: python scripts/check.py --model wrong --set " in printed
    assert "no key 'hidden_dropout_problem'" in printed
    assert "report" not in printed and printed.splitlines()[-1].startswith("1 job in ")


def test_a_dry_run_says_what_would_be_downloaded(smoke, jobs, tmp_path, capsys):
    jobs("minilm-lora", "mistral-7b-v0.1", "gemma-2-9b-it", "minilm-emotion-full", "deberta-v3-large")
    shutil.copy(tmp_path / "jobs" / "mistral-7b-v0.1.yaml", tmp_path / "jobs" / "again.yaml")
    assert smoke("--dry-run") == 0
    printed = capsys.readouterr().out
    assert "  model  google/gemma-2-9b-it, revision main: 18.5 GB, 9,241,705,984 parameters in bfloat16" in printed
    assert "microsoft/deberta-v3-large, revision d0eb112b2451491fbbaf55b168c85825ba1d7ad1: 0.9 GB, 435," in printed
    assert "  rows   stance-sample: data/sample/train.xlsx" in printed
    assert "  rows   emotion: the Hub's dair-ai/emotion, revision main: 0.7 MB" in printed
    assert "33.8 GB of weights in all" in printed, "Mistral once, not twice"
    assert not (tmp_path / "smoke").exists()
    (tmp_path / "jobs" / "broken.yaml").write_text("schema: 1\n")
    assert smoke("--dry-run") == errors.ConfigError.exit_code
    assert "broken\n  error: " in (printed := capsys.readouterr().out) and "33.8 GB" in printed


def test_a_wrong_name_stops_at_once(smoke, jobs, tmp_path, capsys):
    jobs("minilm-lora")
    assert smoke("--model", "minilm-lorra") == errors.ConfigError.exit_code
    assert "Did you mean 'minilm-lora'?" in capsys.readouterr().err
    assert not (tmp_path / "smoke").exists()


def test_a_sweep_is_tried_at_its_ends(script, jobs, tmp_path):
    jobs("minilm-emotion-lora", "minilm-lora")
    assert script.ends_of_sweep("minilm-lora") == [[]]
    assert script.ends_of_sweep("minilm-emotion-lora") == [
        ["method.r=1", "method.alpha=1"],
        ["method.r=16", "method.alpha=32"],
    ]
    each = ["train", "evaluate", "predict"]
    assert [words[0] for words in script.commands("minilm-emotion-lora")] == ["check", *each, *each, "baseline"]


class Pool:
    """Stands for the pool of processes: answers with what it was given, or as a killed process does."""

    def __init__(self, workers, context):
        assert workers == 2 and context.get_start_method() == "spawn"

    def map(self, function, names):
        for name in names:
            if name == "minilm-lora":
                raise BrokenProcessPool
            yield run_in_process.Outcome(name, 1.0, ("check",), "", "")

    def shutdown(self, cancel_futures):
        assert cancel_futures
        print("shut")


def test_several_processes_and_one_that_dies(smoke, script, jobs, monkeypatch, capsys):
    monkeypatch.setattr(script, "WORKERS", 2)
    monkeypatch.setattr(script, "ProcessPoolExecutor", Pool)
    jobs("llama-3-8b", "minilm-lora")
    assert smoke() == errors.RunError.exit_code
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["llama-3-8b     1.0 s  check", "shut"]
    assert "make smoke MODEL=<job>" in printed.err
