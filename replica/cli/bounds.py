"""`replica bayes`, `replica threshold` and `replica optimum`: bounds, and the best decay."""

from __future__ import annotations

import math
import sys
from itertools import product
from typing import TYPE_CHECKING, cast

from . import _arguments as arg
from ._output import as_csv, say_written, write_table

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from pathlib import Path

    from matplotlib.figure import Figure

_BAYES_EPILOG = f"""\
{arg.NUMBERS}
examples:
  replica bayes --alpha 2 --S 0.25
  replica bayes --alpha 2 --teacher sign --noise flip:0.1 --all
  replica bayes --alpha log:0.1:100:100 --teacher sign -o bound.png
  replica bayes --alpha 0.1:4:40 --S 0,0.25 --teacher relu -o bound.csv
"""

_THRESHOLD_EPILOG = f"""\
{arg.NUMBERS}
examples:
  replica threshold --S 0,0.25,1 --student relu
  replica threshold --S 0.5 --teacher sign --noise input
  replica threshold --teacher sign --noise flip:0.1
"""

_OPTIMUM_EPILOG = f"""\
{arg.NUMBERS}
examples:
  replica optimum --alpha 2 --S 0.25 --student relu
  replica optimum --alpha 0.5,1,2 --S 0.25 --loss huber:1.5
  replica optimum --alpha 2 --loss logistic --teacher sign
  replica optimum --alpha 0.5,1,2 --S 0.25 --inputs power:1.2
"""

# A decay that is as good as infinite: weights are of the order of alpha over it,
# and so is what an error lacks to its limit.
_STRONG = 1e15


def add_parsers(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `bayes`, `threshold` and `optimum`."""
    bayes = subparsers.add_parser(
        "bayes",
        help="the error that no algorithm can go below",
        description="Compute the Bayes-optimal error: one curve for each S.",
        epilog=_BAYES_EPILOG,
    )
    _add_alpha(bayes)
    _add_S(bayes)
    arg.add_labels(bayes)
    bayes.add_argument(
        "--all", action="store_true", help="print overlap, Gibbs errors and diagnostics as well"
    )
    arg.add_output(bayes, arg.PICTURES + arg.TABLES)
    bayes.set_defaults(run=_run_bayes)

    threshold = subparsers.add_parser(
        "threshold",
        help="the load up to which a student without decay fits every sample",
        description="Print the interpolation threshold, or that of labels that can be separated "
        "(--teacher sign).",
        epilog=_THRESHOLD_EPILOG,
    )
    _add_S(threshold)
    threshold.add_argument(
        "--student",
        type=arg.student,
        default="linear",
        metavar="STUDENT",
        help="linear, relu or leaky:SLOPE (default: linear)",
    )
    arg.add_labels(threshold, usual="input")
    arg.add_output(threshold, arg.TABLES)
    threshold.set_defaults(run=_run_threshold)

    optimum = subparsers.add_parser(
        "optimum",
        help="the decay of least error, and that error",
        description="Find the weight decay of least generalization error, and that error. Where "
        "the limit of strong decay is best, zeta is inf, and the error is that limit.",
        epilog=_OPTIMUM_EPILOG,
    )
    _add_alpha(optimum)
    _add_S(optimum)
    optimum.add_argument(
        "--student",
        type=arg.student,
        default="linear",
        metavar="STUDENT",
        help=f"{arg.STUDENTS} (default: linear)",
    )
    arg.add_loss(optimum)
    arg.add_labels(optimum)
    arg.add_inputs(optimum)
    arg.add_output(optimum, arg.TABLES)
    optimum.set_defaults(run=_run_optimum)


def _add_alpha(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--alpha", type=arg.numbers, required=True, metavar="NUMBERS", help="loads P/N; > 0"
    )


def _add_S(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--S",
        type=arg.numbers,
        default="0",
        metavar="NUMBERS",
        help="variance of the noise; >= 0 (default: 0)",
    )


def _run_bayes(arguments: Namespace) -> None:
    import numpy as np

    import replica

    labels = {"teacher": arguments.teacher, "noise": arguments.noise}
    S = arguments.S[:, None]
    solved = replica.bayes_optimal(arguments.alpha, S, **labels)
    of_signs = not np.isnan(solved.error_rate).all()
    shown = ["error_rate"] if of_signs else ["gen_error"]
    output = arguments.output
    if output is not None and output.suffix.lower() in arg.PICTURES:
        from replica.plotting import is_logarithmic, save_figure

        axes = solved.plot(*shown)
        if is_logarithmic(arguments.alpha):
            axes.set_xscale("log")
        save_figure(cast("Figure", axes.figure), output)  # a new one
        say_written(output)
        return
    if arguments.all:
        others = ("gen_error", "gibbs_gen_error", "error_rate", "gibbs_error_rate", "gamma")
        shown = [*others, "weak_recovery", "n_solutions", "residual", "quadrature_error"]
    table: dict[str, list[object]] = {
        "teacher": [solved.teacher.name] * solved.q.size,
        "noise": [arg.name_of(solved.noise)] * solved.q.size,
        "S": list(solved.S.ravel()),
        "alpha": list(solved.alpha.ravel()),
    }
    for name in shown:
        table[name] = list(getattr(solved, name).ravel())
    _write(table, output)


def _run_threshold(arguments: Namespace) -> None:
    import numpy as np

    import replica

    if arguments.teacher == replica.LINEAR:
        loads = replica.interpolation_threshold(arguments.S, student=arguments.student)
        named = {"student": arguments.student.name}
    elif arguments.student != replica.LINEAR:
        raise arg.UsageError(
            f"labels of teacher {arguments.teacher.name} have a threshold for --student linear "
            f"only, got {arguments.student.name}"
        )
    else:
        loads = replica.separability_threshold(
            arguments.S, teacher=arguments.teacher, noise=arguments.noise
        )
        named = {"teacher": arguments.teacher.name, "noise": arg.name_of(arguments.noise)}
    table: dict[str, list[object]] = {
        name: [word] * arguments.S.size for name, word in named.items()
    }
    table["S"] = list(arguments.S)
    table["alpha"] = list(np.atleast_1d(loads))
    _write(table, arguments.output)


def _run_optimum(arguments: Namespace) -> None:
    import replica

    names = ("student", "loss", "teacher", "noise")
    problem = {name: getattr(arguments, name) for name in names}
    problem |= arg.problem_of(arguments)
    words = arg.words_of(arguments, problem)
    names = (*words, "S", "alpha", "zeta", "gen_error")
    table: dict[str, list[object]] = {name: [] for name in names}
    for S, alpha in product(arguments.S.tolist(), arguments.alpha.tolist()):
        zeta = replica.optimal_zeta(alpha, S, **problem)
        at = zeta if math.isfinite(zeta) or math.isnan(zeta) else _STRONG
        least = math.nan if math.isnan(zeta) else replica.gen_error(alpha, S, at, **problem)
        for name, value in zip(names, (*words.values(), S, alpha, zeta, least), strict=True):
            table[name].append(value)
    _write(table, arguments.output)


def _write(table: dict[str, list[object]], output: Path | None) -> None:
    if output is None:
        sys.stdout.write(as_csv(table))
    else:
        write_table(output, table)
        say_written(output)
