"""Direct simulations of training, to judge the theory by; nothing here imports a solver."""

from ._data import TrainingSet, make_training_set
from ._online import OnlineRun, simulate_online
from ._training import TrainingRun, mean_field_training, simulate_training

__all__ = [
    "OnlineRun",
    "TrainingRun",
    "TrainingSet",
    "make_training_set",
    "mean_field_training",
    "simulate_online",
    "simulate_training",
]
