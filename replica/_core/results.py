"""The one base of all results: status, the problem solved, tables, representations, a plot.

A result is a frozen dataclass whose fields are the problem, the quantities and `status`. An array
is indexed by the grid of problems, the broadcast shape of the arguments, unless its field says
`over(...)` which axes it has; ``...`` stands for the grid. A tuple of arrays of different lengths
has two axes, and tables fill it up with NaN.
"""

from __future__ import annotations

from dataclasses import Field, field, fields
from html import escape
from types import EllipsisType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arguments import ArgumentError, choice
from .status import Status
from .style import (
    LABELS,
    SYMBOLS,
    check_line,
    curves_of,
    draw_curve,
    finish_axes,
    line_style,
    new_axes,
)

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from _typeshed import DataclassInstance
    from matplotlib.axes import Axes

__all__ = ["Result", "over", "status_names"]

#: The name of an axis; ``...`` stands for those of the grid.
Axis: TypeAlias = str | EllipsisType
#: Numbers, truth values or texts.
Array: TypeAlias = NDArray[Any]
#: Name, axes (None: no array, the same for all elements) and value of a field.
Column: TypeAlias = tuple[str, tuple[Axis, ...] | None, Any]
#: What tables and notebooks hold of what is no array.
Plain: TypeAlias = bool | int | float | str | None

_MOST_CURVES = 49  # so many line styles differ
_WIDEST = 100  # of a line: what fits on a screen


def over(*axes: Axis, in_frames: bool = True) -> Any:  # what the field is declared as
    """Declare the axes of an array field, for example ``over(..., "t")``.

    A field that is not `in_frames` is left out of `Result.to_pandas`: its axes would make rows.
    """
    return field(metadata={"axes": axes, "in_frames": in_frames})


def status_names(status: ArrayLike) -> Any:  # a name or an array of them
    """Return the names of status codes as tables have them, in the shape of `status`.

    Examples
    --------
    >>> status_names([0, 3]).tolist()
    ['converged', 'max_iterations']
    """
    codes = np.asarray(status)
    text = np.empty(codes.shape, dtype=object)
    for index in np.ndindex(codes.shape):
        text[index] = Status(int(codes[index])).name.lower()
    return text if text.ndim else text[()]


