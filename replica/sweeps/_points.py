"""Points of a grid, and what makes a run the same run: one text per value, one key per run."""

from __future__ import annotations

import functools
import hashlib
import inspect
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.util import MAGIC_NUMBER
from types import CodeType
from typing import TypeAlias, cast

import numpy as np

from replica._core.arguments import ArgumentError, ArgumentTypeError
from replica._core.suggest import closest

__all__ = [
    "Label",
    "Plain",
    "Point",
    "canonical_text",
    "check_call",
    "code_digest",
    "grid_points",
    "label",
    "name_of",
    "plain",
    "run_key",
]

#: A parameter as the store keeps it.
Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, dict[str, Plain]] | None"
#: The same as tables show it.
Label: TypeAlias = bool | int | float | str
#: The arguments of a run.
Point: TypeAlias = dict[str, object]


def grid_points(
    grid: Mapping[str, Sequence[object]] | Iterable[Mapping[str, object]],
    fixed: Mapping[str, object],
) -> list[Point]:
    """The points of a grid, each once and in order, with values as they go to the function."""
    if isinstance(grid, Mapping):
        axes = cast("Mapping[str, Iterable[object]]", grid)
        for key, values in axes.items():
            if isinstance(values, str) or not isinstance(values, Iterable):
                raise ArgumentTypeError(
                    f"grid[{key!r}] must be a sequence of values, got {values!r}"
                )
        combinations = itertools.product(*axes.values())
        points = [dict(zip(axes, values, strict=True)) for values in combinations]
    else:
        points = [dict(point) for point in grid]
    for point in points:
        both = point.keys() & fixed.keys()
        if both:
            raise ArgumentError(f"fixed must not repeat the grid's parameters, got {sorted(both)}")
    points = [{k: _value(k, v) for k, v in (point | dict(fixed)).items()} for point in points]
    unique: dict[str, Point] = {}
    for point in points:
        unique.setdefault(_identity(point), point)
    return list(unique.values())


def _value(name: str, value: object) -> object:
    """A parameter as it is passed to the function: NumPy scalars become Python's."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    try:
        plain(f"parameter {name!r}", value, finite=True)
    except RecursionError:
        raise ArgumentError(f"parameter {name!r} must not be nested so deeply") from None
    return value


def plain(name: str, value: object, *, finite: bool = False) -> Plain:
    """`value` as JSON can hold it."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if finite and not np.isfinite(value):
            raise ArgumentError(f"{name} must be finite, got {value}")
        return value
    if isinstance(value, list | tuple):
        return [plain(name, item, finite=finite) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        inside = {f.name: plain(name, getattr(value, f.name), finite=finite) for f in fields(value)}
        return {type(value).__name__: inside}
    raise ArgumentTypeError(
        f"{name} must be a number, string, bool, None, a list or a dataclass of these, "
        f"got {type(value).__name__}"
    )


def canonical_text(value: Plain) -> str:
    """The one text of a plain value: equal numbers have equal ones, whatever their type.

    Examples
    --------
    >>> canonical_text(1.0), canonical_text([None, True, "relu"])
    ('1', '[None, True, "relu"]')
    >>> canonical_text({"LeakyReLU": {"slope": 0.1}})
    'LeakyReLU(slope=0.1)'
    """
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list):
        return f"[{', '.join(map(canonical_text, value))}]"
    if isinstance(value, dict):
        ((name, inside),) = value.items()
        return f"{name}({', '.join(f'{k}={canonical_text(v)}' for k, v in inside.items())})"
    return repr(value)


def label(value: Plain) -> Label:
    """A plain parameter as tables show it: numbers, strings and truth values are themselves."""
    return value if isinstance(value, bool | int | float | str) else canonical_text(value)


def _identity(point: Mapping[str, object]) -> str:
    texts = (f"{name}={canonical_text(plain(name, value))}" for name, value in point.items())
    return "\n".join(sorted(texts))


def run_key(function: str, version: str, point: Mapping[str, object]) -> str:
    """What a run is known by."""
    return hashlib.sha256(f"{function}\n{version}\n{_identity(point)}".encode()).hexdigest()


def name_of(function: Callable[..., object]) -> str:
    """The name under which runs of `function` are stored."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if not module or not name or "<" in name:
        raise ArgumentError(
            f"name must be given for {function!r}: it has no importable name to store runs under"
        )
    return f"{module}.{name}"


def check_call(function: Callable[..., object], name: str, points: Sequence[Point]) -> None:
    """Refuse points that `function` cannot be called with, before the first run."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    known = [p.name for p in by_name]
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters)
    for given in dict.fromkeys(map(tuple, points)):
        for unknown in given:
            if unknown not in known and not takes_any:
                raise ArgumentError(f"{name} has no parameter {unknown!r}{closest(unknown, known)}")
        for p in by_name:
            if p.default is p.empty and p.name not in given:
                raise ArgumentError(f"{name} needs the parameter {p.name!r}, in the grid or fixed")


def code_digest(function: Callable[..., object]) -> str | None:
    """A digest of what `function` does itself, None if it is not written in Python.

    Comments, layout and docstring do not count. It is made of the byte code, since a source is not
    always at hand, and begins with the version of that: digests of two versions say nothing.
    """
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(getattr(function, "py_func", function))
    if not hasattr(function, "__code__"):
        function = type(function).__call__
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    defaults = (getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None))
    text = repr((_described(code, function.__doc__), _described(defaults, None)))
    return f"{MAGIC_NUMBER.hex()}:{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _described(value: object, doc: str | None) -> object:
    """Code and constants as something whose `repr` is the same in every process."""
    if isinstance(value, CodeType):
        constants = [None if c == doc else _described(c, None) for c in value.co_consts]
        return value.co_code, value.co_names, value.co_varnames, value.co_freevars, constants
    if isinstance(value, tuple | list):
        return [_described(item, None) for item in value]
    if isinstance(value, frozenset | set):
        return sorted(repr(_described(item, None)) for item in value)
    if isinstance(value, dict):
        return [(name, _described(item, None)) for name, item in value.items()]
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return value
    return type(value).__qualname__  # its repr may hold an address
