"""The command `replica`: one parser, one place where errors become one line and an exit code.

Each area of the command line is a module of this package with ``add_parsers(subparsers)``; it
sets ``run=function`` on its parsers, and ``run(arguments)`` returns the exit code (None is 0).
Area modules import the library inside their functions, so that ``replica --help`` stays quick.

Exit codes: 0 done; 1 something asked for could not be computed, as a warning says: a point without
convergence, which is NaN, or a run that diverged or failed; 2 bad input, or a file that cannot be
written; 70 a defect of this program; 130 interrupted; 141 the reader of the output went away.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from threading import Event, Thread
from typing import TYPE_CHECKING, NoReturn

from replica._core.suggest import suggestion

from ._arguments import UsageError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

__all__ = ["build_parser", "main"]

# The areas in the order of `replica --help`; a new one is one more name here.
_AREAS = (
    "curves",
    "bounds",
    "figure",
    "dynamics",
    "simulation",
    "predict",
)

_EPILOG = """\
examples:
  replica error --alpha 2 --S 0.25 --zeta 1/64 --student relu
  replica curve --alpha 0.1:4:200 --S 0.25 --zeta 0,1/64,0.25 -o curve.png
  replica figure 1

`replica COMMAND --help` explains a command and shows more examples.
"""


# Seconds after which a command says that it is still at work, and how much later each time.
_FIRST_SIGN, _NEXT_SIGN = 30.0, 2.0

# A value, where an option takes one, and not an option itself: -1/4, -2:2:5, -inf.
_NEGATIVE = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Makes room for the longest command, which argparse counts without its indentation."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        for command in self._iter_indented_subactions(action):
            length = len(self._format_action_invocation(command)) + self._current_indent
            self._action_max_length = max(self._action_max_length, length)


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are exceptions, and whose options are never abbreviated."""

    def __init__(self, **options) -> None:
        options.setdefault("formatter_class", _Help)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`)")

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(self._checked(words), namespace)

    def _checked(self, words: list[str]) -> list[str]:
        """Refuse unknown options, before any is missed; tie negative values to their options."""
        known = self._option_string_actions
        checked: list[str] = []
        for index, word in enumerate(words):
            if word == "--" or (self._subparsers and not word.startswith("-")):
                return checked + words[index:]  # the rest is not for this parser to judge
            before = known.get(checked[-1]) if checked else None
            if _NEGATIVE.match(word):
                if before is not None and before.nargs is None:
                    word = f"{checked.pop()}={word}"
            elif word.startswith("-") and word != "-":
                name = word.split("=", 1)[0]
                if name not in known and (word[:2] not in known or word.startswith("--")):
                    self.error(f"unknown option {name}{suggestion(name, known)}")
            checked.append(word)
        return checked

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(
                action,
                f"{str(value)!r} is not one of {', '.join(choices)}"
                f"{suggestion(str(value), choices)}",
            )

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        if message:  # unlike argparse, which keeps quiet when it cannot be written
            (file or sys.stderr).write(message)


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
    with _usable_streams(), _signs_of_life():
        try:
            code = _call(argv)
            sys.stdout.flush()  # here, where a closed pipe can still be handled
            return code
        except KeyboardInterrupt:
            return _complain("interrupted", 130)
        except BrokenPipeError:
            _discard_stdout()
            return 141
        except OSError as error:
            with suppress(OSError, ValueError):
                what = error.strerror or str(error)
                _complain(f"{error.filename}: {what}" if error.filename else what)
            try:
                sys.stdout.flush()
            except OSError:
                _discard_stdout()
            return 2
        except MemoryError as error:
            return _complain(str(error) or "not enough memory")
        except Exception as error:
            return _complain(str(error)) if _is_users(error) else _report(error)


def _call(argv: Sequence[str] | None) -> int:
    """Parse the arguments, run the command and return its exit code."""
    from replica._core.status import ConvergenceWarning

    failed = False

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        nonlocal failed
        failed |= issubclass(category, ConvergenceWarning)
        print(f"replica: warning: {_one_line(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        # A failed point is news for the user even where a caller has silenced warnings.
        warnings.simplefilter("default", ConvergenceWarning)
        warnings.showwarning = show
        try:
            arguments = build_parser().parse_args(argv)
        except SystemExit:  # --help and --version end this way
            return 0
        return max(int(arguments.run(arguments) or 0), int(failed))


def _is_users(error: Exception) -> bool:
    """Whether `error` says that the arguments are wrong, or a file, and not this program."""
    if isinstance(error, UsageError):
        return True
    from replica import ArgumentError, ArgumentTypeError, StoreError

    return isinstance(error, ArgumentError | ArgumentTypeError | StoreError)


def _report(error: Exception) -> int:
    """Show a defect, with all that is needed to find it."""
    import traceback

    with suppress(OSError, ValueError):
        traceback.print_exception(error)
    what = f"{type(error).__name__}: {error}"
    return _complain(f"{what} (a defect of replica: please report it, with the lines above)", 70)


def _complain(message: str, code: int = 2) -> int:
    with suppress(OSError, ValueError):  # nobody listens: the exit code has to say it
        print(f"replica: error: {_one_line(message)}", file=sys.stderr)
    return code


def _one_line(text: str) -> str:
    return " ".join(text.split())


class _ClosedOutput(io.TextIOBase):
    """Standard output where there is none: whoever needs it learns so."""

    def write(self, text: str) -> NoReturn:
        raise OSError(errno.EBADF, "standard output is closed")


@contextmanager
def _usable_streams() -> Iterator[None]:
    """Let standard output and error be missing, and escape what their encodings do not have."""
    streams = sys.stdout, sys.stderr
    if None in streams:
        # A file opened later must not get their numbers, which libraries in C write to.
        while (free := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(free)
    if sys.stdout is None:
        sys.stdout = _ClosedOutput()
    if sys.stderr is None:
        sys.stderr = io.StringIO()
    errors = getattr(streams[0], "errors", None)
    set_errors = getattr(streams[0], "reconfigure", lambda **_: None)
    set_errors(errors="backslashreplace")
    try:
        yield
    finally:
        with suppress(OSError, ValueError):  # it flushes
            set_errors(errors=errors)
        sys.stdout, sys.stderr = streams


@contextmanager
def _signs_of_life() -> Iterator[None]:
    """Now and then a line on standard error, which nobody watches a progress bar on."""
    if sys.stderr.isatty():
        yield
        return
    done, stream = Event(), sys.stderr

    def tell() -> None:
        passed, pause = 0.0, _FIRST_SIGN
        while not done.wait(pause):
            passed += pause
            pause *= _NEXT_SIGN
            with suppress(OSError, ValueError):
                print(f"replica: still at work after {passed:.0f} s", file=stream, flush=True)

    Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _discard_stdout() -> None:
    """Send what is left in the buffer nowhere, or the interpreter complains on its way out."""
    with suppress(OSError, ValueError):  # stdout is no real file under test or in a notebook
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
