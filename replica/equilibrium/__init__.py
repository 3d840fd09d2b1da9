"""The equilibrium (gamma, R) of training to the end: the replica-symmetric saddle point."""

from ._free_energy import free_energy, free_energy_published
from ._ridge import EarlyStopping, early_stopping
from ._saddle_point import GeneralEquilibrium
from ._solve import Equilibrium, interpolation_threshold, solve_equilibrium

__all__ = [
    "EarlyStopping",
    "Equilibrium",
    "GeneralEquilibrium",
    "early_stopping",
    "free_energy",
    "free_energy_published",
    "interpolation_threshold",
    "solve_equilibrium",
]
