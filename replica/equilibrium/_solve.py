"""The equilibrium (gamma, R) of training to the end, and which solver serves which problem."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.arguments import LARGEST, ArgumentError, choice, problem, real_array
from replica._core.jit import for_each_chunk
from replica._core.status import warn_not_converged
from replica.inputs import Clusters, InputsLike, Isotropic, as_inputs
from replica.labels import NoiseLike, as_noise, check_labels
from replica.losses import SQUARE, LossLike, as_loss
from replica.students import LINEAR, RELU, LeakyReLU, Student, as_piecewise, as_student

from ._convex_loss import serves, solve_convex_loss
from ._equilibrium import Equilibrium, Noise, Symmetry, Theory, of_square_loss
from ._finite_temperature import solve_finite_temperature
from ._piecewise import relu_threshold, solve_piecewise
from ._ridge import Columns, solve_ridge
from ._structured import solve_structured
from ._symmetry_breaking import solve_broken_symmetry
from ._weights import mode_arrays

__all__ = ["interpolation_threshold", "solve_equilibrium"]


def solve_equilibrium(
    alpha: ArrayLike,
    S: ArrayLike,
    zeta: ArrayLike = 0.0,
    *,
    student: str | LeakyReLU | Student = "linear",
    theory: Theory = "replica",
    teacher: str | LeakyReLU | Student = "linear",
    noise: NoiseLike = "output",
    loss: LossLike = "square",
    beta: ArrayLike | None = None,
    inputs: InputsLike = None,
    symmetry: Symmetry = "rs",
    levels: int = 2,
) -> Equilibrium:
    """Solve for the equilibrium of a student trained to the end on P = alpha N noisy samples.

    Parameters
    ----------
    alpha : array_like
        Load P/N, from 1e-100 to 1e100.
    S : array_like
        Variance of the label noise, from 0 to 1e100.
    zeta : array_like
        Weight decay, from 0 to 1e100, in the sum convention: the energy is
        sum_j l(y_j, g(W.x_j)) + zeta |W|^2/2, l = (y - g)^2/2 for the square loss. 0 means exactly
        0, the limit of vanishing decay.
        See `zeta_from_mean` for a loss that is averaged over samples.
    student : {"linear", "relu"}, LeakyReLU, Student or the name of one
        The student's activation. Linear, ReLU and leaky ReLU have closed forms; any other goes to
        the general solver ("erf", "tanh", "softplus", "quadratic", or your own `Student`).
    theory : {"replica", "published"}
        "replica": the replica-symmetric saddle point of the true loss, exact for the linear
        student. "published": the closed forms of Luo et al. (2019), for "linear" (the same) and
        "relu" (Prop. 5, continued to alpha > 2 and zeta > 0), which treats samples with y <= 0 as
        a constant: a linear student at half the load.
    teacher : str, LeakyReLU or Student
        The teacher's activation phi; other than "linear", the general solver.
    noise : {"output", "input", "logistic"} or Flip
        Label y = phi(z) + s; or y = phi(z + s) as in eq. 20, the same for a linear teacher; or
        that with a logistic law of s (linear and sign teachers); or y = +-phi(z + s), turned with
        a probability (sign teacher). S is the variance of s in all of them.
    loss : str or Loss
        What training minimizes, see `replica.losses.as_loss`: "square", "absolute", "huber",
        "epsilon-insensitive", "quantile" of the residual y - u; "hinge", "squared-hinge",
        "logistic", "exponential" of the margin y u, for labels that are signs; or a convex `Loss`
        of your own. Losses other than "square" serve the linear student.
    beta : array_like, optional
        Inverse temperature of the Gibbs measure exp(-beta E), > 0, broadcast with the others; the
        elements at inf of a student with a closed form keep it.
    inputs : Inputs or str, optional
        `Isotropic()` (the default), `Spectrum`, `PowerLaw` or `RandomFeatures`: alpha is the
        number of samples over that of modes, and the teacher's field has the variance rho of the
        inputs. See :doc:`/inputs`.
    symmetry : {"rs", "1rsb", "krsb"}
        "rs" assumes replica symmetry, which is exact for convex problems; "1rsb" and "krsb" break
        it in one step and in `levels`, for a leaky-ReLU student of a linear teacher, square loss,
        isotropic inputs, zero temperature. See `solve_broken_symmetry`, whose result says more.
    levels : int
        Number of steps of "krsb", 1 to 6.

    Returns
    -------
    Equilibrium
        Frozen, with arrays of the broadcast shape.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, out of range, or the shapes do not broadcast.

    Warns
    -----
    ConvergenceWarning
        If an element did not converge; its values are NaN and `status` says why.

    Notes
    -----
    Converged means: a full Newton step below 1e-7 in (log chi, m, log v) followed by an undamped
    relative residual below 1e-10 (in practice 1e-13). Where several saddle points exist (slopes
    below 0.01 at tiny zeta), the one of least energy is returned.

    Convex losses: the linear student has one minimum, and replica symmetry is exact. At zeta = 0
    and below the threshold, training data that a loss of margins separates has the maximal margin
    (chi infinite; gamma finite for the hinge losses, infinite with status DIVERGENT for the
    logistic and exponential, R, error_rate and margin finite), and a loss of residuals the
    interpolating weights of least norm.

    Theory: :eq:`eq-ridge`, :eq:`eq-saddle-point` and :eq:`eq-cone-moments` in :doc:`/theory`;
    :eq:`eq-residual-loss` and :eq:`eq-label-loss` in :doc:`/classification`;
    :eq:`eq-gibbs-saddle-point` in :doc:`/finite_temperature`.

    Examples
    --------
    >>> equilibrium = solve_equilibrium([0.5, 2.0], 0.25, 1 / 64, student="relu")
    >>> equilibrium.gen_error.round(6)
    array([0.891687, 0.841794])
    >>> equilibrium.messages.tolist()
    ['converged', 'converged']
    """
    choice("theory", theory, get_args(Theory))
    choice("symmetry", symmetry, get_args(Symmetry))
    where = as_inputs(inputs)
    if isinstance(where, Clusters):
        raise ArgumentError(
            f"{where!r} have labels of their own and no teacher: see solve_clusters"
        )
    activation = as_student(student)
    how, cost = as_noise(noise), as_loss(loss)
    whom = as_student(teacher, name="teacher")
    if symmetry != "rs":
        usual = cost == SQUARE and whom == LINEAR and how in get_args(Noise)
        if not (usual and theory == "replica" and beta is None and isinstance(where, Isotropic)):
            raise ArgumentError(
                f"symmetry {symmetry!r} covers theory 'replica' of the square loss with a linear "
                "teacher, noise 'output' or 'input', isotropic inputs and zero temperature only"
            )
        as_piecewise(student, what=f"symmetry {symmetry!r}")
        symmetric = solve_equilibrium(alpha, S, zeta, student=student, noise=noise)
        return _broken(symmetric, symmetry, 1 if symmetry == "1rsb" else levels)
    check_labels(cost, whom, how, real_array("S", S, low=0.0))
    if beta is None and theory == "replica":
        if serves(cost, activation, whom, how, np.asarray(S)):
            return solve_convex_loss(
                alpha, S, zeta, loss=cost, teacher=whom, noise=how, inputs=where
            )
    elif cost != SQUARE or how not in get_args(Noise):
        raise ArgumentError(
            "a temperature, and theory 'published', know loss 'square' and noise 'output' or "
            f"'input' only, got loss {cost.name!r} and noise {noise!r}"
        )
    plain: Noise = choice("noise", how, get_args(Noise))
    if beta is not None or not isinstance(activation, LeakyReLU) or whom != LINEAR:
        if theory != "replica":
            raise ArgumentError(
                f"theory {theory!r} covers a linear teacher at zero temperature only, and students "
                "'linear' and 'relu'"
            )
        inverse = np.inf if beta is None else beta
        return solve_finite_temperature(
            alpha,
            S,
            zeta,
            inverse,
            student=activation,
            teacher=whom,
            noise=plain,
            inputs=where,
        )
    student = activation
    if theory == "published" and student not in (LINEAR, RELU):
        raise ArgumentError(
            f"theory 'published' covers student 'linear' and 'relu' only, got {student.name!r}"
        )
    structured = not isinstance(where, Isotropic)
    if structured and theory != "replica":
        raise ArgumentError(f"theory {theory!r} covers isotropic inputs only, got {where!r}")
    alpha_, S_, zeta_ = problem(alpha, S, zeta)
    columns = Columns.of_size(alpha_.size)
    flat = [array.reshape(-1) for array in (alpha_, S_, zeta_)]
    published_relu = theory == "published" and student == RELU
    if structured:
        kernel = partial(solve_structured, mode_arrays(where), *flat, student.slope, columns)
    elif student == LINEAR or published_relu:
        if published_relu:
            flat[0] = 0.5 * flat[0]
        kernel = partial(solve_ridge, *flat, columns)
    else:
        kernel = partial(solve_piecewise, *flat, student.slope, columns)
    for_each_chunk(kernel, alpha_.size)
    found = columns.reshape(alpha_.shape)
    gamma, eps, train, energy = found.gamma, found.gen_error, found.train_error, found.energy
    dead = found.dead_fraction
    if published_relu:
        # half of the samples, y > 0, are seen by the linear student; the others add y^2 each
        eps = 0.5 + 0.5 * eps
        train = 0.5 * (train + 1.0 + S_)
        energy = energy + 0.25 * alpha_ * (1.0 + S_)
        dead = np.zeros_like(dead)
    warn_not_converged(found.status)
    with np.errstate(over="ignore"):  # lengths reach farther than their squares
        q = gamma * gamma
    noise_free_teacher_found = (zeta_ == 0.0) & (S_ == 0.0) & (found.R == 1.0)
    return Equilibrium(
        student=student,
        teacher=LINEAR,
        noise=plain,
        inputs=where,
        theory=theory,
        alpha=alpha_,
        S=S_,
        zeta=zeta_,
        beta=np.full_like(alpha_, np.inf),
        gamma=gamma,
        R=found.R,
        q=q,
        chi=found.chi,
        gen_error=eps,
        gibbs_gen_error=eps,
        posterior_mean_gen_error=eps,
        train_error=train,
        energy=energy,
        free_energy=energy,
        entropy=np.where(np.isnan(gamma), np.nan, -np.inf),
        dead_fraction=dead,
        interpolating=np.asarray(np.isinf(found.chi) | noise_free_teacher_found),
        replicon=found.replicon,
        rs_stable=np.asarray(found.replicon >= 0.0),
        residual=found.residual,
        quadrature_error=np.zeros_like(alpha_),
        n_iter=found.n_iter,
        status=found.status,
        **of_square_loss(LINEAR, plain, S_, eps, train, found.R),
    )


def _broken(plain: Equilibrium, symmetry: Symmetry, levels: int) -> Equilibrium:
    """The equilibrium with `levels` steps of symmetry breaking, from the symmetric one."""
    found = solve_broken_symmetry(
        plain.alpha, plain.S, plain.zeta, student=cast("LeakyReLU", plain.student), levels=levels
    )
    names = ("gamma", "R", "chi", "gen_error", "train_error", "energy", "dead_fraction")
    names += ("residual", "quadrature_error", "n_iter", "status")
    eps = found.gen_error
    return replace(
        plain,
        **{name: getattr(found, name) for name in names},
        q=found.gamma**2,
        gibbs_gen_error=eps,
        posterior_mean_gen_error=eps,
        test_loss=0.5 * (eps + plain.S),
        train_loss=0.5 * found.train_error,
        free_energy=found.energy,
        entropy=np.where(np.isnan(found.gamma), np.nan, plain.entropy),
        symmetry=symmetry,
    )


def interpolation_threshold(
    S: ArrayLike, *, student: str | LeakyReLU = "linear"
) -> float | NDArray[np.float64]:
    """Largest load at which training without decay fits every sample that can be fitted.

    Parameters
    ----------
    S : array_like
        Variance of the label noise, from 0 to 1e100.
    student : {"linear", "relu"} or LeakyReLU
        For slope > 0 the threshold is 1 whatever the noise, since g is invertible; ReLU fits the
        samples with y > 0 and silences the others up to a load between 4/3 and 2.

    Returns
    -------
    float or ndarray
        The threshold alpha_c, in the shape of `S`.

    Raises
    ------
    TypeError, ValueError
        If `S` is not real and >= 0, or the student is unknown.

    Notes
    -----
    Where chi diverges. For ReLU the replica-symmetric threshold is, in parametric form with
    0 <= phi < pi/2, alpha_c = 2 pi/(pi + phi) at S = (tan(phi) - phi)/(pi + phi).

    Theory: :eq:`eq-threshold` in :doc:`/theory`.

    Examples
    --------
    >>> round(interpolation_threshold(0.25, student="relu"), 6)
    1.464909
    >>> interpolation_threshold([0.0, 1.0])
    array([1., 1.])
    """
    student = as_piecewise(student, what="interpolation_threshold")
    S_ = real_array("S", S, low=0.0, high=LARGEST)
    threshold = np.ones_like(S_) if student.slope > 0.0 else relu_threshold(S_)
    return float(threshold) if threshold.ndim == 0 else threshold
