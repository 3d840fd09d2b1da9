"""What README and docs say is run: Python blocks, commands, links."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import replica
from replica.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


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
    for command in commands(page):
        _, *argv = shlex.split(command)
        assert main(argv) == 0, f"{command}: {capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_relative_links_exist(page):
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://", "mailto:", "#")):
            assert (page.parent / target.split("#")[0]).exists(), f"{page_name(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_pages_cite_tests_that_exist(page):
    assert missing_tests(page.read_text(encoding="utf-8")) == []


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


@pytest.mark.slow
def test_sphinx_builds_without_warnings(tmp_path):
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    built = subprocess.run(
        [*command, str(ROOT / "docs"), str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    assert "gen_error" in (tmp_path / "api" / "front_door.html").read_text("utf-8")


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
