"""Readable representations of the frozen results."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

__all__ = ["summary"]


def summary(result: Any, title: str) -> str:
    """One line per field: the value of a single number, else the shape and the range."""
    names = [field.name for field in fields(result)]
    width = max(map(len, names))
    lines = [f"  {name:<{width}}  {_shown(getattr(result, name))}" for name in names]
    return "\n".join([title, *lines])


def _shown(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return str(value)
    if value.ndim == 0:
        return f"{value[()]:.12g}" if value.dtype.kind == "f" else str(value[()])
    if value.size == 0:
        return f"empty, shape {value.shape}"
    if value.dtype.kind == "b":
        return f"shape {value.shape}, {int(value.sum())} of {value.size} true"
    nan = int(np.isnan(value).sum()) if value.dtype.kind == "f" else 0
    if nan == value.size:
        return f"shape {value.shape}, all NaN"
    low, high = np.nanmin(value), np.nanmax(value)
    text = f"shape {value.shape}, {low:.6g} .. {high:.6g}"
    return text + (f", {nan} NaN" if nan else "")
