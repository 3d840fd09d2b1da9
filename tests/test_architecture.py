"""The picture of the modules in docs/architecture.md is true, and its rules hold."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from docs.module_picture import (
    PACKAGE,
    ROOT,
    arrows,
    draw,
    imported_modules,
    imports_of,
    listed,
    modules,
    sections,
)

MODULES = [name for names in listed().values() for name in names]
PACKAGES = {name.split(".")[0] for name in MODULES if "." in name}


def inside(package: str) -> set[str]:
    return {name for name in MODULES if name.startswith(f"{package}.")}


def test_architecture_page_names_exactly_the_modules_that_exist():
    assert set(MODULES) == set(modules())
    assert len(MODULES) == len(set(MODULES))


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_only_what_stands_above_them(module):
    path = modules()[module]
    allowed = set(MODULES[: MODULES.index(module)])
    own = module.split(".")[0]
    # a package as a whole stands where its last module does
    allowed |= {name for name in PACKAGES if name != own and allowed >= inside(name)}
    if own in sections()["Front"]:
        allowed |= {"", own}  # the front may use the public names, as users do
    assert imported_modules(path.read_text("utf-8"), path) <= allowed


@pytest.mark.parametrize(("one", "other"), [("Theory", "Simulation"), ("Simulation", "Theory")])
def test_theory_and_simulation_do_not_import_each_other(one, other):
    for module in sections()[one]:
        assert imports_of(module).isdisjoint(sections()[other]), module


def entered_privately(path, source=None):
    """The private modules that a file imports from packages other than its own; `_core` is free."""
    source = path.read_text("utf-8") if source is None else source
    source = source.replace("if TYPE_CHECKING", "if True")  # a type's home is no exception
    own = path.relative_to(PACKAGE).parts[0] if path.is_relative_to(PACKAGE) else ""
    return {
        name
        for name in imported_modules(source, path)
        if "._" in name and name.split(".")[0] not in ("_core", own)
    }


@pytest.mark.parametrize(
    "path",
    [*sorted(PACKAGE.rglob("*.py")), *sorted((ROOT / "examples").glob("*.py"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_packages_are_entered_by_their_public_names(path):
    assert entered_privately(path) == set()


def test_entered_privately_finds_what_it_should():
    source = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from replica.sweeps._table import SweepTable\n"
        "from replica.equilibrium._solve import solve_equilibrium\n"
        "from replica.equilibrium import gen_error\n"
        "from replica._core.jit import jit\nfrom ._prior import batch_prior\n"
    )
    found = entered_privately(PACKAGE / "batch_norm" / "x.py", source)
    assert found == {"sweeps._table", "equilibrium._solve"}
    assert entered_privately(ROOT / "examples" / "x.py", "import replica.sweeps._store") == {
        "sweeps._store"
    }


@pytest.mark.parametrize("folder", ["validation", "benchmarks", "examples", "docs", "replica"])
def test_nothing_imports_from_the_tests(folder):
    names = {path.stem for path in (ROOT / "tests").glob("*.py")} | {"tests", "reference"}
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found = {(node.module or "").split(".")[0]}
            else:
                continue
            assert found.isdisjoint(names), path


def test_imported_modules_sees_every_form_of_import():
    source = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from .plotting import new_axes\n"
        "def f():\n    from ._core.jit import jit\n    import replica.students\n"
        "from replica._core import status\n"
        "import replica\n"
    )
    found = imported_modules(source, PACKAGE / "x.py")
    assert found == {"_core.jit", "students", "_core.status", ""}
    inside = "from . import _output\nfrom .._core.jit import jit\nfrom ..gaussian import Average"
    found = imported_modules(inside, PACKAGE / "cli" / "x.py")
    assert found == {"cli._output", "_core.jit", "gaussian"}


def test_arrows_leaves_out_what_follows():
    imports = {"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": {"a"}, "e": {"a", "c", "d"}}
    assert arrows(imports) == {"a": set(), "b": {"a"}, "c": {"b"}, "d": {"a"}, "e": {"c", "d"}}


def test_draw_names_every_module(tmp_path, monkeypatch):
    import matplotlib as mpl

    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "none")  # text as text
    draw(tmp_path / "modules.svg")
    picture = (tmp_path / "modules.svg").read_text("utf-8")
    for name in (name for names in sections().values() for name in names):
        assert f">{name}<" in picture or f">{name}/<" in picture, name


def test_import_replica_is_cheap():
    code = "import replica, sys; print(*sys.modules)"
    output = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    loaded = {name.split(".")[0] for name in output.split()}
    assert "replica" in loaded
    assert loaded.isdisjoint({"matplotlib", "tqdm", "dask", "distributed", "scipy", "numba"})
