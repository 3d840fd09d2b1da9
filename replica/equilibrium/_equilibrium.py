"""The result of all equilibrium solvers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from replica._core.results import Result
from replica.inputs import Inputs
from replica.students import LeakyReLU, Student

__all__ = ["Equilibrium", "Noise", "Theory"]

Theory = Literal["replica", "published"]
Noise = Literal["output", "input"]


@dataclass(frozen=True, repr=False)
class Equilibrium(Result):
    """Order parameters and errors of the trained student; see `solve_equilibrium`.

    All arrays have the broadcast shape of (alpha, S, zeta, beta). Every value is NaN where `status`
    is neither CONVERGED nor DIVERGENT. What the solver of a problem does not know is NaN:
    `dead_fraction` outside the closed forms.

    Attributes
    ----------
    student, teacher : LeakyReLU or Student
    noise : {"output", "input"}
        Whether the label noise is added after or before the teacher's activation.
    theory : {"replica", "published"}
    alpha, S, zeta, beta : ndarray
        Load, noise variance, weight decay (sum convention), inverse temperature (inf: zero).
    gamma, R : ndarray
        gamma^2 is the overlap of two students trained alike, gamma R that with the teacher. At
        zero temperature gamma is the length of the weights, sqrt(|W|^2/N), and R a cosine.
    q : ndarray
        Self-overlap |W|^2/N; gamma^2 at zero temperature.
    chi : ndarray
        Susceptibility beta (q - gamma^2); inf at zeta = 0 below the interpolation threshold.
    gen_error : ndarray
        Generalization error against the noise-free teacher, E[(phi(z) - g(u))^2], of the student
        with the averaged weights.
    gibbs_gen_error, posterior_mean_gen_error : ndarray
        The error averaged over the Gibbs measure, and that of the averaged output; both are
        `gen_error` at zero temperature.
    train_error : ndarray
        Mean of (y - g(u))^2 over the training set, noisy labels y, decay not included.
    energy, free_energy, entropy : ndarray
        Per weight: alpha train_error/2 + zeta q/2; f of eq. 19; beta (energy - free_energy),
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
    """

    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    noise: Noise
    inputs: Inputs
    theory: Theory
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

    _problem = ("student", "teacher", "noise", "inputs", "theory", "alpha", "S", "zeta", "beta")

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

    def _curve_name(self) -> str:
        return self.student.name
