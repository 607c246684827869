import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex

from common.report import plot_style


@pytest.mark.parametrize("count", [1, 10, 25])
def test_colours_differ(count):
    assert len({to_hex(color) for color in plot_style.colors(count)}) == count


def looks(lines):
    return [(to_hex(look["color"]), look["marker"], look["ls"]) for look in plot_style.line_styles(lines)]


def test_lines_are_told_apart_by_dash_and_colour():
    found = looks([("alpha / r = 1", "epochs = 1"), ("alpha / r = 2", "epochs = 1"), ("alpha / r = 1", "epochs = 3")])
    assert len(set(found)) == 3
    assert found[0][:2] == found[1][:2] and found[0][2] != found[1][2]  # epochs: colour and marker
    assert found[0][0] != found[2][0] and found[0][2] == found[2][2]  # scale: dash


def test_more_scales_than_dashes_have_a_colour_each():
    found = looks([(f"alpha / r = {n}", "x") for n in range(6)])
    assert len({color for color, _, _ in found}) == 6 and {dash for _, _, dash in found} == {"-"}


@pytest.mark.parametrize("count", [1, 12])
def test_the_legend_is_below_the_axes(count):
    figure, axes = plot_style.framed("Title")
    plot_style.add_legend(figure, [plot_style.entry(f"model {n}") for n in range(count)])
    figure.canvas.draw()
    [legend] = figure.legends
    assert legend.get_window_extent().y1 <= axes.get_tightbbox().y0
    assert axes.get_window_extent().height > 200
    plt.close(figure)
