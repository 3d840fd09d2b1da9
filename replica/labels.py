"""Labels: how the teacher's field and the noise make the label y of a sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from ._core.arguments import ArgumentError, ArgumentTypeError, real_scalar
from ._core.suggest import suggestion
from .losses import Loss
from .students import SIGN, LeakyReLU, Student

__all__ = ["Flip", "NoiseLike", "NoiseWord", "as_noise"]

NoiseWord = Literal["output", "input", "logistic"]


@dataclass(frozen=True, repr=False)
class Flip:
    """Labels y = +-phi(z + s) whose sign is turned with a probability, s ~ N(0, S).

    Parameters
    ----------
    probability : float
        Of a turned sign, in [0, 1]; at 1/2 the labels say nothing about the teacher.

    Raises
    ------
    TypeError, ValueError
        If `probability` is not a real number in [0, 1].

    Examples
    --------
    >>> Flip(0.1)
    Flip(0.1)
    >>> Flip(0.1).name
    'flip:0.1'
    """

    probability: float

    def __post_init__(self) -> None:
        checked = real_scalar("probability", self.probability, low=0.0, high=1.0)
        object.__setattr__(self, "probability", checked)

    def __repr__(self) -> str:
        return f"Flip({self.probability!r})"

    @property
    def name(self) -> str:
        """The name in labels and tables, which `as_noise` takes."""
        return f"flip:{self.probability:g}"


#: What `as_noise` takes.
NoiseLike: TypeAlias = NoiseWord | Flip | str


def as_noise(value: NoiseLike, name: str = "noise") -> NoiseWord | Flip:
    """Return the noise of the labels meant by `value`.

    Parameters
    ----------
    value : {"output", "input", "logistic"} or Flip
        "output": y = phi(z) + s; "input": y = phi(z + s), both with s ~ N(0, S); "logistic":
        y = phi(z + s) with s of the logistic law of variance S, so that a sign is + with
        probability 1/(1 + exp(-pi z/sqrt(3 S))), the logit at S = pi^2/3; `Flip`, also by the name
        "flip:probability": y = +-phi(z + s), s ~ N(0, S).
    name : str
        What error messages call `value`.

    Returns
    -------
    str or Flip

    Raises
    ------
    TypeError, ValueError
        If `value` is none of these.

    Examples
    --------
    >>> as_noise("input"), as_noise("flip:0.25")
    ('input', Flip(0.25))
    """
    if isinstance(value, Flip):
        return value
    words = get_args(NoiseWord)
    allowed = f"{name} must be one of {words} or Flip(probability), got {value!r}"
    if not isinstance(value, str):
        raise ArgumentTypeError(allowed)
    for word in words:
        if word == value:
            return word
    kind, colon, number = value.partition(":")
    if kind == "flip" and colon:
        try:
            probability = float(number)
        except ValueError:
            raise ArgumentError(allowed) from None
        return Flip(probability)
    raise ArgumentError(allowed + suggestion(value, (*words, "flip")))


def labels_are_signs(teacher: LeakyReLU | Student, noise: NoiseWord | Flip, S: Any = 0.0) -> bool:
    """Whether every label is +1 or -1: a sign teacher, and nothing added to its output."""
    return teacher == SIGN and (noise != "output" or not _any_positive(S))


def _any_positive(S: Any) -> bool:
    return bool((S > 0.0).any()) if hasattr(S, "any") else S > 0.0


def check_labels(
    loss: Loss, teacher: LeakyReLU | Student, noise: NoiseWord | Flip, S: Any = 0.0
) -> None:
    """Refuse labels that the loss cannot take.

    Raises
    ------
    ValueError
        If a loss of margins, or noise that turns signs, meets labels that are not signs.
    """
    if labels_are_signs(teacher, noise, S):
        return
    told = f"teacher {teacher.name!r} with noise {getattr(noise, 'name', noise)!r}"
    if loss.of == "margin":
        raise ArgumentError(
            f"loss {loss.name!r} is a function of y u and needs labels that are signs: teacher "
            f"'sign' with noise 'input', 'logistic' or Flip(probability), or with S = 0; got {told}"
        )
    if isinstance(noise, Flip):
        raise ArgumentError(f"noise Flip turns signs and needs teacher 'sign', got {told}")
