"""The command `replica`: one parser, one place where errors become one line and an exit code.

Each area of the command line is a module of this package with ``add_parsers(subparsers)``; it
sets ``run=function`` on its parsers, and ``run(arguments)`` returns the exit code (None is 0).
Area modules import the library inside their functions, so that ``replica --help`` stays quick.

Exit codes: 0 done, 1 no result to show, 2 bad input or a file that cannot be written, 130
interrupted, 141 the reader of the output went away.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

__all__ = ["build_parser", "main"]

# The areas in the order of `replica --help`; a new one is one more name here.
_AREAS = (
    "curves",
    "figure",
    "dynamics",
    "simulation",
)

_EPILOG = """\
examples:
  replica error --alpha 2 --S 0.25 --zeta 1/64 --student relu
  replica curve --alpha 0.1:4:200 --S 0.25 --zeta 0,1/64,0.25 -o curve.png
  replica figure 1

`replica COMMAND --help` explains a command and shows more examples.
"""


class _UsageError(Exception):
    """The arguments make no sense; the message says which and why."""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are exceptions, and whose options are never abbreviated."""

    def __init__(self, **options) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message} (see `{self.prog} --help`)")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command, every area included."""
    from replica import __version__

    parser = _Parser(
        prog="replica",
        description="Learning curves of large networks from replica theory.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"replica-solver {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for area in _AREAS:
        import_module(f".{area}", __name__).add_parsers(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `replica` with the arguments `argv` and return its exit code.

    Examples
    --------
    >>> main(["--version"])
    replica-solver ...
    0
    """
    try:
        with warnings.catch_warnings():
            from replica._status import ConvergenceWarning

            # A failed point is news for the user even where a caller has silenced warnings.
            warnings.simplefilter("default", ConvergenceWarning)
            warnings.showwarning = _show_warning
            arguments = build_parser().parse_args(argv)
            code = arguments.run(arguments)
        sys.stdout.flush()  # here, where a closed pipe can still be handled
        return int(code or 0)
    except SystemExit as stop:  # --help and --version end this way
        return int(stop.code or 0)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        _discard_stdout()
        return 141
    except OSError as error:
        what = error.strerror or str(error)
        return _complain(f"{error.filename}: {what}" if error.filename else what)
    except MemoryError as error:
        return _complain(str(error) or "not enough memory")
    except (_UsageError, ValueError, TypeError) as error:
        return _complain(str(error))


def _complain(message: str, code: int = 2) -> int:
    print(f"replica: error: {_one_line(message)}", file=sys.stderr)
    return code


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"replica: warning: {_one_line(str(message))}", file=sys.stderr)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _discard_stdout() -> None:
    """Send what is left in the buffer nowhere, or the interpreter complains on its way out."""
    with suppress(OSError, ValueError):  # stdout is no real file under test or in a notebook
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
