"""Learning dynamics: the differential equations beside online learning at finite N."""

from __future__ import annotations

import numpy as np

from replica import simulate_online
from replica.dynamics import integrate
from replica.plotting import finish_axes, line_style, new_axes

from ._claims import Claim, Point
from ._runs import Setup, fit_limit

START = {"gamma": 0.5, "R": 0.1, "L": 1.0}
RATE, S = 0.5, 0.25
TIMES = (2.0, 5.0, 10.0, 20.0)
RUNS = 80
DIRECT_RUNS = 8
# name: (method of the equations, normalizer of the simulator, zeta)
METHODS = {"SGD": ("sgd", "none", 0.0), "WN": ("wn", "wn", 0.0), "BN": ("bn", "pn", 0.1)}
OBSERVABLES = ("gamma", "R", "L")
SIZES = (125, 250, 500)


def trajectory(
    *, normalizer: str, zeta: float, student: str, N: int, engine: str, n_runs: int, seed: int
) -> dict:
    """Means and standard errors of the order parameters at `TIMES`."""
    start = START if normalizer != "none" else {"R": START["R"], "L": START["gamma"]}
    n_records = 20
    run = simulate_online(
        S, N=N, student=student, normalizer=normalizer, zeta=zeta, learning_rate=RATE,
        t_max=TIMES[-1], engine=engine, n_runs=n_runs, seed=seed, n_records=n_records,
        n_threads=1, progress=False, **start,
    )  # fmt: skip
    at = [round(t / TIMES[-1] * n_records) for t in TIMES]
    record = {}
    for name in OBSERVABLES:
        record[name] = run.mean(name)[at]
        record[f"{name}_se"] = run.standard_error(name)[at]
    return record


def run(setup: Setup) -> list[Claim]:
    """One claim per student and engine, and the figure."""
    name = "dynamics_trajectories"
    common = {"command": setup.command(name), "seed": setup.seed, "figure": f"{name}.png"}
    N = 2 * setup.N
    grid = [
        {"normalizer": normalizer, "zeta": zeta, "student": student, "N": n, "engine": "chain",
         "n_runs": RUNS * max(1, N // n), "seed": setup.seed}
        for student in ("relu", "linear")
        for _, normalizer, zeta in METHODS.values()
        for n in (*SIZES, N)
    ]  # fmt: skip
    rows = setup.run(trajectory, grid)
    whole = {"engine": "direct", "n_runs": DIRECT_RUNS}
    direct = setup.run(trajectory, [g | whole for g in grid[len(SIZES) :: len(SIZES) + 1]])
    points = {"chain": [], "direct": []}
    figure, axes = new_axes(3, width=4.0)
    fine = np.linspace(0.0, TIMES[-1], 100)
    k = 0
    for student in ("relu", "linear"):
        for index, (label, (method, _, zeta)) in enumerate(METHODS.items()):
            start = {f"{key}0": value for key, value in START.items()}
            if method == "sgd":
                start["L0"] = start["gamma0"]
            theory = integrate(
                method, student=student, learning_rate=RATE, zeta=zeta, S=S, t=np.array(TIMES),
                **start,
            )  # fmt: skip
            block = rows[k * (len(SIZES) + 1) : (k + 1) * (len(SIZES) + 1)]
            for ax, quantity in zip(axes, OBSERVABLES, strict=True):
                means = np.array([r[quantity] for r in block])
                errors = np.array([r[f"{quantity}_se"] for r in block])
                fit = fit_limit(np.array(SIZES), means[:-1], errors[:-1])
                for engine, mean, error, runs in (
                    ("chain", means[-1], errors[-1], RUNS),
                    ("direct", direct[k][quantity], direct[k][f"{quantity}_se"], DIRECT_RUNS),
                ):
                    for i, t in enumerate(TIMES):
                        points[engine].append(
                            Point(
                                f"{student}, {label}, {quantity}({t:g})",
                                float(getattr(theory, quantity)[i]),
                                float(mean[i]),
                                float(error[i]),
                                runs,
                                allowance=abs(float(fit.slope[i])) / N,
                                allowance_error=float(fit.slope_error[i]) / N,
                            )
                        )
                if student == "relu":
                    curve = integrate(
                        method, student=student, learning_rate=RATE, zeta=zeta, S=S, t=fine, **start
                    )
                    style = line_style(index, marker="none", label=label)
                    ax.plot(fine, getattr(curve, quantity), **style)
                    ax.errorbar(TIMES, means[-1], errors[-1], **line_style(index, linestyle="none"))
            k += 1
    for ax, label in zip(axes, (r"$\gamma$", "$R$", "$L$"), strict=True):
        finish_axes(ax, xlabel="time  $t$ = steps / $N$", ylabel=label, legend="inside")
    axes[0].set_title(f"ReLU, $N$ = {N}, chain", loc="left")
    setup.save(figure, name)
    return [
        Claim(
            name=f"trajectories-{engine}",
            statement=f"Online learning at N = {N} follows the order-parameter equations ({what}).",
            stated_by="paper",
            formula="eqs. 12-15, with k3 in place of the misprint in eq. 15",
            theory="dynamics.integrate",
            points=tuple(found),
            note="BN is population statistics with gamma decay, as in the equations.",
            **common,
        )
        for (engine, found), what in zip(
            points.items(), ("order-parameter chain", "all N weights"), strict=True
        )
    ]
