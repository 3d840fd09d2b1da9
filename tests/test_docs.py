"""What README and docs say is run: Python blocks, commands, links."""

from __future__ import annotations

import re
import shlex
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
