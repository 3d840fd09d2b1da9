"""The result of all equilibrium solvers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from replica._core.results import Result
from replica.inputs import Inputs, Isotropic
from replica.labels import Flip, NoiseWord
from replica.losses import SQUARE, Loss
from replica.students import LINEAR, SIGN, LeakyReLU, Student

from ._symmetry_breaking import error_of_replica_symmetry

__all__ = ["Equilibrium", "Noise", "Symmetry", "Theory", "of_square_loss"]

Theory = Literal["replica", "published"]
Noise = Literal["output", "input"]
Symmetry = Literal["rs", "1rsb", "krsb"]


@dataclass(frozen=True, repr=False)
class Equilibrium(Result):
    """Order parameters and errors of the trained student; see `solve_equilibrium`.

    All arrays have the broadcast shape of (alpha, S, zeta, beta). Every value is NaN where `status`
    is neither CONVERGED nor DIVERGENT. What the solver of a problem does not know is NaN:
    `dead_fraction` outside the closed forms.

    Attributes
    ----------
    student, teacher : LeakyReLU or Student
    noise : {"output", "input", "logistic"} or Flip
        How the noise enters the labels; see `replica.labels.as_noise`.
    inputs : Inputs
    theory : {"replica", "published"}
    loss : Loss
    alpha, S, zeta, beta : ndarray
        Load, noise variance, weight decay (sum convention), inverse temperature (inf: zero).
    gamma, R : ndarray
        gamma^2 is the overlap of two students trained alike, gamma R that with the teacher. At
        zero temperature gamma is the length of the weights, sqrt(|W|^2/N), and R a cosine. On
        inputs that are not isotropic gamma is the standard deviation of the student's field, R the
        correlation of the two fields.
    q : ndarray
        Self-overlap |W|^2/N, or the variance of the field; gamma^2 at zero temperature.
    chi : ndarray
        Susceptibility beta (q - gamma^2); inf at zeta = 0 below the interpolation threshold.
    gen_error : ndarray
        Generalization error against the noise-free teacher, of the student with the averaged
        weights: the mean square E[(phi(z) - g(u))^2] for a loss of residuals, the error rate for a
        loss of margins.
    gibbs_gen_error, posterior_mean_gen_error : ndarray
        The error averaged over the Gibbs measure, and that of the averaged output; both are
        `gen_error` at zero temperature.
    train_error : ndarray
        Mean of (y - g(u))^2 over the training set, noisy labels y, decay not included.
    test_loss, train_loss : ndarray
        Mean of the loss over fresh noisy samples and over the training set, decay not included.
        `test_loss` is NaN for the square loss with noise before a teacher that is not linear,
        unless the labels are signs.
    error_rate : ndarray
        Probability of another sign than that of a noise-free sign teacher, arccos(R)/pi; NaN for
        any other teacher.
    train_error_rate : ndarray
        Fraction of the training set with y u <= 0, for labels that are signs; NaN else.
    margin : ndarray
        Least y u/gamma of separable data at zeta = 0 (the maximal margin); NaN else.
    energy, free_energy, entropy : ndarray
        Per weight: alpha train_loss + zeta |W|^2/(2 N); f of eq. 19; beta (energy - free_energy),
        relative to a Gaussian of unit variance (-inf at zero temperature).
    dead_fraction : ndarray
        Fraction of the samples with y > 0 and student field u < 0.
    interpolating : ndarray of bool
        Whether every sample that can be fitted is fitted exactly. ReLU cannot fit y <= 0: there
        it means that all y > 0 are fitted and no sample with y <= 0 is active.
    replicon : ndarray
        De Almeida-Thouless eigenvalue: 1 - alpha chi^2 E[(df/domega)^2], at a temperature
        1 - alpha E[(var_u / V - 1)^2]; -inf where f jumps.
    rs_stable : ndarray of bool
        Whether replica symmetry is locally stable (replicon >= 0). For a leaky student of slope < 1
        it is at zeta = 0 below the interpolation threshold, a convex problem, and nowhere else: the
        switch between the two branches for y > 0 is a jump of f, and its square diverges.
    residual, quadrature_error : ndarray
        Largest relative residual of the saddle-point equations (undamped); how far the solutions
        of the last two quadrature rules are apart, a bound far above the error of the finer one,
        which is used (0 for closed forms).
    n_iter : ndarray of int
        Newton iterations, or evaluations of the averages in the general solver; 0 where the
        solution is a closed form.
    status : ndarray of int8
        A `Status` per element; `messages` says it in words.
    symmetry : {"rs", "1rsb", "krsb"}
        What is assumed of the overlaps of minima: replica symmetry, or one or more steps of its
        breaking (see `solve_broken_symmetry`), where `chi` is that inside a state.
    """

    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    noise: NoiseWord | Flip
    inputs: Inputs
    theory: Theory
    loss: Loss
    alpha: NDArray[np.float64]
    S: NDArray[np.float64]
    zeta: NDArray[np.float64]
    beta: NDArray[np.float64]
    gamma: NDArray[np.float64]
    R: NDArray[np.float64]
    q: NDArray[np.float64]
    chi: NDArray[np.float64]
    gen_error: NDArray[np.float64]
    gibbs_gen_error: NDArray[np.float64]
    posterior_mean_gen_error: NDArray[np.float64]
    train_error: NDArray[np.float64]
    test_loss: NDArray[np.float64]
    train_loss: NDArray[np.float64]
    error_rate: NDArray[np.float64]
    train_error_rate: NDArray[np.float64]
    margin: NDArray[np.float64]
    energy: NDArray[np.float64]
    free_energy: NDArray[np.float64]
    entropy: NDArray[np.float64]
    dead_fraction: NDArray[np.float64]
    interpolating: NDArray[np.bool_]
    replicon: NDArray[np.float64]
    rs_stable: NDArray[np.bool_]
    residual: NDArray[np.float64]
    quadrature_error: NDArray[np.float64]
    n_iter: NDArray[np.int64]
    status: NDArray[np.int8]
    symmetry: Symmetry = "rs"

    _problem = (
        "student", "teacher", "noise", "inputs", "theory", "symmetry", "loss", "alpha", "S", "zeta",
        "beta",
    )  # fmt: skip

    @property
    def stability(self) -> str:
        """Why replica symmetry is stable or not, in one sentence."""
        if bool(np.isneginf(self.replicon).any()):
            return (
                "replica symmetry is unstable: the minimizer of some sample jumps with its field, "
                "which makes the replicon integral diverge; the result is an approximation"
            )
        if bool((self.replicon < 0).any()):
            return "replica symmetry is unstable: the replicon eigenvalue is negative somewhere"
        return "replica symmetry is stable: the replicon eigenvalue is not negative"

    @property
    def rs_error(self) -> NDArray[np.float64]:
        """How far replica symmetry is off: `gen_error` of broken symmetry less the symmetric one.

        One step of symmetry breaking where the problem was solved by symmetry "rs", some 50 ms a
        point each time it is asked for; 0 where `rs_stable`; NaN for what `solve_broken_symmetry`
        does not serve (students that are not piecewise linear, other losses, inputs, teachers).
        """
        served = (
            isinstance(self.student, LeakyReLU)
            and self.teacher == LINEAR
            and self.theory == "replica"
            and self.loss == SQUARE
            and isinstance(self.inputs, Isotropic)
        )
        error = np.where(self.rs_stable, 0.0, np.nan)
        if served:
            there = np.isinf(self.beta) & ~self.rs_stable & np.isfinite(self.gen_error)
            found = self.gen_error[there] if self.symmetry != "rs" else None
            slope = cast("LeakyReLU", self.student).slope
            problem = (self.alpha[there], self.S[there], self.zeta[there])
            error[there] = error_of_replica_symmetry(*problem, slope, found)
        return error

    def _curve_name(self) -> str:
        return self.student.name if self.loss == SQUARE else self.loss.name


def of_square_loss(
    teacher: LeakyReLU | Student,
    noise: Noise,
    S: NDArray[np.float64],
    gen_error: NDArray[np.float64],
    train_error: NDArray[np.float64],
    R: NDArray[np.float64],
) -> dict[str, Any]:
    """Return the fields of an `Equilibrium` of the square loss that follow from the others."""
    fresh = noise == "output" or teacher == LINEAR
    unknown = np.full_like(S, np.nan)
    known = fresh | (S == 0.0)
    signs = teacher == SIGN
    return {
        "loss": SQUARE,
        "test_loss": np.where(known, 0.5 * (gen_error + S), np.nan),
        "train_loss": 0.5 * train_error,
        "error_rate": np.arccos(np.clip(R, -1.0, 1.0)) / np.pi if signs else unknown,
        "train_error_rate": unknown,
        "margin": unknown.copy(),
    }
