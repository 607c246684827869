"""Errors of the Hub, over a real HTTP server: each becomes one message with the reason and the fix."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import fake_hub
import pytest
from waiting import HANG_S

ROOT = Path(__file__).resolve().parents[3]
GOOD, STRANGER, WRONG = "hf_goodgoodgood", "hf_strangerstranger", "hf_wrongwrongwrong"

# name: (kind of repository, id, revision, token, offline)
CASES = {
    "public": ("model", "lab/tiny", "main", "", False),
    "gated": ("model", "lab/gated", "main", "", False),
    "not accepted": ("model", "lab/gated", "main", STRANGER, False),
    "accepted": ("model", "lab/gated", "main", GOOD, False),
    "wrong token": ("model", "lab/tiny-2", "main", WRONG, False),
    "mangled token": ("model", "lab/tiny-2", "main", f"{GOOD}…", False),
    "no such model": ("model", "lab/tyni", "main", "", False),
    "no such model, token": ("model", "lab/tyni", "main", GOOD, False),
    "no such revision": ("model", "lab/tiny", "v2", "", False),
    "no id": ("model", "my models/tiny", "main", "", False),
    "offline": ("model", "lab/pickle", "v 1", "", True),
    "offline, in the cache": ("model", "lab/tiny", "main", "", True),
    "pickle": ("model", "lab/pickle", "main", "", False),
    "custom code": ("model", "lab/custom", "main", "", False),
    "no config": ("model", "lab/adapter", "main", "", False),
    "breaks": ("model", "lab/breaks", "main", "", False),
    "data: no such": ("data", "lab/nothing", "main", "", False),
    "data: gated": ("data", "lab/gated", "main", "", False),
    "data: wrong token": ("data", "lab/gated", "main", WRONG, False),
    "data: no such revision": ("data", "lab/gated", "v2", GOOD, False),
    "data: offline": ("data", "lab/gated", "main", "", True),
}
DRIVER = """
import json, os, sys, time
import datasets, huggingface_hub
from common.config.catalog import load_dataset, load_job
from common.config.dataset import Source
from common.core.errors import PeftableError
from common.core.schema import validate
from common.data.hub_dataset import read_hub
from common.hub.locate import hub_commit
from common.model.build import build_head
from common.model.inspect import inner_model
from common.model.load import quiet_libraries
quiet_libraries()
pauses = []
time.sleep = pauses.append  # between the library's own attempts
answers = {}
for name, (kind, repo, revision, token, offline) in json.load(sys.stdin).items():
    os.environ["HF_TOKEN"] = token
    huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = offline
    hub_commit.cache_clear()
    pauses.clear()
    try:
        if kind == "data":
            answers[name] = [sorted(read_hub(validate(Source, {"hub": repo, "revision": revision}, "data/x.yaml")))]
        else:
            job, _ = load_job("minilm-lora", {"model": repo, "revision": revision})
            model = build_head(job, load_dataset("stance-sample")).model
            answers[name] = [inner_model(model).config._commit_hash]
    except PeftableError as error:
        answers[name] = [type(error).__name__, str(error)]
    answers[name].append(sum(pauses))
    print(name, answers[name], file=sys.stderr)
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory, tiny_model):
    """The result of each case, all in one process; and the paths that were requested."""
    place = tmp_path_factory.mktemp("hub")
    for name in ("pickle", "custom", "adapter"):
        shutil.copytree(tiny_model, place / name)
    (place / "pickle/model.safetensors").rename(place / "pickle/pytorch_model.bin")
    config = json.loads((place / "custom/config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (place / "custom/config.json").write_text(json.dumps(config))
    (place / "adapter/config.json").unlink()
    with fake_hub.serve() as hub:
        hub.tokens = {GOOD: {"lab/gated"}, STRANGER: set()}
        for name in ("tiny", "tiny-2", "gated", "breaks"):
            hub.publish(f"lab/{name}", tiny_model, gated=name == "gated", breaks=name == "breaks")
        for name in ("pickle", "custom", "adapter"):
            hub.publish(f"lab/{name}", place / name)
        hub.publish("datasets/lab/gated", place, gated=True)
        done = subprocess.run(
            [sys.executable, "-c", DRIVER],
            input=json.dumps(CASES),
            cwd=ROOT / "scripts",
            env=fake_hub.environment(hub, place / "home", HF_DATASETS_CACHE=str(place / "rows")),
            capture_output=True,
            text=True,
            timeout=HANG_S,
        )
        assert done.returncode == 0, done.stderr
        assert not [secret for secret in (GOOD, STRANGER, WRONG) if secret in done.stdout + done.stderr]
        return json.loads(done.stdout.splitlines()[-1]), hub.asked


@pytest.mark.parametrize("name", ["public", "accepted", "offline, in the cache"])
def test_a_model_that_may_be_loaded_has_its_commit(answers, name):
    assert answers[0][name][0] == "a" * 40


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("gated", ["gated, and no token", "https://huggingface.co/lab/gated, then `hf auth login`, or HF_TOKEN=<"]),
        ("not accepted", ["account of your token (HF_TOKEN) has no access", "Accept its licence", "co/lab/gated"]),
        ("wrong token", ["HF_TOKEN is wrong or has expired", "401", "hf auth login"]),
        ("mangled token", ["HF_TOKEN contains characters that no token has"]),
        ("no such model", ["the Hub has no model 'lab/tyni'", "is private", "hf auth login"]),
        ("no such model, token", ["the Hub has no model 'lab/tyni'", "your token cannot read it"]),
        ("no such revision", ["not the revision 'v2'", "https://huggingface.co/lab/tiny/tree/main"]),
        ("no id", ["neither a folder nor a Hub id", "<owner>/<name>"]),
        ("offline", ["not in this machine's cache", "HF_HUB_OFFLINE", "`hf download lab/pickle --revision 'v 1'`"]),
        ("pickle", ["no weights as safetensors", "refs/pr/<number>", "lab/pickle/discussions", "save_pretrained"]),
        ("custom code", ["code of its own", "trust_remote_code is off"]),
        ("no config", ["contains no config.json", "adapter"]),
        ("breaks", ["the connection was interrupted", "Try again", "hf download lab/breaks --revision main"]),
    ],
)
def test_a_model_that_cannot_be_loaded(answers, name, parts):
    kind, message, paused_s = answers[0][name]
    assert kind == "ModelError" and "\n" not in message
    assert message.startswith(f"model {CASES[name][1]}")
    assert [part for part in parts if part not in message] == [], message
    assert paused_s < 40


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("data: no such", ["the Hub has no dataset 'lab/nothing'"]),
        ("data: gated", ["gated, and no token", "https://huggingface.co/datasets/lab/gated"]),
        ("data: wrong token", ["HF_TOKEN is wrong or has expired"]),
        ("data: no such revision", ["not the revision 'v2'"]),
        ("data: offline", ["not in this machine's cache", "datasets.load_dataset('lab/gated', revision='main')"]),
    ],
)
def test_a_data_set_that_cannot_be_loaded(answers, name, parts):
    kind, message, _ = answers[0][name]
    assert kind == "DataError" and "\n" not in message
    assert [part for part in [*parts, "DATA_DIR="] if part not in message] == [], message


def test_weights_of_an_unmerged_pull_request_are_not_loaded(answers):
    """For the branch main, transformers would look for a pull request with safetensors, or have a service make one."""
    assert not [path for path in answers[1] if "discussions" in path or "/commits/" in path]
