"""`replica predict`: the learning curve of ridge regression on the data of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _arguments as arg
from ._output import say_written, write_table

if TYPE_CHECKING:
    from argparse import Namespace, _SubParsersAction

    from replica.learning_curve import LearningCurve

_EPILOG = f"""\
{arg.NUMBERS}
examples:
  replica predict data.csv --target price -o curve.png
  replica predict data.csv --target price --standardize --zeta 0,1,10 --csv curve.csv
  replica predict data.parquet --target label --drop id,date --n log:10:10000:30
  replica predict data.npz --splits 0

DATA ends in .csv, .csv.gz or .tsv (a line of names first), .parquet, .npz (arrays X and y) or .npy
(a table; --target is the number of its column).
"""


def add_parsers(subparsers: _SubParsersAction[Any]) -> None:
    """Add `predict`."""
    parser = subparsers.add_parser(
        "predict",
        help="the learning curve of ridge regression on your data",
        description="Predict the test error of ridge regression for any number of samples, and "
        "check the prediction by fits of subsets of the data.",
        epilog=_EPILOG,
    )
    parser.add_argument("data", metavar="DATA", help="a table of numbers with a target column")
    parser.add_argument(
        "--target", metavar="COLUMN", help="name of the target: numbers or two labels (default: y)"
    )
    parser.add_argument(
        "--drop", default="", metavar="COLUMNS", help="columns to leave out, commas between them"
    )
    parser.add_argument(
        "--n",
        type=arg.numbers,
        metavar="NUMBERS",
        help="numbers of training samples, rounded (default: to ten times those there are)",
    )
    parser.add_argument(
        "--zeta",
        type=arg.numbers,
        metavar="NUMBERS",
        help="strengths of decay beside the best one at each number of samples; >= 0",
    )
    parser.add_argument(
        "--standardize", action="store_true", help="divide columns by their standard deviations"
    )
    parser.add_argument(
        "--splits",
        type=arg.whole_number,
        default=5,
        metavar="COUNT",
        help="splits into training and held-out rows for the check; 0: no check (default: 5)",
    )
    parser.add_argument(
        "--seed", type=arg.whole_number, default=0, help="seed of the subsets (default: 0)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=arg.output_path(*arg.PICTURES),
        metavar="FILE",
        help=f"where to write the picture: {arg.listed(arg.PICTURES)}",
    )
    parser.add_argument(
        "--csv",
        type=arg.output_path(*arg.TABLES),
        metavar="FILE",
        help=f"where to write all numbers: {arg.listed(arg.TABLES)}",
    )
    parser.set_defaults(run=_run)


def _run(arguments: Namespace) -> None:
    from replica._data_files import read_table
    from replica.learning_curve import predict_learning_curve

    try:
        X, y = read_table(arguments.data, arguments.target)
    except ImportError as error:
        raise arg.UsageError(str(error)) from None
    curve = predict_learning_curve(
        _without(X, [name.strip() for name in arguments.drop.split(",") if name.strip()]),
        y,
        n=None if arguments.n is None else arguments.n.round(),
        zeta=arguments.zeta,
        standardize=arguments.standardize,
        n_splits=arguments.splits,
        seed=arguments.seed,
    )
    print(curve.report())
    if arguments.csv:
        write_table(arguments.csv, _tabulate(curve))
        say_written(arguments.csv)
    if arguments.output:
        from replica.plotting import save_figure

        save_figure(_drawn(curve), arguments.output)
        say_written(arguments.output)


def _without(X: Any, names: list[str]) -> Any:
    """The columns that are not to be dropped."""
    if not names:
        return X
    if not hasattr(X, "columns"):
        raise arg.UsageError("--drop names columns, and those of an array have no names")
    known = [str(name) for name in X.columns]
    for name in names:
        if name not in known:
            hint = arg.suggestion(name, known)
            raise arg.UsageError(f"--drop: there is no column {name!r}{hint}")
    return X.loc[:, [name not in names for name in known]]


def _drawn(curve: LearningCurve) -> Any:
    """The figure: the error, and beside it the error rate of labels."""
    from replica.plotting import new_axes

    if not curve.classes:
        return curve.plot().get_figure()
    figure, axes = new_axes(2)
    for ax, quantity in zip(axes, ("test_error", "error_rate"), strict=True):
        curve.plot(quantity, ax=ax)
    return figure


def _tabulate(curve: LearningCurve) -> dict[str, list[Any]]:
    """A row for each decay and number of samples."""
    from replica._core.results import status_names

    names = (
        "zeta",
        "test_error",
        "error_rate",
        "measured_error",
        "measured_error_se",
        "measured_rate",
        "measured_rate_se",
        "deviation",
    )
    rows, sizes = curve.zeta.shape
    table: dict[str, list[Any]] = {
        "decay": [str(name) for name in curve.decay for _ in range(sizes)],
        "n": curve.n.tolist() * rows,
    }
    table |= {name: getattr(curve, name).reshape(-1).tolist() for name in names}
    table["status"] = status_names(curve.status).reshape(-1).tolist()
    return table
