"""What a job may ask for, and that asking changes nothing else."""

import pytest
from toy_runs import run_config

from common.config import catalog
from common.config.resources import OPTION_KEYS, RESERVED_OPTIONS, Resources
from common.core import yaml_io
from common.core.errors import ConfigError
from common.core.schema import validate
from common.runs import run_folder
from common.runs.run_config import differences, job_of


def read(**values):
    return validate(Resources, values, "jobs/mine.yaml")


@pytest.mark.parametrize(
    ("written", "minutes"),
    [
        (1, 1),
        (600, 600),
        ("02:00:00", 120),
        ("00:00:01", 1),
        ("00:01:01", 2),
        ("1-00:00:00", 1440),
        ("2-01:30:00", 2970),
        ("100:00:00", 6000),
    ],
)
def test_times(written, minutes):
    assert read(time=written).time == minutes


@pytest.mark.parametrize("written", [0, -5, 1.5, True, "90", "01:30", "00:00:00", "1-2", "0:60:00", "8h", "", [8]])
def test_no_times(written):
    with pytest.raises(ConfigError) as raised:
        read(time=written)
    assert f"jobs/mine.yaml: time: {written!r} is not a time limit; allowed are minutes, HH:MM:SS" in str(raised.value)


def test_yaml_leaves_times_as_they_are_written():
    assert yaml_io.parse("{time: 08:00:00}", "x") == {"time": "08:00:00"}
    assert yaml_io.split_overrides(["time=1-00:00:00"]) == {"time": "1-00:00:00"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"partion": "gpu"}, "unknown key 'partion'. Did you mean 'partition'?"),
        ({"cpus": 0}, "'cpus' is 0; allowed is greater than or equal to 1"),
        ({"cpus": "4"}, "'cpus' is '4'"),
        ({"mem_gb": 0}, "'mem_gb' is 0"),
        ({"gpu_request": "gress"}, "Did you mean 'gres'?"),
        ({"partition": 2016}, "quote it in YAML to mean the word"),
        ({"qos": ""}, "'qos' is ''"),
        ({"account": "a\nb"}, "account: an #SBATCH line cannot contain a line break"),
        ({"sbatch": {"mail_type": "FAIL"}}, "'mail_type' is not an sbatch option; write it as in --mail-type"),
        ({"sbatch": {"--mail-type": "FAIL"}}, "write it as in --mail-type"),
        ({"sbatch": {"mail-type": "a\nb"}}, "a line break"),
        ({"sbatch": {"mail-type": [1]}}, "sbatch.mail-type"),
    ],
)
def test_one_message_a_mistake(values, said):
    with pytest.raises(ConfigError) as raised:
        read(**values)
    assert said in str(raised.value)
    assert str(raised.value).startswith("jobs/mine.yaml: ")


@pytest.mark.parametrize("name", RESERVED_OPTIONS)
def test_options_that_are_ours(name):
    with pytest.raises(ConfigError, match=f"sbatch: sbatch option '{name}' is set by peftable itself"):
        read(sbatch={name: "x"})


@pytest.mark.parametrize("name", OPTION_KEYS)
def test_options_with_a_key_of_their_own(name):
    with pytest.raises(ConfigError, match=f"'{name}' has its own key: {OPTION_KEYS[name]}"):
        read(sbatch={name: "x"})
    assert OPTION_KEYS[name] in Resources.model_fields


def test_what_is_not_given_is_not_null():
    assert read().given() == {}
    assert read(partition=None, time="02:00:00").given() == {"partition": None, "time": 120}
    assert validate(Resources, read(qos=None).model_dump(mode="json"), "x").given() == {"qos": None}


# --- resources decide no results -------------------------------------------------------------------------------------

ASKED = {"resources.time": "02:00:00", "resources.partition": "long", "resources.mem_gb": 64}


def test_resources_name_no_variant_and_change_no_run():
    job, variant = catalog.load_job("minilm-lora", ASKED)
    assert job.resources.given() == {"time": 120, "partition": "long", "mem_gb": 64}
    assert variant == ""
    assert run_config(overrides=ASKED).identity() == run_config().identity()
    assert differences(run_config(), run_config(overrides=ASKED)) == []


def test_a_frozen_run_keeps_what_was_asked_and_nothing_else(tmp_path):
    run_folder.create_run(tmp_path, run_config(overrides=ASKED), "make train")
    frozen = yaml_io.read(tmp_path / run_folder.CONFIG)["job"]["resources"]
    assert frozen == {"time": 120, "partition": "long", "mem_gb": 64}
    assert job_of(run_folder.load_run_config(tmp_path)).resources.given() == frozen
    run_folder.create_run(tmp_path, run_config(), "make train")  # no other run


def test_a_frozen_run_from_before_there_were_resources(tmp_path):
    run_folder.create_run(tmp_path, run_config(), "make train")
    document = yaml_io.read(tmp_path / run_folder.CONFIG)
    assert document["job"].pop("resources") == {}
    (tmp_path / run_folder.CONFIG).write_text(yaml_io.dump(document))
    assert differences(run_folder.load_run_config(tmp_path), run_config()) == []
    assert job_of(run_folder.load_run_config(tmp_path)).resources.given() == {}
