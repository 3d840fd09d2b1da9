"""Figures: what is drawn is what the library computes, and a reader can tell the curves apart."""

from __future__ import annotations

import io
import itertools
import pickle
import subprocess
import sys

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest

import replica
from replica import plotting
from replica._figure1 import plot_figure1

ALPHA = np.arange(1, 41) / 10.0  # 1.0, where the linear student diverges, is one of them


def curves_of(ax):
    return [line for line in ax.get_lines() if line.get_gid() not in ("divergence", "key")]


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


@pytest.mark.parametrize(
    ("quantity", "student", "theory"),
    [
        ("R", "relu", "replica"),
        ("train_error", "linear", "replica"),
        ("rs_stable", "relu", "replica"),
        ("energy", "relu", "published"),
        ("gamma", "softplus", "replica"),
    ],
)
def test_plot_curve_draws_any_quantity_of_the_equilibrium(quantity, student, theory):
    loads = ALPHA[4::12]
    options = {"student": student, "theory": theory}
    ax = plotting.plot_curve(loads, 0.25, 0.1, quantity=quantity, **options)
    (line,) = curves_of(ax)
    expected = getattr(replica.solve_equilibrium(loads, 0.25, 0.1, **options), quantity)
    np.testing.assert_array_equal(line.get_ydata(), expected.astype(float))
    assert ax.get_ylabel() != plotting.ERROR_LABEL


def test_plot_curve_takes_a_function_and_a_list_of_students():
    ax = plotting.plot_curve([1.0, 2.0], 0.25, 0.25, student=["relu", np.tanh])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "relu student", "tanh student",
    ]  # fmt: skip
    expected = replica.gen_error([1.0, 2.0], 0.25, 0.25, student=np.tanh)
    np.testing.assert_array_equal(curves_of(ax)[1].get_ydata(), expected)


def test_converged_batch_normalization_draws_itself():
    loads = [1.5, 2.0, 3.0]
    result = replica.bn_equilibrium(loads, 0.25, batch_size=16)
    ax = result.plot()
    (line,) = curves_of(ax)
    expected = replica.bn_gen_error(loads, 0.25, batch_size=16)
    np.testing.assert_array_equal(line.get_ydata(), expected)
    assert line.get_label() == "linear, batch norm, M = 16"
    assert ax.get_xlabel() == plotting.LOAD_LABEL


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


def test_plot_curve_names_what_all_curves_share_in_the_title():
    inputs = replica.PowerLaw(1.0, size=9)
    ax = plotting.plot_curve([0.5, 2.0], 0.25, 0.1, student=["linear", "relu"], inputs=inputs)
    assert ax.get_title(loc="left") == "power(1, 1, 9), S = 0.25, ζ = 0.1"
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["linear student", "relu student"]
    plotting.plot_curve([0.5, 2.0], 0.0, 1.0, loss="hinge", teacher="sign", ax=ax)
    assert ax.get_legend().get_texts()[-1].get_text() == (
        "linear student, hinge loss, sign teacher, S = 0, ζ = 1"
    )
    expected = replica.gen_error([0.5, 2.0], 0.25, 0.1, student="relu", inputs=inputs)
    np.testing.assert_array_equal(curves_of(ax)[1].get_ydata(), expected)


def test_plot_curve_draws_a_family_of_curves_of_other_inputs():
    inputs = replica.PowerLaw(1.0, size=9)
    decays = np.geomspace(0.01, 1.0, 12)
    ax = plotting.plot_curve([0.5, 2.0], 0.25, decays, student=["linear", "relu"], inputs=inputs)
    assert ax.get_title(loc="left") == "power(1, 1, 9), S = 0.25"
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["linear student", "relu student"]


