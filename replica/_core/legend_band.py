"""The figure of the house: its style, and a layout in which legends take no room from the data."""

from __future__ import annotations

from os import PathLike
from typing import IO, Any, cast

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine, LayoutEngine
from matplotlib.legend import Legend
from matplotlib.text import Text

__all__ = ["STYLE", "HouseFigure", "LegendLayout", "axes_width", "best_columns", "fold", "size_of"]

# Type sizes for a figure printed at its own size, in a column or across a page. The type of the
# keys is another one in every version of matplotlib.
STYLE: dict[Any, Any] = {
    "font.size": 10.0,
    "axes.labelsize": 11.0,
    "axes.titlesize": 11.0,
    "legend.fontsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.5,
    "lines.markersize": 6.0,
    "pdf.fonttype": 42,  # text stays text: searchable, editable
    "svg.fonttype": "none",
    "text.usetex": False,  # labels have Greek letters as such, which LaTeX may lack, or be lacking
}

_EDGE = 0.05  # inches that stay free beside a legend
_DECORATION = 0.75  # inches: tick labels and label of a y axis in this style, and the pads


class HouseFigure(Figure):
    """A figure that is written in the style it was drawn in, whoever calls ``savefig``."""

    def __init__(self, *, figsize: tuple[float, float], dpi: float, layout: LayoutEngine) -> None:
        super().__init__(figsize=figsize, dpi=dpi, layout=layout)
        FigureCanvasAgg(self)  # which keeps the sizes of texts once they have been measured

    def savefig(self, fname: str | PathLike[str] | IO[bytes], **options: Any) -> None:
        """Write the figure, as ``Figure.savefig``."""
        with rc_context(STYLE):
            super().savefig(fname, **options)


class LegendLayout(ConstrainedLayoutEngine):
    """Constrained layout above a band of legends, by which the figure is taller than its panels.

    Parameters
    ----------
    size : tuple of float
        Width and height in inches that the figure has for its panels.
    """

    def __init__(self, size: tuple[float, float]) -> None:
        super().__init__()
        self._panels = self._grown = size
        self._legends: list[Legend] = []

    def add(self, ax: Axes, **options: Any) -> None:
        """Lay a legend below `ax`; the figure grows by it, unless its size was set by hand."""
        figure = cast(Figure, ax.figure)
        legend = best_columns(ax, _slot(ax)[1] - 2.0 * _EDGE, **options)
        self._legends = [*self._present(figure), legend]
        if tuple(figure.get_size_inches()) != self._grown:
            return
        width, height = self._panels
        sizes = [size_of(legend) for legend in self._legends]
        for legend, size in zip(self._legends, sizes, strict=True):
            share = _slot(legend.axes)[1] / _width(ax)
            width = max(width, (size[0] + 2.0 * _EDGE) / share)
        figure.set_size_inches(width, height + _band(sizes))
        self._grown = tuple(figure.get_size_inches())

    def execute(self, fig: Figure) -> None:
        """Lay out the panels above the band, then center each legend below its panel."""
        self._legends = self._present(fig)
        width, height = fig.get_size_inches()
        sizes = [size_of(legend) for legend in self._legends]
        band = min(_band(sizes) / height, 0.9)
        for legend in self._legends:
            legend.set_in_layout(False)
        self.set(rect=(0.0, band, 1.0, 1.0 - band))
        super().execute(fig)
        for legend, size in zip(self._legends, sizes, strict=True):
            legend.set_in_layout(True)  # for those who crop the figure
            start, slot = _slot(legend.axes)
            half = size[0] / 2.0 + _EDGE
            box = legend.axes.get_position()
            center = width * (box.x0 + box.x1) / 2.0
            center = min(max(center, start + half), max(start + slot - half, start + slot / 2.0))
            legend.set_bbox_to_anchor((center / width, band), fig.transFigure)

    def _present(self, figure: Figure) -> list[Legend]:
        """Those of the legends that are still in the figure: a newer one replaces the old."""
        shown = [ax.get_legend() for ax in figure.axes]
        return [legend for legend in self._legends if any(legend is other for other in shown)]


def _band(sizes: list[tuple[float, float]]) -> float:
    """Height of the band that holds legends of these sizes."""
    return max(height for _, height in sizes) + _EDGE if sizes else 0.0


def best_columns(ax: Axes, width: float, **options: Any) -> Legend:
    """Give `ax` a legend in two columns if these are at most `width` inches wide, else in one."""
    legend = ax.legend(**options, ncols=2)
    if size_of(legend)[0] > width:
        legend = ax.legend(**options, ncols=1)
    return legend


def size_of(artist: Artist) -> tuple[float, float]:
    """Return width and height in inches."""
    box = artist.get_window_extent()
    return box.width / artist.figure.dpi, box.height / artist.figure.dpi


def _slot(ax: Axes) -> tuple[float, float]:
    """Left edge and width, in inches, of the column of the figure that `ax` stands in."""
    width = _width(ax)
    place = ax.get_subplotspec()
    if place is None:
        return 0.0, width
    columns = place.get_gridspec().ncols
    return width * place.colspan.start / columns, width * len(place.colspan) / columns


def _width(ax: Axes) -> float:
    """Width in inches of the figure, or subfigure, that `ax` stands in."""
    figure = ax.figure
    return figure.bbox.width / figure.dpi


def axes_width(ax: Axes) -> float:
    """Return the inches that the axes will be wide, about: the layout comes later."""
    slot = _slot(ax)[1]
    if isinstance(ax.figure.get_layout_engine(), ConstrainedLayoutEngine):
        return max(slot - _DECORATION, 0.5 * slot)
    return ax.get_position().width * _width(ax)


def fold(text: Text, width: float) -> None:
    """Break `text` after commas where it is more than `width` inches wide, but no formula."""
    first, *parts = text.get_text().split(", ")
    lines = [first]
    for part in parts:
        text.set_text(f"{lines[-1]}, {part}")
        if size_of(text)[0] > width and lines[-1].count("$") % 2 == 0:
            lines[-1] += ","
            lines.append(part)
        else:
            lines[-1] = text.get_text()
    text.set_text("\n".join(lines))
