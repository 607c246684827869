"""The demo's steps are the commands they claim to be; what is finished is skipped, a failure stops and is said."""

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from waiting import HANG_S

from common.cli.target import resolve_target
from common.config import catalog
from common.config.run_request import RunRequest
from common.core import files, yaml_io
from common.data.load import load_rows
from common.data.rows import rows_fingerprint
from common.runs import run_folder
from common.runs.run_config import RunConfig


@pytest.fixture
def demo(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("script_demo", ROOT / "scripts" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["script_demo"] = module
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "OUTPUTS", tmp_path / "demo")
    monkeypatch.chdir(ROOT)
    yield module
    del sys.modules["script_demo"]


class Recorder:
    """Stands for the demo's `run`: remembers the commands and answers with one exit code."""

    def __init__(self, code: int) -> None:
        self.commands: list[list[str]] = []
        self.code = code

    def __call__(self, command: list[str]) -> int:
        self.commands.append(command)
        return self.code


def finish(step, dataset: str) -> None:
    """Leave behind what a finished run of the step leaves behind."""
    spec = catalog.load_dataset(dataset)
    baseline = step.folder.name.removeprefix("baseline-") if "baseline-" in step.folder.name else ""
    sha256 = rows_fingerprint(load_rows(spec))
    config = RunConfig("any", dataset, "", 1, step.job, spec, sha256, baseline=baseline)
    files.write_text(step.folder / run_folder.CONFIG, yaml_io.dump(config.plain()))
    files.write_json(step.folder / run_folder.METRICS, {"schema": 1})


def test_folders_and_recipes_are_those_the_scripts_use(demo):
    for step in demo.steps():
        words = dict(zip(step.words[1::2], step.words[2::2], strict=True))
        last = f"seed-{words['--seed']}" if step.words[0] == "train.py" else f"baseline-{words['--baseline']}"
        if step.job:
            overrides = (words["--set"],) if "--set" in words else ()
            target = resolve_target(RunRequest(words["--model"], overrides=overrides, outputs=demo.OUTPUTS))
            assert target.folder_named(last) == step.folder
            assert target.job == step.job
        else:
            assert step.folder == demo.OUTPUTS / demo.DATASET / "classical" / last


def test_runs_every_step_and_then_the_report(demo, monkeypatch, capsys):
    recorder = Recorder(0)
    monkeypatch.setattr(demo, "run", recorder)
    assert demo.main([]) == 0
    assert [Path(command[0]).name for command in recorder.commands] == ["baseline.py"] * 3 + ["train.py"] * 3 + [
        "collect.py"
    ]
    printed = capsys.readouterr().out
    assert "[1/6]" in printed and "left in all" in printed and "What next" in printed


def test_a_second_demo_runs_no_training(demo, monkeypatch, capsys):
    for step in demo.steps():
        finish(step, demo.DATASET)
    recorder = Recorder(0)
    monkeypatch.setattr(demo, "run", recorder)
    assert demo.main([]) == 0
    assert [Path(command[0]).name for command in recorder.commands] == ["collect.py"]
    assert "6 of 6 steps are finished already" in capsys.readouterr().out


def test_a_changed_recipe_is_run_again(demo, monkeypatch):
    step = demo.steps()[-1]
    finish(step, demo.DATASET)
    fingerprint = rows_fingerprint(load_rows(catalog.load_dataset(demo.DATASET)))
    assert demo.is_done(step, fingerprint)
    assert not demo.is_done(step, "other data")
    document = yaml_io.read(step.folder / run_folder.CONFIG)
    document["job"]["training"]["learning_rate"] = 0.123
    files.write_text(step.folder / run_folder.CONFIG, yaml_io.dump(document))
    assert not demo.is_done(step, fingerprint)
    recorder = Recorder(0)
    monkeypatch.setattr(demo, "run", recorder)
    assert demo.main([]) == 0
    [forced] = [command for command in recorder.commands if "--force" in command]
    assert forced[1:] == [*step.words[1:], "--outputs", str(demo.OUTPUTS), "--force"]


def test_a_signal_reaches_the_running_step_and_is_waited_for(demo, tmp_path):
    """The demo is stopped while a step runs: the step ends by itself, with its own exit code."""
    step = tmp_path / "step.py"
    step.write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), print('saved', flush=True), sys.exit(75)))\n"
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})\n"  # as `common.core.signals.keep`
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    code = (
        f"import sys; sys.path[:0] = {[str(ROOT / 'scripts')]!r}; import demo; from common.cli.main import guard\n"
        f"sys.exit(guard(lambda argv: demo.run([{str(step)!r}]), []))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)  # as SIGINT, which a shell makes its background jobs ignore
    assert process.communicate(timeout=HANG_S)[0] == "saved\n"
    assert process.returncode == 75


def test_a_failing_step_stops_the_demo_with_its_code(demo, monkeypatch, capsys):
    recorder = Recorder(75)
    monkeypatch.setattr(demo, "run", recorder)
    assert demo.main([]) == 75
    assert len(recorder.commands) == 1
    assert "`make demo` continues" in capsys.readouterr().err
