"""What README and docs say is run: Python blocks, commands, links."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate

import replica
from replica.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^( *)(`{3,}).*?^\1\2", re.MULTILINE | re.DOTALL)

MODULES = (
    "replica",
    "replica.batch_norm",
    "replica.dynamics",
    "replica.equilibrium",
    "replica.gaussian",
    "replica.inputs",
    "replica.labels",
    "replica.learning_curve",
    "replica.losses",
    "replica.plotting",
    "replica.published",
    "replica.simulation",
    "replica.students",
    "replica.sweeps",
)
# Public functions that compute no physics: they run, store, draw, or look something up.
WITHOUT_EQUATION = {
    "as_glm",
    "as_inputs",
    "as_loss",
    "as_noise",
    "as_piecewise",
    "as_student",
    "delete_runs",
    "draw_curve",
    "finish_axes",
    "hermite_coefficients",
    "line_style",
    "load_runs",
    "new_axes",
    "plot_curve",
    "save_figure",
    "sweep",
}
# Of numpydoc's checks all but these: sections that are optional here (SA01, ES01, EX01); shared
# options that a docstring takes over from another, "as for `gamma_decay`", in one entry (PR03,
# PR04, RT02); results that their class describes (RT03); sentences that start with a symbol (PR08,
# RT04); nouns for quantities (SS05).
NOT_ASKED = {"SA01", "ES01", "EX01", "PR03", "PR04", "PR08", "RT02", "RT03", "RT04", "SS05"}


def blocks(page: Path, *languages: str) -> list[tuple[int, str]]:
    """(line number, text) of the fenced blocks of `page` in one of `languages`."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start(2)), match[2])
        for match in _BLOCK.finditer(text)
        if match[1] in languages
    ]


def commands(page: Path) -> list[str]:
    """The lines of `page` that call the command line, continuation lines joined."""
    found = []
    for _, text in blocks(page, "console", "bash", "sh", "shell"):
        lines = text.replace("\\\n", " ").splitlines()
        calls = (line.strip().removeprefix("$ ").split(" #")[0] for line in lines)
        found += [call for call in calls if call.startswith("replica ")]
    return found


def missing_claims(text: str) -> list[str]:
    """The claims that `text` cites after "Validation:" and that no stored result has."""
    stored = {
        claim["name"]
        for path in (ROOT / "validation" / "results").glob("*.json")
        for claim in json.loads(path.read_text(encoding="utf-8"))
    }
    lists = re.findall(r"\*Validation:\*(.*?)(?:\*|\n\n|\Z)", text, re.DOTALL)
    return [name for names in lists for name in re.findall(r"`(.+?)`", names) if name not in stored]


def missing_tests(text: str) -> list[tuple[str, str]]:
    """(file, name) of the tests that `text` cites and that no test file defines."""
    files = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py")}
    cited = re.findall(r"`(?:tests/(\w+)\.py::)?(test_\w+)`", text)
    return [
        (file, name)
        for file, name in cited
        if f"def {name}(" not in (files.get(file, "") if file else "\n".join(files.values()))
    ]


def exported(module: str) -> list[str]:
    return importlib.import_module(module).__all__


def public(*, classes: bool) -> dict[str, str]:
    """Name -> where it is imported from, of all public functions or classes, each once."""
    found = {}
    for module in reversed(MODULES):  # a name of the top level is listed there
        for name in exported(module):
            value = getattr(importlib.import_module(module), name)
            is_function = hasattr(value, "__code__") or hasattr(value, "py_func")  # Numba's too
            if name[0] != "_" and (isinstance(value, type) if classes else is_function):
                found[name] = f"{module}.{name}"
    hidden = {"gibbs_averages", "sample_free_energy", "normal_moments", "zero_temperature_averages"}
    return {name: where for name, where in found.items() if name not in hidden}


FUNCTIONS, CLASSES = public(classes=False), public(classes=True)


def documentation(where: str) -> str:
    module, name = where.rsplit(".", 1)
    return getattr(importlib.import_module(module), name).__doc__ or ""


def equations(page: Path) -> set[str]:
    """The labels of the displayed equations of `page`."""
    return set(re.findall(r"\$\$ \((eq-[\w-]+)\)$", page.read_text("utf-8"), re.MULTILINE))


