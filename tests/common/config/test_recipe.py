"""Hints about learning rates that belong to another kind of method; the jobs of the repository get none, but one."""

import pytest

from common.config import catalog, recipe


@pytest.mark.parametrize(
    ("name", "rate", "parts"),
    [
        ("minilm-lora", 2e-5, ["learning_rate 2e-05", "method lora", "try 0.0002"]),
        ("minilm-lora", 1e-4, []),
        ("minilm-full", 1e-3, ["learning_rate 0.001 is high", "method full"]),
        ("minilm-full", 2e-5, []),
    ],
)
def test_hints(name, rate, parts):
    job, _ = catalog.load_job(name, {"training.learning_rate": rate})
    found = " ".join(recipe.hints(job))
    assert bool(found) == bool(parts) and all(part in found for part in parts)


@pytest.mark.parametrize("name", catalog.names(catalog.JOBS))
def test_the_jobs_of_the_repository_get_none(name):
    published_with_it = name == "distilbert-imdb-lora"
    assert bool(recipe.hints(catalog.load_job(name)[0])) == published_with_it
