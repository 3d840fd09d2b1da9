"""`replica error` and `replica curve`: the generalization error at a point, and over the load."""

from __future__ import annotations

import json
import sys
from itertools import product
from typing import TYPE_CHECKING, Any, cast

from . import _arguments as arg
from ._output import as_csv, json_value, say_written, write_table

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_ERROR_EPILOG = """\
examples:
  replica error --alpha 2 --S 0.25
  replica error --alpha 2 --S 0.25 --zeta 1/64 --student relu --all
  replica error --alpha 1 --S 0.25 --student relu --theory published
  replica error --alpha 2 --S 0.25 --zeta 0.1 --student erf
  replica error --alpha 2 --S 0 --zeta 0.1 --loss logistic --teacher sign
  replica error --alpha 2 --S 0.25 --zeta 0.1 --inputs power:1.2
  replica error --alpha 2 --S 0 --zeta 0.1 --loss hinge --inputs clusters:0.3 --all
  replica error --alpha 2 --S 0.25 --zeta 1/64 --zeta-mean --json
"""

_CURVE_EPILOG = f"""\
{arg.NUMBERS}
examples:
  replica curve --alpha 0.1:4:200 --S 0.25 --zeta 0,1/64,0.25 --student linear,relu -o curve.png
  replica curve --alpha log:1e-2:1e2:200 --S 0,0.25 --student leaky:0.1 -o curve.pdf
  replica curve --alpha 0.5,1,2 --S 0.25 | column -s, -t
  replica curve --alpha log:0.1:100:60 --S 0 --loss hinge --teacher sign --bayes -o hinge.png
  replica curve --alpha log:0.1:10:99 --S 0.1 --zeta 0,0.1 --inputs features:relu:2 -o peak.png
  replica curve --alpha 0.1:4:200 --S 0.25 --student relu --theory published -o curve.json
"""

# What `replica error --all` shows after gen_error, in this order.
_FIELDS = (
    "gamma",
    "R",
    "chi",
    "train_error",
    "energy",
    "dead_fraction",
    "interpolating",
    "residual",
    "n_iter",
)
# Before them, for labels that are signs, or another loss than the square.
_MORE_FIELDS = ("error_rate", "train_error_rate", "test_loss", "train_loss", "margin")
# What `solve_clusters` finds.
_CLUSTER_FIELDS = (
    *("error_rate", "bayes_error", "train_error_rate", "test_loss", "train_loss", "gamma", "R"),
    *("bias", "chi", "residual", "n_iter"),
)


