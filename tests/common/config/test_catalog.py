import re

import pytest

from common.config import catalog
from common.config.variants import flatten, result_settings, variant_name
from common.core import yaml_io
from common.core.errors import ConfigError

BASE, _ = catalog.load_job("minilm-lora")


def variant(text, job="minilm-lora"):
    return catalog.load_job(job, yaml_io.split_overrides([text]))[1]


def test_defaults_lie_below_the_job_and_overrides_above():
    job, _ = catalog.load_job("minilm-lora", {"method.r": 4})
    defaults = yaml_io.read(catalog.JOBS / "_defaults.yaml")
    own = yaml_io.read(catalog.JOBS / "minilm-lora.yaml")
    assert job.method.r == 4
    assert job.training.learning_rate == own["training"]["learning_rate"] != defaults["training"]["learning_rate"]
    assert job.training.token_budget == defaults["training"]["token_budget"]


def test_frozen_weights_have_the_dtype_of_the_computation():
    """Float32 weights under autocast are cast in every forward pass, and the copies kept for the backward pass."""
    names = [name for name in catalog.names(catalog.JOBS) if not name.startswith("minilm-")]  # made for a CPU
    jobs = {name: catalog.load_job(name)[0] for name in names}
    low = {name: job.dtype for name, job in jobs.items() if job.precision == "bfloat16" and job.method.name != "full"}
    assert {"deberta-v3-large", "modernbert-large", "distilbert-imdb-lora", "distilbert-emotion-lora"} <= set(low)
    assert set(low.values()) == {"bfloat16"}


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "_defaults", "minilm-lora.yaml", "jobs/minilm-lora"])
def test_a_job_is_a_name_and_no_path(name):
    with pytest.raises(ConfigError, match=re.escape(f"MODEL={name}: there is no job with this name in jobs/")):
        catalog.load_job(name)


def test_a_misspelt_name_gets_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'minilm-lora'"):
        catalog.load_job("minilm-lra")
    with pytest.raises(ConfigError, match=r"DATASET=stance-sampel.*Did you mean 'stance-sample'"):
        catalog.load_dataset("stance-sampel")


@pytest.mark.parametrize("name", [None, ""])
def test_a_missing_name_lists_what_there_is(name):
    with pytest.raises(ConfigError, match=r"MODEL= is missing. Available: .*minilm-lora"):
        catalog.load_job(name)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("trainng.epochs=1", ["'trainng' has no keys", "Did you mean 'training'?"]),
        ("training.epochs.x=1", ["'training.epochs' has no keys"]),
        ("training.epoch=1", ["unknown key 'training.epoch'", "Did you mean 'epochs'?"]),
    ],
)
def test_a_wrong_override_is_named(text, parts):
    with pytest.raises(ConfigError) as raised:
        variant(text)
    assert all(part in str(raised.value) for part in ["SET: ", *parts])


def test_the_same_meaning_has_the_same_name():
    name = variant("training.learning_rate=1e-3 method.r=4")
    assert name == "method.r=4,training.learning_rate=0.001"
    assert variant("method.r=4 training.learning_rate=0.001") == name
    assert variant("training.epochs=2.0") == variant("training.epochs=2") == "training.epochs=2"


@pytest.mark.parametrize("text", ["", "training.epochs=8", "method.lora_alpha=32.0", "runtime.log_every=3"])
def test_what_changes_no_result_makes_no_variant(text):
    assert variant(text) == ""


def test_changing_the_dataset_makes_no_variant():
    assert variant("dataset=cmv-stance") == ""  # the folder above says which dataset


def test_removing_a_key_makes_a_variant():
    only_one = variant("model_config_overrides={hidden_dropout_prob: 0.0}")
    none = variant("model_config_overrides={}")
    assert "attention_probs_dropout_prob" in only_one
    assert len({"", only_one, none}) == 3


def test_another_method_is_named_by_itself():
    assert variant("method={name: full}") == "method.name=full"


PAIRS = [
    ("model='x,training.epochs=1'", "model=x training.epochs=1"),
    ("method.target_modules=all-linear", "method.target_modules=[all-linear]"),
    ("method.target_modules=[a+b]", "method.target_modules=[a, b]"),
    ("method.target_modules=['1']", "method.layers_to_transform=[1]"),
    ("model_config_overrides.a=1", "model_config_overrides.a=true"),
    ("model_config_overrides.a=true", "model_config_overrides={a: 'true'}"),
    ("model_config_overrides.a=1", "model_config_overrides={a: '1'}"),
    ("model=a/b", "model=a_b"),
    ("model=a:b", "model=a/b"),
    ("model=" + "x" * 300 + "1", "model=" + "x" * 300 + "2"),
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_different_meanings_have_different_names(first, second):
    one, two = variant(first), variant(second)
    assert "" not in (one, two)
    assert one != two


def test_true_is_not_one():
    """Python says True == 1, a model's config does not."""
    one, true = (BASE.model_copy(update={"model_config_overrides": {"a": value}}) for value in (1, True))
    assert variant_name(one, true) == "model_config_overrides.a=true"


@pytest.mark.parametrize(
    "text",
    [
        "model='../my models/bert'",
        "model='é\n|*?'",
        "model=" + "x" * 5000,
        "model=..",
        "model_config_overrides={'/a': 1}",
    ],
)
def test_a_name_is_one_short_folder(text):
    name = variant(text)
    assert re.fullmatch(r"[A-Za-z0-9._=+,-]+", name)
    assert len(name) <= 120
    assert not name.startswith(".")


def test_a_shortened_name_carries_a_hash():
    assert re.search(r"-[0-9a-f]{8}$", variant("model=" + "x" * 300))
    assert re.search(r"-[0-9a-f]{8}$", variant("model=a/b"))


def test_leaves():
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1, {"e": 2}]}) == {"a.b": 1, "a.c": {}, "d": [1, {"e": 2}]}


