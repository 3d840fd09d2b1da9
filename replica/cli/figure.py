"""`replica figure`: the figures of the paper that have a theory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _arguments as arg
from ._output import as_text, say_written

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

_EPILOG = """\
figures:
  1  generalization error over the load, linear (a) and ReLU (b) student, noise S = 0.25

examples:
  replica figure 1
  replica figure 1 -o figure1.pdf
"""

# The loads of the printed table; 1 and 2 are the interpolation thresholds of the closed forms.
_TABLE_LOADS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)


def add_parsers(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `figure`."""
    parser = subparsers.add_parser(
        "figure",
        help="a figure of the paper, as a picture and a table",
        description="Draw a figure of the paper and print its numbers as a table.",
        epilog=_EPILOG,
    )
    parser.add_argument("number", type=int, choices=(1,), metavar="NUMBER", help="figure: 1")
    parser.add_argument(
        "-o",
        "--output",
        type=arg.output_path(*arg.PICTURES),
        metavar="FILE",
        help=f"where to write the picture: {arg.listed(arg.PICTURES)} (default: figure1.png)",
    )
    parser.set_defaults(run=_run_figure)


def _run_figure(arguments: Namespace) -> None:
    from replica._figure1 import figure1_curves, plot_figure1
    from replica.plotting import save_figure

    output = arguments.output or arg.output_path(".png")(f"figure{arguments.number}.png")
    path = save_figure(plot_figure1(), output)
    for panel, curves in figure1_curves(_TABLE_LOADS).items():
        # As the option is written: a terminal need not know Greek.
        columns = {name.replace("ζ", "zeta"): values for name, values in curves.items()}
        print(panel)
        print(as_text({"alpha": _TABLE_LOADS, **columns}))
    say_written(path.resolve())
