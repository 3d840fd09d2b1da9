"""Figures on matplotlib, without pyplot and its global state, so that no display is needed.

`new_axes`, `line_style`, `finish_axes` and `save_figure` are the house style, for every figure of
the package: colors that color-blind readers tell apart (Okabe and Ito), and a line pattern and
a marker for each, so that a black-and-white print is legible too.

May import the front door (`generalization`); nothing here computes physics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._core.arguments import ArgumentError, ArgumentTypeError, real_array
from ._core.suggest import suggestion
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

LOAD_LABEL = r"load  $\alpha = P/N$"
ERROR_LABEL = r"generalization error  $\epsilon_{\mathrm{gen}}$"

_DPI = 160.0


def new_axes(columns: int = 1, *, width: float = 5.0, height: float = 3.7) -> tuple[Figure, Any]:
    """Return a new figure in the house style and its axes.

    Parameters
    ----------
    columns : int
        Number of panels, side by side.
    width, height : float
        Size of one panel in inches, without a legend below it: the figure grows by that.

    Returns
    -------
    figure : matplotlib.figure.Figure
        Without pyplot: it needs no display. ``figure.savefig(path)`` writes what
        `save_figure` writes.
    axes : matplotlib.axes.Axes or ndarray of them
        An array if `columns` > 1.
    """
    from matplotlib import rc_context

    from ._core.legend_band import STYLE, HouseFigure, LegendLayout

    size = width * columns, height
    with rc_context(STYLE):
        figure = HouseFigure(figsize=size, dpi=_DPI, layout=LegendLayout(size))
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
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    turn = index // len(_COLORS)
    style = {
        "color": _COLORS[index % len(_COLORS)],
        "linestyle": _PATTERNS[(index + turn) % len(_PATTERNS)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "markerfacecolor": "white",
    }
    return {**style, **normalize_kwargs(overrides, Line2D)}  # `c` and `lw` have long names


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
        Where it goes. By default one labeled curve has no legend, a few with short names have it
        inside the axes and others below. Below, it has two columns where they fit, and a figure
        of `new_axes` grows by it.

    Returns
    -------
    matplotlib.axes.Axes
        The same panel.
    """
    from matplotlib import rc_context

    from ._core.legend_band import STYLE, axes_width, fold

    with rc_context(STYLE):
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel)
        if title is not None:
            fold(ax.set_title(title, loc="left"), axes_width(ax))
        ax.grid(True, color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
        if legend != "none":
            _add_legend(ax, legend)
    return ax


def _add_legend(ax: Axes, where: str | None) -> None:
    """Give `ax` a legend "inside" or "below"; None: whichever suits the curves, or none."""
    from matplotlib.transforms import ScaledTranslation

    from ._core.legend_band import HouseFigure, LegendLayout, axes_width, best_columns, size_of

    # Long handles, or the line patterns cannot be told apart.
    options: dict[str, Any] = {"handlelength": 3.6, "edgecolor": "none", "framealpha": 0.92}
    options["columnspacing"] = 1.2
    layout: Any = ax.figure.get_layout_engine()  # type: ignore[union-attr]
    if where is None:
        count = len(ax.get_legend_handles_labels()[0])
        if count < 2:
            return
        where = "inside" if count <= 3 else "below"
        if where == "inside" and size_of(ax.legend(**options))[0] > _INSIDE * axes_width(ax):
            where = "below"
        if layout is None:  # nobody would make room below
            where = "inside"
    if where == "inside":
        ax.legend(**options)
        return
    options |= {"loc": "upper center", "borderaxespad": 0.0}
    if isinstance(layout, LegendLayout) and isinstance(ax.figure, HouseFigure):
        layout.add(ax, **options)
        return
    # 34 points down, past tick labels and axis label, however tall the axes are.
    down = ScaledTranslation(0.0, -34.0 / 72.0, ax.figure.dpi_scale_trans)
    options |= {"bbox_to_anchor": (0.5, 0.0), "bbox_transform": ax.transAxes + down}
    best_columns(ax, axes_width(ax), **options)


_INSIDE = 0.6  # of the width of the axes: a wider legend would cover the curves


def save_figure(figure: Any, path: str | Path, *, dpi: float = _DPI) -> Path:
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

    from ._core.legend_band import STYLE

    with rc_context(STYLE):
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
    from matplotlib import rc_context

    from ._core.legend_band import STYLE

    with rc_context(STYLE):
        _draw_curve(ax, x, y, index, line)


def _draw_curve(
    ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64], index: int, line: dict[str, Any]
) -> None:
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


