"""Figures on matplotlib, without pyplot and its global state, so that no display is needed.

`new_axes`, `line_style`, `finish_axes` and `save_figure` are the house style, for every figure of
the package: colors that color-blind readers tell apart (Okabe and Ito), and a line pattern and
a marker for each, so that a black-and-white print is legible too.

May import the front door (`generalization`); nothing here computes physics.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._validation import real_array
from .students import as_student

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from .students import LeakyReLU

__all__ = [
    "draw_curve",
    "finish_axes",
    "line_style",
    "new_axes",
    "plot_curve",
    "save_figure",
]

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
BLACK, PURPLE, ORANGE, SKY = "#000000", "#CC79A7", "#E69F00", "#56B4E9"

_COLORS = (BLUE, VERMILION, GREEN, BLACK, PURPLE, ORANGE, SKY)
_PATTERNS: tuple[Any, ...] = (
    "-",
    (0, (6, 2)),
    (0, (1.2, 1.4)),
    (0, (6, 1.6, 1.2, 1.6)),
    (0, (3, 1.3)),
    (0, (8, 1.6, 1.2, 1.6, 1.2, 1.6)),
    (0, (12, 2.5)),
)
_MARKERS = "os^DvPX"

# Type sizes for a figure printed at its own size, in a column or across a page.
_STYLE: dict[Any, Any] = {
    "font.size": 10.0,
    "axes.labelsize": 11.0,
    "axes.titlesize": 11.0,
    "legend.fontsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,  # text stays text: searchable, editable
    "svg.fonttype": "none",
}

LOAD_LABEL = r"load  $\alpha = P/N$"
ERROR_LABEL = r"generalization error  $\epsilon_{\mathrm{gen}}$"


def new_axes(columns: int = 1, *, width: float = 5.0, height: float = 3.7) -> tuple[Figure, Any]:
    """Return a new figure in the house style and its axes.

    Parameters
    ----------
    columns : int
        Number of panels, side by side.
    width, height : float
        Size of one panel in inches.

    Returns
    -------
    figure : matplotlib.figure.Figure
        Without pyplot: it needs no display.
    axes : matplotlib.axes.Axes or ndarray of them
        An array if `columns` > 1.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width * columns, height), layout="constrained")
        return figure, figure.subplots(1, columns)


def line_style(index: int, **overrides: Any) -> dict[str, Any]:
    """Return the color, line pattern and marker of the curve number `index` of a panel.

    Parameters
    ----------
    index : int
        Number of the curve, from 0; the first 49 all look different.
    **overrides
        Matplotlib line properties in place of the house style.

    Returns
    -------
    dict
        Keyword arguments for ``Axes.plot``.

    Examples
    --------
    >>> line_style(0, linewidth=1.0)["color"]
    '#0072B2'
    """
    turn = index // len(_COLORS)
    style = {
        "color": _COLORS[index % len(_COLORS)],
        "linestyle": _PATTERNS[(index + turn) % len(_PATTERNS)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "markerfacecolor": "white",
    }
    return {**style, **overrides}


def finish_axes(
    ax: Axes,
    *,
    xlabel: str,
    ylabel: str,
    title: str | None = None,
    legend: Literal["inside", "below", "none"] | None = None,
) -> Axes:
    """Label `ax`, lay a faint grid under the data and, given labeled curves, add a legend.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        The panel.
    xlabel, ylabel, title : str
        Labels of the axes; the title is optional.
    legend : {"inside", "below", "none"}, optional
        Where it goes. By default one labeled curve has no legend, a few have it inside the axes
        and more below.

    Returns
    -------
    matplotlib.axes.Axes
        The same panel.
    """
    from matplotlib import rc_context
    from matplotlib.transforms import ScaledTranslation

    with rc_context(_STYLE):
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel)
        if title is not None:
            ax.set_title(title, loc="left")
        ax.grid(True, color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
        handles, _ = ax.get_legend_handles_labels()
        if legend is None:
            legend = "none" if len(handles) < 2 else "inside" if len(handles) <= 3 else "below"
        # Long handles, or the line patterns cannot be told apart.
        options: dict[str, Any] = {"handlelength": 3.6, "edgecolor": "none", "framealpha": 0.92}
        if legend == "below":
            # 34 points down, past tick labels and axis label, however tall the axes are.
            down = ScaledTranslation(0.0, -34.0 / 72.0, ax.figure.dpi_scale_trans)
            options |= {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "ncols": 2}
            options["bbox_transform"] = ax.transAxes + down
        if legend != "none":
            ax.legend(**options)
    return ax


def save_figure(figure: Any, path: str | Path, *, dpi: float = 160) -> Path:
    """Write a figure to a file.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What to write.
    path : str or Path
        Where; the suffix decides the format.
    dpi : float
        Resolution of a raster format.

    Returns
    -------
    Path
        The path.
    """
    from matplotlib import rc_context

    with rc_context(_STYLE):
        figure.savefig(path, dpi=dpi)
    return Path(path)


def draw_curve(
    ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64], *, index: int = 0, **line: Any
) -> None:
    """Draw `y` over `x` as the curve number `index`: gaps at NaN, a mark at each divergence.

    Where `y` is infinite the line is interrupted and a triangle sits at the top of the axes. The
    y axis is then limited to the bulk of the data, as it is when a finite peak dwarfs the rest.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        The panel.
    x, y : ndarray
        The curve; NaN and inf are allowed in `y`.
    index : int
        Number of the curve, which decides its style.
    **line
        Matplotlib line properties in place of the house style.
    """
    style = line_style(index, **line)
    style.setdefault("markevery", _sparse(len(x), index))
    ax.plot(x, np.where(np.isfinite(y), y, np.nan), **style)
    infinite = np.isposinf(y)
    if infinite.any():
        ax.plot(
            x[infinite],
            np.full(infinite.sum(), _MARK_HEIGHT),
            linestyle="none",
            marker="^",
            markersize=7,
            color=style["color"],
            transform=ax.get_xaxis_transform(),  # x in data, y in axes: 1 is the upper edge
            zorder=5,
            gid=_DIVERGENCE,
        )
        for position in x[infinite]:
            ax.annotate(
                "∞",
                (position, _MARK_HEIGHT),
                xytext=(0.0, -10.0),
                xycoords=ax.get_xaxis_transform(),
                textcoords="offset points",
                ha="center",
                va="center",
                color=style["color"],
                annotation_clip=False,
            )
    _limit_peaks(ax)


