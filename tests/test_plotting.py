"""Figures: what is drawn is what the library computes, and a reader can tell the curves apart."""

from __future__ import annotations

import itertools
import subprocess
import sys

import matplotlib.colors
import numpy as np
import pytest

import replica
from replica import plotting

ALPHA = np.arange(1, 41) / 10.0  # 1.0, where the linear student diverges, is one of them


def curves_of(ax):
    return [line for line in ax.get_lines() if line.get_gid() != "divergence"]


def marks_of(ax):
    return [line for line in ax.get_lines() if line.get_gid() == "divergence"]


@pytest.mark.parametrize("student", ["linear", "relu", replica.LeakyReLU(0.1)])
@pytest.mark.parametrize("zeta", [0.0, 1 / 64])
def test_plot_curve_draws_gen_error(student, zeta):
    ax = plotting.plot_curve(ALPHA, 0.25, zeta, student=student)
    (line,) = curves_of(ax)
    expected = replica.gen_error(ALPHA, 0.25, zeta, student=student)
    np.testing.assert_array_equal(line.get_xdata(), ALPHA)
    np.testing.assert_array_equal(line.get_ydata(), np.where(np.isinf(expected), np.nan, expected))


def test_plot_curve_marks_the_divergence_and_limits_the_axis():
    ax = plotting.plot_curve(ALPHA, 0.25)
    (mark,) = marks_of(ax)
    np.testing.assert_array_equal(mark.get_xdata(), [1.0])
    assert ax.get_ylim()[1] < 2.5, "the neighbours of the pole set the scale"
    assert ax.get_ylim()[1] > 1.0


def test_plot_curve_without_divergence_has_no_mark_and_shows_everything():
    ax = plotting.plot_curve(ALPHA, 0.25, 0.25)
    assert marks_of(ax) == []
    (line,) = curves_of(ax)
    low, high = ax.get_ylim()
    assert low <= line.get_ydata().min()
    assert high >= line.get_ydata().max()


def test_plot_curve_labels_axes_and_curves():
    ax = plotting.plot_curve(ALPHA, 0.25, [0.0, 0.25], student=["linear", "relu"])
    assert "load" in ax.get_xlabel()
    assert "generalization error" in ax.get_ylabel()
    assert ax.get_title(loc="left") == "S = 0.25"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "linear student, ζ = 0",
        "linear student, ζ = 0.25",
        "relu student, ζ = 0",
        "relu student, ζ = 0.25",
    ]


def test_plot_curve_takes_axes_label_and_line_properties():
    figure, ax = plotting.new_axes()
    assert plotting.plot_curve(ALPHA, 0.25, label="mine", ax=ax, color="black") is ax
    plotting.plot_curve(ALPHA, 1.0, student="relu", theory="published", ax=ax)
    first, second = curves_of(ax)
    assert ax.figure is figure
    assert (first.get_label(), first.get_color()) == ("mine", "black")
    assert second.get_label() == "relu student (published theory), S = 1, ζ = 0"
    assert first.get_linestyle() != second.get_linestyle()


def test_plot_curve_leaves_limits_that_the_user_has_set():
    _, ax = plotting.new_axes()
    ax.set_ylim(0.0, 17.0)
    plotting.plot_curve(ALPHA, 0.25, ax=ax)
    assert ax.get_ylim() == (0.0, 17.0)


def test_plot_curve_of_a_logarithmic_grid_has_a_logarithmic_axis():
    assert plotting.plot_curve(np.geomspace(0.01, 100, 9), 1.0).get_xscale() == "log"
    assert plotting.plot_curve(np.linspace(0.01, 100, 9), 1.0).get_xscale() == "linear"


def test_plot_curve_bad_input_leaves_the_axes_alone():
    _, ax = plotting.new_axes()
    for alpha, S, options in (
        ([0.0, 1.0], 0.25, {}),
        ([0.5, 1.0], -1.0, {}),
        ([[0.5, 1.0]], 0.25, {}),
        (0.5, 0.25, {}),
        ([0.5, 1.0], [], {}),
        ([0.5, 1.0], [[1.0]], {}),
        ([0.5, 1.0], [0.0, 1.0], {"label": "two"}),
        ([0.5, 1.0], 0.25, {"student": "tanh"}),
        ([0.5, 1.0], 0.25, {"theory": "exact"}),
    ):
        with pytest.raises(ValueError, match=r"alpha|S |label|student|theory"):
            plotting.plot_curve(alpha, S, ax=ax, **options)
    assert ax.get_lines() == []


def test_plot_curve_of_no_points_is_an_empty_line():
    (line,) = curves_of(plotting.plot_curve([], 0.25))
    assert len(line.get_xdata()) == 0


def test_line_style_tells_curves_apart_without_colour():
    first = [plotting.line_style(i) for i in range(7)]
    assert len({str(style["linestyle"]) for style in first}) == 7
    assert len({style["marker"] for style in first}) == 7
    many = [plotting.line_style(i) for i in range(49)]
    assert len({(style["color"], str(style["linestyle"])) for style in many}) == 49


# Viénot, Brettel and Mollon (1999): linear RGB as seen without red or without green cones.
_SEEN_BY = {
    "protanope": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
    "deuteranope": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
}


def _seen(color: str, reader: str) -> np.ndarray:
    rgb = np.array(matplotlib.colors.to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(_SEEN_BY[reader]) @ linear, 0.0, 1.0)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.array(to_xyz) @ linear / [0.9505, 1.0, 1.089]
    f = [np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("reader", sorted(_SEEN_BY))
def test_line_style_colours_differ_for_colour_blind_readers(reader):
    colors = {plotting.line_style(i)["color"] for i in range(7)}
    seen = [_seen(color, reader) for color in sorted(colors)]
    closest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
    assert closest > 15.0, "a difference of 10 in CIE L*a*b* is plain to see"


def test_line_style_check_notices_colours_that_look_alike():
    red, green = _seen("#a00000", "deuteranope"), _seen("#5c6b00", "deuteranope")
    assert np.linalg.norm(red - green) < 15.0
    assert matplotlib.colors.to_rgb("#a00000") != matplotlib.colors.to_rgb("#5c6b00")


def test_plot_figure1_has_two_labeled_panels_with_the_computed_curves():
    left, right = plotting.plot_figure1().axes
    assert left.get_title(loc="left").startswith("(a) linear")
    assert right.get_title(loc="left").startswith("(b) ReLU")
    for ax, student, count in ((left, "linear", 3), (right, "relu", 6)):
        assert "load" in ax.get_xlabel()
        assert "generalization error" in ax.get_ylabel()
        assert len(ax.get_legend().get_texts()) == len(curves_of(ax)) == count
        decay = next(line for line in curves_of(ax) if "0.25" in str(line.get_label()))
        expected = replica.gen_error(decay.get_xdata(), 0.25, 0.25, student=student)
        np.testing.assert_array_equal(decay.get_ydata(), expected)
    assert [mark.get_xdata().tolist() for mark in marks_of(left)] == [[1.0]]
    assert [mark.get_xdata().tolist() for mark in marks_of(right)] == [[2.0]]


def test_plotting_does_not_import_pyplot(tmp_path):
    code = (
        "import sys; from replica.plotting import plot_curve, save_figure;"
        "save_figure(plot_curve([0.5, 2.0], 0.25).figure, sys.argv[1]);"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "curve.png")]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "curve.png").stat().st_size > 5000
