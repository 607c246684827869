"""scripts/push.py against a Hub on this machine: what goes, who sees it, and that no token is shown."""

import subprocess
import sys
from pathlib import Path

import fake_hub
import pytest
from waiting import HANG_S

from common.core import files
from common.runs.exported import write_sums

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "hf_secretsecretsecret"


@pytest.fixture
def exported(tmp_path):
    """A folder as exports are: `peftable.json`, files, their sums; and a hidden file, which must not go."""
    folder = tmp_path / "exported"
    folder.mkdir()
    files.write_json(folder / "peftable.json", {"format": "merged"})
    files.write_text(folder / "README.md", "---\nlibrary_name: transformers\n---\n\n# A model\n")
    (folder / "model.safetensors").write_bytes(b"weights")
    write_sums(folder)
    (folder / ".notes").write_text("mine")
    return folder


@pytest.fixture
def push(tmp_path, exported):
    """`push(hub, "--to", …)` → (exit code, all that was printed)."""

    def run(hub: fake_hub.FakeHub, *words: str) -> tuple[int, str]:
        more = {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        done = subprocess.run(
            [sys.executable, "scripts/push.py", "--run", str(exported), *words],
            cwd=ROOT,
            env=fake_hub.environment(hub, tmp_path / "home", **more),
            capture_output=True,
            text=True,
            timeout=HANG_S,
        )
        assert TOKEN not in done.stdout + done.stderr and "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_folder_goes_to_a_private_repository(push, exported):
    with fake_hub.serve() as hub:
        hub.tokens[TOKEN] = set()
        code, printed = push(hub, "--to", "me/stance", "--dry-run")
        assert code == 0 and "to me/stance (private): 4 files" in printed and "model.safetensors" in printed
        assert hub.asked == []  # a dry run asks nothing
        code, printed = push(hub, "--to", "me/stance")
        assert code == 4 and "hf auth login" in printed and hub.uploaded == {}  # the token may only read
        hub.writers.add(TOKEN)
        code, printed = push(hub, "--to", "me/stance")
        assert code == 0, printed
    names = ["README.md", "SHA256SUMS", "model.safetensors", "peftable.json"]
    assert hub.private == {"me/stance": True}
    assert hub.uploaded["me/stance"] == {name: (exported / name).read_bytes() for name in names}


def test_what_is_public_is_said_or_refused(push, exported, tmp_path):
    with fake_hub.serve() as hub:
        hub.tokens[TOKEN] = set()
        hub.writers.add(TOKEN)
        hub.publish("me/open", exported)
        code, printed = push(hub, "--to", "me/open")
        assert code == 2 and "is public" in printed and hub.uploaded == {}
        code, printed = push(hub, "--to", "me/open", "--public")
        assert code == 0 and "(public)" in printed and hub.private == {"me/open": False}, printed
        (exported / "model.safetensors").write_bytes(b"others!")
        code, printed = push(hub, "--to", "me/open", "--public")
        assert code == 4 and "model.safetensors has changed" in printed
        code, printed = push(hub, "--to", "no-owner")
        assert code == 2 and "no Hub id" in printed
