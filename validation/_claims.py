"""What a claim is, the rule that judges it, and how it is stored. Imports nothing of the package.

A claim is a list of points, each a theoretical value beside a simulated one. The verdict follows
from the points alone, by `judge`; nobody writes it by hand.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["Claim", "Point", "Verdict", "judge", "load_claims", "save_claims", "write_whole"]

# Chance of a false alarm, over all points of one claim: that of three standard deviations.
FALSE_ALARM = 0.0027
# A deviation beyond the errors but below this share of the theory's value is amber, not red.
AMBER = 0.05


@dataclass(frozen=True)
class Point:
    """One comparison.

    Attributes
    ----------
    where : str
        The parameters, in words.
    theory, simulation : float
        The two numbers compared.
    standard_error : float
        Of the simulation.
    n_runs : int
        Independent runs behind the standard error (at least 2): they set the width of Student's t.
    allowance, allowance_error : float
        Finite-size effect c/N from a fit of a + c/N to smaller sizes, and its standard error. A
        deviation between 0 and c/N is allowed.
    theory_error : float
        Standard error of the theory, where that is a Monte Carlo average itself.
    at_least : bool
        The claim is a direction: the simulation exceeds `theory`.
    """

    where: str
    theory: float
    simulation: float
    standard_error: float
    n_runs: int
    allowance: float = 0.0
    allowance_error: float = 0.0
    theory_error: float = 0.0
    at_least: bool = False

    @property
    def deviation(self) -> float:
        """Simulation minus theory."""
        return self.simulation - self.theory

    @property
    def error(self) -> float:
        """All standard errors together."""
        return math.hypot(self.standard_error, self.allowance_error, self.theory_error)

    def share(self, amount: float) -> float:
        """`amount` as a share of the theory's value; infinite where that is 0."""
        return abs(amount / self.theory) if self.theory else math.inf

    def tolerance(self, n_points: int) -> float:
        """Largest deviation that chance and finite size explain, for one of `n_points` points."""
        return multiplier(n_points, self.n_runs) * self.error + abs(self.allowance)

    def excess(self, n_points: int) -> float:
        """Deviation that is left unexplained, in units of what chance explains; above 1: outside.

        With `at_least` only a deviation downwards counts.
        """
        low, high = min(0.0, self.allowance), max(0.0, self.allowance)
        above = 0.0 if self.at_least else self.deviation - high
        chance = multiplier(n_points, self.n_runs) * self.error
        left = max(above, low - self.deviation, 0.0)
        return left / chance if chance else math.copysign(math.inf, left) if left else 0.0


@cache
def multiplier(n_points: int, n_runs: int) -> float:
    """How many standard errors chance explains, in one of `n_points` points of `n_runs` runs."""
    from scipy.stats import t

    return float(t.isf(FALSE_ALARM / (2 * n_points), n_runs - 1))


@dataclass(frozen=True)
class Verdict:
    """The outcome of `judge`: "holds", "holds within" or "fails", its colour, and the reason."""

    outcome: str
    colour: str
    reason: str


def judge(points: Sequence[Point]) -> Verdict:
    """Judge a claim by its points.

    It holds (green) if every deviation, simulation - theory, is within t times the standard error
    of the range from 0 to the finite-size effect c/N, where t is Student's, with three standard
    deviations' chance of a false alarm over all points together. It holds within x % (amber) if the
    largest deviation is at most 5 % of the theory's value, and fails (red) otherwise, also on any
    number that is not finite. A direction holds if the simulation exceeds the theory beyond
    the tolerance, fails if it falls short by as much, and is not resolved (amber) in between.

    Examples
    --------
    >>> judge([Point("alpha = 2", 0.25, 0.26, 0.005, 16)]).outcome
    'holds'
    >>> judge([Point("alpha = 2", 0.25, 0.36, 0.005, 16)]).colour
    'red'
    """
    if not points:
        raise ValueError("points must not be empty: a claim without a comparison has no verdict")
    for point in points:
        numbers = (point.theory, point.simulation, point.error, point.allowance)
        if not all(map(math.isfinite, numbers)) or point.n_runs < 2:
            return Verdict("fails", "red", f"at {point.where} a number is missing or not finite")
    n = len(points)
    outside = [p for p in points if p.excess(n) > 1.0]
    unresolved = [p for p in points if p.at_least and abs(p.deviation) <= p.tolerance(n)]
    if unresolved and not outside:
        faintest = min(unresolved, key=lambda p: p.deviation / p.tolerance(n))
        reason = (
            f"{len(unresolved)} of {n} effects not resolved, the others as claimed; at "
            f"{faintest.where}: {faintest.simulation:.5g} +- {faintest.standard_error:.2g}"
        )
        return Verdict("not resolved", "amber", reason)
    if not outside:
        shares = [p.share(p.tolerance(n)) for p in points if p.theory]
        if points[0].at_least:
            resolution = ""
        elif shares and max(shares) > 1.0:
            resolution = f", {sum(s < 1 for s in shares)} of them tell the theory from 0"
        elif shares:
            resolution = f", tolerance at most {100 * max(shares):.2g} %"
        else:
            resolution = f", tolerance at most {max(p.tolerance(n) for p in points):.2g}"
        return Verdict("holds", "green", f"all {n} points within errors{resolution}")

    worst = max(outside, key=lambda p: (p.share(p.deviation), p.excess(n)))
    share = worst.share(worst.deviation)
    reason = (
        f"{len(outside)} of {n} points outside; worst at {worst.where}: theory "
        f"{worst.theory:.5g}, simulation {worst.simulation:.5g} +- {worst.standard_error:.2g}, "
        f"allowance {worst.allowance:.2g}"
    )
    if share <= AMBER and not any(p.at_least for p in outside):
        return Verdict(f"holds within {100 * share:.2g} %", "amber", reason)
    return Verdict("fails", "red", reason)


