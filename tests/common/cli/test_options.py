import shlex
from pathlib import Path

import pytest

from common.cli import options
from common.cli.target import adapter_folder, make_command, resolve_target, run_command, trained_folder
from common.core import yaml_io
from common.core.errors import ConfigError, ModelError, RunError

GROUPS = ("model", "dataset", "set", "seed", "data", "force")


def parse(*arguments):
    return options.parser("About.", *GROUPS).parse_args(arguments)


def test_a_command_line_becomes_a_target(tmp_path):
    arguments = parse("--model", "minilm-lora", "--set", "method.r=4", "training.epochs=1", "--data-dir", str(tmp_path))
    target = resolve_target(arguments)
    assert target.variant == "method.r=4,training.epochs=1"
    assert target.dataset_name == target.job.dataset == "stance-sample"
    assert target.folder(Path("o"), "seed-1") == Path("o/stance-sample/minilm-lora") / target.variant / "seed-1"
    config = target.config(3, "sha")
    assert (config.seed, config.data_sha256, config.data_dir) == (3, "sha", str(tmp_path))


def test_dataset_replaces_the_jobs_own():
    target = resolve_target(parse("--model", "minilm-lora", "--dataset", "tweeteval-stance"))
    assert target.dataset_name == "tweeteval-stance"
    assert target.dataset.labels == ["none", "against", "favor"]
    assert target.variant == ""


def test_defaults():
    arguments = parse()
    assert (arguments.seed, arguments.force, arguments.outputs, arguments.set) == (1, False, options.OUTPUTS, [])


@pytest.mark.parametrize("seed", ["-1", "1.5", "x", "", "4294967296", "²"])
def test_a_wrong_seed_is_refused(seed):
    with pytest.raises(ConfigError, match="seed"):
        parse(f"--seed={seed}")


def test_the_largest_seed():
    assert parse("--seed", "4294967295").seed == 2**32 - 1


@pytest.mark.parametrize("arguments", [["--mdoel", "x"], ["--mod", "x"], ["extra"]])
def test_a_wrong_option_is_a_config_error(arguments):
    with pytest.raises(ConfigError, match="--help shows the options"):
        parse(*arguments)


def test_best_metric_must_exist_for_the_dataset():
    text = "training.best_metric=validation_f1_mean_labels"
    resolve_target(parse("--model", "minilm-lora", "--dataset", "tweeteval-stance", "--set", text))
    with pytest.raises(ConfigError, match=r"data/stance-sample\.yaml has no mean_f1_labels"):
        resolve_target(parse("--model", "minilm-lora", "--set", text))


@pytest.mark.parametrize(
    "value", ["plain", "a b", "it's", 'say "x"', "$HOME", "[a, b]", "a;b", "#x", "back\\slash", "~/x"]
)
def test_a_recommended_command_survives_the_shell(value):
    assert shlex.split(make_command("train", model="m", set=value)) == [
        "make",
        "train",
        "MODEL=m",
        f"SET={value}",
    ]


def test_a_recommended_command_names_what_was_given():
    arguments = parse("--model", "minilm-lora", "--set", "method.target_modules=[query, key]", "--seed", "2")
    command = run_command("train", arguments)
    assert command == "make train MODEL=minilm-lora SET='method.target_modules=[query, key]' SEED=2"
    again = shlex.split(command)[3].removeprefix("SET=")
    assert yaml_io.split_overrides([again]) == {"method.target_modules": ["query", "key"]}
    assert run_command("train", parse("--model", "minilm-lora")) == "make train MODEL=minilm-lora"
    assert run_command("train", parse("--outputs", "o")) == "make train OUTPUTS=o"


def test_an_untrained_run_says_how_to_train_it(tmp_path):
    arguments = parse("--model", "minilm-lora", "--seed", "2", "--outputs", str(tmp_path))
    with pytest.raises(RunError, match=rf"Train it first: make train MODEL=minilm-lora SEED=2 OUTPUTS={tmp_path}"):
        trained_folder(resolve_target(arguments), arguments)


def adapter(folder, weights):
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def test_an_adapter_is_known_by_name_and_content(tmp_path):
    arguments = parse("--model", "minilm-lora", "--outputs", str(tmp_path))
    found = []
    for path, weights in (("a/my run", b"1"), ("b/my run", b"1"), ("c/my run", b"2")):
        arguments.adapter = adapter(tmp_path / path, weights)
        target = resolve_target(arguments)
        found.append(adapter_folder(target, arguments, target.config(None, "d", "adapter")))
    assert found[0] == found[1] != found[2]
    assert adapter_folder(target, arguments, target.config(None, "other data", "adapter")) not in found
    assert found[0].parent == tmp_path / "stance-sample" / "minilm-lora"
    assert found[0].name.startswith("adapter-my_run-")


def test_a_missing_adapter(tmp_path):
    arguments = parse("--model", "minilm-lora")
    arguments.adapter = tmp_path / "absent"
    with pytest.raises(ModelError, match=r"ADAPTER=.*there is no such folder"):
        adapter_folder(resolve_target(arguments), arguments, resolve_target(arguments).config(None, "d", "adapter"))


def test_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert options.shown(tmp_path / "a" / "b") == "a/b"
    assert options.shown(tmp_path.parent / "x") == str(tmp_path.parent / "x")
