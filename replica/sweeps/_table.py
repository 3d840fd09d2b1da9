"""Tables of runs: columns, subsets, means, and their way to pandas and xarray."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.arguments import ArgumentError
from replica._core.suggest import closest

from ._points import canonical_text, label, plain

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["MISSING", "RESERVED", "SweepTable"]

# Stands for a parameter that a run does not have. None is a value, shown as "None".
MISSING = math.nan
# Columns that every table of runs may have; what is called the same gets a longer name.
RESERVED = ("function", "version", "status", "seconds", "message")

_ROWS_SHOWN = 10  # of a table in a notebook: enough to see what it is
_EXACT = 2**53  # up to here floats hold every integer
# A grid of points is dense in the parameters; a scatter of points would fill the memory.
_CELLS_PER_RUN, _FREE_CELLS = 1000, 1_000_000

#: Numbers, truth values, texts or objects.
Column: TypeAlias = NDArray[Any]


class SweepTable(Mapping[str, Column]):
    """A table of runs: column name -> array with one row per run, in the order of the grid.

    The columns are the parameters, the results, and `status`, `seconds` and `message`. The status
    is the name of a `Status` in lower case: that of the result, "done" if it has none, "failed",
    and after a dry run "waiting" or "running". Parameters that are no numbers, strings or truth
    values are shown as text, ``LeakyReLU(slope=0.1)``, ``[1, 2]`` or ``None``, so that one can
    group and index by every parameter. Results missing from a run are NaN, or None if they are no
    numbers. A parameter called like one of these columns is found as ``seconds_parameter``, a
    result called like a column as ``seconds_result``.

    Attributes
    ----------
    parameters : tuple of str
        The columns that are parameters.
    n_rows : int
        Number of runs.

    Examples
    --------
    >>> table = SweepTable({"alpha": [1.0, 2.0], "gen_error": [0.5, 0.25]}, ("alpha",))
    >>> table["gen_error"].tolist(), len(table), table.n_rows
    ([0.5, 0.25], 2, 2)
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[object] | Column],
        parameters: Sequence[str],
        *,
        keys: Sequence[str] = (),
    ) -> None:
        self.parameters = tuple(parameters)
        self._columns = {
            name: _parameter_column(name, values) if name in self.parameters else _column(values)
            for name, values in columns.items()
        }
        self._keys = tuple(keys)

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def n_rows(self) -> int:
        """Number of runs."""
        return len(next(iter(self._columns.values()), ()))

    def select(self, rows: ArrayLike) -> SweepTable:
        """The rows where a mask is true, or with these numbers.

        Parameters
        ----------
        rows : array_like
            A truth value for each row, as in ``table.select(table["status"] == "failed")``, or
            row numbers.

        Returns
        -------
        SweepTable
            With the same columns.
        """
        index = np.asarray(rows)
        if not index.size:
            index = index.astype(int)
        columns = {name: column[index] for name, column in self._columns.items()}
        keys = np.array(self._keys, object)[index].tolist() if self._keys else ()
        return SweepTable(columns, self.parameters, keys=keys)

    def mean_over(self, *names: str) -> SweepTable:
        """Means of all numbers over the runs that differ in these parameters only.

        Parameters
        ----------
        *names : str
            Parameters, as in ``table.mean_over("seed")``.

        Returns
        -------
        SweepTable
            The other parameters, `n_averaged`, the number of runs behind a mean, and for each
            result its mean and, as ``<name>_se``, the standard error from the scatter of the runs
            (NaN for one run). Only runs that are "done" or "converged" count.
        """
        for name in names:
            if name not in self.parameters:
                raise ArgumentError(f"no parameter {name!r}{closest(name, self.parameters)}")
        others = [name for name in self.parameters if name not in names]
        groups: dict[tuple[str, ...], list[int]] = {}
        for row, place in enumerate(self._places(others)):
            groups.setdefault(place, []).append(row)
        first = [rows[0] for rows in groups.values()]
        status = self._columns.get("status", np.full(self.n_rows, "done"))
        done = np.isin(status.astype(str), ("done", "converged"))
        averaged = [[row for row in rows if done[row]] for rows in groups.values()]
        columns: dict[str, Sequence[object] | Column]
        columns = {name: self._columns[name][first] for name in others}
        columns["n_averaged"] = [len(rows) for rows in averaged]
        for name, column in self._columns.items():
            base = name.removesuffix("_se")
            is_error = base != name and base in self._columns  # of one run: the scatter says more
            is_result = name not in (*self.parameters, *RESERVED)
            if not is_result or is_error or column.ndim > 1 or column.dtype.kind not in "iuf":
                continue
            values = column.astype(float)
            columns[name] = [values[rows].mean() if rows else math.nan for rows in averaged]
            columns[f"{name}_se"] = [_standard_error(values[rows]) for rows in averaged]
        return SweepTable(columns, others)

    def to_pandas(self) -> pd.DataFrame:
        """The table as a pandas DataFrame; array-valued results become columns of lists."""
        import pandas as pd

        return pd.DataFrame(
            {name: list(c) if c.ndim > 1 else c for name, c in self._columns.items()}
        )

    def to_xarray(self) -> xr.Dataset:
        """The table as an xarray Dataset whose dimensions are the parameters.

        Raises
        ------
        ValueError
            If two runs have the same parameters, or if the points are no grid and the array would
            be mostly empty. Points of the grid without a run are NaN, or None.
        """
        import xarray as xr

        places = self._places(self.parameters)
        if len(set(places)) < len(places):
            raise ArgumentError(
                "two runs of the table have the same parameters; select one of them"
            )
        columns = [self._columns[name] for name in self.parameters]
        axes = [dict.fromkeys(place[i] for place in places) for i in range(len(columns))]
        positions = [{text: i for i, text in enumerate(axis)} for axis in axes]
        shape = tuple(map(len, axes))
        if math.prod(shape) > max(_FREE_CELLS, _CELLS_PER_RUN * self.n_rows):
            raise ArgumentError(
                f"{self.n_rows} runs are no grid of {' x '.join(map(str, shape))} points in "
                f"{', '.join(self.parameters)}; use to_pandas"
            )
        cells = tuple(
            np.array([position[place[axis]] for place in places], int)
            for axis, position in enumerate(positions)
        )
        coordinates = {}
        for name, column, cell, size in zip(self.parameters, columns, cells, shape, strict=True):
            values = np.empty(size, column.dtype)
            values[cell] = column
            coordinates[name] = values
        variables = {}
        for name, column in self._columns.items():
            if name not in self.parameters:
                array = _spread(column, cells, shape)
                inner = [f"{name}_{axis}" for axis in range(array.ndim - len(shape))]
                variables[name] = ((*self.parameters, *inner), array)
        return xr.Dataset(variables, coordinates)

    def _places(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """For each row what tells its values of these parameters from others."""
        texts = [[canonical_text(value) for value in self._columns[n].tolist()] for n in names]
        return list(zip(*texts, strict=True)) if texts else [()] * self.n_rows

    def __repr__(self) -> str:
        status = self._columns.get("status", np.array([], str))
        counts = ", ".join(f"{np.sum(status == s)} {s}" for s in np.unique(status))
        return f"SweepTable({self.n_rows} runs: {counts}; columns {', '.join(self._columns)})"

    def _repr_html_(self) -> str:
        """The first rows, as notebooks show them."""

        def row(tag: str, values: Iterable[object]) -> str:
            return f"<tr>{''.join(f'<{tag}>{escape(str(v))}</{tag}>' for v in values)}</tr>"

        shown = min(self.n_rows, _ROWS_SHOWN)
        rows = (row("td", (c[i] for c in self._columns.values())) for i in range(shown))
        left = f"<p>... {self.n_rows - shown} more</p>" if shown < self.n_rows else ""
        return f"<table>{row('th', self._columns)}{''.join(rows)}</table>{left}"


def _standard_error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / math.sqrt(values.size)) if values.size > 1 else math.nan


