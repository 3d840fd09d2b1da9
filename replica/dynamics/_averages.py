"""The averages that drive the flow, by name: of one sample, whatever the size of the batch."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Averages", "Derivatives"]


class Averages(NamedTuple):
    """P moves gamma, I2 is the noise of the weights, G moves R; see `_closed_forms`."""

    P: float
    I2: float
    G: float


class Derivatives(NamedTuple):
    """P, I2 and G, each followed by its derivatives in gamma and D = 1 - R."""

    P: float
    P_gamma: float
    P_D: float
    I2: float
    I2_gamma: float
    I2_D: float
    G: float
    G_gamma: float
    G_D: float
