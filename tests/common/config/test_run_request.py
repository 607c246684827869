"""A request as the make command that a message recommends."""

import shlex
from pathlib import Path

import pytest

from common.config.run_request import RunRequest, make_command
from common.core.errors import ConfigError


@pytest.mark.parametrize(
    "value", ["plain", "a b", "it's", 'say "x"', "$HOME", "[a, b]", "a;b", "#x", "back\\slash", "~/x"]
)
def test_a_recommended_command_survives_the_shell(value):
    assert shlex.split(make_command("train", MODEL="m", SET=value)) == ["make", "train", "MODEL=m", f"SET={value}"]


def test_a_recommended_command_names_what_was_given():
    request = RunRequest("minilm-lora", overrides=("method.target_modules=[query, key]",), seed=2)
    command = request.command("train")
    assert command == "make train MODEL=minilm-lora SET='method.target_modules=[query, key]' SEED=2"
    again = RunRequest(overrides=(shlex.split(command)[3].removeprefix("SET="),))
    assert again.settings == request.settings == {"method.target_modules": ["query", "key"]}


def test_defaults_are_left_out():
    assert RunRequest().variables() == {}
    assert RunRequest("minilm-lora").command("train") == "make train MODEL=minilm-lora"
    assert RunRequest(outputs=Path("o"), baseline="tfidf", seed=0).variables() == {
        **{"SEED": "0", "OUTPUTS": "o", "BASELINE": "tfidf"},
    }


def test_a_wrong_override():
    with pytest.raises(ConfigError, match="SET: found 'x'"):
        _ = RunRequest(overrides=("x",)).settings
