"""Tables from files: CSV, Parquet, NumPy's .npy and .npz without pickles, and gzipped idx files."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._core.arguments import ArgumentError
from ._core.suggest import suggestion

__all__ = ["SUFFIXES", "read_idx", "read_table"]

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".parquet", ".npy", ".npz")

# The types of numbers that an idx file may hold, by their code: big-endian.
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_table(path: str | Path, target: str | None = None) -> tuple[Any, Any]:
    """Columns and target of a file.

    Parameters
    ----------
    path : str or Path
        A file that ends in one of SUFFIXES. The first line of a CSV file names the columns.
    target : str, optional
        Name of the target column, or its number in an array; "y" by default. An .npz file has
        arrays "X" and "y", or one array whose column is the target.

    Returns
    -------
    X : pandas.DataFrame or ndarray
        All columns but the target.
    y : pandas.Series or ndarray
        The target.

    Raises
    ------
    ArgumentError
        If the file cannot be read as what its name says, or has no such column.
    ImportError
        Without pandas for CSV, or pyarrow for Parquet.
    """
    path = Path(path)
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    suffix = suffix.lower()
    if suffix not in SUFFIXES:
        raise ArgumentError(f"data must be a file that ends in {', '.join(SUFFIXES)}, got {path}")
    if suffix in (".npy", ".npz"):
        return _from_numpy(path, target)
    frame = _frame(path, suffix)
    name = "y" if target is None else target
    names = [str(column) for column in frame.columns]
    if names.count(name) != 1:
        found = "several columns" if name in names else "no column"
        hint = suggestion(name, names)
        raise ArgumentError(f"target: {path.name} has {found} {name!r} among {_some(names)}{hint}")
    place = names.index(name)
    return frame.drop(columns=frame.columns[place]), frame.iloc[:, place]


def _frame(path: Path, suffix: str) -> Any:
    try:
        import pandas as pd
    except ImportError:
        raise ImportError(
            f"{suffix} files are read by pandas: pip install 'replica-solver[tables]'"
        ) from None
    if suffix == ".parquet":
        try:
            return pd.read_parquet(path)
        except ImportError:
            raise ImportError(".parquet files need pyarrow: pip install pyarrow") from None
        except OSError:
            raise
        except Exception as error:  # pyarrow has its own classes
            raise ArgumentError(f"data: {path} is not a Parquet file: {error}") from None
    try:
        return pd.read_csv(path, sep="\t" if suffix == ".tsv" else ",")
    except (ValueError, gzip.BadGzipFile, EOFError) as error:  # those of the parser, of decoding
        raise ArgumentError(f"data: {path} cannot be read as {suffix}: {error}") from None


def _from_numpy(path: Path, target: str | None) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays = {"": loaded}
        else:
            with loaded:
                arrays = {name: loaded[name] for name in loaded.files}
    except OSError:
        raise
    except Exception as error:  # a damaged archive raises what zip files raise
        raise ArgumentError(
            f"data: {path} cannot be read (pickled objects are refused): {error}"
        ) from None
    name = "y" if target is None else target
    if "X" in arrays and name in arrays:
        return arrays["X"], arrays[name]
    if len(arrays) != 1:
        raise ArgumentError(
            f"data: {path.name} must have arrays 'X' and {name!r}, has {list(arrays)}"
        )
    (table,) = arrays.values()
    if table.ndim != 2:
        raise ArgumentError(f"data: the array of {path.name} must be a table, got {table.shape}")
    try:
        place = int(name)
        y = table[:, place]
    except (ValueError, IndexError):
        raise ArgumentError(
            f"target must be the number of a column of {path.name}, from 0 to "
            f"{table.shape[1] - 1}, got {name!r}"
        ) from None
    return np.delete(table, place, axis=1), y


def _some(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:8]))
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def read_idx(path: str | Path) -> NDArray[Any]:
    """Return the array of an idx file, the format of MNIST, gzipped or not.

    Raises
    ------
    ArgumentError
        If it is none, or cut off.
    """
    path = Path(path)
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as error:
            raise ArgumentError(f"{path} is a damaged gzip file: {error}") from None
    head = np.frombuffer(data[:4], dtype=np.uint8)
    if head.size < 4 or head[:2].any() or int(head[2]) not in _IDX_TYPES:
        raise ArgumentError(f"{path} is no idx file")
    start = 4 + 4 * int(head[3])
    if len(data) < start:
        raise ArgumentError(f"{path} is cut off")
    shape = tuple(int(size) for size in np.frombuffer(data[4:start], dtype=">u4"))
    kind = np.dtype(_IDX_TYPES[int(head[2])])
    if len(data) - start != math.prod(shape) * kind.itemsize:
        raise ArgumentError(f"{path} is cut off, or longer than its head says: shape {shape}")
    return (
        np.frombuffer(data, dtype=kind, offset=start).reshape(shape).astype(kind.newbyteorder("="))
    )
