import pytest
from common_helpers import finished_run, run_config

from common import plots, results

NAMES = ["toy.accuracy-parameters.png", "toy.learning-curves.png", "toy.confusion.png"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    finished_run(outputs, baseline="majority", right=2)
    for seed, right in ((1, 4), (2, 3)):
        finished_run(outputs, run_config(seed=seed), right=right)
    return results.load(outputs)


def test_plots_are_png_files_with_the_same_bytes_every_time(found, tmp_path):
    first = plots.draw("toy", found, tmp_path / "1")
    second = plots.draw("toy", found, tmp_path / "2")
    assert [path.name for path in first] == NAMES
    assert sorted(path.name for path in (tmp_path / "1").iterdir()) == sorted(NAMES)
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert one.stat().st_size > 3000
        assert one.read_bytes() == two.read_bytes()


def test_other_numbers_give_another_picture(found, tmp_path):
    before = plots.draw("toy", found, tmp_path / "1")
    finished_run(tmp_path / "outputs", right=1)
    after = plots.draw("toy", results.load(tmp_path / "outputs"), tmp_path / "2")
    assert all(one.read_bytes() != two.read_bytes() for one, two in zip(before[::2], after[::2], strict=True))


def test_baselines_alone_have_no_plots(found, tmp_path):
    assert plots.draw("toy", [result for result in found if result.baseline], tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("error")
def test_a_run_without_history_is_drawn_without_warnings(tmp_path):
    """A plot without data is left out."""
    finished_run(tmp_path / "outputs", history=[], params_trainable_count=None)
    paths = plots.draw("toy", results.load(tmp_path / "outputs"), tmp_path)
    assert [path.name for path in paths] == ["toy.confusion.png"]


def test_seeds_that_stopped_at_different_epochs(tmp_path):
    for seed in (1, 2):
        history = [{"epoch": float(epoch), "validation_loss": 1 / epoch} for epoch in range(1, 3 + seed)]
        finished_run(tmp_path / "outputs", run_config(seed=seed), history=history)
    assert len(plots.draw("toy", results.load(tmp_path / "outputs"), tmp_path)) == 3
