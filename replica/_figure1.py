"""The theory curves of figure 1 of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._core.style import (
    ERROR_LABEL,
    LOAD_LABEL,
    MARK_HEIGHT,
    draw_curve,
    finish_axes,
    line_style,
    new_axes,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure1_curves", "plot_figure1"]

# The curves of the paper's figure 1, panel by panel: legend entry, arguments of `gen_error`, line.
# In panel (b) the paper has simulations in place of the replica curves, and the noiseless bound
# is its closed form at S = 0; the replica solution of the same problem is drawn beside it.
_FIGURE1_S = 0.25
_FIGURE1 = {
    "(a) linear student, S = 0.25": (
        ("vanilla SGD, ζ = 0", {}, 0),
        ("ζ = 1/64", {"zeta": 1 / 64}, 2),
        ("ζ = 0.25", {"zeta": 0.25}, 1),
    ),
    "(b) ReLU student, S = 0.25": (
        ("published, ζ = 0", {"theory": "published"}, 4),
        ("replica, ζ = 0", {}, 0),
        ("replica, ζ = 1/64", {"zeta": 1 / 64}, 2),
        ("replica, ζ = 0.25", {"zeta": 0.25}, 1),
        ("published, S = 0", {"theory": "published", "S": 0.0}, 5),
        ("replica, S = 0", {"S": 0.0}, 3),
    ),
}
_FIGURE1_STUDENTS = ("linear", "relu")


def figure1_curves(alpha: ArrayLike) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return the curves of the paper's figure 1 at the loads `alpha`, by panel and legend entry."""
    from .equilibrium import gen_error

    panels = {}
    for (panel, curves), student in zip(_FIGURE1.items(), _FIGURE1_STUDENTS, strict=True):
        panels[panel] = {
            name: np.asarray(gen_error(alpha, **({"S": _FIGURE1_S} | problem), student=student))
            for name, problem, _ in curves
        }
    return panels


def plot_figure1() -> Figure:
    """Draw the theory curves of the paper's figure 1, both panels, and return the figure.

    Examples
    --------
    >>> [ax.get_title(loc="left") for ax in plot_figure1().axes]
    ['(a) linear student, S = 0.25', '(b) ReLU student, S = 0.25']
    """
    from matplotlib import rc_context

    from ._core.legend_band import STYLE
    from .equilibrium import gen_error, interpolation_threshold

    # In hundredths, so that the divergences at 1 and 2 are points of the grid.
    alpha = np.arange(2, 401) / 100.0
    peak_load = float(interpolation_threshold(_FIGURE1_S, student="relu"))
    peak = gen_error(peak_load, _FIGURE1_S, student="relu")
    figure, axes = new_axes(2, height=3.5)
    for ax, (panel, curves), definitions in zip(
        axes, figure1_curves(alpha).items(), _FIGURE1.values(), strict=True
    ):
        for (name, values), (_, _, index) in zip(curves.items(), definitions, strict=True):
            draw_curve(ax, alpha, values, index=index, label=name)
        finish_axes(ax, xlabel=LOAD_LABEL, ylabel=ERROR_LABEL, title=panel, legend="below")
    with rc_context(STYLE):
        axes[1].annotate(
            f"peak {peak:.2f}",
            (peak_load, MARK_HEIGHT),
            xytext=(-7.0, 0.0),
            xycoords=axes[1].get_xaxis_transform(),
            textcoords="offset points",
            ha="right",
            va="center",
            color=line_style(0)["color"],
            fontsize=8.5,
        )
    return figure
