"""Exact learning curves from replica theory, with the simulations that test them.

Names are imported when they are first used, so that ``import replica`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._core.arguments import ArgumentError, ArgumentTypeError
    from ._core.results import Result
    from ._core.status import ConvergenceWarning, Status
    from .batch_norm import (
        bn_equilibrium,
        bn_gen_error,
        deep_gamma_decay,
        gamma_decay,
        gamma_decay_strength,
        shrinkage,
        solve_output_penalty,
    )
    from .equilibrium import (
        BayesOptimal,
        BrokenSymmetry,
        ClusterEquilibrium,
        EarlyStopping,
        Equilibrium,
        PerceptronRules,
        bayes_optimal,
        early_stopping,
        free_energy,
        free_energy_published,
        gen_error,
        gen_error_from_overlaps,
        interpolation_threshold,
        optimal_zeta,
        perceptron_rules,
        separability_threshold,
        solve_broken_symmetry,
        solve_clusters,
        solve_equilibrium,
        zeta_from_mean,
    )
    from .gaussian import Average, gaussian_average
    from .inputs import (
        Clusters,
        Inputs,
        Isotropic,
        PowerLaw,
        RandomFeatures,
        SampledInputs,
        Spectrum,
    )
    from .labels import Flip
    from .learning_curve import LearningCurve, predict_learning_curve
    from .losses import (
        ABSOLUTE,
        EXPONENTIAL,
        HINGE,
        LOGISTIC,
        SQUARE,
        SQUARED_HINGE,
        Loss,
        as_loss,
        epsilon_insensitive,
        huber,
        quantile,
    )
    from .plotting import plot_curve
    from .simulation import (
        OnlineRun,
        TrainingRun,
        mean_field_training,
        simulate_online,
        simulate_training,
    )
    from .students import (
        ERF,
        LINEAR,
        QUADRATIC,
        RELU,
        SIGN,
        SOFTPLUS,
        TANH,
        LeakyReLU,
        Student,
        as_student,
    )
    from .sweeps import (
        CorruptStoreError,
        StoreError,
        SweepTable,
        delete_runs,
        load_runs,
        sweep,
    )

__version__ = "0.1.0"

# The public names, by the module that defines them.
_PUBLIC = {
    "_core.arguments": ("ArgumentError", "ArgumentTypeError"),
    "_core.results": ("Result",),
    "_core.status": ("ConvergenceWarning", "Status"),
    "batch_norm": (
        "bn_equilibrium",
        "bn_gen_error",
        "deep_gamma_decay",
        "gamma_decay",
        "gamma_decay_strength",
        "shrinkage",
        "solve_output_penalty",
    ),
    "equilibrium": (
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
    ),
    "gaussian": ("Average", "gaussian_average"),
    "inputs": (
        "Clusters",
        "Inputs",
        "Isotropic",
        "PowerLaw",
        "RandomFeatures",
        "SampledInputs",
        "Spectrum",
    ),
    "labels": ("Flip",),
    "learning_curve": ("LearningCurve", "predict_learning_curve"),
    "losses": (
        "ABSOLUTE",
        "EXPONENTIAL",
        "HINGE",
        "LOGISTIC",
        "SQUARE",
        "SQUARED_HINGE",
        "Loss",
        "as_loss",
        "epsilon_insensitive",
        "huber",
        "quantile",
    ),
    "plotting": ("plot_curve",),
    "simulation": (
        "OnlineRun",
        "TrainingRun",
        "mean_field_training",
        "simulate_online",
        "simulate_training",
    ),
    "students": (
        "ERF",
        "LINEAR",
        "QUADRATIC",
        "RELU",
        "SIGN",
        "SOFTPLUS",
        "TANH",
        "LeakyReLU",
        "Student",
        "as_student",
    ),
    "sweeps": (
        "CorruptStoreError",
        "StoreError",
        "SweepTable",
        "delete_runs",
        "load_runs",
        "sweep",
    ),
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}
_MODULES = (
    "batch_norm",
    "dynamics",
    "equilibrium",
    "gaussian",
    "inputs",
    "labels",
    "learning_curve",
    "losses",
    "plotting",
    "published",
    "simulation",
    "students",
    "sweeps",
)

__all__ = [
    "ABSOLUTE",
    "ERF",
    "EXPONENTIAL",
    "HINGE",
    "LINEAR",
    "LOGISTIC",
    "QUADRATIC",
    "RELU",
    "SIGN",
    "SOFTPLUS",
    "SQUARE",
    "SQUARED_HINGE",
    "TANH",
    "ArgumentError",
    "ArgumentTypeError",
    "Average",
    "BayesOptimal",
    "BrokenSymmetry",
    "ClusterEquilibrium",
    "Clusters",
    "ConvergenceWarning",
    "CorruptStoreError",
    "EarlyStopping",
    "Equilibrium",
    "Flip",
    "Inputs",
    "Isotropic",
    "LeakyReLU",
    "LearningCurve",
    "Loss",
    "OnlineRun",
    "PerceptronRules",
    "PowerLaw",
    "RandomFeatures",
    "Result",
    "SampledInputs",
    "Spectrum",
    "Status",
    "StoreError",
    "Student",
    "SweepTable",
    "TrainingRun",
    "as_loss",
    "as_student",
    "bayes_optimal",
    "bn_equilibrium",
    "bn_gen_error",
    "deep_gamma_decay",
    "delete_runs",
    "early_stopping",
    "epsilon_insensitive",
    "free_energy",
    "free_energy_published",
    "gamma_decay",
    "gamma_decay_strength",
    "gaussian_average",
    "gen_error",
    "gen_error_from_overlaps",
    "huber",
    "interpolation_threshold",
    "load_runs",
    "mean_field_training",
    "optimal_zeta",
    "perceptron_rules",
    "plot_curve",
    "predict_learning_curve",
    "quantile",
    "separability_threshold",
    "shrinkage",
    "simulate_online",
    "simulate_training",
    "solve_broken_symmetry",
    "solve_clusters",
    "solve_equilibrium",
    "solve_output_penalty",
    "sweep",
    "zeta_from_mean",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
