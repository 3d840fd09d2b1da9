"""Look for points at which the solver of broken symmetry fails, on a grid of problems.

Run: python tests/symmetry_breaking_scan.py; one line for each point that does not converge, whose
functional is not its energy, or whose energy is below that of replica symmetry (the functional is
a maximum over the breakpoints); then a summary.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings

import numpy as np

import replica

LOADS = (0.3, 0.5, 0.8, 1.0, 1.2, 1.4, 1.5, 1.7, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0)
NOISES = (0.01, 0.05, 0.25, 1.0, 4.0)
DECAYS = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1 / 64, 0.1, 0.25, 1.0)
SLOPES = (0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9)
# Relative: the last rule leaves 1e-12 in the averages, the tolerance of the residual is 1e-10.
LARGEST_MISMATCH = 1e-9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slopes", type=float, nargs="*", default=SLOPES)
    slopes = parser.parse_args().slopes
    bad = points = broken = 0
    worst_mismatch = worst_quadrature = worst_residual = 0.0
    largest, where = 0.0, ""
    start = time.process_time()
    for slope in slopes:
        alpha, S, zeta = np.meshgrid(LOADS, NOISES, DECAYS, indexing="ij")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", replica.ConvergenceWarning)
            found = replica.solve_broken_symmetry(alpha, S, zeta, student=replica.LeakyReLU(slope))
        plain = replica.solve_equilibrium(alpha, S, zeta, student=replica.LeakyReLU(slope))
        lower = found.energy < plain.energy * (1.0 - LARGEST_MISMATCH)
        fault = (found.status > 1) | ~(found.energy_error < LARGEST_MISMATCH) | lower
        for index in np.argwhere(fault):
            i = tuple(index)
            print(
                f"slope {slope:g} alpha {alpha[i]:g} S {S[i]:g} zeta {zeta[i]:g}: "
                f"{found.messages[i]}; residual {found.residual[i]:.1e}, energy off by "
                f"{found.energy_error[i]:.1e}, above the symmetric one by "
                f"{found.energy[i] / plain.energy[i] - 1:.1e}, chi {plain.chi[i]:.2e}"
            )
        bad += int(fault.sum())
        points += fault.size
        broken += int(found.broken.sum())
        for i in np.argwhere(found.converged & found.broken):
            k = tuple(i)
            worst_mismatch = max(worst_mismatch, found.energy_error[k])
            worst_quadrature = max(worst_quadrature, found.quadrature_error[k])
            worst_residual = max(worst_residual, found.residual[k])
            share = abs(found.rs_error[k]) / plain.gen_error[k]
            if share > largest:
                where = f"slope {slope:g} alpha {alpha[k]:g} S {S[k]:g} zeta {zeta[k]:g}"
                largest = share
    seconds = time.process_time() - start
    print(
        f"{points} points, {broken} with broken symmetry, {bad} faults; largest residual "
        f"{worst_residual:.1e}, energy mismatch {worst_mismatch:.1e}, distance of the last two "
        f"rules {worst_quadrature:.1e}; |rs_error|/gen_error up to {largest:.4f} at {where}; "
        f"{1e3 * seconds / points:.0f} ms of processor time a point"
    )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