def test_plot_curve_draws_any_quantity_of_clusters():
    inputs = replica.Clusters(0.3)
    ax = plotting.plot_curve([0.5, 2.0], 0.0, 0.1, inputs=inputs, quantity="train_error_rate")
    expected = replica.solve_clusters([0.5, 2.0], 0.1, inputs=inputs).train_error_rate
    np.testing.assert_array_equal(curves_of(ax)[0].get_ydata(), expected)
    with pytest.raises(ValueError, match="no teacher"):
        plotting.plot_curve([0.5], 0.0, inputs=inputs, teacher="sign", quantity="gamma")


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
        ([0.5, 1.0], 0.25, {"student": "gelu"}),
        ([0.5, 1.0], 0.25, {"student": "tanh", "theory": "published"}),
        ([0.5, 1.0], 0.25, {"theory": "exact"}),
        ([0.5, 1.0], 0.25, {"quantity": "overlap"}),
    ):
        with pytest.raises(ValueError, match=r"alpha|S |label|student|theory|quantity"):
            plotting.plot_curve(alpha, S, ax=ax, **options)
    assert ax.get_lines() == []


def test_plot_curve_of_no_points_is_an_empty_line():
    (line,) = curves_of(plotting.plot_curve([], 0.25))
    assert len(line.get_xdata()) == 0


# --- the picture as a whole: measured after layout, in inches -------------------------------------

LEAKY = [replica.LeakyReLU(0.1), replica.LeakyReLU(0.02)]
CALLS = {
    "one curve": {"S": 0.25},
    "short names": {"S": 0.25, "zeta": [0, 1 / 64, 0.25], "student": "relu"},
    "two columns fit": {"S": 0.25, "zeta": [0, 1 / 64, 0.25], "student": ["linear", "relu"]},
    "two columns do not fit": {
        "S": [0, 0.25],
        "zeta": [0, 1 / 64],
        "student": ["linear", "relu"],
        "theory": "published",
    },
    "long names": {"S": [0.123456, 0.234567], "zeta": [0.1234567, 0.5], "student": LEAKY},
    "two long names": {"S": 0.123456, "zeta": 0.2345678, "student": LEAKY},
    "ten curves": {"S": 0.25, "zeta": np.linspace(0, 1, 10)},
    "long title": {"S": 0.123456, "zeta": 0.1234567, "student": replica.LeakyReLU(0.123456)},
    "long title, published": {"S": 0.123456, "zeta": 0.1234567, "theory": "published"},
    "any student": {"S": 0.25, "zeta": [0.1, 1.0], "student": ["relu", "erf", np.tanh]},
    "thirty decays": {"S": 0.25, "zeta": np.geomspace(1e-3, 1, 30)},
    "decays from zero": {
        "S": 0.25,
        "zeta": [0, *np.geomspace(1e-3, 1, 9)],
        "student": ["linear", "relu"],
    },
    "noises and decays": {"S": np.linspace(0, 1, 11), "zeta": [0, 0.25, 0.5, 1]},
    "slopes": {"S": 0.25, "zeta": 0.5, "student": [*map(replica.LeakyReLU, ALPHA[:10]), "relu"]},
    "one color": {"S": 0.25, "zeta": np.linspace(0, 1, 12), "c": "black"},
}


def inches(figure, artist):
    return artist.get_window_extent().transformed(figure.dpi_scale_trans.inverted())


def assert_well_laid_out(figure):
    """Nothing is cut, nothing overlaps, and the data have their room."""
    figure.draw_without_rendering()
    whole = figure.bbox_inches
    for ax in figure.axes:
        box = inches(figure, ax)
        to_inches = figure.dpi_scale_trans.inverted()
        boxes = [axis.get_tightbbox() for axis in (ax.xaxis, ax.yaxis)]
        parts = [part.transformed(to_inches) for part in boxes if part is not None]
        parts += [inches(figure, text) for text in (ax.title, ax._left_title) if text.get_text()]
        legend = ax.get_legend()
        if legend is not None:
            place = inches(figure, legend)
            inside = box.padded(0.01)
            if not (inside.contains(*place.min) and inside.contains(*place.max)):
                for part in [box, *parts]:
                    assert not place.overlaps(part), f"the legend {place} covers {part}"
            parts.append(place)
        for part in [box, *parts]:
            assert part.x0 >= whole.x0, f"cut on the left: {part}"
            assert part.x1 <= whole.x1, f"cut on the right: {part}"
            assert part.y0 >= whole.y0, f"cut below: {part}"
            assert part.y1 <= whole.y1, f"cut above: {part}"
    for one, other in itertools.combinations(figure.axes, 2):
        assert not one.get_tightbbox().overlaps(other.get_tightbbox())


