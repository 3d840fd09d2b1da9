"""Parsers of single arguments, for ``add_argument(type=...)``; shared by every area.

Each takes the text of one argument and returns its value or raises `ArgumentTypeError` with a
message that says what is allowed. Physical ranges (alpha > 0, ...) are the library's business.
"""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replica._core.suggest import suggestion

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    import numpy as np
    from numpy.typing import NDArray

    from replica.labels import Flip, NoiseWord
    from replica.losses import Loss
    from replica.students import LeakyReLU, Student

__all__ = [
    "LOSSES",
    "NOISES",
    "NUMBERS",
    "PICTURES",
    "STUDENTS",
    "TABLES",
    "UsageError",
    "add_labels",
    "add_loss",
    "add_output",
    "listed",
    "loss",
    "name_of",
    "noise",
    "number",
    "numbers",
    "output_path",
    "positive_integer",
    "problem_of",
    "student",
    "students",
    "suggestion",
    "whole_number",
]

# How to write these arguments, for help texts.
NUMBERS = """\
NUMBERS is a number or a fraction (0.25, 1/64), a grid start:stop:count, a logarithmic grid
log:start:stop:count, or several of these with commas between them (0,1/64,0.25).
"""
# Those of `replica.students`, which takes long to import.
_NAMES = ("linear", "relu", "erf", "tanh", "softplus", "quadratic", "sign")
STUDENTS = f"{', '.join(_NAMES)}, or leaky:SLOPE with SLOPE in [0, 1]"

# Those of `replica.losses` and `replica.labels`.
LOSSES = (
    "square, absolute, huber:DELTA, epsilon-insensitive:EPSILON, quantile:LEVEL, hinge, "
    "squared-hinge, logistic or exponential"
)
NOISES = "output, input, logistic or flip:PROBABILITY"

PICTURES = (".png", ".pdf", ".svg")
TABLES = (".csv", ".json")


class UsageError(Exception):
    """What is asked for makes no sense; the message says what and why."""


# Points of one grid: 80 MB as floats. A typing error must not fill the memory.
_MAX_COUNT = 10_000_000


def number(text: str) -> float:
    """Return one number, which may be written as a fraction.

    Examples
    --------
    >>> number("1/64")
    0.015625
    """
    parts = text.split("/")
    try:
        if len(parts) == 1:
            return float(text)
        if len(parts) == 2:
            return float(parts[0]) / float(parts[1])
    except (ValueError, ZeroDivisionError):
        pass
    raise ArgumentTypeError(f"{text!r} is not a number (write 0.25, 2.5e-1 or 1/4)")


def positive_integer(text: str) -> int:
    """Return a whole number >= 1, which may be written 1e6.

    Examples
    --------
    >>> positive_integer("1e6")
    1000000
    """
    try:
        value = int(text)
    except ValueError:
        as_float = number(text)
        if not (math.isfinite(as_float) and as_float.is_integer()):
            raise ArgumentTypeError(f"{text!r} is not a whole number") from None
        value = int(as_float)
    if value < 1:
        raise ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return value


def whole_number(text: str) -> int:
    """Return a whole number >= 0.

    Examples
    --------
    >>> whole_number("0")
    0
    """
    return 0 if text.strip() == "0" else positive_integer(text)


def numbers(text: str) -> NDArray[np.float64]:
    """Return the numbers meant by `text`: a comma-separated list of numbers and grids.

    A grid is ``start:stop:count`` (evenly spaced, both ends included) or
    ``log:start:stop:count`` (evenly spaced in the logarithm).

    Examples
    --------
    >>> numbers("0,1/64,0.25")
    array([0.      , 0.015625, 0.25    ])
    >>> numbers("log:0.01:100:5")
    array([1.e-02, 1.e-01, 1.e+00, 1.e+01, 1.e+02])
    """
    import numpy as np

    return np.concatenate([_grid(item.strip()) for item in text.split(",")])


def _grid(item: str) -> NDArray[np.float64]:
    import numpy as np

    parts = item.split(":")
    if len(parts) == 1:
        return np.array([number(item)])
    logarithmic = parts[0] == "log"
    parts = parts[logarithmic:]
    if len(parts) != 3:
        raise ArgumentTypeError(
            f"{item!r} is not a grid (write start:stop:count or log:start:stop:count)"
        )
    start, stop = number(parts[0]), number(parts[1])
    count = positive_integer(parts[2])
    if not (math.isfinite(start) and math.isfinite(stop)):
        raise ArgumentTypeError(f"the ends of the grid {item!r} must be finite")
    if count > _MAX_COUNT:
        raise ArgumentTypeError(f"the grid {item!r} has more than {_MAX_COUNT:,} points")
    if logarithmic:
        if start <= 0 or stop <= 0:
            raise ArgumentTypeError(f"the ends of the logarithmic grid {item!r} must be > 0")
        return np.geomspace(start, stop, count)
    return np.linspace(start, stop, count)


