import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from toy_runs import finished_run, run_config

from common.config import catalog
from common.report import best_runs, comparison_plots, plot_style, plots, results, variant_grid
from common.report.comparisons import compare

LORA, FULL = "minilm-emotion-lora", "minilm-emotion-full"
NAMES = ["toy.accuracy-parameters.png", "toy.learning-curves.png", "toy.confusion.png"]
RELIABILITY = "toy.reliability.png"


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
    assert [path.name for path in first] == [*NAMES, RELIABILITY]
    assert sorted(path.name for path in (tmp_path / "1").iterdir()) == sorted([*NAMES, RELIABILITY])
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
    assert [path.name for path in paths] == ["toy.confusion.png", RELIABILITY]


def test_seeds_that_stopped_at_different_epochs(tmp_path):
    for seed in (1, 2):
        history = [{"epoch": float(epoch), "validation_loss": 1 / epoch} for epoch in range(1, 3 + seed)]
        finished_run(tmp_path / "outputs", run_config(seed=seed), history=history)
    assert len(plots.draw("toy", results.load(tmp_path / "outputs"), tmp_path)) == 4


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


@pytest.mark.slow
def test_a_sweep_is_drawn_with_ranks_errors_and_fit(tmp_path):
    found = sweep(tmp_path / "outputs", seeds=(1, 2), train=12)
    paths = plots.draw("toy", found, tmp_path)
    assert [path.name for path in paths] == [*NAMES, "toy.rank.png", "toy.errors.png", "toy.fit.png", RELIABILITY]
    again = plots.draw("toy", found, tmp_path / "again")
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]


def legend(figure):
    """The texts of a figure's only legend."""
    [found] = figure.legends
    ring = plot_style.ring_entry().get_label()  # test_comparisons.py knows which results have a ring
    return [text.get_text() for text in found.get_texts() if text.get_text() != ring]


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


@pytest.mark.parametrize(
    ("facts", "kind", "time"),
    [
        ({"train_cpu_s": 60.0}, "CPU time", "1 min 00 s"),
        ({}, "CPU time", "–"),
        ({"train_cpu_s": 60.0, "hardware": {"gpu": "H100"}}, "wall-clock time", "2 min 05 s"),
    ],
)
def test_train_and_test(tmp_path, facts, kind, time):
    finished_run(tmp_path, run_config(), right=3, train_right=4, **facts)
    finished_run(tmp_path, run_config("minilm-full"), right=1)
    figure = comparison_plots.train_and_test("Toy", results.load(tmp_path))
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert texts == [["100.0", "75.0"], ["0.223", "0.570"], ["4.40"], [time]]
    assert figure.axes[3].get_xlabel() == f"{kind} of training (minutes)"
    for axes in figure.axes[::2]:
        assert [tick.get_text() for tick in axes.get_yticklabels()] == ["minilm-lora"]
    plt.close(figure)


def test_both_kinds_of_time_are_named(tmp_path):
    finished_run(tmp_path, run_config(), train_right=4, train_cpu_s=60.0)
    finished_run(tmp_path, run_config("minilm-full"), train_right=4, train_cpu_s=9.0, hardware={"gpu": "H100"})
    figure = comparison_plots.train_and_test("Toy", results.load(tmp_path))
    assert figure.axes[3].get_xlabel() == "wall-clock or CPU time of training (minutes)"
    assert [text.get_text() for text in figure.axes[3].texts] == ["2 min 05 s", "1 min 00 s"]
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
    plots.score_by_parameters,
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


# --- sweeps ----------------------------------------------------------------------------------------------------------


def long_sweep(outputs, epochs=(1, 3, 8)):
    """The sweep at several lengths, beside full fine-tuning for one epoch and for three; and three baselines."""
    for length in epochs:
        losses = [{"loss": 1 / n, "validation_loss": 0.2 + 0.1 / n} for n in range(1, length + 1)]
        history = [
            {"epoch": float(n), "step": n, "validation_accuracy": n / 10} | found for n, found in enumerate(losses, 1)
        ]
        for entry in catalog.load_sweep(LORA):
            config = run_config(LORA, 1, {**entry, "training.epochs": length}, labels=LABELS)
            facts = {"history": history, "best_step": length, "params_trainable_count": 10_000 * config.job.method.r}
            finished_run(outputs, config, rows=100, right=92, **facts)
    for length, right in ((1, 90), (3, 94)):
        config = run_config(FULL, overrides={"training.epochs": length}, labels=LABELS)
        finished_run(outputs, config, rows=100, right=right)
    for baseline, right in (("majority", 30), ("tfidf", 89), ("untuned", 8)):
        finished_run(outputs, run_config(LORA, labels=LABELS), baseline=baseline, rows=100, right=right)
    return variant_grid.arrange(results.load(outputs))


