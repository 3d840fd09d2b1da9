"""`replica simulate`, `replica sweep` and `replica runs`: simulations and their results."""

from __future__ import annotations

import operator
import re
import shutil
import sys
import traceback
from argparse import ArgumentTypeError
from collections.abc import Callable
from functools import update_wrapper
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from replica._core.normalizer import Normalizer
from replica._core.suggest import closest, suggestion

from . import _arguments as arg
from ._output import as_csv, as_text, say_written, write_table

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from collections.abc import Mapping
    from inspect import Parameter

    from replica.simulation import OnlineRun, TrainingRun
    from replica.sweeps import SweepTable

_TABLE = "write the table to this .csv or .json file"

_SIMULATE_EPILOG = """\
examples:
  replica simulate --alpha 2 --S 0.25 --zeta 1/64 --N 1000 --epochs 50 --n-runs 4
  replica simulate --alpha 2 --S 0.25 --student relu --normalizer bn-var --batch-size 16 -o run.png
  replica simulate --alpha 1.5 --S 0.25 --student relu --engine matrix-free --N 1e6 --dtype float32
  replica simulate --alpha 2 --S 0 --teacher sign --loss hinge --zeta 0.1 --method newton --N 500
  replica simulate --alpha 2 --S 0.1 --inputs power:1.2 --zeta 0.1 --method newton --N 500
  replica simulate --online --S 0.25 --student relu --normalizer wn --N 1e6 -t 20 -o run.csv
"""

_SWEEP_EPILOG = """\
A sweep file names a function, its grid and its fixed parameters:

  function = "simulate_training"     # or simulate_online, mean_field_training, "module:function"
  store = "runs.sqlite"              # results, committed run by run (default: runs.sqlite)
  executor = "threads"               # or "processes"
  retries = 1

  [grid]                             # every combination is one run
  alpha = "0.5:4:8"                  # a list, or a text as in `replica curve`
  student = ["linear", "relu"]       # loss, teacher, noise, inputs: as on the command line
  seed = [0, 1, 2, 3]

  [fixed]
  S = 0.25
  N = 1000

An interrupted or killed sweep continues where it was: run the same command again.

A sweep file can run any function that it names, from any installed module or one in the working
folder: run only files that you trust, as with any program.

examples:
  replica sweep sweep.toml --dry-run
  replica sweep sweep.toml
  replica sweep sweep.toml --store other.sqlite -o table.csv
"""

_RUNS_EPILOG = """\
Runs are ordered by their parameters. Printed are the parameters that differ and as many results as
fit on a line; files hold every column. A condition is COLUMN=VALUE, or with != < <= > >= in place
of =; several conditions must all hold.

examples:
  replica runs runs.sqlite
  replica runs runs.sqlite --where "alpha>=1" --where student=relu --columns alpha,seed,gen_error
  replica runs runs.sqlite --mean-over seed
  replica runs runs.sqlite --where status=failed --delete
  replica runs runs.sqlite -o runs.json
"""

_TRAINING_COLUMNS = ("gamma", "R", "train_error", "gen_error", "energy", "dead_fraction")
_ONLINE_COLUMNS = ("gamma", "R", "L", "gen_error")
# Where they mean something: for a loss other than the square, and for labels that are signs.
_LOSS_COLUMNS = ("train_loss", "test_loss")
_SIGN_COLUMNS = ("train_error_rate", "error_rate")
_STUDENTS = ("student", "teacher")
# How the words of other parameters of a simulator are read, to be refused before the first run.
_PARSERS: dict[str, Callable[[str], object]] = {
    "loss": arg.loss,
    "noise": arg.noise,
    "inputs": arg.inputs,
}
# Parameters of a simulator of which a text in a grid is a list of words.
_WORDED = (*_STUDENTS, *_PARSERS, "method", "normalizer", "engine", "schedule", "dtype")

#: What is printed of a run, column by column.
Cell: TypeAlias = bool | int | float | str
Columns: TypeAlias = dict[str, list[Cell]]
#: A sweep file as TOML has it.
Plan: TypeAlias = dict[str, Any]


