"""`replica dynamics`: trajectories of the order parameters of online learning."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING, get_args

from replica._core.normalizer import Normalizer
from replica._core.suggest import suggestion

from . import _arguments as arg
from ._output import as_csv, as_text, say_written, write_table

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from pathlib import Path

    from replica.dynamics import Trajectory

_NORMALIZERS: tuple[str, ...] = get_args(Normalizer)
_EPILOG = """\
normalizers:
  none     plain weights with weight decay ZETA; gamma and L are both GAMMA0 at the start
  wn, pn   weight and population normalization, the same equations, with gamma decay ZETA: the
           paper's model of batch normalization
  bn       real batch normalization over --batch-size fresh samples (4 or more), with gamma decay
  bn-var   the same by the root mean square alone (3 samples or more)
  bn-mean  the same by the mean alone (2 samples or more)

examples:
  replica dynamics --normalizer pn,none --student relu --lr 0.5 --zeta 0.1 -t 100 -o dyn.png
  replica dynamics --normalizer wn --student linear --lr 3 --S 0.25 -t 1e6 --log -o late.csv
  replica dynamics --normalizer wn,bn,bn-var --student erf --lr 0.5 --batch-size 8 -t 50
"""


def _normalizers(text: str) -> list[str]:
    normalizers = [item.strip() for item in text.split(",")]
    for normalizer in normalizers:
        if normalizer not in _NORMALIZERS:
            raise ArgumentTypeError(
                f"{normalizer!r} is not a normalizer (write {arg.listed(_NORMALIZERS)})"
                f"{suggestion(normalizer, _NORMALIZERS)}"
            )
    return normalizers


def add_parsers(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `dynamics`."""
    parser = subparsers.add_parser(
        "dynamics",
        help="how gamma, R, L and the error evolve in online learning",
        description="Integrate the order-parameter equations of online learning.",
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add(
        "--normalizer",
        type=_normalizers,
        default="none,pn",
        metavar="NORMALIZERS",
        help="comma-separated list (default: none,pn)",
    )
    add(
        "--student",
        type=arg.student,
        default="relu",
        metavar="STUDENT",
        help=f"activation of student and teacher: {arg.STUDENTS} (default: relu)",
    )
    add(
        "--lr",
        type=arg.number,
        required=True,
        metavar="ETA",
        help="learning rate >= 0, of the sum over a batch",
    )
    add("--zeta", type=arg.number, default=0.0, help="decay per sample (default: 0)")
    add("--S", type=arg.number, default=0.0, help="variance of the label noise (default: 0)")
    add("--gamma0", type=arg.number, default=0.5, help="output scale at the start (default: 0.5)")
    add("--R0", type=arg.number, default=0.1, help="overlap at the start (default: 0.1)")
    add("--L0", type=arg.number, default=1.0, help="weight length at the start (default: 1)")
    add("--batch-size", type=arg.positive_integer, default=1, help="samples per step (default: 1)")
    add("-t", "--time", type=arg.number, required=True, metavar="T", help="last time, samples / N")
    add(
        "--points",
        type=arg.positive_integer,
        default=400,
        help="intervals between output times (default: 400)",
    )
    add("--log", action="store_true", help="output times evenly spaced in the logarithm, from 0.01")
    arg.add_output(parser, arg.PICTURES + arg.TABLES)
    parser.set_defaults(run=_run)


def _run(arguments: Namespace) -> None:
    import numpy as np

    from replica.dynamics import integrate

    if not 0.02 <= arguments.time < np.inf:
        raise arg.UsageError(f"-t must be a finite time >= 0.02, got {arguments.time:g}")
    if arguments.log:
        times = np.geomspace(0.01, arguments.time, arguments.points + 1)
    else:
        times = np.linspace(0.0, arguments.time, arguments.points + 1)
    runs = []
    for normalizer in arguments.normalizer:
        runs.append(
            integrate(
                student=arguments.student,
                normalizer=normalizer,
                S=arguments.S,
                zeta=arguments.zeta,
                batch_size=arguments.batch_size,
                learning_rate=arguments.lr,
                gamma0=arguments.gamma0,
                R0=arguments.R0,
                L0=arguments.gamma0 if normalizer == "none" else arguments.L0,
                t=times,
            )
        )
    names = ("gamma", "R", "L", "effective_learning_rate", "gen_error")
    output = arguments.output
    if output is None or output.suffix.lower() in arg.TABLES:
        table = {"normalizer": [run.normalizer for run in runs for _ in times]}
        table["t"] = np.tile(times, len(runs)).tolist()
        for name in names:
            table[name] = np.concatenate([getattr(run, name) for run in runs]).tolist()
        if output is None:
            sys.stdout.write(as_csv(table))
            return
        write_table(output, table)
    else:
        _draw(runs, output, arguments.log)
        last: dict[str, list[object]] = {"normalizer": [run.normalizer for run in runs]}
        last |= {name: [getattr(run, name)[-1] for run in runs] for name in names}
        print(as_text(last), end="")
    say_written(output)


def _draw(runs: list[Trajectory], output: Path, logarithmic: bool) -> None:
    from replica.plotting import new_axes, save_figure

    figure, axes = new_axes(4, width=3.3, height=3.0)
    for panel, (ax, quantity) in enumerate(
        zip(axes, ("gamma", "R", "L", "gen_error"), strict=True)
    ):
        if logarithmic:
            ax.set_xscale("log")
        for run in runs:
            label = None if panel else run.normalizer
            run.plot(quantity, ax=ax, label=label, marker="none")
    save_figure(figure, output)