def add_parsers(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `error` and `curve`."""
    error = subparsers.add_parser(
        "error",
        help="the generalization error at one point",
        description="Print the generalization error of a trained student at one point.",
        epilog=_ERROR_EPILOG,
    )
    error.add_argument(
        "--alpha", type=arg.number, required=True, help="load P/N, samples per weight; > 0"
    )
    error.add_argument(
        "--S", type=arg.number, required=True, help="variance of the teacher's noise; >= 0"
    )
    error.add_argument(
        "--zeta", type=arg.number, default=0.0, help="strength of the decay; >= 0 (default: 0)"
    )
    error.add_argument(
        "--student",
        type=arg.student,
        default="linear",
        metavar="STUDENT",
        help=f"{arg.STUDENTS} (default: linear)",
    )
    _add_theory(error)
    arg.add_loss(error)
    arg.add_labels(error)
    arg.add_inputs(error)
    error.add_argument(
        "--zeta-mean",
        action="store_true",
        help="ZETA belongs to the mean of the squared errors, (1/P) sum + zeta gamma^2, "
        "instead of their sum",
    )
    error.add_argument(
        "--all",
        action="store_true",
        help="print the order parameters, other errors and diagnostics as well, those that mean "
        "something for this problem",
    )
    error.add_argument("--json", action="store_true", help="print a JSON object")
    error.set_defaults(run=_run_error)

    curve = subparsers.add_parser(
        "curve",
        help="the generalization error over the load, as a picture or a table",
        description="Compute learning curves: one for each combination of STUDENT, S and ZETA.",
        epilog=_CURVE_EPILOG,
    )
    curve.add_argument(
        "--alpha", type=arg.numbers, required=True, metavar="NUMBERS", help="loads P/N; > 0"
    )
    curve.add_argument(
        "--S",
        type=arg.numbers,
        required=True,
        metavar="NUMBERS",
        help="variance of the teacher's noise; >= 0",
    )
    curve.add_argument(
        "--zeta",
        type=arg.numbers,
        default="0",
        metavar="NUMBERS",
        help="strength of the decay; >= 0 (default: 0)",
    )
    curve.add_argument(
        "--student",
        type=arg.students,
        default="linear",
        metavar="STUDENTS",
        help=f"comma-separated list; each is {arg.STUDENTS} (default: linear)",
    )
    _add_theory(curve)
    arg.add_loss(curve)
    arg.add_labels(curve)
    arg.add_inputs(curve)
    curve.add_argument(
        "--bayes",
        action="store_true",
        help="the Bayes-optimal error as well: a line for each S, or a column of the table",
    )
    arg.add_output(curve, arg.PICTURES + arg.TABLES)
    curve.set_defaults(run=_run_curve)


def _add_theory(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--theory",
        choices=("replica", "published"),
        default="replica",
        help="the replica-symmetric solution of the loss itself, or the closed forms as published "
        "(default: replica)",
    )


def _run_error(arguments: Namespace) -> None:
    import replica

    problem = {"alpha": arguments.alpha, "S": arguments.S, "zeta": arguments.zeta}
    if arguments.zeta_mean:
        problem["zeta"] = replica.zeta_from_mean(arguments.zeta, arguments.alpha)
    options = {"student": arguments.student, "theory": arguments.theory}
    options |= arg.problem_of(arguments)
    if arguments.all:
        result = _solved(problem, options, arguments)
    else:
        result = {"gen_error": replica.gen_error(**problem, **options)}

    if arguments.json:
        named = problem | arg.words_of(arguments, options) | result
        print(json.dumps({name: json_value(value) for name, value in named.items()}))
    elif arguments.all:
        width = max(map(len, result))
        for name, value in result.items():
            print(f"{name:<{width}}  {value!r}")
    else:
        print(repr(result["gen_error"]))


def _solved(
    problem: dict[str, Any], options: dict[str, Any], arguments: Namespace
) -> dict[str, Any]:
    """All that is known at the point."""
    import numpy as np

    import replica

    if arguments.inputs is not None and arguments.inputs.has_labels:
        rate = replica.gen_error(**problem, **options)  # and refuses what clusters do not have
        solution = replica.solve_clusters(
            problem["alpha"],
            problem["zeta"],
            inputs=options["inputs"],
            loss=options.get("loss", "square"),
        )
        result, fields = {"gen_error": rate}, _CLUSTER_FIELDS
    else:
        solution = replica.solve_equilibrium(**problem, **options)
        result = {"gen_error": solution.gen_error.item()}
        of_signs = not np.isnan(solution.error_rate)
        fields = (
            (*_MORE_FIELDS, *_FIELDS) if of_signs or solution.loss.name != "square" else _FIELDS
        )
    result |= {name: getattr(solution, name).item() for name in fields}
    status = replica.Status(solution.status.item())
    if status in (replica.Status.CONVERGED, replica.Status.DIVERGENT) and not arguments.json:
        # What is NaN there has no meaning for this problem.
        result = {name: value for name, value in result.items() if value == value}
    return result | {"status": status.message}


def _run_curve(arguments: Namespace) -> None:
    output = arguments.output
    if output is None:
        sys.stdout.write(as_csv(_tabulate(arguments)))
        return
    if output.suffix.lower() in arg.TABLES:
        write_table(output, _tabulate(arguments))
    else:
        from replica.plotting import plot_curve, save_figure

        bounds = _bounds(arguments) if arguments.bayes else []
        axes = plot_curve(
            arguments.alpha,
            arguments.S,
            arguments.zeta,
            student=arguments.student,
            theory=arguments.theory,
            **arg.problem_of(arguments),
        )
        if bounds:
            from replica._core.style import curves_of, draw_curve, finish_axes

            for S, bound in zip(arguments.S.tolist(), bounds, strict=True):
                label = "Bayes bound" + (f", S = {S:.6g}" if arguments.S.size > 1 else "")
                draw_curve(axes, arguments.alpha, bound, index=len(curves_of(axes)), label=label)
            finish_axes(axes, xlabel=axes.get_xlabel(), ylabel=axes.get_ylabel())
        save_figure(cast("Figure", axes.figure), output)  # a new one
    say_written(output)


def _tabulate(arguments: Namespace) -> dict[str, list[object]]:
    """One row per point, curve after curve."""
    import numpy as np

    import replica

    alpha, theory, labels = arguments.alpha, arguments.theory, arg.problem_of(arguments)
    words = arg.words_of(arguments, labels)
    names = ("student", "theory", *words, "S", "zeta", "alpha", "gen_error")
    names += ("bayes",) * arguments.bayes
    table: dict[str, list[object]] = {name: [] for name in names}
    bounds = _bounds(arguments) if arguments.bayes else [None] * arguments.S.size
    noises = zip(arguments.S.tolist(), bounds, strict=True)
    for student, (S, bound), zeta in product(arguments.student, noises, arguments.zeta.tolist()):
        options = {"student": student, "theory": theory} | labels
        columns = [np.asarray(replica.gen_error(alpha, S, zeta, **options))]
        columns += [] if bound is None else [bound]
        for row in zip(alpha, *columns, strict=True):
            values = (student.name, theory, *words.values(), S, zeta, *row)
            for name, value in zip(names, values, strict=True):
                table[name].append(value)
    return table


def _bounds(arguments: Namespace) -> list[NDArray[np.float64]]:
    """The least `gen_error` over the loads, for each S: an error rate where that is one."""
    import replica

    inputs = arguments.inputs
    if inputs is not None and inputs.has_labels:
        # The same for every loss and decay: those that are the quickest.
        bound = replica.solve_clusters(arguments.alpha, 1.0, inputs=inputs.value).bayes_error
        return [bound] * arguments.S.size
    if inputs is not None and not isinstance(inputs.value, replica.Isotropic):
        raise arg.UsageError(
            f"--bayes is known for isotropic inputs and clusters only, got {arguments.inputs.text}"
        )
    labels = {"teacher": arguments.teacher, "noise": arguments.noise}
    solved = replica.bayes_optimal(arguments.alpha, arguments.S[:, None], **labels)
    of_margins = getattr(arguments.loss, "of", "residual") == "margin"
    return list(solved.error_rate if of_margins else solved.gen_error)
