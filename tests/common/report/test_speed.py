"""The tables of speed beside plain scripts: ratios of medians, the spread of the rounds, the ratios of README.md."""

import json

import pytest

from common.report import page, speed

TIMES = {
    "peftable": {"cpu_s": [2.0, 1.0, 4.0], "wall_s": [1.0, 1.0, 1.0]},
    "plain loop": {"cpu_s": [6.0, 2.0, 8.0], "wall_s": [5.0, 5.0, 5.0]},
}
FOUND = {
    "job": "minilm-lora",
    "dataset": "stance-sample",
    "rounds": 3,
    "precision": "float32",
    "equivalence": {"differences": {"losses": 3e-7}, "equal_predictions_count": 100},
    "tasks": [{"task": "training", "rows": 100, "times": TIMES}],
    "train_memory_bytes": {"peftable": 6 * 10**8, "plain loop": 8 * 10**8},
    "load_average": {"before": 0.1, "after": 1.2},
    "hardware": {"gpu": None, "cpu": "Some CPU", "threads": 1},
}


@pytest.fixture
def published(tmp_path):
    (tmp_path / speed.FOLDER).mkdir()
    (tmp_path / speed.FOLDER / "minilm-lora.stance-sample.json").write_text(json.dumps(FOUND), encoding="utf-8")
    return tmp_path


def test_a_row_for_every_plain_script(published):
    header, rows = speed.table(speed.read(published))
    cells = ["`minilm-lora`", "stance-sample", "training", "plain loop", "100", "60.0", "20.0", "3.00", "2.00–3.00"]
    assert len(header) == len(cells) and rows == [cells]
    text = page.published_page([], {}, {}, (), speed.read(published))
    assert "## Speed beside plain scripts" in text and "| 3.00 | 2.00–3.00 |" in text
    assert "CPU seconds on Some CPU, 1 threads, load average 0.1 to 1.2, 3 rounds" in text and "losses 3e-07" in text
    assert "takes 600 MB of memory, 75% of that of plain loop" in text


def test_on_a_gpu_the_clock_on_the_wall_counts():
    card = FOUND | {"hardware": {"gpu": "Some card", "cpu": "Some CPU", "threads": 8}}
    assert speed.table([card])[1][0][-2:] == ["5.00", "5.00–5.00"]
    assert "seconds on the wall clock on Some card" in speed.how_measured([card])[0]


def test_the_readme_has_the_ratios_that_were_measured(published):
    assert speed.headlines(speed.read(published)) == ("Times as fast as plain scripts: train MiniLM, plain loop 3.0×.")
    assert "Not measured yet" in speed.headlines([]) and "Speed beside" not in page.published_page([], {}, {})
