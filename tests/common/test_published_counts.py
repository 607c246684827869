"""Parameters of the published experiments, to the last digit, as `make check NO_DATA=1` prints them, without a hub."""

import json

import pytest

PUBLISHED = {
    # job: (all as peft counts them, trainable)
    "mistral-7b-v0.1": (7_124_316_160, 13_643_776),
    "mistral-7b-v0.3": (7_127_461_888, 13_643_776),
    "llama-3-8b": (7_518_580_736, 13_643_776),
    "llama-3.1-8b": (7_518_580_736, 13_643_776),
    "gemma-2-9b-it": (9_295_724_032, 54_018_048),
    "distilbert-imdb-last-layers": (66_955_010, 592_130),
}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_check_prints_the_counts_of_the_published_experiments(run_script, name):
    code, out, err = run_script("check", "--model", name, "--no-data", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["job"] == name
    assert (found["params_total_count"], found["params_trainable_count"]) == PUBLISHED[name]