def add_parsers(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `simulate`, `sweep` and `runs`."""
    simulate = subparsers.add_parser(
        "simulate",
        help="train a student on simulated data",
        description="Train on a finite set of samples, or with --online on fresh ones.",
        epilog=_SIMULATE_EPILOG,
    )
    add = simulate.add_argument
    add("--online", action="store_true", help="fresh samples in every step instead of a set")
    add("--alpha", type=arg.number, help="load P/N of the training set; > 0")
    add("--S", type=arg.number, required=True, help="variance of the teacher's noise; >= 0")
    add("--zeta", type=arg.number, default=0.0, help="strength of the decay (default: 0)")
    add("--N", type=arg.positive_integer, help="number of inputs (default: 4096; online: 1000)")
    add(
        "--student",
        type=arg.student,
        default="linear",
        help=f"{arg.STUDENTS} (default: linear)",
    )
    arg.add_loss(simulate)
    arg.add_labels(simulate, teacher=None)
    arg.add_inputs(simulate)
    add("--method", help="sgd, or to the minimum: newton or l-bfgs (default: sgd)")
    add("--normalizer", choices=get_args(Normalizer), default="none", help="(default: none)")
    add("--batch-size", type=arg.positive_integer, help="samples per step (default: 32; online: 1)")
    add("--learning-rate", type=arg.number, help="(default: 0.1; online: 0.5)")
    add("--schedule", choices=("constant", "step", "cosine"), help="of the rate, over the epochs")
    add("--epochs", type=arg.positive_integer, help="passes over the set (default: 100)")
    add(
        "-t",
        type=arg.number,
        metavar="T",
        help="online: samples per weight to train for (default: 10)",
    )
    add("--gamma0", type=arg.number, help="with a normalizer: scale at the start (default: 1)")
    add("--R0", type=arg.number, help="online: overlap at the start (default: 0)")
    add(
        "--L0",
        type=arg.number,
        help="|w|/sqrt(N) at the start (default: 1; on a set without normalizer: 0.01)",
    )
    add("--momentum", type=arg.number, help="heavy-ball coefficient in [0, 1)")
    add("--dropout", type=arg.number, help="probability that an output is dropped")
    add("--anneal", action="store_true", default=None, help="anneal the kink of the activation")
    add("--tolerance", type=arg.number, help="stop when an epoch changes |W| by less than this")
    add("--engine", help="dense or matrix-free; online: chain or direct")
    add("--dtype", choices=("float64", "float32"), help="precision (default: float64)")
    add("--n-runs", type=arg.positive_integer, default=1, help="independent runs (default: 1)")
    add("--seed", type=int, default=0, help="seed of everything (default: 0)")
    what = "picture or table of the course of training (default: the last state as text)"
    arg.add_output(simulate, arg.PICTURES + arg.TABLES, what)
    simulate.set_defaults(run=_run_simulate)

    sweep = subparsers.add_parser(
        "sweep",
        help="run a grid of simulations and keep every result",
        description="Run every point of the grid in a TOML file that the store does not hold yet.",
        epilog=_SWEEP_EPILOG,
    )
    sweep.add_argument("file", type=Path, help="sweep file (TOML)")
    sweep.add_argument("--store", type=Path, help="SQLite file, instead of the one in the file")
    sweep.add_argument(
        "--dry-run", action="store_true", help="only count the runs that are there and missing"
    )
    arg.add_output(sweep, arg.TABLES, _TABLE)
    sweep.set_defaults(run=_run_sweep)

    runs = subparsers.add_parser(
        "runs",
        help="list or export the runs in a store",
        description="Print the runs in a store, write them to a file, or delete some of them.",
        epilog=_RUNS_EPILOG,
    )
    runs.add_argument("store", type=Path, help="SQLite file of a sweep")
    add = runs.add_argument
    add("--where", action="append", default=[], metavar="CONDITION", help="only these runs")
    add("--columns", type=_words, metavar="NAMES", help='columns to show, with commas, or "all"')
    add("--mean-over", type=_words, metavar="NAMES", help="means over parameters such as seed")
    add("--delete", action="store_true", help="delete the runs that fulfill --where")
    add("--csv", action="store_true", help="print CSV instead of aligned text")
    arg.add_output(runs, arg.TABLES, _TABLE)
    runs.set_defaults(run=_run_runs)


def _run_simulate(arguments: Namespace) -> None:
    common = ("S", "zeta", "student", "teacher", "noise", "loss", "normalizer", "n_runs", "seed")
    both = ("N", "batch_size", "learning_rate", "engine", "gamma0", "L0")
    training = ("alpha", "schedule", "epochs", "momentum", "dropout", "anneal", "tolerance")
    training += ("dtype", "method", "inputs")
    online = ("t", "R0")
    here, elsewhere = (online, training) if arguments.online else (training, online)
    for name in elsewhere:
        if getattr(arguments, name) is not None:
            option = "-t" if name == "t" else "--" + name.replace("_", "-")
            raise arg.UsageError(
                f"{option} goes {'without' if arguments.online else 'with'} --online"
            )
    options = {name: getattr(arguments, name) for name in (*common, *both, *here)}
    options = {name: value for name, value in options.items() if value is not None}
    if "inputs" in options:
        options["inputs"] = options["inputs"].value
    if arguments.online:
        from replica.simulation import simulate_online

        run, columns = simulate_online(**options), _ONLINE_COLUMNS
        time = ("t", run.t)
    else:
        from replica.simulation import simulate_training

        if arguments.alpha is None:
            raise arg.UsageError("--alpha is needed to train on a finite set")
        run, columns = simulate_training(**options), _TRAINING_COLUMNS
        time = ("epoch", run.epoch)

    output = arguments.output
    if output is None:
        print(run)
    elif output.suffix.lower() in arg.TABLES:
        table = {time[0]: time[1]}
        for name in (*columns, *_further(run)):
            table |= {name: run.mean(name), f"{name}_se": run.standard_error(name)}
        write_table(output, table)
        say_written(output)
    else:
        from replica.plotting import new_axes, save_figure

        figure, axes = new_axes()
        run.plot("gen_error", ax=axes)
        save_figure(figure, output)
        say_written(output)


def _further(run: TrainingRun | OnlineRun) -> list[str]:
    """The columns that not every problem has."""
    import numpy as np

    names = _LOSS_COLUMNS if arg.name_of(run.loss) != "square" else ()
    known = [name for name in (*names, *_SIGN_COLUMNS) if hasattr(run, name)]
    return [name for name in known if not np.isnan(getattr(run, name)).all()]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _run_sweep(arguments: Namespace) -> int:
    from replica.sweeps import sweep

    plan = _read_plan(arguments.file)
    function = _function(plan)
    is_simulator = getattr(function, "__module__", "").startswith("replica.simulation")
    fixed = {
        name: _scalar(name, value, is_simulator) for name, value in plan.get("fixed", {}).items()
    }
    grid = _whole(function, _values(plan["grid"], is_simulator))
    if is_simulator:
        fixed.setdefault("progress", False)  # the sweep has its own bar
        if "inputs" in (fixed | grid):
            function = _ReadsInputs(function)
    store = arguments.store or plan.get("store", "runs.sqlite")
    options = {name: plan[name] for name in ("executor", "retries") if name in plan}
    table = sweep(function, grid, store=store, fixed=fixed, dry_run=arguments.dry_run, **options)
    print(f"{table!r}\nin {store}")
    if arguments.output:
        write_table(arguments.output, _flat(table))
        say_written(arguments.output)
    return 1 if "failed" in table["status"] else 0


def _run_runs(arguments: Namespace) -> None:
    from replica.sweeps import delete_runs, load_runs

    runs = load_runs(arguments.store)
    for condition in arguments.where:
        runs = runs.select(_fulfills(_flat(runs), condition))
    if arguments.delete:
        if not arguments.where:
            raise arg.UsageError("--delete needs --where; to delete all runs, delete the store")
        print(f"deleted {delete_runs(arguments.store, runs)} runs of {arguments.store}")
        return
    if arguments.mean_over:
        runs = runs.mean_over(*arguments.mean_over)
    table = _flat(runs)
    if arguments.columns and arguments.columns != ["all"]:
        table = {name: _named(table, name) for name in arguments.columns}
    if arguments.output:
        write_table(arguments.output, table)
        say_written(arguments.output)
    elif arguments.csv:
        sys.stdout.write(as_csv(table))
    else:
        if "message" in table:  # a line per run: of a traceback the last one
            lines: list[Cell] = [str(text).strip().rpartition("\n")[2] for text in table["message"]]
            table["message"] = lines
        left_out = 0
        if not arguments.columns:
            constant, table, left_out = _narrowed(table, runs.parameters)
            if constant:
                print(", ".join(f"{name} = {value}" for name, value in constant.items()))
        sys.stdout.write(as_text(table))
        if left_out:
            print(f"({left_out} more columns; --columns all shows them)", file=sys.stderr)


def _named(table: Columns, name: str) -> list[Cell]:
    if name not in table:
        raise arg.UsageError(f"there is no column {name!r}{closest(name, table)}")
    return table[name]


def _fulfills(table: Columns, condition: str) -> list[bool]:
    """For each row whether it fulfills a condition such as "alpha>=1"."""
    compare = {
        "=": operator.eq, "==": operator.eq, "!=": operator.ne, "<": operator.lt,
        "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    }  # fmt: skip
    found = re.fullmatch(r"\s*(\w+)\s*(<=|>=|!=|==|=|<|>)\s*(.*?)\s*", condition)
    if not found:
        raise arg.UsageError(f"--where must be like alpha>=1 or student=relu, got {condition!r}")
    name, sign, text = found.groups()
    values = _named(table, name)
    is_equality = sign in ("=", "==", "!=")
    try:  # whole numbers as such: a large seed is no float
        number = int(text) if text.lstrip("+-").isdigit() else arg.number(text)
    except ArgumentTypeError:
        number = None
        if not is_equality:
            raise arg.UsageError(f"--where {condition}: {text!r} is no number") from None

    def holds(value: Cell) -> bool:
        if isinstance(value, str | bool) or number is None:
            return is_equality and compare[sign](str(value), text)
        return compare[sign](value, number)

    return [holds(value) for value in values]


def _narrowed(table: Columns, parameters: tuple[str, ...]) -> tuple[dict[str, Cell], Columns, int]:
    """Constant parameters, the columns that fit on a line, and how many others there are."""
    width = shutil.get_terminal_size((100, 24)).columns
    constant = {name: table[name][0] for name in parameters if len(set(map(str, table[name]))) == 1}
    varying = [name for name in parameters if name not in constant]
    ends = [name for name in ("status", "message") if any(table.get(name, []))]
    results = [n for n in table if n not in (*parameters, "status", "seconds", "message")]
    room = width - sum(_width(table, name) for name in (*varying, *ends))
    shown = []
    for name in results:
        if all(value != value or value == "" for value in table[name]):  # NaN throughout
            continue
        room -= _width(table, name)
        if room < 0:
            break
        shown.append(name)
    columns = {name: table[name] for name in (*varying, *shown, *ends)}
    return constant, columns, len(results) - len(shown)


def _width(table: Columns, name: str) -> int:
    return as_text({name: table[name]}).index("\n") + 2


def _read_plan(path: Path) -> Plan:
    import tomllib

    try:
        plan = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise arg.UsageError(f"{path} is not a TOML file: {error}") from None
    except RecursionError:
        raise arg.UsageError(f"{path}: brackets are nested too deeply") from None
    known = {"function", "store", "executor", "retries", "grid", "fixed"}
    unknown = sorted(plan.keys() - known)
    if unknown:
        raise arg.UsageError(
            f"{path}: unknown entries {unknown}; allowed are {sorted(known)}"
            f"{suggestion(unknown[0], known)}"
        )
    for name in ("function", "grid"):
        if name not in plan:
            raise arg.UsageError(f"{path}: the entry {name!r} is missing")
    for name in ("grid", "fixed"):
        if not isinstance(plan.get(name, {}), dict):
            raise arg.UsageError(f"{path}: {name!r} must be a table ([{name}])")
    return plan


def _function(plan: Plan) -> Callable[..., object]:
    """The function a plan names: one of the simulators, or "module:function"."""
    name = str(plan["function"])
    simulators = ("simulate_training", "mean_field_training", "simulate_online")
    module, _, attribute = name.rpartition(":")
    if not module and name in simulators:
        module = "replica.simulation"
    if not module:
        raise arg.UsageError(
            f"function must be one of {', '.join(simulators)} or 'module:function', got {name!r}"
            f"{suggestion(name, simulators)}"
        )
    if "" not in sys.path:
        sys.path.append("")  # modules beside the sweep; they must not hide installed ones
    try:
        return getattr(import_module(module), attribute)
    except (Exception, SystemExit) as error:  # whatever the module does
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = str(error) if isinstance(error, ImportError | AttributeError) else repr(error)
        if where.filename != __file__ and not where.filename.startswith("<frozen"):
            what += f" ({where.filename}, line {where.lineno})"
        raise arg.UsageError(f"function {name!r} cannot be imported: {what}") from None


def _values(grid: dict[str, object], is_simulator: bool) -> dict[str, list[object]]:
    """The axes of the grid: lists as they are, texts read as numbers or students."""
    axes = {}
    for name, values in grid.items():
        if isinstance(values, str):
            try:
                read = _words if name in (_WORDED if is_simulator else _STUDENTS) else arg.numbers
                values = list(read(values))
            except ArgumentTypeError as error:
                raise arg.UsageError(f"grid.{name}: {error}") from None
        elif not isinstance(values, list):
            raise arg.UsageError(
                f"grid.{name} must be a list or a text such as '0:1:5', got {values!r}"
            )
        axes[name] = [_scalar(name, value, is_simulator) for value in values]
    return axes


def _whole(
    function: Callable[..., object], axes: dict[str, list[object]]
) -> dict[str, list[object]]:
    """The axes with whole numbers where the function takes integers: a range has floats."""
    for name, parameter in _parameters(function).items():
        if name in axes and str(parameter.annotation).startswith(("int", "<class 'int'>")):
            axes[name] = [
                int(value) if isinstance(value, float) and value.is_integer() else value
                for value in axes[name]
            ]
    return axes


def _parameters(function: Callable[..., object]) -> Mapping[str, Parameter]:
    from inspect import signature

    try:
        return signature(function).parameters
    except ValueError:  # some builtins have no signature
        return {}


def _scalar(name: str, value: object, is_simulator: bool) -> object:
    """A value as TOML has it, but a leaky student as the object; the same in grid and fixed."""
    if is_simulator and name in _PARSERS and isinstance(value, str):
        try:
            _PARSERS[name](value)
        except ArgumentTypeError as error:
            raise arg.UsageError(f"{name}: {error}") from None
    if name not in _STUDENTS or not isinstance(value, str):
        return value
    if not (is_simulator or value.startswith("leaky:")):
        return value
    try:
        student = arg.student(value)
    except ArgumentTypeError as error:
        raise arg.UsageError(f"{name}: {error}") from None
    return student if student.name.startswith("leaky") else student.name


class _ReadsInputs:
    """A simulator whose `inputs` are text: so the store keeps them, and workers read it."""

    def __init__(self, simulator: Callable[..., object]) -> None:
        update_wrapper(self, simulator)
        self.simulator = simulator

    def __call__(self, *, inputs: object = None, **options: Any) -> object:
        if isinstance(inputs, str):
            inputs = arg.inputs(inputs).value
        return self.simulator(inputs=inputs, **options)


def _flat(table: SweepTable) -> Columns:
    """The columns of a table of runs as plain values; arrays and mappings as text."""
    return {
        name: [value if isinstance(value, int | float) else _text(value) for value in values]
        for name, values in ((name, column.tolist()) for name, column in table.items())
    }


def _text(value: object) -> str:
    if isinstance(value, str):
        leaky = re.fullmatch(r"LeakyReLU\(slope=(.*)\)", value)
        return f"leaky:{leaky[1]}" if leaky else value
    return "" if value is None else str(value)