def cited_equations(docstring: str) -> list[tuple[str, str]]:
    """(page, label) of the equations in a line "Theory: :eq:`a` and :eq:`b` in :doc:`/page`"."""
    _, _, text = docstring.partition("Theory: :eq:")
    found, labels = [], []
    for role, target in re.findall(r":(eq|doc):`([^`]+)`", ":eq:" + text if text else ""):
        if role == "eq":
            labels.append(target)
        else:
            found += [(target.lstrip("/"), label) for label in labels]
            labels = []
    return found


def anchors(page: Path) -> set[str]:
    """What may stand behind the # in a link to `page`: its headings and labels."""
    text = _FENCED.sub("", page.read_text("utf-8"))
    found = equations(page) | set(re.findall(r"^\(([\w-]+)\)=", text, re.MULTILINE))
    for title in re.findall(r"^#{1,3} +(.*)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*$]", r"\1", title)
        slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        copies = sum(known == slug or known.startswith(f"{slug}-copy") for known in found)
        found.add(f"{slug}-{copies}" if copies else slug)
    return found


def dead_links(page: Path) -> list[str]:
    """The links of `page` inside the project whose file or anchor does not exist."""
    dead = []
    everywhere = set().union(*(equations(other) for other in PAGES))  # equations are known by name
    text = re.sub(r"`[^`\n]+`", "", _FENCED.sub("", page.read_text("utf-8")))
    for target in _LINK.findall(text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        other = (page.parent / file).resolve() if file else page
        if not other.exists() or (
            anchor and other.suffix == ".md" and anchor not in anchors(other) | everywhere
        ):
            dead.append(target)
    return dead


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


with_python = [page for page in PAGES if blocks(page, "python")]
with_commands = [page for page in PAGES if commands(page)]


@pytest.mark.parametrize("page", with_python, ids=page_name)
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for line, source in blocks(page, "python"):
        # Blank lines in front, so that a traceback shows the line of the page.
        exec(compile("\n" * line + source, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", with_commands, ids=page_name)
def test_commands_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for line, source in blocks(page, "python"):
        if ".to_csv(" in source:  # the file that the commands read
            exec(compile("\n" * line + source, str(page), "exec"), {})
    for command in commands(page):
        _, *argv = shlex.split(command)
        assert main(argv) == 0, f"{command}: {capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_relative_links_and_anchors_exist(page):
    assert dead_links(page) == []


def test_dead_links_finds_what_it_should(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A title, with `code`\n\n## Twice\n\n## Twice\n\n$$ x $$ (eq-here)\n\n"
        "[a](#a-title-with-code) [b](#twice-1) [c](page.md#twice) [d](#eq-here) [e](https://x.org/#y)\n"
        "```text\n[f](absent.md)\n```\n`[f](absent.md)`\n"
        "[g](absent.md) [h](#nowhere) [i](page.md#eq-there)\n"
    )
    assert dead_links(page) == ["absent.md", "#nowhere", "page.md#eq-there"]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_pages_cite_tests_that_exist(page):
    assert missing_tests(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_pages_cite_validation_claims_that_exist(page):
    assert missing_claims(page.read_text(encoding="utf-8")) == []


def test_missing_claims_finds_what_it_should():
    assert missing_claims("*Validation:* `linear-sgd`,\n`absent`. *Published:* `f`\n\n") == [
        "absent"
    ]


def test_missing_tests_finds_what_it_should():
    here = "test_missing_tests_finds_what_it_should"
    good = f"`tests/test_docs.py::{here}`, `{here}` and `tests/test_docs.py`"
    assert missing_tests(good) == []
    bad = f"`test_absent` and `tests/test_ridge.py::{here}`"
    assert missing_tests(bad) == [("", "test_absent"), ("test_ridge", here)]


def test_api_pages_have_every_public_name():
    pages = "\n".join(path.read_text("utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    whole_modules = re.findall(r"automodule:: (\S+)\n   :members:", pages)
    documented = {f"{module}.{name}" for module in whole_modules for name in exported(module)}
    documented |= set(re.findall(r"auto\w+:: (\S+)", pages))
    for name in replica.__all__:
        home = getattr(getattr(replica, name), "__module__", "replica")
        homes = {".".join(home.split(".")[:depth]) for depth in range(1, home.count(".") + 2)}
        assert {f"{place}.{name}" for place in homes | {"replica"}} & documented, name


def on_api_pages() -> set[str]:
    """The names that the pages of the reference take from docstrings, as "module.name"."""
    pages = "\n".join(path.read_text("utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    modules = re.findall(r"automodule:: (\S+)\n   :members:", pages)
    whole = {f"{module}.{name}" for module in modules for name in exported(module)}
    return whole | set(re.findall(r"auto(?:class|function|data|exception):: (\S+)", pages))


def test_public_modules_are_those_without_underscore():
    found = {
        ".".join(("replica", *path.relative_to(ROOT / "replica").with_suffix("").parts))
        for path in (ROOT / "replica").glob("[a-z]*.py")
    }
    found |= {
        f"replica.{path.parent.name}" for path in (ROOT / "replica").glob("[a-z]*/__init__.py")
    }
    assert {*MODULES, "replica.cli"} == {"replica", *found}


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_those_of_the_api_pages(module):
    def of(where: str) -> Any:
        home, name = where.rsplit(".", 1)
        return getattr(importlib.import_module(home), name)

    documented = on_api_pages()
    objects = [of(where) for where in documented]
    for name in exported(module):
        value = of(f"{module}.{name}")
        by_value = any(value is other for other in objects)
        assert f"{module}.{name}" in documented or by_value, f"{module}.{name} is on no page"
    here = {where for where in documented if where.rsplit(".", 1)[0] == module}
    assert {where.rsplit(".", 1)[1] for where in here} <= set(exported(module))


@pytest.mark.parametrize("where", sorted(set(FUNCTIONS.values())))
def test_public_functions_cite_their_equation(where):
    if where.rsplit(".", 1)[1] in WITHOUT_EQUATION:
        return
    cited = cited_equations(documentation(where))
    assert cited, f'{where}: no line "Theory: :eq:`eq-name` in :doc:`/page`."'
    for page, label in cited:
        assert label in equations(ROOT / "docs" / f"{page}.md"), f"{where}: {label} in {page}.md"


def test_functions_without_equation_exist_and_cite_none():
    assert set(FUNCTIONS) >= WITHOUT_EQUATION
    assert [n for n in WITHOUT_EQUATION if cited_equations(documentation(FUNCTIONS[n]))] == []


def test_cited_equations_finds_what_it_should():
    assert cited_equations("No line.") == []
    text = "Theory: :eq:`eq-a` and :eq:`eq-b` in :doc:`/theory`; :eq:`eq-c` in :doc:`/other`."
    assert cited_equations(text) == [("theory", "eq-a"), ("theory", "eq-b"), ("other", "eq-c")]


def test_equation_labels_are_unique():
    labels = [label for page in PAGES for label in sorted(equations(page))]
    assert sorted(set(labels)) == sorted(labels)


@pytest.mark.parametrize("where", sorted(set(FUNCTIONS.values())))
def test_docstrings_of_functions_pass_numpydoc(where):
    found = [error for error in validate(where)["errors"] if error[0] not in NOT_ASKED]
    assert found == []


@pytest.mark.parametrize("where", sorted(set(CLASSES.values())))
def test_docstrings_of_results_describe_every_field(where):
    module, name = where.rsplit(".", 1)
    kind = getattr(importlib.import_module(module), name)
    if not dataclasses.is_dataclass(kind):
        return
    sections = ClassDoc(kind, config={"show_class_members": False})
    entries = [entry.name for key in ("Parameters", "Attributes") for entry in sections[key]]
    described = {field.strip() for entry in entries for field in entry.split(",")}
    assert {field.name for field in dataclasses.fields(kind)} - described == set()


@pytest.mark.slow
def test_sphinx_builds_without_warnings(tmp_path):
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    built = subprocess.run(
        [*command, str(ROOT / "docs"), str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "api" / "front_door.html").read_text("utf-8")
    assert 'href="../theory.html#equation-eq-ridge-error"' in page  # from a docstring


def test_readme_has_python_and_commands_to_run():
    assert ROOT / "README.md" in with_python
    assert ROOT / "README.md" in with_commands


def test_citation_has_the_version_of_the_package():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {replica.__version__}\n" in citation


def test_readme_picture_is_a_small_png():
    picture = (ROOT / "docs" / "figure1.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 200_000


def test_blocks_and_commands_find_what_they_should(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nx = 1\n```\ntext\n```console\n$ replica error \\\n  --alpha 1  # why\n"
        "make demo\n```\n```text\nreplica no\n```\n"
    )
    assert blocks(page, "python") == [(1, "x = 1\n")]
    assert [shlex.split(call) for call in commands(page)] == [["replica", "error", "--alpha", "1"]]
