import matplotlib.pyplot as plt
import pytest
from common_helpers import finished_run, run_config

from common import catalog, comparisons, grids, plots, results

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


# --- many results ----------------------------------------------------------------------------------------------------

LABELS = ["sadness", "joy", "love", "anger", "fear", "surprise"]


def sweep(outputs, seeds=(1,), job="minilm-emotion-lora", train=None):
    """Eight variants of LoRA and one other model on six labels."""
    for seed in seeds:
        for entry in catalog.load_sweep("minilm-emotion-lora"):
            config = run_config(job, seed, entry, labels=LABELS)
            finished_run(outputs, config, rows=12, right=6 + seed, train_right=train)
        finished_run(outputs, run_config("minilm-emotion-full", seed, labels=LABELS), rows=12, right=11)
    return results.load(outputs)


def test_a_sweep_is_drawn_with_ranks_errors_and_fit(tmp_path):
    found = sweep(tmp_path / "outputs", seeds=(1, 2), train=12)
    paths = plots.draw("toy", found, tmp_path)
    assert [path.name for path in paths] == [*NAMES, "toy.rank.png", "toy.errors.png", "toy.fit.png"]
    again = plots.draw("toy", found, tmp_path / "again")
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]


def test_score_by_rank_has_a_line_a_scale(tmp_path):
    found = grids.arrange(sweep(tmp_path))
    figure = comparisons.score_by_rank("Toy", found)
    [axes], [legend] = figure.axes, figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["alpha / r = 1", "alpha / r = 2", "minilm-emotion-full"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "4", "8", "16"]
    assert axes.get_lines()[0].get_xdata().tolist() == [1, 4, 8, 16]
    assert axes.get_lines()[0].get_ydata().tolist() == pytest.approx([100 * 7 / 12] * 4)
    plt.close(figure)


def test_no_rank_varies(tmp_path):
    finished_run(tmp_path)
    finished_run(tmp_path, run_config(overrides={"training.epochs": 2}))
    assert comparisons.score_by_rank("Toy", results.load(tmp_path)) is None


@pytest.mark.parametrize(
    ("overrides", "jobs", "labels"),
    [
        ([{"method.r": 2}, {"method.r": 4}], ["minilm-lora"], ["minilm-lora"]),
        (
            [{"method.r": r, "training.epochs": epochs} for r in (2, 4) for epochs in (1, 2)],
            ["minilm-lora"],
            ["epochs = 1", "epochs = 2"],
        ),
        ([{"method.r": 2}, {"method.name": "full"}, {"method.r": 4}], ["minilm-lora"], ["name = lora"]),
        (
            [{"method.r": 2}, {"method.r": 4}],
            ["minilm-lora", "minilm-emotion-lora"],
            ["minilm-emotion-lora", "minilm-lora"],
        ),
    ],
)
def test_lines_are_named_by_what_their_points_share(tmp_path, overrides, jobs, labels):
    for job in jobs:
        for changes in overrides:
            finished_run(tmp_path, run_config(job, overrides=changes))
    figure = comparisons.score_by_rank("Toy", grids.arrange(results.load(tmp_path)))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == labels
    plt.close(figure)


def test_errors_by_label(tmp_path):
    finished_run(tmp_path, run_config(labels=LABELS), rows=6, right=4)
    finished_run(tmp_path, run_config("minilm-full", labels=LABELS), rows=5, right=5)
    figure = comparisons.errors_by_label("Toy", results.load(tmp_path))
    [axes] = figure.axes
    cells = [text.get_text() for text in axes.texts]
    assert cells == ["0.0"] * 5 + ["–"] + ["0.0"] * 4 + ["100.0"] * 2
    assert [tick.get_text() for tick in axes.get_xticklabels()] == LABELS
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["minilm-full", "minilm-lora"]
    plt.close(figure)


def test_train_and_test(tmp_path):
    finished_run(tmp_path, run_config(), right=3, train_right=4)
    finished_run(tmp_path, run_config("minilm-full"), right=1)
    figure = comparisons.train_and_test("Toy", results.load(tmp_path))
    accuracy, loss = figure.axes
    assert [text.get_text() for text in accuracy.texts] == ["100.0", "75.0"]
    assert [text.get_text() for text in loss.texts] == ["0.223", "0.570"]
    assert [tick.get_text() for tick in accuracy.get_yticklabels()] == ["minilm-lora"]
    plt.close(figure)


@pytest.mark.parametrize("draw", [comparisons.score_by_rank, comparisons.errors_by_label, comparisons.train_and_test])
@pytest.mark.parametrize("many", [True, False])
def test_no_text_is_cut_off(tmp_path, draw, many):
    """Titles, names and legends of two models or of nine lie inside the picture."""
    if many:
        found = sweep(tmp_path, train=12)
    else:
        for r in (2, 4):
            config = run_config(labels=LABELS[:3], overrides={"method.r": r})
            finished_run(tmp_path, config, rows=12, right=8 + r, train_right=12)
        found = results.load(tmp_path)
    figure = draw("A dataset with quite a long title", grids.arrange(found))
    figure.canvas.draw()  # lays it out
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    plt.close(figure)
