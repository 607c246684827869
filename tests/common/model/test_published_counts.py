"""Parameter counts of the published experiments, exactly, as `make check NO_DATA=1` prints them, without the Hub."""

import json

import pytest
from marks import slow_except

from common.config import catalog
from common.model.build import count_parameters

PUBLISHED = {
    # job: (all as peft counts them, trainable)
    "mistral-7b-v0.1": (7_124_316_160, 13_643_776),
    "mistral-7b-v0.3": (7_127_461_888, 13_643_776),
    "llama-3-8b": (7_518_580_736, 13_643_776),
    "llama-3.1-8b": (7_518_580_736, 13_643_776),
    "gemma-2-9b-it": (9_295_724_032, 54_018_048),
    "distilbert-imdb-last-layers": (66_955_010, 592_130),
}
# DistilBERT: width, feed-forward width, layers, words, positions.
D, F, LAYERS, WORDS, POSITIONS = 768, 3072, 6, 30_522, 512
NORM = 2 * D
LAYER = 4 * (D * D + D) + (D * F + F) + (F * D + D) + 2 * NORM  # attention, feed-forward, a norm behind each
DISTILBERT = (WORDS + POSITIONS) * D + NORM + LAYERS * LAYER
ATTENTION = LAYERS * 4 * (D + D)  # in + out of q_lin, k_lin, v_lin and out_lin: what LoRA adds at rank 1
ADAPTERS = LAYERS * 2 * (2 * 16 * D + 16 + D)  # two a layer of width 16: both matrices, both biases


def head(labels: int) -> int:
    """Return the parameters of pre_classifier and classifier, which train."""
    return (D * D + D) + (D * labels + labels)


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_of_the_published_experiments(name):
    job, _ = catalog.load_job(name)
    found = count_parameters(job, catalog.load_dataset(job.dataset))
    assert (found["params_total_count"], found["params_trainable_count"]) == PUBLISHED[name]


@pytest.mark.parametrize(
    "name", slow_except(["distilbert-imdb-last-layers"], ["distilbert-imdb-last-layers", "mistral-7b-v0.3"])
)
def test_check_prints_the_counts(run_script, name):
    code, out, err = run_script("check", "--model", name, "--no-data", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["job"] == name
    assert (found["params_total_count"], found["params_trainable_count"]) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "added", "labels"),
    [
        ("distilbert-imdb-last-layers", [0], 2),
        ("distilbert-imdb-adapters", [ADAPTERS], 2),
        pytest.param("distilbert-imdb-lora", [16 * ATTENTION], 2, marks=pytest.mark.slow),
        pytest.param(
            "distilbert-emotion-lora", [r * ATTENTION for r in (1, 1, 4, 4, 8, 8, 16, 16)], 6, marks=pytest.mark.slow
        ),
    ],
)
def test_the_methods_from_scratch_count_as_their_formulas_say(run_script, name, added, labels):
    code, out, err = run_script("check", "--model", name, "--no-data", "--json")
    assert code == 0, err
    found = json.loads(out)
    counts = [(v["params_total_count"], v["params_trainable_count"]) for v in found.get("variants", [found])]
    assert counts == [(DISTILBERT + head(labels) + own, head(labels) + own) for own in added]


def test_what_was_published_trained_less_of_the_head():
    """The published adapters and LoRA kept pre_classifier frozen, LoRA the classifier, too."""
    assert ADAPTERS + (D * 2 + 2) == 305_858 and 16 * ATTENTION == 589_824
    assert (ADAPTERS + head(2), 16 * ATTENTION + head(2)) == (896_450, 1_181_954)  # as the jobs train them
