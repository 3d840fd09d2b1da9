"""Batch normalization as a regularizer: population normalization plus gamma decay, in theory and
from data (section 2 and appendix C of the paper), and what it does to the teacher-student problem.

`batch_prior` is the law of the batch statistics, `gamma_decay` Theorem 1, `expected_loss` the loss
averaged over that law, `deep_gamma_decay` multilayer networks, `bn_equilibrium` the solution after
training.
"""

from ._deep import DeepGammaDecay, deep_gamma_decay
from ._expectation import ExpectedLoss, expected_loss, sampled_loss
from ._gamma_decay import (
    GLM,
    GammaDecay,
    as_glm,
    gamma_decay,
    gamma_decay_strength,
    pn_to_wn,
    wn_to_pn,
)
from ._prior import BatchPrior, batch_prior, estimate_batch_prior
from ._teacher_student import (
    BatchNormEquilibrium,
    OutputPenaltyEquilibrium,
    bn_equilibrium,
    bn_gen_error,
    output_penalty_strength,
    shrinkage,
    solve_output_penalty,
)

__all__ = [
    "GLM",
    "BatchNormEquilibrium",
    "BatchPrior",
    "DeepGammaDecay",
    "ExpectedLoss",
    "GammaDecay",
    "OutputPenaltyEquilibrium",
    "as_glm",
    "batch_prior",
    "bn_equilibrium",
    "bn_gen_error",
    "deep_gamma_decay",
    "estimate_batch_prior",
    "expected_loss",
    "gamma_decay",
    "gamma_decay_strength",
    "output_penalty_strength",
    "pn_to_wn",
    "sampled_loss",
    "shrinkage",
    "solve_output_penalty",
    "wn_to_pn",
]