def students(text: str) -> list[LeakyReLU | Student]:
    """Return the students of a comma-separated list such as "linear,erf,leaky:0.1".

    Examples
    --------
    >>> students("relu,erf,leaky:0.1")
    [RELU, ERF, LeakyReLU(0.1)]
    """
    return [student(item.strip()) for item in text.split(",")]


def student(text: str) -> LeakyReLU | Student:
    """Return the student called `text`, one of STUDENTS."""
    from replica.students import LeakyReLU, as_student

    try:
        if text.startswith("leaky:"):
            return LeakyReLU(number(text.removeprefix("leaky:")))
        return as_student(text)
    except ValueError:
        hint = suggestion(text, (*_NAMES, "leaky:SLOPE"))
        raise ArgumentTypeError(f"{text!r} is not a student (write {STUDENTS}){hint}") from None


def loss(text: str) -> Loss:
    """Return the loss called `text`, one of LOSSES.

    Examples
    --------
    >>> loss("huber:1.5").name
    'huber:1.5'
    """
    from replica.losses import as_loss

    try:
        return as_loss(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def noise(text: str) -> NoiseWord | Flip:
    """Return the noise of the labels called `text`, one of NOISES.

    Examples
    --------
    >>> noise("flip:0.1")
    Flip(0.1)
    """
    from replica.labels import as_noise

    try:
        return as_noise(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def name_of(value: str | Loss | Flip | LeakyReLU | Student) -> str:
    """Return how tables and titles call a student, a loss or a noise.

    Examples
    --------
    >>> name_of("input"), name_of(student("relu"))
    ('input', 'relu')
    """
    return value if isinstance(value, str) else value.name


def problem_of(arguments: Namespace) -> dict[str, Any]:
    """Return the loss, the teacher and the noise if one of them is not what it usually is."""
    chosen = {name: getattr(arguments, name) for name in ("loss", "teacher", "noise")}
    usual = ["square", "linear", "output"]
    return chosen if [name_of(value) for value in chosen.values()] != usual else {}


def add_loss(parser: ArgumentParser) -> None:
    """Add the option `--loss`."""
    parser.add_argument(
        "--loss",
        type=loss,
        default="square",
        metavar="LOSS",
        help=f"what training minimizes: {LOSSES} (default: square)",
    )


def add_labels(parser: ArgumentParser, usual: str = "output") -> None:
    """Add the options `--teacher` and `--noise`, and say what they are if not given."""
    parser.add_argument(
        "--teacher",
        type=student,
        default="linear",
        metavar="TEACHER",
        help=f"activation phi of the teacher: {STUDENTS} (default: linear)",
    )
    parser.add_argument(
        "--noise",
        type=noise,
        default=usual,
        metavar="NOISE",
        help="output: y = phi(z) + s; input: y = phi(z + s); logistic: the same with s of the "
        "logistic law; flip:PROBABILITY: the same with signs turned at random "
        f"(default: {usual})",
    )


def listed(words: Sequence[str]) -> str:
    """Return the words as a reader would say them.

    Examples
    --------
    >>> listed(PICTURES)
    '.png, .pdf or .svg'
    """
    return " or ".join([", ".join(words[:-1]), words[-1]])


def add_output(parser: ArgumentParser, suffixes: tuple[str, ...], what: str = "") -> None:
    """Add the option ``-o``, a file whose suffix is one of `suffixes`."""
    parser.add_argument(
        "-o",
        "--output",
        type=output_path(*suffixes),
        metavar="FILE",
        help=what or f"where to write: {listed(suffixes)} (default: CSV on standard output)",
    )


def output_path(*suffixes: str) -> Callable[[str], Path]:
    """Return a parser of paths in an existing directory whose suffix is one of `suffixes`.

    Examples
    --------
    >>> output_path(".png", ".csv")("curve.csv").suffix
    '.csv'
    """

    def parse(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in suffixes:
            raise ArgumentTypeError(f"{text!r} must end in {listed(suffixes)}")
        if not path.parent.is_dir():
            raise ArgumentTypeError(f"there is no directory {str(path.parent)!r} to write to")
        if path.is_dir():
            raise ArgumentTypeError(f"{text!r} is a directory")
        return path

    return parse
