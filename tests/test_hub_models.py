"""A model of the Hub from download to prediction, with the real scripts: its commit is recorded and held fast to."""

import shutil
import subprocess
import sys
from pathlib import Path

import fake_hub
import pytest
from safetensors.torch import load_file, save_file
from waiting import HANG_S

from common.core import files

ROOT = Path(__file__).resolve().parents[1]
WRONG = "hf_wrongwrongwrong"
OLD, NEW = "a" * 40, "b" * 40
RUN = ["--model", "minilm-lora", "--set", "model=lab/tiny", "training.epochs=1", "runtime.keep_checkpoints=true"]


@pytest.fixture(scope="module")
def moved(tmp_path_factory, tiny_model) -> Path:
    """The tiny model with other weights, as main is after an update."""
    folder = tmp_path_factory.mktemp("hub") / "moved"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: value * 3 for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def run(tmp_path, rows_dir):
    """Run a script in a process of its own that knows the fake Hub alone."""

    def run(hub: fake_hub.FakeHub, script: str, *words: str, home: str = "home", **more: str):
        words = (*RUN, *words, "--outputs", str(tmp_path / "outputs"))
        words += ("--data-dir", str(rows_dir)) if script == "train" else ()
        return subprocess.run(
            [sys.executable, f"scripts/{script}.py", *words],
            cwd=ROOT,
            env=fake_hub.environment(hub, tmp_path / home, **more),
            capture_output=True,
            text=True,
            timeout=HANG_S,
        )

    return run


def refused(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 4, (done.stdout, done.stderr)
    assert done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.slow
def test_a_hub_model_from_download_to_a_moved_branch(run, tmp_path, tiny_model, moved):
    with fake_hub.serve() as hub:
        hub.publish("lab/tiny", tiny_model, OLD)
        message = refused(run(hub, "train", HF_TOKEN=WRONG))
        assert "HF_TOKEN is wrong or has expired" in message
        written = [path.read_text() for path in (tmp_path / "outputs").rglob("*") if path.is_file()]
        assert not [text for text in [message, *written] if WRONG in text]

        done = run(hub, "train")  # downloads
        assert done.returncode == 0, done.stderr
        folder = next((tmp_path / "outputs").rglob("metrics.json")).parent
        assert files.read_json(folder / "model/peftable.json")["model_commit"] == OLD
        assert files.read_json(folder / "metrics.json")["model_commit"] == OLD
        asked = list(hub.asked)

        # With main elsewhere, and the Hub out of reach: the recorded commit, from the cache.
        hub.publish("lab/tiny", moved, NEW)
        text = ("--text", "A claim. || A good idea.")
        first = run(hub, "predict", *text, HF_HUB_OFFLINE="1")
        assert first.returncode == 0, first.stderr
        assert hub.asked == asked
        # From another machine's empty cache, too: not what main is now.
        second = run(hub, "predict", *text, home="elsewhere")
        assert second.returncode == 0 and second.stdout == first.stdout, (second.stdout, second.stderr)
        later = [path for path in hub.asked[len(asked) :] if "safetensors" in path]
        assert later and all(OLD in path for path in later), hub.asked[len(asked) :]
        # Nor does evaluate take main's weights: its numbers stay those of the base that was trained on.
        scored = (folder / "predictions-test.jsonl").read_bytes()
        known, count = files.read_json(folder / "metrics.json"), len(hub.asked)
        done = run(hub, "evaluate", home="fourth")
        assert done.returncode == 0, done.stderr
        assert (folder / "predictions-test.jsonl").read_bytes() == scored
        again = files.read_json(folder / "metrics.json")
        for key in ("model_commit", "test_accuracy", "test_loss"):
            assert again[key] == known[key]
        later = [path for path in hub.asked[count:] if "safetensors" in path]
        assert later and all(OLD in path for path in later), hub.asked[count:]

        del hub.repos["lab/tiny"].commits[OLD]
        for words in (("predict", *text), ("evaluate",)):
            message = refused(run(hub, *words, home="third"))
            assert f"not the revision '{OLD}'" in message
        assert (folder / "predictions-test.jsonl").read_bytes() == scored

        # An unfinished run does not go on with another base.
        for name in ("training.json", "metrics.json"):
            (folder / name).unlink()
        shutil.rmtree(folder / "model")
        message = refused(run(hub, "train"))
        assert f"at the Hub's commit {OLD}; that of lab/tiny is {NEW}" in message and "FORCE=1" in message
        assert not (folder / "training.json").exists()
