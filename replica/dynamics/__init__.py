"""Learning dynamics: order-parameter equations of online learning, and what follows from them.

One module per question: `correlations`, `flow` (one trajectory), `grid` (many, compiled),
`fixed_points` (fixed points, Jacobian, learning rates, late-time laws). They ask `model` for the
averages, which come from `closed_forms`, `batch_averages` (real batch normalization) or
`quadrature`.
"""

from ._correlations import Correlations, correlations
from ._fixed_points import (
    AsymptoticLaw,
    FixedPoint,
    effective_learning_rate,
    eigenvalues,
    fixed_point,
    jacobian,
    max_learning_rate,
)
from ._flow import Trajectory, integrate
from ._grid import TrajectoryGrid, integrate_grid

__all__ = [
    "AsymptoticLaw",
    "Correlations",
    "FixedPoint",
    "Trajectory",
    "TrajectoryGrid",
    "correlations",
    "effective_learning_rate",
    "eigenvalues",
    "fixed_point",
    "integrate",
    "integrate_grid",
    "jacobian",
    "max_learning_rate",
]
