import pytest
from toy_runs import finished_run, run_config

from common.report import results, variant_grid
from common.report.result import Result


def load(outputs, *overrides, job="minilm-emotion-lora"):
    for changes in overrides:
        finished_run(outputs, run_config(job, overrides=changes))
    return results.load(outputs)


def test_one_variant_is_no_grid(tmp_path):
    found = load(tmp_path, {"method.r": 4})
    finished_run(tmp_path, run_config("minilm-emotion-lora"), baseline="untuned")
    assert variant_grid.find(results.load(tmp_path)) == []
    assert variant_grid.names(found) == ["minilm-emotion-lora (method.r=4)"]


def test_a_grid_is_sorted_by_number(tmp_path):
    found = load(tmp_path, *({"method.r": r, "method.alpha": r * scale} for r in (16, 4, 8) for scale in (2, 1)))
    [grid] = variant_grid.find(found)
    assert (grid.job, grid.keys, grid.titles()) == (
        "minilm-emotion-lora",
        ("method.r", "method.alpha"),
        ["r", "alpha"],
    )
    assert [grid.cells(member) for member in grid.members] == [
        [str(r), str(r * scale)] for r in (4, 8, 16) for scale in (1, 2)
    ]
    assert [grid.scale(member) for member in grid.members] == ["1", "2"] * 3
    assert variant_grid.arrange(found) == list(grid.members) != found
    assert grid.facts(grid.members[1]) == {"method.r": "r = 4", "method.alpha": "alpha / r = 2"}
    assert [variant_grid.epochs(member) for member in found] == ["1"] * 6


def test_names_are_short_and_differ(tmp_path):
    found = load(tmp_path, {}, {"training.learning_rate": 1e-4}, {"training.epochs": 2})
    finished_run(tmp_path, run_config("minilm-full"))
    found = variant_grid.arrange(results.load(tmp_path))
    assert variant_grid.names(found) == [
        "minilm-emotion-lora (epochs=1, learning_rate=0.0001)",
        "minilm-emotion-lora (epochs=1, learning_rate=0.001)",
        "minilm-emotion-lora (epochs=2, learning_rate=0.001)",
        "minilm-full",
    ]
    assert len(found) == 4


def test_baselines_stay_first(tmp_path):
    load(tmp_path, {"method.r": 16}, {"method.r": 4})
    finished_run(tmp_path, run_config("minilm-emotion-lora"), baseline="untuned")
    finished_run(tmp_path, baseline="majority")
    names = [result.name for result in variant_grid.arrange(results.load(tmp_path))]
    assert names[:2] == ["majority class", "minilm-emotion-lora, untuned"]
    assert names[2].endswith("method.r=4)") and names[3].endswith("method.r=16)")


def test_alpha_alone_has_no_scale(tmp_path):
    [grid] = variant_grid.find(load(tmp_path, {"method.alpha": 4}, {"method.alpha": 8}))
    assert grid.alpha is None and grid.keys == ("method.alpha",)


def test_peft_has_another_name_for_alpha(tmp_path):
    overrides = ({"method.r": r, "method.lora_alpha": 2.5 * r} for r in (4, 8))
    [grid] = variant_grid.find(load(tmp_path, *overrides, job="minilm-lora"))
    assert (grid.alpha, grid.titles()) == ("method.lora_alpha", ["r", "alpha"])
    assert [grid.scale(member) for member in grid.members] == ["2.5", "2.5"]


def test_rank_stabilised_lora_is_scaled_otherwise(tmp_path):
    overrides = ({"method.r": r, "method.lora_alpha": r, "method.use_rslora": True} for r in (4, 8))
    [grid] = variant_grid.find(load(tmp_path, *overrides, job="minilm-lora"))
    assert grid.alpha is None and grid.keys == ("method.r", "method.lora_alpha")


def test_what_only_one_method_has_is_no_difference(tmp_path):
    [grid] = variant_grid.find(load(tmp_path, {}, {"method.r": 4}, {"method.name": "full"}))
    assert grid.keys == ("method.r", "method.name")
    assert [grid.cells(member) for member in grid.members] == [
        ["4", "lora-from-scratch"],
        ["8", "lora-from-scratch"],
        ["–", "full"],
    ]
    assert grid.name(grid.members[-1]) == "minilm-emotion-lora (name=full)"
    assert grid.facts(grid.members[-1]) == {"method.name": "name = full"}


def test_other_keys_may_be_absent(tmp_path):
    overrides = ({"model_config_overrides": {}}, {"model_config_overrides": {"hidden_dropout_prob": 0.25}})
    [grid] = variant_grid.find(load(tmp_path, *overrides))
    assert "hidden_dropout_prob" in grid.titles() and "0.25" in grid.cells(grid.members[0]) + grid.cells(
        grid.members[1]
    )


def test_lists_and_words_as_values(tmp_path):
    overrides = ({"method.target_modules": ["query", "key"]}, {"method.target_modules": "all-linear"})
    [grid] = variant_grid.find(load(tmp_path, *overrides))
    assert sorted(grid.cells(member)[0] for member in grid.members) == ["all-linear", "query key"]


def test_titles_that_end_alike_are_whole():
    document = {"score": "test_accuracy"}
    members = [
        Result("toy", "a", str(n), "", (document,), {"method.name": n, "head.name": n, "head.x": n}) for n in (1, 2)
    ]
    [grid] = variant_grid.find(members)
    assert grid.titles() == ["head.name", "x", "method.name"]


@pytest.mark.parametrize(("labels", "is_shown"), [(["con", "pro"], False), (["con", "neu", "pro"], True)])
def test_errors_are_shown_with_more_than_two_labels(tmp_path, labels, is_shown):
    finished_run(tmp_path, run_config(labels=labels))
    assert variant_grid.has_errors_to_show(results.load(tmp_path)) is is_shown
    finished_run(tmp_path, run_config(labels=labels, overrides={"method.r": 4}))
    assert variant_grid.has_errors_to_show(results.load(tmp_path))