class Result:
    """What every result can do; the text of the module says what a result has to be.

    Attributes
    ----------
    status : ndarray of int8, or Status
        A `Status` per element.
    """

    #: The arguments that define the problem, in the order in which they are shown.
    _problem: ClassVar[tuple[str, ...]] = ()
    #: What `plot` draws if nothing is said.
    _shown_first: ClassVar[str] = "gen_error"

    if TYPE_CHECKING:
        status: Any

    def _codes(self) -> Array:
        """The status of every element; what evaluates a formula has no field and has converged."""
        return np.asarray(getattr(self, "status", Status.CONVERGED))

    @property
    def converged(self) -> Any:
        """Whether each element converged, in the shape of `status`."""
        found = self._codes() == Status.CONVERGED
        return bool(found) if found.ndim == 0 else found

    @property
    def messages(self) -> Any:
        """The status of every element in words, in the shape of `status`."""
        codes = self._codes()
        text = np.empty(codes.shape, dtype=object)
        for index in np.ndindex(codes.shape):
            text[index] = Status(int(codes[index])).message
        return text if text.ndim else text[()]

    @property
    def problem(self) -> dict[str, Any]:
        """The arguments that define the problem that was solved, by name."""
        return {name: getattr(self, name) for name in self._problem}

    def to_dict(self) -> dict[str, Any]:
        """Return every field by name, as it is, and ``"messages"``."""
        return dict(self._fields()) | {"messages": self.messages}

    def to_xarray(self) -> xr.Dataset:
        """Return an `xarray.Dataset`: arrays with named axes, the rest as attributes.

        An axis of the grid along which one argument alone varies has the name and the values of
        that argument; any other is called ``axis_0``, ``axis_1``, ...

        Raises
        ------
        ImportError
            Without xarray (``pip install 'replica-solver[tables]'``).
        """
        import xarray as xr

        names, coordinates = self._grid()
        data: dict[str, tuple[tuple[str, ...], Array]] = {}
        attributes: dict[str, Plain] = {}
        for name, axes, value in self._columns():
            if axes is None:
                attributes[name] = _plain(value)
            elif axes == (name,):
                coordinates[name] = value
            elif name not in coordinates:
                data[name] = (_spelled(axes, names), _told(name, value))
        return xr.Dataset(data, coordinates, attributes)

    def to_pandas(self) -> pd.DataFrame:
        """Return a `pandas.DataFrame`: a row for each element, a column for each quantity.

        What is the same for all elements (student, seed, ...) stands in ``frame.attrs``. A result
        without arrays is one row, with the numbers of its problem.

        Raises
        ------
        ImportError
            Without pandas (``pip install 'replica-solver[tables]'``).
        """
        import pandas as pd

        names, _ = self._grid()
        columns: dict[str, tuple[tuple[str, ...], Array]] = {}
        attributes: dict[str, Plain] = {}
        sizes: dict[str, int] = {}
        aside = {f.name for f in self._declared() if not f.metadata.get("in_frames", True)}
        for name, axes, value in self._columns():
            if name in aside:
                continue
            if axes is None:
                attributes[name] = _plain(value)
                continue
            spelled = _spelled(axes, names)
            columns[name] = spelled, _told(name, value)
            sizes |= dict(zip(spelled, value.shape, strict=True))
        everywhere = (*names, *(axis for axis in sizes if axis not in names))
        shape = tuple(sizes[axis] for axis in everywhere)
        for axis in everywhere:
            if axis not in columns and not axis.startswith("axis_"):  # the number of a run
                columns[axis] = (axis,), np.arange(sizes[axis])
        table: dict[str, Array] = {}
        for name, (own, value) in columns.items():
            ordered = value.transpose([own.index(axis) for axis in everywhere if axis in own])
            missing = tuple(k for k, axis in enumerate(everywhere) if axis not in own)
            table[name] = np.broadcast_to(np.expand_dims(ordered, missing), shape).reshape(-1)
        frame = pd.DataFrame(table)
        frame.attrs.update(attributes)
        return frame

    def plot(self, quantity: str | None = None, *, ax: Axes | None = None, **line: object) -> Axes:
        """Draw one quantity in the house style; return the Matplotlib axes.

        Parameters
        ----------
        quantity : str, optional
            A field of numbers; the generalization error by default. It is drawn over time where
            the result has one, else over the argument that varies along the last axis of the grid;
            every other axis gives one curve an element. Independent runs are averaged, without
            those that diverged, and have a band of one standard error.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default on a new figure.
        **line
            Properties of the lines in place of the house style.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ArgumentError
            If there is no such quantity, nothing to draw it over, or too many curves.
        """
        line = check_line("plot", line, ("quantity", "ax"))
        names, coordinates = self._grid()
        drawable = {
            name: (_spelled(axes, names), np.asarray(value, dtype=float))
            for name, axes, value in self._columns()
            if axes is not None and value.dtype.kind in "fb"
        }
        if quantity is None:
            quantity = self._shown_first if self._shown_first in drawable else next(iter(drawable))
        values: Array
        axes, values = drawable[choice("quantity", quantity, drawable)]
        along_axes = [axis for axis in axes if axis != "run"]
        if not along_axes:
            raise ArgumentError(
                f"quantity {quantity!r} is a single number here; solve for an array to draw a curve"
            )
        *curve_axes, along = along_axes
        band = None
        if "run" in axes:
            values = np.moveaxis(values, axes.index("run"), -1)
            kept = np.broadcast_to(self._codes() != Status.DIVERGENT, values.shape[-1:])
            values = values[..., kept]
            count = values.shape[-1]
            if count > 1:
                band = values.std(axis=-1, ddof=1) / np.sqrt(count)
            values = values.mean(axis=-1) if count else np.full(values.shape[:-1], np.nan)
        curves = list(np.ndindex(values.shape[:-1]))
        if len(curves) > _MOST_CURVES:
            raise ArgumentError(
                f"quantity {quantity!r} makes {len(curves)} curves here, at most {_MOST_CURVES} "
                "can be told apart; solve for fewer"
            )
        if line.get("label") is not None and len(curves) > 1:
            raise ArgumentError(f"label names a single curve, got {len(curves)} curves")
        x = coordinates.get(along, getattr(self, along, None))
        x = np.asarray(np.arange(values.shape[-1]) if x is None else x, dtype=float)
        if ax is None:
            _, ax = new_axes()
        assert ax is not None
        first = len(curves_of(ax))
        for number, index in enumerate(curves, first):
            place = {
                axis: i
                for axis, i, size in zip(curve_axes, index, values.shape, strict=False)
                if size > 1
            }
            style = {"label": self._named(names, place) or self._curve_name(), **line}
            draw_curve(ax, x, values[index], index=number, **style)
            if band is not None:
                color = line_style(number, **line)["color"]
                low, high = values[index] - band[index], values[index] + band[index]
                ax.fill_between(x, low, high, color=color, alpha=0.25, lw=0)
        xlabel, ylabel = (LABELS.get(name, name.replace("_", " ")) for name in (along, quantity))
        return finish_axes(ax, xlabel=xlabel, ylabel=ylabel)

    def _named(self, names: tuple[str, ...], place: dict[str, int]) -> str:
        """What tells the curve at `place` (axis: index) from the others, for a legend."""
        parts = []
        fixed = {names.index(axis): i for axis, i in place.items() if axis in names}
        told: set[int] = set()
        for name, value in self._arguments():
            varying = _varies_along(value)
            if varying and varying <= fixed.keys():
                cell = value[tuple(fixed.get(k, 0) for k in range(value.ndim))]
                shown = f"{cell:.6g}" if value.dtype.kind == "f" else str(cell)
                parts.append(f"{SYMBOLS.get(name, name)} = {shown}")
                told |= varying
        for axis, i in place.items():
            if axis not in names:
                parts.append(f"{axis} {i}")
            elif names.index(axis) not in told:
                parts.append(f"{axis.replace('_', ' ')} = {i}")
        return ", ".join(parts)

    def _curve_name(self) -> str:
        """The name of the only curve of a result, for a legend."""
        return type(self).__name__

    def __repr__(self) -> str:
        rows = self._fields()
        width = max(len(name) for name, _ in rows)
        lines = [f"  {name:<{width}}  {_shown(name, value)}" for name, value in rows]
        return "\n".join([type(self).__name__, *lines])

    def _repr_html_(self) -> str:
        """Return the table that notebooks show, the problem first."""
        rows = sorted(self._fields(), key=lambda row: row[0] not in self._problem)
        left = "<td style='text-align:left'>"
        body = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"{left}{escape(_shown(name, value))}</td></tr>"
            for name, value in rows
        )
        return (
            f"<table><caption>{escape(type(self).__name__)}</caption><tbody>{body}</tbody></table>"
        )

    def _declared(self) -> tuple[Field[object], ...]:
        return fields(cast("DataclassInstance", self))

    def _fields(self) -> list[tuple[str, object]]:
        """Name and value of every field."""
        return [(item.name, getattr(self, item.name)) for item in self._declared()]

    def _columns(self) -> list[Column]:
        """Every field, on its axes."""
        axes_of = {item.name: item.metadata.get("axes", (...,)) for item in self._declared()}
        columns: list[Column] = []
        for name, value in self._fields():
            if isinstance(value, np.ndarray) and value.dtype.kind in "biufU":
                columns.append((name, axes_of[name], value))
            elif isinstance(value, tuple) and axes_of[name] != (...,):
                columns.append((name, axes_of[name], _filled_up(value)))
            else:
                columns.append((name, None, value))
        if any(axes is not None for _, axes, _ in columns):
            return columns
        return [
            (name, (), np.asarray(value)) if isinstance(value, int | float) else (name, None, value)
            for name, _, value in columns
        ]

    def _arguments(self) -> list[tuple[str, Array]]:
        """The arguments that are arrays over the grid."""
        return [
            (name, value)
            for name, axes, value in self._columns()
            if axes == (...,) and name in self._problem
        ]

    def _grid(self) -> tuple[tuple[str, ...], dict[str, Array]]:
        """The names of the axes of the grid, and the values along those that have any."""
        on_grid = [value.ndim for _, axes, value in self._columns() if axes == (...,)]
        names = [f"axis_{k}" for k in range(max(on_grid, default=0))]
        coordinates: dict[str, Array] = {}
        arguments = dict(self._arguments())
        varying = {name: _varies_along(value) for name, value in arguments.items()}
        for k in range(len(names)):
            here = [name for name, axes in varying.items() if k in axes]
            if len(here) == 1 and varying[here[0]] == {k}:
                names[k] = here[0]
                value = np.moveaxis(arguments[here[0]], k, 0)
                coordinates[here[0]] = value.reshape(value.shape[0], -1)[:, 0]
        return tuple(names), coordinates