def test_result_settings_leave_out_what_changes_no_result():
    part = result_settings(BASE)
    assert not {"runtime", "dataset", "schema"} & set(part)
    assert {"model", "method", "training", "precision"} <= set(part)


# --- sweeps ----------------------------------------------------------------------------------------------------------


def load_sweep(swept, text):
    return catalog.load_sweep(swept(text))


def test_a_grid_is_all_combinations(swept):
    found = load_sweep(swept, "sweep: {method.r: [4, 8], training.learning_rate: [1e-4, 1e-3]}")
    assert found == [
        {"method.r": r, "training.learning_rate": rate} for r, rate in [(4, 1e-4), (4, 1e-3), (8, 1e-4), (8, 1e-3)]
    ]


def test_a_list_stands_for_itself(swept):
    found = load_sweep(swept, "sweep: [{method.r: 4, method.lora_alpha: 4}, {method.name: full}, {method.r: 8}]")
    assert found == [{"method.r": 4, "method.lora_alpha": 4}, {"method.name": "full"}, {"method.r": 8}]


def test_a_job_with_a_sweep_is_the_job_without_it(swept):
    load_sweep(swept, "sweep: {method.r: [4, 8]}")
    job, name = catalog.load_job("swept")
    assert (job, name) == (BASE, "")
    assert catalog.load_job("swept", {"method.r": 4})[1] == "method.r=4"


def test_a_job_without_a_sweep():
    assert catalog.load_sweep("minilm-lora") == []


def test_the_sweep_of_the_emotion_job():
    names = [catalog.load_job("minilm-emotion-lora", entry)[1] for entry in catalog.load_sweep("minilm-emotion-lora")]
    assert len(set(names)) == 8
    assert names[0] == "method.alpha=1,method.r=1"
    assert "" in names  # rank 8 and alpha 16 are the job's own


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("sweep: 3", ["sweep is 3", "a grid", "a list of mappings"]),
        ("sweep:", ["sweep is None", "a grid"]),
        ("sweep: {}", ["sweep is {}", "a grid"]),
        ("sweep: []", ["sweep is []", "a grid"]),
        ("sweep: [3]", ["variant 1 is 3", "{key: value}"]),
        ("sweep: [{method.r: 4}, {}]", ["variant 2 is {}"]),
        ("sweep: {method.r: []}", ["'method.r' is []", "a list of values"]),
        ("sweep: {method.r: 4}", ["'method.r' is 4", "a list of values"]),
        ("sweep: {method.rank: [4]}", ["variant 1 of 1", "unknown key 'method.rank'", "lora_alpha"]),
        ("sweep: {trainng.epochs: [4]}", ["variant 1 of 1", "'trainng' has no keys", "Did you mean 'training'?"]),
        ("sweep: {1: [4]}", ["unknown key '1'"]),
        ("sweep: {method.r: [4, 0]}", ["variant 2 of 2", "'method.r' is 0", "greater than or equal to 1"]),
        ("sweep: {method.r: [4, 8, 4]}", ["variant 3 of 3", "method.r: 4 is the same variant as number 1"]),
        (
            "sweep: [{method.r: 16}, {training.epochs: 8.0}]",
            ["variant 2 of 2", "same variant as number 1, method.r: 16"],
        ),
        ("sweep: {runtime.log_every: [1, 2]}", ["same variant as number 1"]),
    ],
)
def test_a_wrong_sweep_is_named(swept, text, parts):
    with pytest.raises(ConfigError) as raised:
        load_sweep(swept, text)
    assert all(part in str(raised.value) for part in ["swept.yaml: sweep", *parts]), str(raised.value)


def test_a_job_without_overrides_is_validated_once(monkeypatch):
    validated = []
    validate = catalog.validate
    monkeypatch.setattr(catalog, "validate", lambda *arguments: validated.append(arguments) or validate(*arguments))
    job, variant = catalog.load_job("minilm-lora")
    assert len(validated) == 1 and variant == "" and job.model
    catalog.load_job("minilm-lora", {"training.epochs": 1})
    assert len(validated) == 3  # the job as written, to name the variant, and with the overrides