def looks(lines):
    """What a reader sees of every line with data."""
    return [
        (to_hex(line.get_color()), line.get_linestyle(), line.get_marker(), line.get_fillstyle())
        for line in lines
        if len(line.get_xdata())
    ]


def test_learning_curves_are_those_of_the_best_variants(tmp_path):
    found = [result for result in long_sweep(tmp_path) if result.job == LORA]
    figure = plots.learning_curves("Toy", found)
    [axes] = figure.axes
    assert legend(figure) == [f"{LORA} (r=1, alpha=1, epochs=8)", "validation", "train"]
    assert [len(line.get_xdata()) for line in axes.get_lines()] == [8, 8]
    assert axes.get_title() == "Toy\nloss over epochs"
    plt.close(figure)


def test_training_loss_is_averaged_over_tenths_of_an_epoch(tmp_path):
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


def test_score_by_parameters_shows_the_models_and_names_far_baselines(tmp_path):
    found = long_sweep(tmp_path)
    figure = plots.score_by_parameters("Toy", found)
    [axes] = figure.axes
    bottom, top = axes.get_ylim()
    tuned = [100 * result.mean("test_accuracy") for result in found if not result.baseline]
    assert 80 < bottom < min(tuned) == 90 and max(tuned) == 94 < top < 100  # the intervals lie inside
    bars = [container for container in axes.containers if isinstance(container, ErrorbarContainer)]
    points = [bar.lines[0] for bar in bars]  # the other lines of a bar are its caps
    assert sorted(point.get_ydata()[0] for point in points) == pytest.approx(sorted(tuned))
    assert all(bar.has_yerr for bar in bars)
    rings = [line for line in axes.get_lines() if line.get_markersize() == 10]
    equals = compare(found).equals()
    assert len(rings) == sum(id(result) in equals for result in found if not result.baseline) > 1
    fills = {color: [fill for other, _, _, fill in looks(points) if other == color] for color, *_ in looks(points)}
    assert sorted(map(len, fills.values())) == [2, 24]
    assert [sorted(of_job).count("full") for of_job in fills.values() if len(of_job) == 24] == [1]
    [level] = [line for line in axes.get_lines() if line.get_marker() == "None"]
    assert set(level.get_ydata()) == {89.0}
    note = " (filled: best validation score)"
    baselines = ["majority class: 30.0", "TF-IDF + logistic regression: 89.0", f"{LORA}, untuned: 8.0"]
    assert legend(figure) == [FULL + note, LORA + note, *baselines]
    plt.close(figure)


def test_levels_of_full_fine_tuning_name_their_epochs(tmp_path):
    figure = comparison_plots.score_by_rank("Toy", long_sweep(tmp_path))
    lines = [f"alpha / r = {scale}, epochs = {length}" for length in (1, 3, 8) for scale in (1, 2)]
    assert legend(figure) == [*lines, f"{FULL} (epochs=1)", f"{FULL} (epochs=3)"]
    drawn = [line for line in figure.axes[0].get_lines() if line.get_linestyle() != "None"]  # no rings, no caps
    assert len(set(looks(drawn))) == len(drawn) == 8
    assert [line.get_ydata()[0] for line in drawn[6:]] == [90.0, 94.0]
    assert {to_hex(line.get_color()) for line in drawn[6:]} == {plot_style.GREY}
    plt.close(figure)


def test_one_level_names_its_epochs_where_the_lines_have_others(tmp_path):
    for r in (2, 4):
        finished_run(tmp_path, run_config(LORA, overrides={"method.r": r, "training.epochs": 3}))
    finished_run(tmp_path, run_config(FULL))
    figure = comparison_plots.score_by_rank("Toy", variant_grid.arrange(results.load(tmp_path)))
    assert legend(figure) == [LORA, f"{FULL}, epochs = 1"]
    plt.close(figure)


def test_the_confusion_matrix_sums_the_seeds(swept):
    figure = plots.confusion("Toy", best_runs.best_model(swept), "name")
    assert sum(int(text.get_text().split()[0]) for text in figure.axes[0].texts) == 8  # 2 seeds of 4 rows
    plt.close(figure)
