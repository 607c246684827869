from pathlib import Path

import pytest

from common.cli import options
from common.config.run_request import OUTPUTS, RunRequest
from common.core.errors import ConfigError

GROUPS = ("model", "dataset", "set", "seed", "data", "baseline", "outputs", "force")


def parse(*arguments):
    return options.parse(options.parser("About.", *GROUPS), arguments)


def test_a_command_line_becomes_a_request():
    words = ("--model=m", "--dataset=d", "--seed=3", "--data-dir=~/x", "--outputs=o", "--baseline=tfidf", "--force")
    request, flags = parse(*words, "--set", "method.r=4", "x=1", "--set", "y=2")
    assert request == RunRequest("m", "d", ("method.r=4", "x=1", "y=2"), Path.home() / "x", 3, Path("o"), "tfidf")
    assert vars(flags) == {"force": True}


def test_defaults():
    request, flags = parse()
    assert request == RunRequest() and request.outputs == OUTPUTS
    assert vars(flags) == {"force": False}


def test_an_option_that_a_script_does_not_take_is_refused():
    with pytest.raises(ConfigError, match="--seed"):
        options.parse(options.parser("About.", "model"), ["--seed", "1"])


@pytest.mark.parametrize("seed", ["-1", "1.5", "x", "", "4294967296", "²"])
def test_a_wrong_seed_is_refused(seed):
    with pytest.raises(ConfigError, match="seed"):
        parse(f"--seed={seed}")


def test_the_largest_seed():
    assert parse("--seed", "4294967295")[0].seed == 2**32 - 1


@pytest.mark.parametrize("arguments", [["--mdoel", "x"], ["--mod", "x"], ["extra"], ["--baseline", "x"]])
def test_a_wrong_option_is_a_config_error(arguments):
    with pytest.raises(ConfigError, match="--help shows the options"):
        parse(*arguments)


def test_run_goes_alone():
    options.check_run_alone(Path("r"), RunRequest(), FORCE=False)
    with pytest.raises(ConfigError, match=r"RUN=r goes without MODEL, SEED, FORCE: "):
        options.check_run_alone(Path("r"), RunRequest("m", seed=2), FORCE=True)


def test_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert options.shown(tmp_path / "a" / "b") == "a/b"
    assert options.shown(tmp_path.parent / "x") == str(tmp_path.parent / "x")
