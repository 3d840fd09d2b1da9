"""The equilibrium (gamma, R) of training to the end: the replica-symmetric saddle point."""

from ._bayes import BayesOptimal, bayes_optimal
from ._clusters import ClusterEquilibrium, solve_clusters
from ._convex_loss import separability_threshold
from ._equilibrium import Equilibrium
from ._free_energy import free_energy, free_energy_published
from ._generalization import gen_error, gen_error_from_overlaps, optimal_zeta, zeta_from_mean
from ._perceptron_rules import PerceptronRules, perceptron_rules
from ._ridge import EarlyStopping, early_stopping
from ._solve import interpolation_threshold, solve_equilibrium
from ._symmetry_breaking import BrokenSymmetry, solve_broken_symmetry

__all__ = [
    "BayesOptimal",
    "BrokenSymmetry",
    "ClusterEquilibrium",
    "EarlyStopping",
    "Equilibrium",
    "PerceptronRules",
    "bayes_optimal",
    "early_stopping",
    "free_energy",
    "free_energy_published",
    "gen_error",
    "gen_error_from_overlaps",
    "interpolation_threshold",
    "optimal_zeta",
    "perceptron_rules",
    "separability_threshold",
    "solve_broken_symmetry",
    "solve_clusters",
    "solve_equilibrium",
    "zeta_from_mean",
]