@dataclass(frozen=True)
class Claim:
    """A claim with its evidence.

    Attributes
    ----------
    name : str
        Short identifier, unique over all scripts.
    statement : str
        The claim in one sentence.
    stated_by : str
        "paper" or "package".
    formula : str
        The paper's formula, or where it is.
    theory : str
        What the theory column holds.
    points : tuple of Point
    command, seed
        What reproduces it.
    figure : str
        File name of the picture, empty without one.
    note : str
        What a reader should know beside the verdict.
    N : int
        Number of weights, where it is not that of the option.
    """

    name: str
    statement: str
    stated_by: str
    formula: str
    theory: str
    points: tuple[Point, ...]
    command: str
    seed: int
    figure: str = ""
    note: str = ""
    N: int = 0

    @property
    def verdict(self) -> Verdict:
        """What `judge` says."""
        return judge(self.points)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; numbers that are not finite become None."""
        record = asdict(self)
        record["points"] = [
            {
                k: None if isinstance(v, float) and not math.isfinite(v) else v
                for k, v in (asdict(p) | {"tolerance": p.tolerance(len(self.points))}).items()
            }
            for p in self.points
        ]
        return record | {"verdict": asdict(self.verdict)}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Claim:
        """Read back; ValueError if the stored verdict is not what the stored points give."""
        record = dict(record)
        stored = record.pop("verdict")
        points = tuple(
            Point(**{k: math.nan if v is None else v for k, v in p.items() if k != "tolerance"})
            for p in record.pop("points")
        )
        claim = cls(points=points, **record)
        if asdict(claim.verdict) != stored:
            raise ValueError(f"verdict of {claim.name!r} does not follow from its points: {stored}")
        return claim

    def table(self) -> str:
        """The comparison as text, one line a point."""
        n = len(self.points)
        width = max(len(p.where) for p in self.points)
        lines = [
            f"{self.name} ({self.stated_by}): {self.statement}",
            f"  formula: {self.formula}; theory: {self.theory}",
            f"  command: {self.command} (seed {self.seed})",
            f"  {'':{width}}  {'theory':>10} {'simulation':>11} {'+-':>8} {'deviation':>10} "
            f"{'tolerance':>10}",
        ]
        for p in self.points:
            lines.append(
                f"  {p.where:{width}}  {p.theory:10.5f} {p.simulation:11.5f} "
                f"{p.standard_error:8.5f} {p.deviation:10.5f} {p.tolerance(n):10.5f}"
            )
        verdict = self.verdict
        lines.append(f"  -> {verdict.outcome} ({verdict.colour}): {verdict.reason}")
        return "\n".join(lines)


def save_claims(claims: Sequence[Claim], path: Path) -> None:
    """Write claims as JSON."""
    text = json.dumps([claim.to_dict() for claim in claims], indent=1, allow_nan=False)
    write_whole(path, text + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file that is never seen half written, whenever the process is killed."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def load_claims(path: Path) -> list[Claim]:
    """Read what `save_claims` wrote."""
    return [Claim.from_dict(r) for r in json.loads(path.read_text(encoding="utf-8"))]
