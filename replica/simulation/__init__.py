"""Direct simulations of training, to judge the theory by; nothing here imports a solver."""

from ._online import OnlineRun, simulate_online
from ._training import TrainingRun, mean_field_training, simulate_training

__all__ = [
    "OnlineRun",
    "TrainingRun",
    "mean_field_training",
    "simulate_online",
    "simulate_training",
]
