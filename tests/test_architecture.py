"""The picture of the modules in docs/architecture.md is true, and its rules hold."""

from __future__ import annotations

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
