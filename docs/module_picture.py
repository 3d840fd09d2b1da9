"""Which module imports which, read from the sources, and the picture of it in architecture.md.

The pages' builder draws with it and the tests check with it. Imports matplotlib when it draws.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "replica"

COLORS = {
    "Foundation": "#e7e7e7",
    "Theory": "#d6e6f4",
    "Simulation": "#fbe3cd",
    "Front": "#dcefdc",
}
WIDTH, SIDE = 9.4, 1.4  # of the picture and of the band of Simulation; inches
ROW, GAP = 0.52, 0.12  # height of a row, half the space between bands


def listed() -> dict[str, list[str]]:
    """The list of docs/architecture.md: section -> dotted names of all its modules, in order."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    found: dict[str, list[str]] = {}
    package = ""
    for line in block.splitlines():
        indent = len(line) - len(line.lstrip())
        name = line.split()[0].removesuffix(".py") if indent else ""
        if not indent:
            found[line.strip()] = []
        elif indent == 2:
            package = name.rstrip("/")
            if not name.endswith("/"):
                found[list(found)[-1]].append(name)
        else:
            found[list(found)[-1]].append(f"{package}.{name}")
    return found


def sections() -> dict[str, list[str]]:
    """Section -> names of its top-level modules and packages, in the order of the page."""
    return {
        section: list(dict.fromkeys(name.split(".")[0] for name in names))
        for section, names in listed().items()
    }


def modules() -> dict[str, Path]:
    """Dotted name, below `replica`, -> file of every module; not of a package's __init__."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "__init__.py"
    }


def imported_modules(source: str, path: Path) -> set[str]:
    """The modules of `replica` that `source`, the text of `path`, imports anywhere.

    Dotted names below `replica`; a package stands for its __init__, and "" for ``replica`` itself.
    Imports for type checkers alone do not count.
    """
    package = path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1]
    found: set[str] = set()

    def exists(parts: tuple[str, ...]) -> bool:
        place = PACKAGE.joinpath(*parts)
        return place.with_suffix(".py").exists() or place.is_dir()

    def add(name: str) -> None:
        parts = tuple(name.split("."))[1:]
        while parts and not exists(parts):  # a name defined in a module, not a module
            parts = parts[:-1]
        found.add(".".join(parts))

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
            names = [f"{stem}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] == "replica":
                add(name)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return found


def imports_of(module: str) -> set[str]:
    """The other top-level modules of `replica` that a top-level module or package imports."""
    found: set[str] = set()
    folder = PACKAGE / module
    for path in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]:
        found |= {name.split(".")[0] for name in imported_modules(path.read_text("utf-8"), path)}
    return found - {module}


def arrows(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """`imports` without those that follow from others: a -> c where a -> b -> c."""
    below: dict[str, set[str]] = {}

    def reach(module: str) -> set[str]:
        if module not in below:
            below[module] = set().union(*({name} | reach(name) for name in imports[module]))
        return below[module]

    return {
        module: {name for name in found if not any(name in reach(other) for other in found)}
        for module, found in imports.items()
    }


def draw(target: Path) -> None:
    """Draw the modules in the bands of their sections, an arrow from each to what it imports."""
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch, Rectangle

    names = sections()
    home = {module: section for section, modules in names.items() for module in modules}
    imports = {module: imports_of(module) & set(home) for module in home}

    # The row of a module in its band: above everything that it imports there.
    row: dict[str, int] = {}
    for module, section in home.items():  # a module imports only what stands before it
        inside = [row[name] for name in imports[module] if home[name] == section]
        row[module] = 1 + max(inside, default=-1)
    height = {
        section: (1.4 + max(row[m] for m in modules)) * ROW for section, modules in names.items()
    }
    height["Simulation"] = height["Theory"]  # side by side
    theory = 2 * GAP + height["Foundation"]
    front = 2 * GAP + theory + height["Theory"]
    total = front + height["Front"]
    bands = {  # from the top; left, bottom, width
        "Front": (0.0, front, WIDTH),
        "Theory": (0.0, theory, WIDTH - SIDE - GAP),
        "Simulation": (WIDTH - SIDE, theory, SIDE),
        "Foundation": (0.0, 0.0, WIDTH),
    }

    figure = Figure(figsize=(WIDTH, total))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, total))
    ax.set_axis_off()
    shown = arrows(imports)
    place: dict[str, tuple[float, float]] = {}

    def preferred(module: str) -> float:
        """Where to stand in the row: below those that import it, at the left without such."""
        above = [place[name][0] for name in place if module in shown[name]]
        return sum(above) / len(above) if above else 0.0

    for section, (left, low, width) in bands.items():
        area = Rectangle((left, low), width, height[section], fc=COLORS[section], ec="none")
        ax.add_patch(area)
        ax.text(left + 0.1, low + height[section] - 0.1, section, weight="bold", va="top", size=12)
        for level in sorted({row[module] for module in names[section]}, reverse=True):
            modules = [module for module in names[section] if row[module] == level]
            share = width / len(modules)
            for index, module in enumerate(sorted(modules, key=preferred)):
                place[module] = (left + (index + 0.5) * share, low + (level + 0.5) * ROW)
    for module, (x, y) in place.items():
        label = module + "/" * (PACKAGE / module).is_dir()
        box = {"boxstyle": "round,pad=0.25", "fc": "white", "ec": "#555555"}
        ax.text(x, y, label, ha="center", va="center", size=10.5, family="monospace", bbox=box)
    for module, found in shown.items():
        for name in sorted(found):
            if home[name] == "Foundation" != home[module]:
                continue  # everything may import it
            (x, y), (to_x, to_y) = place[module], place[name]
            lean = max(-1.0, min(1.0, to_x - x)) * 0.03  # ends are moved toward each other
            start, end = (x + len(module) * lean, y - 0.13), (to_x - len(name) * lean, to_y + 0.13)
            style = {"arrowstyle": "-|>", "color": "#555555", "lw": 0.9, "mutation_scale": 9}
            ax.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, zorder=1.5, **style))
    figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)
