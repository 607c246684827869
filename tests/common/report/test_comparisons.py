"""Results against the best one and against the best baseline: marks, sentences, tables, and what is not known."""

import numpy as np
import pytest
from toy_runs import finished_run, run_config

from common.core import files
from common.evaluation import outcomes
from common.report import comparison_tables, finished_runs, page, publish, readme_tables, results, statistics
from common.report.comparisons import compare
from common.report.statistics import Cache


def runs(outputs, seeds=(1,), rows=200, **rights):
    """Baselines and fine-tuned models with so many right rows of all, and the results."""
    names = {"lora": "minilm-lora", "full": "minilm-full", "last": "minilm-last-layers"}
    for name, right in rights.items():
        for seed in seeds if name in names else (1,):
            config = run_config(names.get(name, "minilm-lora"), seed)
            finished_run(outputs, config, baseline="" if name in names else name, right=right, rows=rows)
    return results.load(outputs)


def by_name(found):
    return {result.name: result for result in found}


def test_marks(tmp_path):
    found = runs(tmp_path, majority=100, tfidf=150, lora=180, full=178)
    compared = compare(found)
    marks = {name: (compared.mark(one), compared.baseline_mark(one)) for name, one in by_name(found).items()}
    assert marks == {
        "majority class": ("worse", "–"),
        "TF-IDF + logistic regression": ("worse", "–"),
        "minilm-lora": ("best", "better"),
        "minilm-full": ("≈ best", "better"),
    }
    assert compared.equals() == {id(by_name(found)["minilm-lora"]), id(by_name(found)["minilm-full"])}


def test_the_test_of_accuracy_is_mcnemars(tmp_path):
    found = by_name(runs(tmp_path, tfidf=150, lora=180))
    compared = compare(list(found.values()))
    one = compared.to_baseline[id(found["minilm-lora"])]
    assert (one.discordant.first, one.discordant.second) == (30, 0)
    assert one.p == one.discordant.p == one.adjusted == 2 / 2**30  # one pair: nothing to correct
    assert one.difference.value == pytest.approx(0.15) and one.difference.low > 0.09


def test_all_pairs_are_corrected_for(tmp_path):
    found = runs(tmp_path, majority=100, tfidf=150, lora=180, full=178)
    compared = compare(found)
    p = {name: compared.to_best[id(one)] for name, one in by_name(found).items() if id(one) in compared.to_best}
    assert p["majority class"].adjusted == pytest.approx(6 * p["majority class"].p)
    assert p["TF-IDF + logistic regression"].adjusted == pytest.approx(5 * p["TF-IDF + logistic regression"].p)


def test_several_seeds_are_tested_by_permutation(tmp_path):
    found = by_name(runs(tmp_path, seeds=(1, 2, 3), tfidf=150, lora=180))
    one = compare(list(found.values())).to_baseline[id(found["minilm-lora"])]
    assert one.discordant is None and one.p == one.difference.p <= 0.0002


def test_without_outcomes_there_is_a_dash(tmp_path):
    """What was published without predictions keeps its interval by the confusion matrix, but cannot be tested."""
    outputs, published = tmp_path / "outputs", tmp_path / "published"
    for seed in (1, 2):
        finished_run(outputs, run_config("minilm-full", seed), right=170, rows=200)
    for baseline, right in (("tfidf", 150), ("majority", 100)):
        finished_run(outputs, baseline=baseline, right=right, rows=200)
    for file in outputs.rglob("predictions-test.jsonl"):
        file.unlink()
    publish.publish(outputs, published)
    assert not list(published.rglob(outcomes.FILE))
    found = results.load(published)
    _, rows = readme_tables.summary_table(found)
    assert [row[4:6] for row in rows] == [
        ["50.0 [43.5, 57.0]", "–"],
        ["75.0 [69.0, 81.0]", "–"],
        ["85.0 ± 0.0 [–]", "best"],
    ]
    assert comparison_tables.comparison_table(found) is None
    sentence, *others = comparison_tables.sentences(found)
    assert sentence.startswith("Highest accuracy: minilm-full. Not tested: 2") and not others


def test_published_outcomes_give_the_same_statistics(tmp_path):
    outputs, published = tmp_path / "outputs", tmp_path / "published"
    here = runs(outputs, seeds=(1, 2), tfidf=150, lora=180)
    publish.publish(outputs, published)
    there = results.load(published)
    assert len(list(published.rglob(outcomes.FILE))) == 3
    assert readme_tables.summary_table(here) == readme_tables.summary_table(there)
    assert comparison_tables.comparison_table(here) == comparison_tables.comparison_table(there)
    text = "".join(file.read_text(encoding="utf-8") for file in published.rglob(outcomes.FILE))
    assert "con" not in text.replace("counts", "") and '"pro"' not in text


def test_publish_adds_outcomes_to_what_was_published_without(tmp_path):
    outputs, published = tmp_path / "outputs", tmp_path / "published"
    finished_run(outputs)
    (folder,) = publish.publish(outputs, published)
    (folder / outcomes.FILE).unlink()
    assert publish.publish(outputs, published) == [folder] and (folder / outcomes.FILE).exists()
    assert publish.publish(outputs, published) == []


