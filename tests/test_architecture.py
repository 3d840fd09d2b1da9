"""The picture of the modules in docs/architecture.md is true, and its rules hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "replica"


def sections() -> dict[str, list[str]]:
    """The list of docs/architecture.md: section -> names of modules, in order."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    found: dict[str, list[str]] = {}
    for line in block.splitlines():
        if line.startswith("  "):
            name = line.split()[0].rstrip("/").removesuffix(".py")
            found[list(found)[-1]].append(name)
        elif line:
            found[line.strip()] = []
    return found


def sources(module: str) -> list[Path]:
    """The files of a top-level module or subpackage of `replica`."""
    folder = PACKAGE / module
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def imported_modules(source: str, path: Path) -> set[str]:
    """The top-level modules of `replica` that `source`, the text of `path`, imports anywhere.

    Imports for type checkers alone do not count; ``import replica`` counts as "" (the front).
    """
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    package = parts[:-1]
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child)
            return
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [stem] if stem != "replica" else [f"replica.{a.name}" for a in node.names]
        for name in names:
            if name == "replica" or name.startswith("replica."):
                top = name.split(".")[1] if "." in name else ""
                is_module = (PACKAGE / f"{top}.py").exists() or (PACKAGE / top).is_dir()
                found.add(top if top and is_module else "")
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return found


def imports_of(module: str) -> set[str]:
    found: set[str] = set()
    for path in sources(module):
        found |= imported_modules(path.read_text(encoding="utf-8"), path)
    return found - {module}


MODULES = [name for names in sections().values() for name in names]


def test_architecture_page_names_exactly_the_modules_that_exist():
    existing = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    existing |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(MODULES) == existing
    assert len(MODULES) == len(set(MODULES))


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_only_what_stands_above_them(module):
    allowed = set(MODULES[: MODULES.index(module)])
    if module in sections()["Front"]:
        allowed.add("")  # the front may use the public names, as users do
    assert imports_of(module) <= allowed


@pytest.mark.parametrize(("one", "other"), [("Theory", "Simulation"), ("Simulation", "Theory")])
def test_theory_and_simulation_do_not_import_each_other(one, other):
    for module in sections()[one]:
        assert imports_of(module).isdisjoint(sections()[other]), module


def test_imported_modules_sees_every_form_of_import():
    source = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from .plotting import new_axes\n"
        "def f():\n    from ._jit import jit\n    import replica.students\n"
        "from replica import _status\n"
        "import replica\n"
    )
    assert imported_modules(source, PACKAGE / "x.py") == {"_jit", "students", "_status", ""}
    inside = "from . import _output\nfrom .._jit import jit\nfrom .._status import Status"
    assert imported_modules(inside, PACKAGE / "cli" / "x.py") == {"cli", "_jit", "_status"}


def test_import_replica_is_cheap():
    code = "import replica, sys; print(*sys.modules)"
    output = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    loaded = {name.split(".")[0] for name in output.split()}
    assert "replica" in loaded
    assert loaded.isdisjoint({"matplotlib", "tqdm", "dask", "distributed", "scipy", "numba"})
