"""Parsers of single arguments, for ``add_argument(type=...)``; shared by every area.

Each takes the text of one argument and returns its value or raises `ArgumentTypeError` with a
message that says what is allowed. Physical ranges (alpha > 0, ...) are the library's business.
"""

from __future__ import annotations

import csv
import math
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from replica._core.suggest import suggestion

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    import numpy as np
    from numpy.typing import NDArray

    from replica.inputs import Inputs
    from replica.labels import Flip, NoiseWord
    from replica.losses import Loss
    from replica.students import LeakyReLU, Student

__all__ = [
    "INPUTS",
    "LOSSES",
    "NOISES",
    "NUMBERS",
    "PICTURES",
    "STUDENTS",
    "TABLES",
    "NamedInputs",
    "UsageError",
    "add_inputs",
    "add_labels",
    "add_loss",
    "add_output",
    "inputs",
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
    "words_of",
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

# Those of `replica.inputs`, and how each is written.
_INPUTS = {
    "isotropic": "isotropic",
    "power": "power:EXPONENT[:TEACHER_EXPONENT[:SIZE]]",
    "features": "features:ACTIVATION:RATIO",
    "spectrum": "spectrum:FILE.csv",
    "clusters": "clusters:VARIANCE[:FRACTION[:bias]]",
}
INPUTS = f"{', '.join(list(_INPUTS.values())[:-1])} or {_INPUTS['clusters']}"

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


class NamedInputs(NamedTuple):
    """Inputs, and how they were written: tables repeat that."""

    text: str
    value: Inputs

    @property
    def has_labels(self) -> bool:
        """Whether labels come with the inputs, and no teacher gives them."""
        from replica.inputs import Clusters

        return isinstance(self.value, Clusters)


def inputs(text: str) -> NamedInputs:
    """Return the inputs called `text`, one of INPUTS.

    Examples
    --------
    >>> inputs("power:1.2:1.5:50").value
    PowerLaw(exponent=1.2, teacher_exponent=1.5, size=50)
    """
    from replica.inputs import Clusters, Isotropic, PowerLaw, RandomFeatures

    kind, _, rest = text.partition(":")
    parts = rest.split(":") if rest else []
    usage = f"{text!r} is not written as {_INPUTS.get(kind, kind)}"
    try:
        if kind == "isotropic" and not parts:
            return NamedInputs(text, Isotropic())
        if kind == "power" and 1 <= len(parts) <= 3:
            size = positive_integer(parts[2]) if len(parts) > 2 else 1000
            if size > _MAX_COUNT:
                raise ArgumentTypeError(f"{text!r} has more than {_MAX_COUNT:,} modes")
            return NamedInputs(text, PowerLaw(*map(number, parts[:2]), size=size))
        if kind == "features" and len(parts) >= 2:  # an activation may be leaky:SLOPE
            activation = student(":".join(parts[:-1]))
            return NamedInputs(text, RandomFeatures(activation, number(parts[-1])))
        if kind == "spectrum" and rest:
            return NamedInputs(text, _spectrum(Path(rest)))
        if kind == "clusters" and 1 <= len(parts) <= 3 and parts[2:] in ([], ["bias"]):
            bias = len(parts) > 2
            return NamedInputs(text, Clusters(*map(number, parts[:2]), bias=bias))
    except (ValueError, TypeError) as error:
        raise ArgumentTypeError(f"{text!r}: {error}") from None
    if kind in _INPUTS:
        raise ArgumentTypeError(usage)
    hint = suggestion(kind, _INPUTS)
    raise ArgumentTypeError(f"{text!r} are no inputs (write {INPUTS}){hint}")


# What a file of inputs may hold; the names of the parameters of `Spectrum`.
_COLUMNS = ("variances", "teacher", "weights")


def _spectrum(path: Path) -> Inputs:
    """The inputs of a CSV file: columns of _COLUMNS, or one of variances without a name."""
    from replica.inputs import Spectrum

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(row)]
    except OSError as error:
        raise ArgumentTypeError(f"{path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ArgumentTypeError(f"{path} is not a CSV file: {error}") from None
    names = rows[0] if rows else []
    if len(names) == 1 and _is_number(names[0]):
        names = ["variances"]
    else:
        rows = rows[1:]
    for name in names:
        if name not in _COLUMNS or names.count(name) > 1:
            raise ArgumentTypeError(
                f"{path}: the first line names columns, each once, out of {listed(_COLUMNS)}; "
                f"got {name[:40]!r}{suggestion(name, _COLUMNS)}"
            )
    if "variances" not in names:
        raise ArgumentTypeError(f"{path}: there is no column 'variances'")
    columns: dict[str, list[float]] = {name: [] for name in names}
    for count, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise ArgumentTypeError(
                f"{path}: row {count} has {len(row)} values for {len(names)} columns"
            )
        for name, cell in zip(names, row, strict=True):
            if not _is_number(cell):
                raise ArgumentTypeError(f"{path}: {cell[:40]!r} in row {count} is not a number")
            columns[name].append(number(cell))
    return Spectrum(**columns)  # type: ignore[arg-type]


def _is_number(text: str) -> bool:
    try:
        number(text)
    except ArgumentTypeError:
        return False
    return True


def name_of(value: str | Loss | Flip | LeakyReLU | Student) -> str:
    """Return how tables and titles call a student, a loss or a noise.

    Examples
    --------
    >>> name_of("input"), name_of(student("relu"))
    ('input', 'relu')
    """
    return value if isinstance(value, str) else value.name


def problem_of(arguments: Namespace) -> dict[str, Any]:
    """Return the options that say what the labels, the loss and the inputs are.

    Loss, teacher and noise only if one of them is not what it usually is, inputs if they are given.
    """
    names = [name for name in _LABELS if hasattr(arguments, name)]
    chosen = {name: getattr(arguments, name) for name in names}
    if [name_of(value) for value in chosen.values()] == [_LABELS[name] for name in names]:
        chosen = {}
    if arguments.inputs is not None:
        chosen["inputs"] = arguments.inputs.value
    return chosen


_LABELS = {"loss": "square", "teacher": "linear", "noise": "output"}


def words_of(arguments: Namespace, options: dict[str, Any]) -> dict[str, str]:
    """Return how tables call these options; clusters have neither a teacher nor noise."""
    words = {name: name_of(value) for name, value in options.items() if name != "inputs"}
    if arguments.inputs is not None:
        words["inputs"] = arguments.inputs.text
        if arguments.inputs.has_labels:
            words = {name: word for name, word in words.items() if name not in ("teacher", "noise")}
    return words


def add_inputs(parser: ArgumentParser) -> None:
    """Add the option `--inputs`."""
    parser.add_argument(
        "--inputs",
        type=inputs,
        metavar="INPUTS",
        help=f"what the inputs are like: {INPUTS} (default: isotropic). A file has the columns "
        "variances and, if need be, teacher and weights; clusters have labels of their own, and "
        "S = 0",
    )


def add_loss(parser: ArgumentParser) -> None:
    """Add the option `--loss`."""
    parser.add_argument(
        "--loss",
        type=loss,
        default="square",
        metavar="LOSS",
        help=f"what training minimizes: {LOSSES} (default: square)",
    )


def add_labels(
    parser: ArgumentParser, usual: str = "output", *, teacher: str | None = "linear"
) -> None:
    """Add the options `--teacher` and `--noise`, and say what they are if not given.

    Without a usual `teacher` it is None if not given: that of a simulation depends on its kind.
    """
    default = teacher or "linear; online: the student's"
    parser.add_argument(
        "--teacher",
        type=student,
        default=teacher,
        metavar="TEACHER",
        help=f"activation phi of the teacher: {STUDENTS} (default: {default})",
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
