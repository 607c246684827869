import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex
from toy_runs import finished_run, run_config

from common.config import catalog
from common.report import comparison_plots, plot_style, plots, results, variant_grid

LORA, FULL = "minilm-emotion-lora", "minilm-emotion-full"
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


def legend(figure):
    """The texts of a figure's only legend, without those that fill its columns up."""
    [found] = figure.legends
    return [text.get_text() for text in found.get_texts() if text.get_text()]


def test_score_by_rank_has_a_line_a_scale(tmp_path):
    found = variant_grid.arrange(sweep(tmp_path))
    figure = comparison_plots.score_by_rank("Toy", found)
    [axes] = figure.axes
    assert legend(figure) == ["alpha / r = 1", "alpha / r = 2", "minilm-emotion-full"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "4", "8", "16"]
    assert axes.get_lines()[0].get_xdata().tolist() == [1, 4, 8, 16]
    assert axes.get_lines()[0].get_ydata().tolist() == pytest.approx([100 * 7 / 12] * 4)
    plt.close(figure)


def test_no_rank_varies(tmp_path):
    finished_run(tmp_path)
    finished_run(tmp_path, run_config(overrides={"training.epochs": 2}))
    assert comparison_plots.score_by_rank("Toy", results.load(tmp_path)) is None