_DIVERGENCE, _KEY = "divergence", "key"  # lines that are no curves
_MARK_HEIGHT = 0.965  # of the axes: just below the upper edge


def _sparse(size: int, index: int) -> list[int]:
    """Indices of about eight points to mark, shifted from one curve to the next."""
    step = max(size // 8, 1)
    return list(range((index * step * 2 // 7) % step, size, step))


def _curves(ax: Axes) -> list[Line2D]:
    return [line for line in ax.get_lines() if line.get_gid() not in (_DIVERGENCE, _KEY)]


def _limit_peaks(ax: Axes) -> None:
    """Limit the y axis to the bulk of the curves where a peak would press them flat."""
    if not ax.get_autoscaley_on():
        return  # the user has chosen the limits
    curves = _curves(ax)
    diverges = any(line.get_gid() == _DIVERGENCE for line in ax.get_lines())
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
    batch_size: int | None = None,
    statistics: str | None = None,
    ax: Axes | None = None,
    label: str | None = None,
    **line: Any,
) -> Axes:
    """Plot the generalization error over the load, one curve per (student, S, zeta).

    More than ten curves are told apart by color: a color bar shows the parameter that has the
    most values, and line patterns show the others.

    Parameters
    ----------
    alpha : array_like, one-dimensional
        Loads P/N, in the order in which the line is drawn. alpha > 0.
    S, zeta : float or one-dimensional array_like
        Variance of the teacher's noise and strength of the decay (sum convention). Each
        combination of their elements is a curve.
    student : "linear", "relu", `LeakyReLU`, or a list of these
        See `replica.gen_error`.
    theory : {"replica", "published", "batch_norm"}
        See `replica.gen_error`.
    batch_size, statistics : optional
        With ``theory="batch_norm"``, see `replica.gen_error`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure (``ax.figure``), which needs no display and has
        a logarithmic load axis if `alpha` is evenly spaced in the logarithm.
    label : str, optional
        Legend entry, when there is a single curve; by default student, S and zeta (in a new
        figure the title has those that all curves share).
    **line
        Properties of the lines (color, linestyle, marker, ...) in place of the house style; one
        color for all leaves no color bar.

    Returns
    -------
    matplotlib.axes.Axes
        With labeled axes. Where the error is infinite, at the interpolation threshold, the line
        is interrupted and a triangle at the upper edge marks the divergence.

    Raises
    ------
    TypeError, ValueError
        As `replica.gen_error`; or if `alpha` is not one-dimensional, if `label` is given
        together with more than one curve, or if `line` is no property of a line.

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
        raise ArgumentError(f"alpha must be one-dimensional, got shape {loads.shape}")
    students = [
        as_student(s) for s in (student if isinstance(student, list | tuple) else [student])
    ]
    noises, decays = (np.atleast_1d(real_array(n, v)) for n, v in (("S", S), ("zeta", zeta)))
    if noises.ndim > 1 or decays.ndim > 1:
        raise ArgumentError("S and zeta must be numbers or one-dimensional")
    curves: list[tuple[LeakyReLU, float, float]]
    curves = list(product(students, noises.tolist(), decays.tolist()))
    if not curves:
        raise ArgumentError("student, S and zeta must not be empty")
    if label is not None and len(curves) != 1:
        raise ArgumentError(f"label names a single curve, got {len(curves)} curves")

    line = _check_line(line)

    # Everything is computed before anything is drawn: bad input leaves `ax` as it was.
    options = {"theory": theory, "batch_size": batch_size, "statistics": statistics}
    errors = [np.asarray(gen_error(loads, s, z, student=g, **options)) for g, s, z in curves]
    origin = _ORIGIN.get(theory, "").format(M=batch_size)
    suffix = f" ({origin})" if origin else ""
    named = [(f"{g.name} student{suffix}", f"S = {s:.6g}", f"ζ = {z:.6g}") for g, s, z in curves]
    axes, title = ax, None
    shared: list[str] = []
    if axes is None:
        _, axes = new_axes()
        if _is_logarithmic(loads):
            axes.set_xscale("log")
        # The title says what all curves have in common, the legend the rest.
        shared = [part for part in named[0] if all(part in parts for parts in named)]
        title = ", ".join(shared if origin in ", ".join(shared) else [origin, *shared])

    def name(parts: Iterable[str]) -> str:
        if ax is not None or len(curves) == 1:  # others are there, or may come
            return ", ".join(parts)
        return ", ".join(part.removesuffix(suffix) for part in parts if part not in shared)

    if len(curves) > _MOST_NAMED and "color" not in line:
        _draw_family(axes, loads, curves, errors, named, name, line)
    else:
        first = len(_curves(axes))
        for i, (parts, error) in enumerate(zip(named, errors, strict=True)):
            draw_curve(axes, loads, error, index=first + i, label=label or name(parts), **line)
    return finish_axes(axes, xlabel=LOAD_LABEL, ylabel=ERROR_LABEL, title=title or None)


_ORIGIN = {"published": "published theory", "batch_norm": "batch norm, M = {M}"}
_MOST_NAMED = 10  # curves in a legend that a reader can still tell apart


def _check_line(line: dict[str, Any]) -> dict[str, Any]:
    """Return line properties by their long names, after matplotlib has accepted them."""
    from inspect import signature

    from matplotlib.artist import ArtistInspector
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    known = ArtistInspector(Line2D).get_setters()
    try:
        properties = normalize_kwargs(line, Line2D)
    except TypeError as error:  # two names of one property
        raise ArgumentTypeError(f"plot_curve: {error}") from None
    for name in properties:
        if name not in known:
            hint = suggestion(name, [*signature(plot_curve).parameters, *known])
            raise ArgumentTypeError(f"plot_curve has no argument {name!r}{hint}")
    try:
        Line2D([], [], **properties)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"plot_curve: not the property of a line: {error}") from None
    return properties


def _draw_family(
    ax: Axes,
    loads: NDArray[np.float64],
    curves: list[tuple[LeakyReLU, float, float]],
    errors: list[NDArray[np.float64]],
    named: list[tuple[str, str, str]],
    name: Callable[[Iterable[str]], str],
    line: dict[str, Any],
) -> None:
    """Draw many curves: colors for the parameter with the most values, patterns for the rest."""
    from matplotlib import colormaps, rc_context
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap

    from ._core.legend_band import STYLE

    values = [tuple(g.slope for g, _, _ in curves), *list(zip(*curves, strict=True))[1:]]
    which = max((2, 1, 0), key=lambda i: len(set(values[i])))
    label = ("slope of the student", "noise variance  $S$", r"decay  $\zeta$")[which]
    # Without its last tenth, a yellow that is too faint on white.
    colors = ListedColormap(colormaps["viridis"](np.linspace(0.0, 0.9, 256)))
    scale = ScalarMappable(_norm(np.array(values[which])), colors)
    rest = [tuple(part for i, part in enumerate(parts) if i != which) for parts in named]
    kinds = list(dict.fromkeys(rest))
    if len(kinds) <= len(_PATTERNS):
        line = {"marker": "none"} | line
    with rc_context(STYLE):
        for index, kind in enumerate(kinds if len(kinds) > 1 else []):
            style = {"color": "0.25", "label": name(kind), "gid": _KEY} | line
            style = line_style(index, **style)
            ax.plot([], [], **style)
        for parts, kind, value, error in zip(named, rest, values[which], errors, strict=True):
            style = {"color": scale.to_rgba(value), "label": "_" + ", ".join(parts)} | line
            draw_curve(ax, loads, error, index=kinds.index(kind), **style)
        bar = ax.figure.colorbar(scale, ax=ax, label=label, aspect=30)
        bar.outline.set_visible(False)  # type: ignore[operator]


def _norm(values: NDArray[np.float64]) -> Any:
    """Return how `values` become colors: by their logarithms if they are so distributed."""
    from matplotlib.colors import LogNorm, Normalize, SymLogNorm

    top, positive = float(values.max()), np.unique(values[values > 0.0])
    if positive.size < 3 or np.median(positive) > 0.25 * top:
        return Normalize(float(values.min()), top)
    if values.min() > 0.0:
        return LogNorm(float(positive[0]), top)
    return SymLogNorm(float(positive[0]), vmin=0.0, vmax=top, base=10)


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
    from matplotlib import rc_context

    from ._core.legend_band import STYLE
    from .equilibrium._solve import interpolation_threshold
    from .generalization import gen_error

    # In hundredths, so that the divergences at 1 and 2 are points of the grid.
    alpha = np.arange(2, 401) / 100.0
    peak_load = float(interpolation_threshold(_FIGURE1_S, student="relu"))
    peak = gen_error(peak_load, _FIGURE1_S, student="relu")
    figure, axes = new_axes(2, height=3.5)
    for ax, (panel, curves), definitions in zip(
        axes, figure1_curves(alpha).items(), _FIGURE1.values(), strict=True
    ):
        for (name, values), (_, _, index) in zip(curves.items(), definitions, strict=True):
            draw_curve(ax, alpha, values, index=index, label=name)
        finish_axes(ax, xlabel=LOAD_LABEL, ylabel=ERROR_LABEL, title=panel, legend="below")
    with rc_context(STYLE):
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
