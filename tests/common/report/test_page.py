import re

import pytest
from toy_runs import finished_run, run_config

from common.core.errors import ConfigError
from common.core.files import write_text
from common.report import notes, page, results, variant_grid

PLOTS = [f"plots/toy.{name}.png" for name in ("confusion", "errors", "fit", "rank")]


def section(text, heading):
    """The text from a third-level heading to the next heading."""
    return re.search(rf"\n### {re.escape(heading)}\n(.*?)(?=\n##|\Z)", text, re.S)[1]


def test_the_block_of_the_readme_is_one_table_and_how_to_read_it(found):
    block = page.readme_block(found)
    assert block.count("\n| ---") == 1 and block.startswith("| dataset | model | method | seeds | score |")
    assert "\n| --- | --- | --- | ---: |" in block  # words to the left, numbers to the right
    assert "Test scores in percent (accuracy), " in block and "Toy stance 4" in block
    assert "the best on validation is shown" in block


def test_another_leading_score_is_named(tmp_path):
    finished_run(tmp_path, run_config(mean_f1_labels=["con"], score="f1_mean_labels"))
    assert "mean F1 of con for `toy`" in page.readme_block(results.load(tmp_path))


def test_no_results():
    for text in (page.readme_block([]), page.published_page([], {}, {})):
        assert "No results are published yet" in text


def test_a_section_has_tables_and_plots(found):
    text = page.published_page(found, {"toy": ["plots/toy.learning-curves.png"]}, {})
    assert "\n## Toy stance\n" in text and "`data/toy.yaml`, 4 test rows" in text
    scores = section(text, "Scores")
    assert '<img src="plots/toy.learning-curves.png" alt="Toy stance: learning curves"' in scores
    assert "| minilm-lora | 3 | 83.3 ± 14.4 [" in scores
    assert "\n- Highest accuracy: minilm-lora. Not distinguishable from it at 4 rows: majority class.\n" in scores
    assert "minilm-lora" in section(text, "Cost")


def test_paired_tests_have_a_table(tmp_path):
    finished_run(tmp_path, rows=100, right=80)
    assert "### Paired tests" not in page.published_page(results.load(tmp_path), {}, {})
    finished_run(tmp_path, baseline="majority", rows=100, right=50)
    text = page.published_page(results.load(tmp_path), {}, {})
    assert "`data/toy.yaml`, 100 test rows." in text
    assert "| majority class | -30.0 [-39.0, -21.0] | 0 : 30 | < 0.0001 |" in section(text, "Paired tests")
    assert "better than it: minilm-lora." in section(text, "Scores")


def test_a_sweep_has_errors_fit_and_a_plot_for_each(swept):
    text = page.published_page(swept, {"toy": PLOTS}, {})
    assert "Variants of `minilm-emotion-lora`:\n\n| r | alpha | alpha / r | seeds |" in section(text, "Scores")
    shown = {name: re.findall(r"toy\.(\w+)\.png", section(text, name)) for name in ("Scores", "Train and test")}
    assert shown == {"Scores": ["confusion", "rank"], "Train and test": ["fit"]}
    errors = section(text, "Error rate per class (%)")
    assert "| model | con | neu | pro | all |" in errors and re.findall(r"toy\.(\w+)\.png", errors) == ["errors"]
    cost = section(text, "Cost")
    assert "| minilm-emotion-lora (r=8, alpha=16) |" in cost and "method." not in cost


def test_two_labels_without_a_sweep_have_no_errors_and_no_fit(found):
    text = page.published_page(found, {}, {})
    assert "Error rate per class" not in text and "### Train and test" not in text
    assert not variant_grid.has_errors_to_show(found)


def test_notes_stand_beside_the_tables(found, tmp_path):
    write_text(
        tmp_path / "notes.yaml",
        "schema: 1\ndatasets:\n  toy:\n    notes: [The rows are invented.]\n"
        "    elsewhere: [{model: BERT, score: 71.2, source: 'https://example.org/paper'}]\n",
    )
    text = page.published_page(found, {}, notes.read(tmp_path))
    assert "\n- The rows are invented.\n" in text
    assert "| BERT | 71.2 | https://example.org/paper |" in section(text, "Scores published elsewhere")


def test_notes_may_be_absent_but_not_misspelt(tmp_path):
    assert notes.read(tmp_path) == {}
    write_text(tmp_path / "notes.yaml", "schema: 1\ndatasets: {toy: {note: [x]}}\n")
    with pytest.raises(ConfigError, match=r"notes\.yaml: unknown key 'datasets\.toy\.note'"):
        notes.read(tmp_path)