@pytest.mark.parametrize("name", CALLS)
def test_plot_curve_leaves_the_data_their_room(name):
    ax = plotting.plot_curve(ALPHA, **CALLS[name])
    assert_well_laid_out(ax.figure)
    box = inches(ax.figure, ax)
    assert box.height > 2.7, "of the 3.7 that the figure has without a legend"
    assert box.width > 3.2, "of 5, and with a color bar beside it"


def test_assert_well_laid_out_notices_what_is_wrong():
    wrong = plotting.plot_curve(ALPHA, [0.0, 0.5])
    wrong.legend(bbox_to_anchor=(1.0, 0.5))
    wrong.figure.set_layout_engine("none")
    with pytest.raises(AssertionError, match="cut"):
        assert_well_laid_out(wrong.figure)
    wrong.legend(loc="center", bbox_to_anchor=(0.1, 0.5))
    with pytest.raises(AssertionError, match="covers"):
        assert_well_laid_out(wrong.figure)


def test_plot_curve_again_on_its_axes_grows_the_figure_once():
    ax = plotting.plot_curve(ALPHA, [0.1, 0.2], [0.5, 1.0])
    plotting.plot_curve(ALPHA, [0.3], [0.5, 1.0], ax=ax)
    height = ax.figure.get_figheight()
    plotting.plot_curve([0.5], [0.3], ax=ax, label="_hidden")
    assert ax.figure.get_figheight() == height
    assert_well_laid_out(ax.figure)


def test_plot_curve_figure_keeps_a_size_set_by_hand():
    ax = plotting.plot_curve(ALPHA, [0.1, 0.2], [0.5, 1.0])
    ax.figure.set_size_inches(6.0, 5.0)
    plotting.plot_curve(ALPHA, 0.3, [0.5, 1.0], ax=ax)
    assert_well_laid_out(ax.figure)
    assert ax.figure.get_size_inches().tolist() == [6.0, 5.0]


def test_plot_curve_widens_the_figure_for_a_name_that_is_wider():
    _, ax = plotting.new_axes()
    for number in range(2):
        plotting.plot_curve(ALPHA, 0.25, ax=ax, label=f"{number} " + "a long story " * 8)
    assert_well_laid_out(ax.figure)
    assert ax.figure.get_figwidth() > 5.0


def test_plot_curve_on_axes_of_others_does_not_cut_its_legend():
    from matplotlib.figure import Figure

    for layout in ("constrained", None):
        figure = Figure(figsize=(5, 5), layout=layout)
        ax = figure.subplots()
        plotting.plot_curve(ALPHA, [0.1, 0.25], [0, 1 / 64], student=["linear", "relu"], ax=ax)
        assert_well_laid_out(figure)
        assert figure.get_size_inches().tolist() == [5.0, 5.0]
    ax = Figure(figsize=(8, 5), layout="constrained").subfigures(1, 2)[0].subplots()
    plotting.plot_curve(ALPHA, [0.1, 0.25], [0, 1 / 64], ax=ax)  # a subfigure has no inches


def test_plot_figure1_is_well_laid_out():
    assert_well_laid_out(plot_figure1())


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_savefig_writes_what_save_figure_writes(kind, tmp_path, monkeypatch):
    import matplotlib as mpl

    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    for name, value in (("text.usetex", True), ("pdf.fonttype", 3), ("font.size", 20.0)):
        monkeypatch.setitem(mpl.rcParams, name, value)  # whatever the user's settings are
    files = [tmp_path / f"{name}.{kind}" for name in ("method", "function", "copy")]
    first, second = (plotting.plot_curve(ALPHA, [0.1, 0.25], [0, 0.5]).figure for _ in range(2))
    first.savefig(files[0])
    plotting.save_figure(second, files[1])
    pickle.loads(pickle.dumps(second)).savefig(files[2])
    contents = [file.read_bytes() for file in files]
    assert contents[0] == contents[1]
    assert contents[0] == contents[2]