@pytest.mark.parametrize(
    ("overrides", "jobs", "labels"),
    [
        ([{"method.r": 2}, {"method.r": 4}], ["minilm-lora"], ["minilm-lora"]),
        (
            [{"method.r": r, "training.epochs": epochs} for r in (2, 4) for epochs in (1, 2)],
            ["minilm-lora"],
            ["epochs = 1", "epochs = 2"],
        ),
        (
            [{"method.r": 2}, {"method.name": "full"}, {"method.r": 4}],
            ["minilm-lora"],
            ["name = lora", "minilm-lora (name=full)"],
        ),
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
    figure = comparison_plots.score_by_rank("Toy", variant_grid.arrange(results.load(tmp_path)))
    assert legend(figure) == labels
    plt.close(figure)


def test_errors_by_label(tmp_path):
    finished_run(tmp_path, run_config(labels=LABELS), rows=6, right=4)
    finished_run(tmp_path, run_config("minilm-full", labels=LABELS), rows=5, right=5)
    figure = comparison_plots.error_rate_by_class("Toy", results.load(tmp_path))
    [axes] = figure.axes
    cells = [text.get_text() for text in axes.texts]
    assert cells == ["0.0"] * 5 + ["–"] + ["0.0"] * 4 + ["100.0"] * 2
    assert [tick.get_text() for tick in axes.get_xticklabels()] == LABELS
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["minilm-full", "minilm-lora"]
    plt.close(figure)


@pytest.mark.parametrize("seconds", [{"train_cpu_s": 60.0}, {}])
def test_train_and_test(tmp_path, seconds):
    finished_run(tmp_path, run_config(), right=3, train_right=4, **seconds)
    finished_run(tmp_path, run_config("minilm-full"), right=1)
    figure = comparison_plots.train_and_test("Toy", results.load(tmp_path))
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    time = "1 min 00 s" if seconds else "2 min 05 s"
    assert texts == [["100.0", "75.0"], ["0.223", "0.570"], ["4.40"], [time]]
    assert figure.axes[3].patches[0].get_width() == pytest.approx(1 if seconds else 125 / 60)
    assert figure.axes[3].get_xlabel() == f"{'CPU ' if seconds else ''}time of training (minutes)"
    for axes in figure.axes[::2]:
        assert [tick.get_text() for tick in axes.get_yticklabels()] == ["minilm-lora"]
    plt.close(figure)


@pytest.mark.parametrize("other", [{}, {"train_cpu_s": 9.0, "hardware": {"gpu": "H100"}}])
def test_cpu_time_is_compared_only_where_it_tells_what_all_trainings_took(tmp_path, other):
    finished_run(tmp_path, run_config(), train_right=4, train_cpu_s=60.0)
    finished_run(tmp_path, run_config("minilm-full"), train_right=4, **other)
    figure = comparison_plots.train_and_test("Toy", results.load(tmp_path))
    assert figure.axes[3].get_xlabel() == "time of training (minutes)"
    assert [text.get_text() for text in figure.axes[3].texts] == ["2 min 05 s"] * 2
    plt.close(figure)


def test_what_is_not_measured_is_no_bar_of_zero(tmp_path):
    finished_run(tmp_path, run_config(), train_right=4, train_s=None, params_trainable_count=None)
    figure = comparison_plots.train_and_test("Toy", results.load(tmp_path))
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes[2:]] == [["–"], ["–"]]
    plt.close(figure)


DRAWN = [
    comparison_plots.score_by_rank,
    comparison_plots.error_rate_by_class,
    comparison_plots.train_and_test,
    plots.learning_curves,
    plots.accuracy_parameters,
]


@pytest.mark.parametrize("draw", DRAWN)
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
    figure = draw("A dataset with quite a long title", variant_grid.arrange(found))
    figure.canvas.draw()  # lays it out
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    plt.close(figure)


# --- what a reader can tell apart ------------------------------------------------------------------------------------


def long_sweep(outputs, epochs=(1, 3, 8)):
    """The sweep at several lengths, beside full fine-tuning for one epoch and for three; and three baselines."""
    for length in epochs:
        history = [{"epoch": float(n), "loss": 1 / n, "validation_loss": 0.2 + 0.1 / n} for n in range(1, length + 1)]
        for entry in catalog.load_sweep(LORA):
            config = run_config(LORA, 1, {**entry, "training.epochs": length}, labels=LABELS)
            count = 10_000 * config.job.method.r
            finished_run(outputs, config, rows=1000, right=920, history=history, params_trainable_count=count)
    for length, right in ((1, 900), (3, 940)):
        config = run_config(FULL, overrides={"training.epochs": length}, labels=LABELS)
        finished_run(outputs, config, rows=1000, right=right)
    for baseline, right in (("majority", 300), ("tfidf", 890), ("untuned", 80)):
        finished_run(outputs, run_config(LORA, labels=LABELS), baseline=baseline, rows=1000, right=right)
    return variant_grid.arrange(results.load(outputs))


def looks(lines):
    """What a reader sees of every line with data."""
    return [
        (to_hex(line.get_color()), line.get_linestyle(), line.get_marker(), line.get_fillstyle())
        for line in lines
        if len(line.get_xdata())
    ]


@pytest.mark.slow
def test_no_two_curves_of_a_long_sweep_look_the_same(tmp_path):
    found = [result for result in long_sweep(tmp_path) if not result.baseline]
    figure = plots.learning_curves("Toy", found)
    [axes] = figure.axes
    seen = looks(axes.get_lines())
    assert len(seen) == len(set(seen)) == len(found) == 26
    assert {len(line.get_xdata()) for line in axes.get_lines()} == {1, 3, 8}
    ranks = [f"r = {rank}" for rank in (1, 4, 8, 16)]
    how = ["alpha / r = 1", "alpha / r = 2", "epochs = 1", "epochs = 3", "epochs = 8"]
    assert legend(figure) == [LORA, *ranks, *how, FULL]
    assert axes.get_title() == "Toy\nvalidation loss over epochs"
    plt.close(figure)


@pytest.mark.slow
def test_curves_fill_the_picture(tmp_path):
    found = [result for result in long_sweep(tmp_path) if not result.baseline and result.job == LORA]
    figure = plots.learning_curves("Toy", found)
    bottom, top = figure.axes[0].get_ylim()
    assert 0.19 < bottom < 0.2125 and 0.3 < top < 0.32
    plt.close(figure)


def test_training_loss_of_few_models_is_averaged_over_tenths_of_an_epoch(tmp_path):
    history = [{"epoch": n / 40, "loss": 1.0 + (-1) ** n} for n in range(1, 41)]
    finished_run(tmp_path, history=[*history, {"epoch": 1.0, "validation_loss": 0.5}])
    figure = plots.learning_curves("Toy", results.load(tmp_path))
    validation, train = figure.axes[0].get_lines()
    assert (validation.get_xdata().tolist(), validation.get_ydata().tolist()) == ([1.0], [0.5])
    assert train.get_xdata() == pytest.approx([n / 10 for n in range(1, 11)])
    assert train.get_ydata() == pytest.approx([1.0] * 10)
    assert legend(figure) == ["minilm-lora", "validation", "train"]
    assert validation.get_linestyle() != train.get_linestyle()
    plt.close(figure)


def test_accuracy_parameters_shows_the_models_and_names_far_baselines(tmp_path):
    found = long_sweep(tmp_path)
    figure = plots.accuracy_parameters("Toy", found)
    [axes] = figure.axes
    bottom, top = axes.get_ylim()
    tuned = [100 * result.mean("test_accuracy") for result in found if not result.baseline]
    assert 85 < bottom < min(tuned) == 90 and max(tuned) == 94 < top < 97
    points = [line for line in axes.get_lines() if line.get_marker() != "None"]
    assert len(points) == len(tuned) == len(set(looks(points)))
    [level] = [line for line in axes.get_lines() if line.get_marker() == "None"]
    assert set(level.get_ydata()) == {89.0}
    named = legend(figure)[-4:]
    assert named == [FULL, "majority class: 30.0", "TF-IDF + logistic regression: 89.0", f"{LORA}, untuned: 8.0"]
    plt.close(figure)


def test_levels_of_full_fine_tuning_say_their_epochs(tmp_path):
    """Full fine-tuning has the colour of the lines that were trained as long."""
    figure = comparison_plots.score_by_rank("Toy", long_sweep(tmp_path))
    lines = [f"alpha / r = {scale}, epochs = {length}" for length in (1, 3, 8) for scale in (1, 2)]
    assert legend(figure) == [*lines, f"{FULL} (epochs=1)", f"{FULL} (epochs=3)"]
    drawn = figure.axes[0].get_lines()
    assert len(set(looks(drawn))) == len(drawn) == 8
    colors = [to_hex(line.get_color()) for line in drawn]
    assert colors[0] == colors[1] == colors[6] and colors[2] == colors[3] == colors[7]
    assert len(set(colors)) == 3
    assert [line.get_ydata()[0] for line in drawn[6:]] == [90.0, 94.0]
    plt.close(figure)


def test_one_level_says_its_epochs_where_the_lines_have_others(tmp_path):
    for r in (2, 4):
        finished_run(tmp_path, run_config(LORA, overrides={"method.r": r, "training.epochs": 3}))
    finished_run(tmp_path, run_config(FULL))
    figure = comparison_plots.score_by_rank("Toy", variant_grid.arrange(results.load(tmp_path)))
    assert legend(figure) == [LORA, f"{FULL}, epochs = 1"]
    assert to_hex(figure.axes[0].get_lines()[-1].get_color()) == plot_style.GREY
    plt.close(figure)
