import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex

from common.report import plot_style, variant_grid
from common.report.results import Result

DOCUMENT = ({"score": "test_accuracy"},)


def result(job, **settings):
    """A result with settings by their last word."""
    keys = {"r": "method.r", "alpha": "method.alpha", "epochs": variant_grid.EPOCHS, "lr": "training.learning_rate"}
    found = {variant_grid.EPOCHS: 1.0} | {keys.get(key, key): value for key, value in settings.items()}
    return Result("toy", job, "", "", DOCUMENT, found)


def labels(groups):
    return [[line.get_label() for line in group] for group in groups if group]


def seen(style, lines):
    look = style.line() if lines else style.point()
    return to_hex(look.pop("color")), *look.values()


MANY = {
    "jobs": [result(f"job-{n}") for n in range(25)],
    "two grids": [result(job, r=r, alpha=r * s) for job in ("a", "b") for r in (1, 2, 4) for s in (1, 2)],
    "four settings": [
        result("a", r=r, alpha=a, lr=lr, epochs=e) for r in (1, 2) for a in (1, 3) for lr in (0.1, 0.2) for e in (1, 2)
    ],
    "few epochs": [result("a", r=r, epochs=n) for r in (1, 2) for n in range(1, 8)],
    "many epochs": [result("a", epochs=n) for n in range(1, 20)],
    "absent": [result("a", r=1, x=1), result("a", r=1), result("a", r=2)],
    "beside a grid": [*(result("a", r=r) for r in (1, 2)), *(result(f"job-{n}") for n in range(12))],
}


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize("name", MANY)
def test_no_two_results_look_the_same(name, lines):
    found = MANY[name]
    looks, _ = plot_style.assign(found, lines)
    assert len({seen(style, lines) for style in looks}) == len(found)


def test_a_grid_is_named_by_its_settings():
    found = [result("a", r=r, alpha=r * s, epochs=e) for r in (4, 16) for s in (1, 2) for e in (3, 1)]
    found.append(result("full", epochs=3))
    looks, groups = plot_style.assign(found, lines=True)
    how = ["alpha / r = 1", "alpha / r = 2", "epochs = 1", "epochs = 3"]
    assert labels(groups) == [["a", "r = 4", "r = 16"], how, ["full"]]
    assert [(style.dash, style.marker) for style in looks[:4]] == [(0, 1), (0, 0), (1, 1), (1, 0)]
    assert looks[-1].marker == looks[0].marker  # trained as long
    entries = [line for group in groups for line in group if line.get_label() in ("r = 4", "full")]
    assert [to_hex(line.get_color()) for line in entries] == [to_hex(looks[0].color), to_hex(looks[-1].color)]


def test_what_does_not_vary_has_no_entry():
    found = [result("a", r=r, alpha=2 * r) for r in (1, 2)]
    assert labels(plot_style.assign(found, lines=False)[1]) == [["a", "r = 1", "r = 2"]]


def test_too_many_values_for_dashes_are_named_one_by_one():
    found = [result("a", r=r, alpha=r * s) for r in (1, 2) for s in range(1, 7)]
    assert labels(plot_style.assign(found, lines=True)[1]) == [variant_grid.names(found)]


def test_lines_of_too_many_kinds_have_a_colour_each():
    lines = [(f"alpha / r = {n}", "x") for n in range(6)]
    assert len({to_hex(style.color) for style in plot_style.of_lines(lines)}) == 6


@pytest.mark.parametrize(("letter", "length", "columns"), [("m", 10, 3), ("n", 25, 2), ("n", 60, 1), ("w", 150, 1)])
def test_a_legend_has_the_columns_for_which_there_is_room(letter, length, columns):
    """Whatever the length of its labels, all of it lies inside the picture, below the axes."""
    figure, axes = plt.subplots(figsize=(5.2, 3.6), layout="constrained", dpi=120)
    plot_style.add_legend(
        figure, [[plot_style.entry(letter * length)], [], *([plot_style.entry(letter * length)] for _ in "ab")]
    )
    figure.canvas.draw()
    [legend] = figure.legends
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    assert legend.get_window_extent().y1 <= axes.get_tightbbox().y0
    assert len({text.get_window_extent().x0 for text in legend.get_texts()}) == columns
    assert axes.get_window_extent().height > 240
    plt.close(figure)