def test_outcomes_of_an_older_run_do_not_stay(tmp_path):
    outputs, published = tmp_path / "outputs", tmp_path / "published"
    run = finished_run(outputs)
    (folder,) = publish.publish(outputs, published)
    (run / "predictions-test.jsonl").unlink()
    files.write_json(run / "metrics.json", files.read_json(run / "metrics.json") | {"test_loss": 9.0})
    assert publish.publish(outputs, published) == [folder] and not (folder / outcomes.FILE).exists()


def test_a_run_with_predictions_of_another_evaluation_is_left_out(tmp_path):
    outputs, published, cache = tmp_path / "outputs", tmp_path / "published", Cache()
    finished_run(outputs, baseline="majority")
    run = finished_run(outputs)
    document = files.read_json(run / "metrics.json")
    files.write_json(run / "metrics.json", document | {"test_confusion": [[0, 2], [2, 0]]})
    found = finished_runs.damage(run, cache)
    assert "predictions-test.jsonl: it does not belong to the metrics.json" in found and "make evaluate" in found
    assert [result.baseline for result in results.load(outputs, cache)] == ["majority"]
    assert len(publish.publish(outputs, published, cache)) == 1 and not (published / run.relative_to(outputs)).exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("predictions-test.jsonl", "{}\n"),
        ("predictions-test.jsonl", "[1]\n"),
        (outcomes.FILE, "[1]"),
        (outcomes.FILE, ""),
    ],
)
def test_damaged_outcomes_are_named(tmp_path, name, content):
    run = finished_run(tmp_path)
    assert finished_runs.damage(run, Cache()) == ""
    (run / name).write_text(content)
    assert f"{name}: cannot be read" in finished_runs.damage(run, Cache()) and results.load(tmp_path) == []


def test_other_test_rows_cannot_be_tested(tmp_path):
    finished_run(tmp_path, right=190, rows=200)
    finished_run(tmp_path, baseline="tfidf", right=100, rows=201)
    found = results.load(tmp_path)
    assert [compare(found).mark(one) for one in found] == ["other rows", "best"]
    [line, *_] = comparison_tables.sentences(found)
    assert line.endswith("Scored on other test rows, so no comparison is possible: TF-IDF + logistic regression.")
    assert "200 or 201 test rows" in page.published_page(found, {}, {})


def test_sentences_name_what_follows(tmp_path):
    found = runs(tmp_path, majority=100, tfidf=150, lora=180, full=178, last=152)
    assert comparison_tables.sentences(found) == [
        "Highest accuracy: minilm-lora. Not distinguishable from it at 200 rows: minilm-full.",
        "Best baseline: TF-IDF + logistic regression; better than it: minilm-full, minilm-lora; not distinguishable "
        "from it at 200 rows: minilm-last-layers.",
    ]


def test_the_table_of_tests(tmp_path):
    header, rows = comparison_tables.comparison_table(runs(tmp_path, tfidf=150, lora=180, full=178))
    assert header[:6] == ["model", "difference to the best", "right alone", "McNemar p", "p", "Holm p"]
    cells = {row[0]: row[1:] for row in rows}
    assert cells["minilm-full"][1:5] == ["0 : 2", "0.500", "0.500", "1.000"]
    assert cells["minilm-lora"][:5] == ["–"] * 5 and cells["minilm-lora"][6] == "30 : 0"
    assert cells["minilm-lora"][5].startswith("+15.0 [") and cells["minilm-lora"][9] == "< 0.0001"
    assert cells["TF-IDF + logistic regression"][5:] == ["–"] * 5


def test_the_cache_is_used_and_changes_nothing(tmp_path, monkeypatch):
    outputs, folder = tmp_path / "outputs", tmp_path / "cache"
    runs(outputs, tfidf=150, lora=180)
    first = readme_tables.summary_table(results.load(outputs, statistics.Cache(folder)))
    assert list(folder.rglob("*.json"))
    for module, name in ((statistics.bootstrap, "intervals"), (statistics.paired_tests, "permutation")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("computed again"))
    assert readme_tables.summary_table(results.load(outputs, statistics.Cache(folder))) == first
    for file in folder.rglob("*.json"):
        file.write_text("broken", encoding="utf-8")
    monkeypatch.undo()
    assert readme_tables.summary_table(results.load(outputs, statistics.Cache(folder))) == first


def test_other_predictions_have_another_key():
    one, other = (np.array([[3, 1, 0], [0, 2, 0]]) + add for add in (0, [[0, 0, 0], [0, 1, 0]]))
    keys = []

    class Keys(statistics.Cache):
        def value(self, key, compute):
            keys.append(key)
            return {}

    for matrix in (one, other, one):
        statistics.intervals(statistics.resampling.units_of_confusion(matrix), ["accuracy"], (), Keys())
    assert keys[0] == keys[2] != keys[1]
