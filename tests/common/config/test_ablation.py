"""Ablations: which texts a model reads, what its prompt says, and how the variant is called."""

import pytest
from toy_runs import dataset, run_config

from common.cli.target import resolve_target
from common.config import catalog
from common.config.ablation import ablate
from common.config.dataset import Dataset
from common.config.run_request import RunRequest
from common.core.errors import ConfigError
from common.core.schema import validate

PROMPT = {"system": "About {claim}: {{x}}.", "user": "Claim: {claim}\nSentence: {sentence}\n{{claim}}"}


def test_a_text_is_taken_from_the_rows_and_from_the_prompt():
    whole = dataset(prompt=PROMPT)
    second = ablate(whole, "second-text")
    assert second.text == ["sentence"]
    assert second.prompt.system == "About : {{x}}." and second.prompt.user == "Claim: \nSentence: {sentence}\n{{claim}}"
    first = ablate(whole, "first-text")
    assert first.text == ["claim"] and first.prompt.user == "Claim: {claim}\nSentence: \n{{claim}}"
    for changed in (second, first, ablate(whole, "shuffled-first")):  # as config.yaml records it
        plain = changed.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"schema": 1}
        assert validate(Dataset, plain, "config.yaml") == changed
    assert ablate(whole, "none") == whole and whole.text == ["claim", "sentence"]


def test_further_texts_stay_with_the_second():
    assert ablate(dataset(text=["a", "b", "c"]), "second-text").text == ["b", "c"]


def test_a_single_text_cannot_be_ablated():
    for ablation in ("first-text", "second-text", "shuffled-first"):
        with pytest.raises(ConfigError, match="has one text, sentence; an ablation takes one of two texts away"):
            ablate(dataset(text=["sentence"]), ablation)
    with pytest.raises(ConfigError, match="permutes the first of two texts"):
        dataset(text=["sentence"], splits={"shuffled": True})


def test_the_variant_and_the_config_say_it():
    target = resolve_target(RunRequest("minilm-lora", overrides=("ablation=second-text",)))
    assert target.variant == "ablation=second-text" and target.dataset.text == ["sentence"]
    assert target.folder.parts[-2:] == ("ablation=second-text", "seed-1")
    plain = target.config("x").plain()
    assert plain["job"]["ablation"] == "second-text" and plain["dataset"]["text"] == ["sentence"]
    identity = target.config("x").identity()
    assert identity["text"] == ["sentence"] and identity["ablation"] == "second-text"


def test_a_wrong_word_is_refused_with_those_allowed():
    with pytest.raises(ConfigError) as raised:
        catalog.load_job("minilm-lora", {"ablation": "claim-only"})
    assert all(word in str(raised.value) for word in ("ablation", "claim-only", "second-text"))


def test_a_dataset_with_one_text_is_refused_by_every_command():
    with pytest.raises(ConfigError, match="'Emotion' has one text"):
        resolve_target(RunRequest("minilm-emotion-lora", overrides=("ablation=first-text",)))


def test_older_runs_have_none():
    assert run_config().job.ablation == "none"


def test_a_prompt_of_nothing_is_refused():
    given = catalog.load_dataset("stance-sample")
    prompt = given.prompt.model_copy(update={"system": "About: {claim}", "user": "{sentence} "})
    with pytest.raises(ConfigError, match=r"'\{sentence\} '.*sentence"):
        ablate(given.model_copy(update={"prompt": prompt}), "first-text")