def _spread(column: Column, cells: tuple[NDArray[np.int64], ...], shape: tuple[int, ...]) -> Column:
    """`column` on the grid, with NaN or None where there is no run."""
    if math.prod(shape) > len(column):
        if column.dtype.kind in "iu" and _fits_floats(column):
            column = column.astype(float)
        elif column.dtype.kind != "f":
            column = column.astype(object)
        fill = np.nan if column.dtype.kind == "f" else None
        array = np.full(shape + column.shape[1:], fill, column.dtype)
    else:
        array = np.empty(shape + column.shape[1:], column.dtype)
    array[cells] = column
    return array


def _fits_floats(column: Column) -> bool:
    return column.size == 0 or all(map(_is_exact, (int(column.min()), int(column.max()))))


def _parameter_column(name: str, values: Sequence[object] | Column) -> Column:
    if isinstance(values, np.ndarray) and values.dtype.kind in "biufU" and values.ndim == 1:
        return values
    labels = [label(plain(f"parameter {name!r}", value)) for value in values]
    if not all(isinstance(value, bool) for value in labels):  # True would be the same as 1
        labels = [str(value) if isinstance(value, bool) else value for value in labels]
    return _column(labels)


def _column(values: Sequence[object] | Column) -> Column:
    """An array of the values, losing nothing: numeric for numbers, with NaN for None."""
    if isinstance(values, np.ndarray):
        return values
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    present = [value for value in values if value is not None]
    if present and all(map(_is_number, present)):
        return _numbers(values)
    if len(present) == len(values):
        with suppress(ValueError, OverflowError):  # ragged
            array = np.array(values)
            if array.ndim > 1 and array.dtype.kind in "biuf" and not _is_rounded(array, values):
                return array
            if {type(value) for value in _leaves(values)} in ({bool}, {str}):
                return array
    return _objects(values)


def _objects(values: Sequence[object]) -> Column:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_exact(integer: int) -> bool:
    return -_EXACT <= integer <= _EXACT


def _leaves(values: Sequence[object]) -> Iterator[object]:
    for value in values:
        if isinstance(value, list):
            yield from _leaves(value)
        else:
            yield value


def _is_rounded(array: Column, values: Sequence[object]) -> bool:
    """Whether integers have become floats and lost digits in `array`."""
    if array.dtype.kind != "f" or not np.any(np.abs(array[np.isfinite(array)]) >= _EXACT):
        return False
    return not all(_is_exact(value) for value in _leaves(values) if isinstance(value, int))


def _numbers(values: Sequence[object]) -> Column:
    integers = [value for value in values if isinstance(value, int)]
    if len(integers) == len(values):
        for kind in (np.int64, np.uint64):
            with suppress(OverflowError):
                return np.array(values, kind)
    elif all(map(_is_exact, integers)):
        return np.array([math.nan if value is None else value for value in values], float)
    return _objects(values)
