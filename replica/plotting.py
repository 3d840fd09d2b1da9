"""Figures: the error over the load, and the parts of the house style for figures of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from inspect import signature
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._core.arguments import ArgumentError, choice, real_array
from ._core.style import (
    ERROR_LABEL,
    KEY,
    LABELS,
    LOAD_LABEL,
    PATTERNS,
    check_line,
    curves_of,
    draw_curve,
    finish_axes,
    line_style,
    new_axes,
    save_figure,
)
from .inputs import Clusters, Inputs, Isotropic, as_inputs
from .labels import Flip, NoiseLike, as_noise
from .losses import SQUARE, LossLike, as_loss
from .students import LINEAR, LeakyReLU, Student, StudentLike, as_student

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

__all__ = [
    "ERROR_LABEL",
    "LOAD_LABEL",
    "draw_curve",
    "finish_axes",
    "line_style",
    "new_axes",
    "plot_curve",
    "save_figure",
]


def plot_curve(
    alpha: ArrayLike,
    S: ArrayLike,
    zeta: ArrayLike = 0.0,
    *,
    student: StudentLike | Sequence[StudentLike] = "linear",
    theory: Literal["replica", "published"] = "replica",
    loss: LossLike = "square",
    teacher: StudentLike = "linear",
    noise: NoiseLike = "output",
    inputs: Inputs | None = None,
    quantity: str = "gen_error",
    band: bool = False,
    ax: Axes | None = None,
    label: str | None = None,
    **line: object,
) -> Axes:
    """Plot the generalization error, or another quantity, over the load.

    One curve per (student, S, zeta); `Result.plot` of a result that is there already draws over
    whatever varies in it, and a converged batch normalization by ``bn_equilibrium(...).plot()``.

    More than ten curves are told apart by color: a color bar shows the parameter that has the
    most values, and line patterns show the others.

    Parameters
    ----------
    alpha : array_like, one-dimensional
        Loads P/N, in the order in which the line is drawn. alpha > 0.
    S, zeta : float or one-dimensional array_like
        Variance of the teacher's noise and strength of the decay (sum convention). Each
        combination of their elements is a curve.
    student : str, LeakyReLU, Student, function, or a list of these
        See `replica.gen_error`.
    theory : {"replica", "published"}
        See `replica.gen_error`.
    loss, teacher, noise
        What training minimizes and how labels are made; see `replica.solve_equilibrium`.
    inputs : Inputs, optional
        See `replica.gen_error`; `Clusters` have labels of their own, and S = 0.
    quantity : str
        The field of `replica.Equilibrium` that is drawn, numbers or truth values; for `Clusters`
        that of `replica.ClusterEquilibrium`.
    band : bool
        Whether to shade what lies between the error of replica symmetry and that of one step of its
        breaking, `replica.Equilibrium.rs_error`, of up to ten curves; some 50 ms a point.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure (``ax.figure``), which needs no display and has
        a logarithmic load axis if `alpha` is evenly spaced in the logarithm.
    label : str, optional
        Legend entry, when there is a single curve; by default student, S and zeta (in a new
        figure the title has those that all curves share).
    **line
        Properties of the lines (color, linestyle, marker, ...) in place of the house style; one
        color for all leaves no color bar.

    Returns
    -------
    matplotlib.axes.Axes
        With labeled axes. Where the quantity is infinite, as the error is at the interpolation
        threshold, the line is interrupted and a triangle at the upper edge marks the divergence.

    Raises
    ------
    TypeError, ValueError
        As `replica.gen_error`; or if `alpha` is not one-dimensional, if `label` is given
        together with more than one curve, if there is no such quantity, or if `line` is no property
        of a line.

    Examples
    --------
    >>> ax = plot_curve([0.5, 1.0, 2.0], 0.25, [0.0, 0.25])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['ζ = 0', 'ζ = 0.25']
    >>> ax.get_title(loc="left")
    'linear student, S = 0.25'
    >>> ax.figure.savefig("curve.pdf")  # doctest: +SKIP
    """
    loads = real_array("alpha", alpha)
    if loads.ndim != 1:
        raise ArgumentError(f"alpha must be one-dimensional, got shape {loads.shape}")
    listed = student if isinstance(student, list | tuple) else [student]
    students = [as_student(s) for s in cast("Sequence[StudentLike]", listed)]
    noises, decays = (np.atleast_1d(real_array(n, v)) for n, v in (("S", S), ("zeta", zeta)))
    if noises.ndim > 1 or decays.ndim > 1:
        raise ArgumentError("S and zeta must be numbers or one-dimensional")
    curves: list[tuple[LeakyReLU | Student, float, float]]
    curves = list(product(students, noises.tolist(), decays.tolist()))
    if not curves:
        raise ArgumentError("student, S and zeta must not be empty")
    if band and (quantity != "gen_error" or len(curves) > _MOST_NAMED):
        raise ArgumentError(
            f"band is for quantity 'gen_error' and up to {_MOST_NAMED} curves, "
            f"got {quantity!r} and {len(curves)}"
        )
    if label is not None and len(curves) != 1:
        raise ArgumentError(f"label names a single curve, got {len(curves)} curves")

    line = check_line("plot_curve", line, signature(plot_curve).parameters)

    # Everything is computed before anything is drawn: bad input leaves `ax` as it was.
    cost, whom, how = as_loss(loss), as_student(teacher, name="teacher"), as_noise(noise)
    where = as_inputs(inputs)
    options = {"theory": theory, "loss": cost, "teacher": whom, "noise": how, "inputs": where}
    values = [_values(quantity, loads, s, z, {"student": g, **options}) for g, s, z in curves]
    shifts = [
        _values("rs_error", loads, s, z, {"student": g, **options}) if band else None
        for g, s, z in curves
    ]
    origin = "published theory" if theory == "published" else ""
    suffix = f" ({origin})" if origin else ""
    setting = [f"{cost.name} loss"] if cost != SQUARE else []
    setting += [f"{whom.name} teacher"] if whom != LINEAR else []
    setting += [how.name] if isinstance(how, Flip) else []
    setting += [where.name] if not isinstance(where, Isotropic) else []
    common = ", ".join(setting)
    named = [
        (f"{g.name} student{suffix}", common, f"S = {s:.6g}", f"ζ = {z:.6g}") for g, s, z in curves
    ]
    axes, title = ax, None
    shared: list[str] = []
    if axes is None:
        _, axes = new_axes()
        if is_logarithmic(loads):
            axes.set_xscale("log")
        # The title says what all curves have in common, the legend the rest.
        shared = [part for part in named[0] if part and all(part in parts for parts in named)]
        title = ", ".join(shared if origin in ", ".join(shared) else [origin, *shared])

    def name(parts: Iterable[str]) -> str:
        if ax is not None or len(curves) == 1:  # others are there, or may come
            return ", ".join(filter(None, parts))
        told = (part for part in parts if part and part not in shared)
        return ", ".join(part.removesuffix(suffix) for part in told)

    if len(curves) > _MOST_NAMED and "color" not in line:
        _draw_family(axes, loads, curves, values, named, name, line)
    else:
        first = len(curves_of(axes))
        for i, (parts, error) in enumerate(zip(named, values, strict=True)):
            draw_curve(axes, loads, error, index=first + i, label=label or name(parts), **line)
            if (shift := shifts[i]) is not None:
                color = curves_of(axes)[first + i].get_color()
                axes.fill_between(loads, error, error + shift, color=color, alpha=0.3, linewidth=0)
    ylabel = LABELS.get(quantity, quantity.replace("_", " "))
    return finish_axes(axes, xlabel=LOAD_LABEL, ylabel=ylabel, title=title or None)


def _values(
    quantity: str,
    loads: NDArray[np.float64],
    S: float,
    zeta: float,
    options: dict[str, Any],
) -> NDArray[np.float64]:
    from .equilibrium import gen_error, solve_clusters, solve_equilibrium

    inputs, loss = options["inputs"], options["loss"]
    if quantity == "gen_error":  # by itself several times as fast
        return np.asarray(gen_error(loads, S, zeta, **options))
    if isinstance(inputs, Clusters):
        gen_error(loads[:1], S, zeta, **options)  # refuses what clusters do not have
        fields = solve_clusters(loads, zeta, inputs=inputs, loss=loss).to_dict()
    else:
        found = solve_equilibrium(loads, S, zeta, **options)
        if quantity == "rs_error":
            return found.rs_error
        fields = found.to_dict()
    drawable = {
        name: value
        for name, value in fields.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "fb"
    }
    return drawable[choice("quantity", quantity, drawable)].astype(np.float64)


_MOST_NAMED = 10  # curves in a legend that a reader can still tell apart


def _draw_family(
    ax: Axes,
    loads: NDArray[np.float64],
    curves: list[tuple[LeakyReLU | Student, float, float]],
    drawn: list[NDArray[np.float64]],
    named: list[tuple[str, str, str, str]],
    name: Callable[[Iterable[str]], str],
    line: dict[str, object],
) -> None:
    """Draw many curves: colors for the parameter with the most values, patterns for the rest."""
    from matplotlib import colormaps, rc_context
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap

    from ._core.legend_band import STYLE

    students = [g.slope if isinstance(g, LeakyReLU) else None for g, _, _ in curves]
    values: list[Sequence[float | None]] = [students, *list(zip(*curves, strict=True))[1:]]
    numbers = (2, 1) if None in students else (2, 1, 0)  # what has no slope has no color
    which = max(numbers, key=lambda i: len(set(values[i])))
    label = ("slope of the student", "noise variance  $S$", r"decay  $\zeta$")[which]
    # Without its last tenth, a yellow that is too faint on white.
    colors = ListedColormap(colormaps["viridis"](np.linspace(0.0, 0.9, 256)))
    scale = ScalarMappable(_norm(np.array(values[which])), colors)
    place = (0, 2, 3)[which]  # after the student stands what all curves share
    rest = [tuple(part for i, part in enumerate(parts) if i != place) for parts in named]
    kinds = list(dict.fromkeys(rest))
    if len(kinds) <= len(PATTERNS):
        line = {"marker": "none"} | line
    with rc_context(STYLE):
        for index, kind in enumerate(kinds if len(kinds) > 1 else []):
            style = {"color": "0.25", "label": name(kind), "gid": KEY} | line
            style = line_style(index, **style)
            ax.plot([], [], **style)
        for parts, kind, value, curve in zip(named, rest, values[which], drawn, strict=True):
            style = {
                "color": scale.to_rgba(np.array(value, float)),
                "label": "_" + ", ".join(filter(None, parts)),
            } | line
            draw_curve(ax, loads, curve, index=kinds.index(kind), **style)
        bar = ax.figure.colorbar(scale, ax=ax, label=label, aspect=30)
        bar.outline.set_visible(False)  # type: ignore[operator]


def _norm(values: NDArray[np.float64]) -> Normalize:
    """Return how `values` become colors: by their logarithms if they are so distributed."""
    from matplotlib.colors import LogNorm, Normalize, SymLogNorm

    top, positive = float(values.max()), np.unique(values[values > 0.0])
    if positive.size < 3 or np.median(positive) > 0.25 * top:
        return Normalize(float(values.min()), top)
    if values.min() > 0.0:
        return LogNorm(float(positive[0]), top)
    return SymLogNorm(float(positive[0]), vmin=0.0, vmax=top, base=10)


def is_logarithmic(grid: NDArray[np.float64]) -> bool:
    """Whether the points are evenly spaced in the logarithm, as a reader would plot them."""
    if grid.size < 3:
        return False
    steps = np.diff(np.log(grid))
    return bool(np.allclose(steps, steps[0]) and not np.allclose(steps, 0.0))
