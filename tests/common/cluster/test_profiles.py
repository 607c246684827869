"""Cluster profiles: defaults < profile < job < RESOURCES, key by key."""

from pathlib import Path

import pytest

from common.cluster import profiles
from common.cluster.profiles import Profile
from common.config import catalog
from common.config.resources import Resources
from common.core.errors import ConfigError


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Write slurm/site.yaml beside the real defaults, and load it."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    (folder / "_defaults.yaml").write_bytes((profiles.PROFILES / "_defaults.yaml").read_bytes())
    monkeypatch.setattr(profiles, "PROFILES", folder)

    def write(text):
        (folder / "site.yaml").write_text(f"schema: 1\n{text}\n")
        return profiles.load("site")

    return write


# key: (of the profile, of the job, of RESOURCES)
LEVELS = {
    "partition": ("one", "two", "three"),
    "account": ("one", "two", "three"),
    "qos": ("one", "two", "three"),
    "constraint": ("one", "two", "three"),
    "gpu_request": ("gpus_per_node", "none", "gres"),
    "gpu_type": ("one", "two", "three"),
    "cpus": (1, 2, 3),
    "mem_gb": (1.5, 2, 3),
    "time": (10, 20, 30),
}


@pytest.mark.parametrize("key", LEVELS)
def test_every_level_overrides_the_one_below(site, key):
    first, second, third = LEVELS[key]
    default = getattr(site(""), key)
    profile = site(f"{key}: {first}")
    assert getattr(profile, key) == first != default
    job = Resources(**{key: second})
    assert getattr(profiles.for_job(profile, None, {}, gpu=True), key) == first
    assert getattr(profiles.for_job(profile, job, {}, gpu=True), key) == second
    assert getattr(profiles.for_job(profile, job, {key: third}, gpu=True), key) == third
    assert getattr(profile, key) == first  # it is not changed


@pytest.mark.parametrize("key", ["partition", "account", "qos", "constraint", "gpu_type", "mem_gb"])
def test_null_takes_away(site, key):
    profile = site(f"{key}: {LEVELS[key][0]}")
    assert getattr(profiles.for_job(profile, Resources(**{key: None}), {}, gpu=True), key) is None
    assert getattr(profiles.for_job(profile, None, {key: None}, gpu=True), key) is None


@pytest.mark.parametrize("key", ["cpus", "time", "gpu_request"])
def test_what_cannot_be_null(site, key):
    with pytest.raises(ConfigError, match=f"{key} cannot be null"):
        profiles.for_job(site(""), None, {key: None}, gpu=True)


def test_sbatch_options_are_merged_by_name(site):
    profile = site("sbatch: {mail-type: FAIL, nice: 1}")
    job = Resources(sbatch={"nice": 2, "reservation": "course"})
    found = profiles.for_job(profile, job, {"sbatch": {"nice": 3}}, gpu=True).sbatch
    assert found == {"mail-type": "FAIL", "reservation": "course", "nice": 3}
    assert profiles.for_job(profile, Resources(sbatch=None), {}, gpu=True).sbatch == {}
    assert profiles.for_job(profile, job, {"sbatch": None}, gpu=True).sbatch == {}


def test_a_job_without_a_gpu(site):
    profile = site("partition: gpu\ngpu_type: a100\nmem_gb: 64\ncpu: {partition: cpu, cpus: 2, time: 60}")
    found = profiles.for_job(profile, Resources(partition="long"), {"time": "02:00:00"}, gpu=False)
    assert (found.gpu_request, found.gpu_type, found.partition, found.cpus) == ("none", None, "cpu", 2)
    assert (found.mem_gb, found.time) == (64, 120)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("partion: gpu", "unknown key 'partion'. Did you mean 'partition'?"),
        ("executor: pbs", "'executor' is 'pbs'"),
        ("cpu: {cpus: 0}", "'cpu.cpus' is 0"),
        ("cpu: {nodes: 2}", "unknown key 'cpu.nodes'"),
        ("lead_s: 5", "'lead_s' is 5"),
        ("env: {1X: a}", "env"),
        ("setup: module load x", "'setup' is 'module load x'"),
        ("sbatch: {partition: gpu}", "has its own key: partition"),
        ("time: null", "time: None is not a time limit"),
    ],
)
def test_mistakes_in_a_profile(site, text, said):
    with pytest.raises(ConfigError) as raised:
        site(text)
    assert said in str(raised.value) and "site.yaml" in str(raised.value)


def test_mistakes_in_resources_of_the_command_line(site):
    for given, said in (
        ({"tme": 5}, "RESOURCES: unknown key 'tme'. Did you mean 'time'?"),
        ({"cpus": "many"}, "RESOURCES: 'cpus' is 'many'"),
        ({"sbatch": {"array": "0-3"}}, "RESOURCES: sbatch: sbatch option 'array' is set by peftable itself"),
    ):
        with pytest.raises(ConfigError) as raised:
            profiles.for_job(site(""), None, given, gpu=True)
        assert said in str(raised.value)


def test_an_unknown_profile(site):
    site("")
    with pytest.raises(ConfigError) as raised:
        profiles.load("sit")
    assert "CLUSTER=sit: there is no slurm/sit.yaml. Did you mean 'site'? Available: auto, site" in str(raised.value)
    assert profiles.exists("site") and not profiles.exists("_defaults")


@pytest.mark.parametrize("name", catalog.names(profiles.PROFILES))
def test_every_profile_of_the_project_loads(name):
    assert isinstance(profiles.load(name), Profile)


def test_the_defaults_hold_every_key():
    from common.core import yaml_io

    keys = {field.alias or name for name, field in Profile.model_fields.items()}
    assert set(yaml_io.read(profiles.PROFILES / "_defaults.yaml")) == keys


@pytest.mark.parametrize("name", ["HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE"])
def test_jobs_read_the_cache_that_is_filled(site, tmp_path, monkeypatch, name):
    monkeypatch.setenv("WORK", str(tmp_path))
    profile = site(f"env: {{{name}: $WORK/here}}")
    said = f"{name} is {tmp_path}/here for jobs, and .* in this shell.* then make fetch: export {name}=.WORK/here$"
    monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=said):
        profiles.check_cache(profile)
    monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    with pytest.raises(ConfigError, match=said):
        profiles.check_cache(profile)
    monkeypatch.setenv(name, f"{tmp_path}/here/")
    profiles.check_cache(profile)
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv(name, str(tmp_path / "link" / "here"))
    profiles.check_cache(profile)


def test_a_default_that_a_profile_spells_out(site, monkeypatch):
    for name in ("HF_HOME", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(profiles.constants, "HF_HOME", str(Path("~/.cache/hf").expanduser()))
    profiles.check_cache(site("env: {HF_HOME: ~/.cache/hf, HF_DATASETS_CACHE: $HOME/.cache/hf/datasets}"))
    monkeypatch.delenv("WORK", raising=False)
    with pytest.raises(ConfigError, match=r"HF_HOME is \$WORK/hf for jobs"):
        profiles.check_cache(site("env: {HF_HOME: $WORK/hf}"))


def test_every_profile_reads_the_cache_that_is_filled():
    for name in catalog.names(profiles.PROFILES):
        profiles.check_cache(profiles.load(name))