def _spelled(axes: tuple[Axis, ...], grid: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for axis in axes for name in (grid if axis is ... else (axis,)))


def _varies_along(value: Array) -> set[int]:
    """The axes along which the array is not constant."""
    along = (np.moveaxis(value, k, 0) for k in range(value.ndim))
    return {k for k, rows in enumerate(along) if (rows[1:] != rows[:-1]).any()}


def _filled_up(arrays: tuple[NDArray[np.float64], ...]) -> NDArray[np.float64]:
    """One row for each array, filled up with NaN."""
    rows = np.full((len(arrays), max((a.size for a in arrays), default=0)), np.nan)
    for row, array in zip(rows, arrays, strict=True):
        row[: array.size] = array
    return rows


def _told(name: str, value: Array) -> Array:
    """A column of a table: the status by name, anything else as it is."""
    return np.asarray(status_names(value) if name == "status" else value)


def _plain(value: object) -> Plain:
    """What a table keeps of a value that is no array: numbers and text, a student by its name."""
    if isinstance(value, Status):
        return value.name.lower()
    if isinstance(value, Result):
        return type(value).__name__
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(getattr(value, "name", value))


def _shown(name: str, value: object) -> str:
    """One line: the value of a single number, else the shape and the range."""
    if name == "status":
        codes = np.array(value)
        if codes.ndim == 0:
            return str(status_names(codes))
        names, counts = np.unique(codes.reshape(-1), return_counts=True)
        named = zip(status_names(names), counts, strict=True)
        return ", ".join(f"{count} {text}" for text, count in named) or "empty"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, tuple) and any(isinstance(item, np.ndarray) for item in value):
        return "; ".join(_shown(name, item) for item in value)
    if isinstance(value, Result):
        return f"a {type(value).__name__}"
    if not isinstance(value, np.ndarray):
        text = " ".join(str(value).split())
        return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."
    if value.ndim == 0:
        return f"{value[()]:.12g}" if value.dtype.kind == "f" else str(value[()])
    if value.size == 0:
        return f"empty, shape {value.shape}"
    if value.dtype.kind == "b":
        return f"shape {value.shape}, {int(value.sum())} of {value.size} true"
    if value.dtype.kind not in "iuf":
        return f"shape {value.shape}"
    nan = int(np.isnan(value).sum()) if value.dtype.kind == "f" else 0
    if nan == value.size:
        return f"shape {value.shape}, all NaN"
    low, high = np.nanmin(value), np.nanmax(value)
    text = f"shape {value.shape}, {low:.6g} .. {high:.6g}"
    return text + (f", {nan} NaN" if nan else "")
