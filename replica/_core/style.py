"""The house style of all figures: colors, line patterns, labels, legends, files.

Colors that color-blind readers tell apart (Okabe and Ito), and a line pattern and a marker for
each, so that a black-and-white print is legible too. Without pyplot and its global state, so that
no display is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .arguments import ArgumentError, ArgumentTypeError
from .suggest import suggestion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = [
    "check_line",
    "draw_curve",
    "finish_axes",
    "line_style",
    "new_axes",
    "save_figure",
]

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
BLACK, PURPLE, ORANGE, SKY = "#000000", "#CC79A7", "#E69F00", "#56B4E9"

# In the order of the curves of a panel.
COLORS = (BLUE, VERMILION, GREEN, BLACK, PURPLE, ORANGE, SKY)
# Lengths of dashes and gaps in line widths, one pattern for each color.
PATTERNS: tuple[str | tuple[int, tuple[float, ...]], ...] = (
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
#: How quantities are called on an axis; others by their name.
LABELS = {
    "alpha": LOAD_LABEL,
    "gen_error": ERROR_LABEL,
    "S": "noise variance  $S$",
    "zeta": r"decay  $\zeta$",
    "beta": r"inverse temperature  $\beta$",
    "gamma": r"$\gamma$",
    "R": "$R$",
    "L": "$L$",
    "q": "$q$",
    "chi": r"susceptibility  $\chi$",
    "train_error": "training error",
    "energy": "energy per weight",
    "one_minus_R": "$1 - R$",
    "t": "$t$ = samples / $N$",
    "epoch": "epoch",
}

#: Arguments in the legend of curves; others by their name.
SYMBOLS = {"alpha": "α", "beta": "β", "gamma": "γ", "zeta": "ζ"}

# Of raster files: sharp on a screen of twice the usual density, too.
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

    from .legend_band import STYLE, HouseFigure, LegendLayout

    size = width * columns, height
    with rc_context(STYLE):
        figure = HouseFigure(figsize=size, dpi=_DPI, layout=LegendLayout(size))
        return figure, figure.subplots(1, columns)


def line_style(index: int, **overrides: object) -> dict[str, Any]:
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

    turn = index // len(COLORS)
    style = {
        "color": COLORS[index % len(COLORS)],
        "linestyle": PATTERNS[(index + turn) % len(PATTERNS)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "markerfacecolor": "white",
    }
    return {**style, **normalize_kwargs(overrides, Line2D)}  # `c` and `lw` have long names


def check_line(caller: str, line: dict[str, object], arguments: Iterable[str]) -> dict[str, object]:
    """Return line properties by their long names, after matplotlib has accepted them.

    `arguments` are those of `caller`, which may have been meant by a name that is unknown.
    """
    from matplotlib.artist import ArtistInspector
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    known = ArtistInspector(Line2D).get_setters()
    try:
        properties = normalize_kwargs(line, Line2D)
    except TypeError as error:  # two names of one property
        raise ArgumentTypeError(f"{caller}: {error}") from None
    for name in properties:
        if name not in known:
            hint = suggestion(name, [*arguments, *known])
            raise ArgumentTypeError(f"{caller} has no argument {name!r}{hint}")
    try:
        Line2D([], [], **properties)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"{caller}: not the property of a line: {error}") from None
    return properties


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

    from .legend_band import STYLE, axes_width, fold

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

    from .legend_band import HouseFigure, LegendLayout, axes_width, best_columns, size_of

    # Long handles, or the line patterns cannot be told apart.
    options: dict[str, Any] = {"handlelength": 3.6, "edgecolor": "none", "framealpha": 0.92}
    options["columnspacing"] = 1.2
    layout = ax.figure.get_layout_engine()
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


def save_figure(figure: Figure, path: str | Path, *, dpi: float = _DPI) -> Path:
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

    from .legend_band import STYLE

    with rc_context(STYLE):
        figure.savefig(path, dpi=dpi)
    return Path(path)


def draw_curve(
    ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64], *, index: int = 0, **line: object
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

    from .legend_band import STYLE

    with rc_context(STYLE):
        _draw_curve(ax, x, y, index, line)


def _draw_curve(
    ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64], index: int, line: dict[str, object]
) -> None:
    style = line_style(index, **line)
    style.setdefault("markevery", _sparse(len(x), index))
    ax.plot(x, np.where(np.isfinite(y), y, np.nan), **style)
    infinite = np.isposinf(y)
    if infinite.any():
        ax.plot(
            x[infinite],
            np.full(infinite.sum(), MARK_HEIGHT),
            linestyle="none",
            marker="^",
            markersize=7,
            color=style["color"],
            transform=ax.get_xaxis_transform(),  # x in data, y in axes: 1 is the upper edge
            zorder=5,
            gid=DIVERGENCE,
        )
        for position in x[infinite]:
            ax.annotate(
                "∞",
                (position, MARK_HEIGHT),
                xytext=(0.0, -10.0),
                xycoords=ax.get_xaxis_transform(),
                textcoords="offset points",
                ha="center",
                va="center",
                color=style["color"],
                annotation_clip=False,
            )
    _limit_peaks(ax)


DIVERGENCE, KEY = "divergence", "key"  # lines that are no curves
MARK_HEIGHT = 0.965  # of the axes: just below the upper edge


def _sparse(size: int, index: int) -> list[int]:
    """Indices of about eight points to mark, shifted from one curve to the next."""
    step = max(size // 8, 1)
    return list(range((index * step * 2 // 7) % step, size, step))


def curves_of(ax: Axes) -> list[Line2D]:
    return [line for line in ax.get_lines() if line.get_gid() not in (DIVERGENCE, KEY)]


def _limit_peaks(ax: Axes) -> None:
    """Limit the y axis to the bulk of the curves where a peak would press them flat."""
    if not ax.get_autoscaley_on():
        return  # the user has chosen the limits
    curves = curves_of(ax)
    diverges = any(line.get_gid() == DIVERGENCE for line in ax.get_lines())
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in curves])
    values = values[np.isfinite(values)]
    if values.size == 0:
        return
    bulk, peak, lowest = np.quantile(values, 0.9), values.max(), values.min()
    if bulk > 0 and (peak > 3.0 * bulk or (diverges and peak > 1.5 * bulk)):
        top = 1.6 * bulk
        bottom = lowest - 0.05 * (top - lowest)
        ax.set_ylim(bottom if lowest < 0 else max(bottom, 0.0), top, auto=True)