def test_savefig_cropped_keeps_the_legend():
    ax = plotting.plot_curve(ALPHA, [0.1, 0.25], [0, 1 / 64])
    whole, cropped = io.BytesIO(), io.BytesIO()
    ax.figure.savefig(whole)
    ax.figure.savefig(cropped, bbox_inches="tight")  # as notebooks do
    heights = [matplotlib.image.imread(file).shape[0] for file in map(_rewound, (whole, cropped))]
    assert heights[1] > heights[0] - 60


def _rewound(file):
    file.seek(0)
    return file


# --- many curves ----------------------------------------------------------------------------------


def test_plot_curve_of_many_decays_has_a_color_bar():
    zeta = np.geomspace(1e-3, 1.0, 12)
    ax = plotting.plot_curve(ALPHA, 0.25, zeta, student=["linear", "relu"])
    assert len(curves_of(ax)) == 24
    (_, bar) = ax.figure.axes
    assert "decay" in bar.get_ylabel()
    assert bar.get_yscale() == "log"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "linear student",
        "relu student",
    ]
    colors = {line.get_color() for line in curves_of(ax)}
    assert len(colors) == 12
    assert len({str(line.get_linestyle()) for line in curves_of(ax)}) == 2
    assert ax.get_ylim()[1] < 5.0, "the peak of one curve does not press the others flat"


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.1, 0.2, 0.3], "linear"),
        (np.linspace(0.001, 1, 30), "linear"),
        (np.geomspace(0.001, 1, 30), "log"),
        ([0, *np.geomspace(0.001, 1, 30)], "symlog"),
        ([0.0] * 12, "linear"),
    ],
)
def test_norm_of_the_color_bar_follows_the_values(values, scale):
    from matplotlib.colors import LogNorm, Normalize, SymLogNorm

    norm = plotting._norm(np.asarray(values, dtype=float))
    assert type(norm) is {"linear": Normalize, "log": LogNorm, "symlog": SymLogNorm}[scale]
    assert (norm.vmin, norm.vmax) == (min(values), max(values))


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"colour": "red"}, "no argument 'colour'; did you mean color"),
        ({"studnet": "relu"}, "no argument 'studnet'; did you mean student"),
        ({"qqqq": 1}, "no argument 'qqqq'$"),
        ({"linewidth": "fat"}, "not the property of a line"),
        ({"c": "red", "color": "red"}, "aliases"),
    ],
)
def test_plot_curve_unknown_argument_is_an_error_of_ours(line, message):
    _, ax = plotting.new_axes()
    with pytest.raises((replica.ArgumentError, replica.ArgumentTypeError), match=message):
        plotting.plot_curve(ALPHA, 0.25, ax=ax, **line)
    assert not ax.get_lines()


def test_plot_curve_takes_short_names_of_line_properties():
    (line,) = curves_of(plotting.plot_curve(ALPHA, 0.25, 0.5, c="red", lw=3.0))
    assert (line.get_color(), line.get_linewidth()) == ("red", 3.0)


@pytest.mark.parametrize(
    ("word", "meant"),
    [("Relu", "relu"), ("rel", "relu"), ("lineer", "linear"), ("perceptron", None), ("", None)],
)
def test_unknown_students_are_told_what_was_meant(word, meant):
    with pytest.raises(replica.ArgumentError) as caught:
        plotting.plot_curve(ALPHA, 0.25, student=word)
    assert str(caught.value).endswith(f"; did you mean {meant}?") == (meant is not None)


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
    left, right = plot_figure1().axes
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
