import copy
import re

import pytest
from toy_runs import PLAIN, dataset

from common.config import catalog
from common.config.dataset import Dataset, Prompt, Source, Splits
from common.config.job import Job
from common.config.methods import LastLayers, Lora
from common.core import yaml_io
from common.core.errors import ConfigError
from common.core.schema import validate


def job_with(key, value):
    document = copy.deepcopy(catalog.with_defaults(yaml_io.read(catalog.JOBS / "minilm-lora.yaml")))
    *parents, last = key.split(".")
    here = document
    for parent in parents:
        here = here[parent]
    if value is KeyError:
        del here[last]
    else:
        here[last] = value
    return document


@pytest.mark.parametrize("path", sorted(catalog.JOBS.glob("[!_]*.yaml")), ids=lambda path: path.stem)
def test_shipped_jobs_are_valid(path):
    job, variant = catalog.load_job(path.stem)
    assert variant == ""
    assert job.dataset in catalog.names(catalog.DATASETS)


@pytest.mark.parametrize("path", sorted(catalog.DATASETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_datasets_are_valid(path):
    assert len(validate(Dataset, yaml_io.read(path), path.name).labels) >= 2


@pytest.mark.parametrize("path", sorted(catalog.JOBS.glob("[!_]*.yaml")), ids=lambda path: path.stem)
def test_a_job_is_short_and_says_what_it_is(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ") and len(lines) <= 20


def test_the_template_shows_every_key_of_a_dataset():
    text = (catalog.DATASETS / "_example.yaml").read_text(encoding="utf-8")
    keys = {field.alias or name for name, field in Dataset.model_fields.items()}
    assert set(yaml_io.read(catalog.DATASETS / "_example.yaml")) == keys
    for schema in (Source, Splits, Prompt):
        assert all(re.search(rf"^  (# )?{name}:", text, re.MULTILINE) for name in schema.model_fields)


def test_every_key_of_a_job_has_its_default_in_the_defaults_file():
    defaults = yaml_io.read(catalog.JOBS / "_defaults.yaml")
    keys = {field.alias or name for name, field in Job.model_fields.items()}
    assert set(defaults) == keys - {"model", "method"}  # what every job must say itself
    for section in ("training", "runtime"):
        assert set(defaults[section]) == set(Job.model_fields[section].annotation.model_fields)


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("training.epoch", 3, ["unknown key 'training.epoch'", "Did you mean 'epochs'?", "learning_rate"]),
        ("modle", "x", ["unknown key 'modle'", "Did you mean 'model'?"]),
        ("method.ranks", 8, ["unknown key 'method.ranks'", "lora_alpha"]),
        ("training.epochs", "3", ["'training.epochs' is '3'", "a valid number"]),
        ("training.epochs", True, ["'training.epochs' is True", "a valid number"]),
        ("training.epochs", None, ["'training.epochs' is None", "quote it"]),
        ("training.epochs", -1, ["'training.epochs' is -1", "greater than 0"]),
        ("training.epochs", float("inf"), ["'training.epochs' is inf", "a finite number"]),
        ("training.batch_size", 2.5, ["'training.batch_size' is 2.5", "a valid integer"]),
        ("training.label_smoothing", 1.0, ["is 1.0", "less than 1"]),
        ("training.best_metric", "validation_f1", ["'validation_f1'", "'validation_f1_macro'", "Did you mean"]),
        ("training.eval_every", 0, ["'training.eval_every' is 0", "greater than or equal to 1"]),
        ("precision", "float23", ["'precision' is 'float23'", "'bfloat16'", "Did you mean 'float32'?"]),
        ("method.name", "lorra", ["'method.name' is 'lorra'", "Did you mean 'lora'?", "last-layers"]),
        ("method.name", KeyError, ["'method.name' is None", "lora-from-scratch, adapters, last-layers, full, none"]),
        ("model", KeyError, ["the key 'model' is missing"]),
        ("training.optim", KeyError, ["the key 'training.optim' is missing"]),
        ("schema", 2, ["'schema' is 2", "1"]),
        ("runtime.report_to", "wandb", ["'runtime.report_to' is 'wandb'", "a valid list"]),
        ("max_length", "256", ["'max_length' is '256'", "a valid integer"]),
        ("model_config_overrides", {"p": [1]}, ["'model_config_overrides.p' is [1]"]),
    ],
)
def test_a_wrong_job_is_named(key, value, parts):
    with pytest.raises(ConfigError) as raised:
        validate(Job, job_with(key, value), "jobs/x.yaml")
    for part in ["jobs/x.yaml: ", *parts]:
        assert part in str(raised.value)


def test_every_fault_is_listed_once():
    document = job_with("training.epochs", -1) | {"precision": "half"}
    with pytest.raises(ConfigError) as raised:
        validate(Job, document, "F")
    lines = str(raised.value).splitlines()
    assert len(lines) == 2
    assert {line.strip().split("'")[1] for line in lines} == {"training.epochs", "precision"}


def test_the_method_is_chosen_by_its_name():
    assert isinstance(validate(Job, job_with("method", {"name": "lora", "r": 4}), "F").method, Lora)
    chosen = validate(Job, job_with("method", {"name": "last-layers", "k": 0}), "F").method
    assert isinstance(chosen, LastLayers)
    assert chosen.k == 0


@pytest.mark.parametrize("weights", ["none", "balanced", {"con": 1, "pro": 2.5}])
def test_class_weights(weights):
    assert validate(Job, job_with("training.class_weights", weights), "F").training.class_weights == weights


def test_integer_labels_are_keys_of_class_weights():
    found = validate(Job, job_with("training.class_weights", {0: 1.0, 1: 2.5}), "F").training.class_weights
    assert found == {"0": 1.0, "1": 2.5}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"titel": "x"}, ["unknown key 'titel'", "Did you mean 'title'?", "mean_f1_labels"]),
        ({"labels": None}, ["the key 'labels' is missing"]),
        ({"labels": ["con"]}, ["'labels' is ['con']", "at least 2"]),
        ({"labels": ["con", None]}, ["'labels.1' is None", "quote it in YAML to mean the word"]),
        ({"labels": [True, False]}, ["'labels.0' is True", "quote it in YAML to mean the word"]),
        ({"labels": [1, "1"]}, ["two labels are the same"]),
        ({"labels": ["a", 1.5]}, ["'labels.1' is 1.5"]),
        ({"id": 3}, ["'id' is 3", "a valid string"]),
        ({"text": "claim"}, ["'text' is 'claim'", "a valid list"]),
        ({"text": []}, ["at least 1"]),
        ({"prompt": {"user": "{sentence} {clam}"}}, ["column 'clam'", "Did you mean 'claim'"]),
        ({"prompt": {"user": "{sentence}"}}, ["does not use", "claim"]),
        ({"prompt": {"user": "{claim} {sentence} {"}}, ["brace"]),
        ({"answers": {"con": "no"}}, ["every label"]),
        ({"answers": {"con": "no", "pro": "no"}}, ["differ"]),
        ({"source": {}}, ["source: give either `files` or `hub`"]),
        ({"source": {"files": "a.csv", "hub": "x/y"}}, ["source: give either `files` or `hub`"]),
        ({"source": {"files": "a.csv", "size_bytes": 5}}, ["source: `size_bytes` belongs to `hub`"]),
        ({"source": {"files": {"dev": "a.csv"}}}, ["'source.files.dev'", "'train', 'validation' or 'test'"]),
        (
            {"source": {"hub": "x", "parts": [{"confg": "a"}]}},
            ["unknown key 'source.parts.0.confg'", "Did you mean 'config'?"],
        ),
        ({"splits": {"fractions": {"validation": 0.5, "test": 0.5}}}, ["splits: ", "below 1"]),
        ({"splits": {"fractions": {"validation": 1.5}}}, ["'splits.fractions.validation' is 1.5", "less than 1"]),
        ({"splits": {"column": "c", "by": "group"}}, ["`by` belongs to `fractions`"]),
        ({"splits": {"fractions": {"test": 0.5}, "by": "group"}}, ["splits.by is group", "`group` names no column"]),
        ({"splits": {"fractions": {"test": 0.5}, "test": "validation"}}, ["`test: validation`", "a fraction for test"]),
        ({"splits": {"test": "train"}}, ["'splits.test' is 'train'", "'validation'"]),
        ({"mean_f1_labels": ["neu"]}, ["'neu'", "not among labels"]),
        ({"score": "f1_mean_labels"}, ["mean_f1_labels names no labels"]),
        ({"score": "f1"}, ["'score' is 'f1'", "'f1_macro'"]),
    ],
)
def test_a_wrong_dataset_is_named(changes, parts):
    with pytest.raises(ConfigError) as raised:
        dataset(**changes)
    for part in ["data/toy.yaml: ", *parts]:
        assert part in str(raised.value)


def test_labels_stay_what_the_yaml_says():
    text = 'labels: [no, on, "01", "null", "true", 3]'
    labels = yaml_io.parse(text, "F")["labels"]
    assert validate(Dataset, PLAIN | {"labels": labels}, "F").labels == ["no", "on", "01", "null", "true", 3]