_DIVERGENCE = "divergence"
_MARK_HEIGHT = 0.965  # of the axes: just below the upper edge


def _sparse(size: int, index: int) -> list[int]:
    """Indices of about eight points to mark, shifted from one curve to the next."""
    step = max(size // 8, 1)
    return list(range((index * step * 2 // 7) % step, size, step))


def _curves(ax: Axes) -> list[Line2D]:
    return [line for line in ax.get_lines() if line.get_gid() != _DIVERGENCE]


def _limit_peaks(ax: Axes) -> None:
    """Limit the y axis to the bulk of the curves where a peak would press them flat."""
    if not ax.get_autoscaley_on():
        return  # the user has chosen the limits
    curves = _curves(ax)
    diverges = len(curves) < len(ax.get_lines())
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in curves])
    values = values[np.isfinite(values)]
    if values.size == 0:
        return
    bulk, peak, lowest = np.quantile(values, 0.9), values.max(), values.min()
    if bulk > 0 and (peak > 3.0 * bulk or (diverges and peak > 1.5 * bulk)):
        top = 1.6 * bulk
        bottom = lowest - 0.05 * (top - lowest)
        ax.set_ylim(bottom if lowest < 0 else max(bottom, 0.0), top, auto=True)


def plot_curve(
    alpha: ArrayLike,
    S: ArrayLike,
    zeta: ArrayLike = 0.0,
    *,
    student: Any = "linear",
    theory: str = "replica",
    ax: Axes | None = None,
    label: str | None = None,
    **line: Any,
) -> Axes:
    """Plot the generalization error over the load, one curve per (student, S, zeta).

    Parameters
    ----------
    alpha : array_like, one-dimensional
        Loads P/N, in the order in which the line is drawn. alpha > 0.
    S, zeta : float or one-dimensional array_like
        Variance of the teacher's noise and strength of the decay (sum convention). Each
        combination of their elements is a curve.
    student : "linear", "relu", `LeakyReLU`, or a list of these
        See `replica.gen_error`.
    theory : {"replica", "published"}
        See `replica.gen_error`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure (``ax.figure``), which needs no display and has
        a logarithmic load axis if `alpha` is evenly spaced in the logarithm.
    label : str, optional
        Legend entry, when there is a single curve; by default student, S and zeta (in a new
        figure the title has those that all curves share).
    **line
        Properties of the lines (color, linestyle, marker, ...) in place of the house style.

    Returns
    -------
    matplotlib.axes.Axes
        With labeled axes. Where the error is infinite, at the interpolation threshold, the line
        is interrupted and a triangle at the upper edge marks the divergence.

    Raises
    ------
    TypeError, ValueError
        As `replica.gen_error`; or if `alpha` is not one-dimensional, or if `label` is given
        together with more than one curve.

    Examples
    --------
    >>> ax = plot_curve([0.5, 1.0, 2.0], 0.25, [0.0, 0.25])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['ζ = 0', 'ζ = 0.25']
    >>> ax.get_title(loc="left")
    'linear student, S = 0.25'
    >>> ax.figure.savefig("curve.pdf")  # doctest: +SKIP
    """
    from .generalization import gen_error

    loads = real_array("alpha", alpha)
    if loads.ndim != 1:
        raise ValueError(f"alpha must be one-dimensional, got shape {loads.shape}")
    students = [
        as_student(s) for s in (student if isinstance(student, list | tuple) else [student])
    ]
    noises, decays = (np.atleast_1d(real_array(n, v)) for n, v in (("S", S), ("zeta", zeta)))
    if noises.ndim > 1 or decays.ndim > 1:
        raise ValueError("S and zeta must be numbers or one-dimensional")
    curves: list[tuple[LeakyReLU, float, float]]
    curves = list(product(students, noises.tolist(), decays.tolist()))
    if not curves:
        raise ValueError("student, S and zeta must not be empty")
    if label is not None and len(curves) != 1:
        raise ValueError(f"label names a single curve, got {len(curves)} curves")

    # Everything is computed before anything is drawn: bad input leaves `ax` as it was.
    errors = [np.asarray(gen_error(loads, s, z, student=g, theory=theory)) for g, s, z in curves]
    named = [_names(*curve, theory) for curve in curves]
    shared: list[str] = []
    axes = ax
    if axes is None:
        _, axes = new_axes()
        if _is_logarithmic(loads):
            axes.set_xscale("log")
        # Curves that others will join keep their full names; here the title says what is common.
        shared = [part for part in named[0] if all(part in parts for parts in named)]
    first = len(_curves(axes))
    for i, (parts, error) in enumerate(zip(named, errors, strict=True)):
        full = len(curves) == 1 or not shared
        name = label or ", ".join(part for part in parts if full or part not in shared)
        draw_curve(axes, loads, error, index=first + i, label=name, **line)
    return finish_axes(
        axes, xlabel=LOAD_LABEL, ylabel=ERROR_LABEL, title=", ".join(shared) if shared else None
    )


def _names(student: LeakyReLU, S: float, zeta: float, theory: str) -> tuple[str, str, str]:
    """The parts of a curve's name, for the legend or the title."""
    origin = " student (published theory)" if theory == "published" else " student"
    return f"{student.name}{origin}", f"S = {S:.6g}", f"ζ = {zeta:.6g}"


def _is_logarithmic(grid: NDArray[np.float64]) -> bool:
    """Whether the points are evenly spaced in the logarithm, as a reader would plot them."""
    if grid.size < 3:
        return False
    steps = np.diff(np.log(grid))
    return bool(np.allclose(steps, steps[0]) and not np.allclose(steps, 0.0))


# The curves of the paper's figure 1, panel by panel: legend entry, arguments of `gen_error`, line.
# In panel (b) the paper has simulations in place of the replica curves, and the noiseless bound
# is its closed form at S = 0; the replica solution of the same problem is drawn beside it.
_FIGURE1_S = 0.25
_FIGURE1 = {
    "(a) linear student, S = 0.25": (
        ("vanilla SGD, ζ = 0", {}, 0),
        ("ζ = 1/64", {"zeta": 1 / 64}, 2),
        ("ζ = 0.25", {"zeta": 0.25}, 1),
    ),
    "(b) ReLU student, S = 0.25": (
        ("published, ζ = 0", {"theory": "published"}, 4),
        ("replica, ζ = 0", {}, 0),
        ("replica, ζ = 1/64", {"zeta": 1 / 64}, 2),
        ("replica, ζ = 0.25", {"zeta": 0.25}, 1),
        ("published, S = 0", {"theory": "published", "S": 0.0}, 5),
        ("replica, S = 0", {"S": 0.0}, 3),
    ),
}
_FIGURE1_STUDENTS = ("linear", "relu")


def figure1_curves(alpha: ArrayLike) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return the curves of the paper's figure 1 at the loads `alpha`, by panel and legend entry."""
    from .generalization import gen_error

    panels = {}
    for (panel, curves), student in zip(_FIGURE1.items(), _FIGURE1_STUDENTS, strict=True):
        panels[panel] = {
            name: np.asarray(gen_error(alpha, **({"S": _FIGURE1_S} | problem), student=student))
            for name, problem, _ in curves
        }
    return panels


def plot_figure1() -> Figure:
    """Draw the theory curves of the paper's figure 1, both panels, and return the figure.

    Examples
    --------
    >>> [ax.get_title(loc="left") for ax in plot_figure1().axes]
    ['(a) linear student, S = 0.25', '(b) ReLU student, S = 0.25']
    """
    from .equilibrium import interpolation_threshold
    from .generalization import gen_error

    # In hundredths, so that the divergences at 1 and 2 are points of the grid.
    alpha = np.arange(2, 401) / 100.0
    peak_load = float(interpolation_threshold(_FIGURE1_S, student="relu"))
    peak = gen_error(peak_load, _FIGURE1_S, student="relu")
    figure, axes = new_axes(2, height=4.2)
    for ax, (panel, curves), definitions in zip(
        axes, figure1_curves(alpha).items(), _FIGURE1.values(), strict=True
    ):
        for (name, values), (_, _, index) in zip(curves.items(), definitions, strict=True):
            draw_curve(ax, alpha, values, index=index, label=name)
        finish_axes(ax, xlabel=LOAD_LABEL, ylabel=ERROR_LABEL, title=panel, legend="below")
    axes[1].annotate(
        f"peak {peak:.2f}",
        (peak_load, _MARK_HEIGHT),
        xytext=(-7.0, 0.0),
        xycoords=axes[1].get_xaxis_transform(),
        textcoords="offset points",
        ha="right",
        va="center",
        color=line_style(0)["color"],
        fontsize=8.5,
    )
    return figure
