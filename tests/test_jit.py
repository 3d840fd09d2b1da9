"""Tests of the one decorator: whatever is wrong with Numba's cache, functions are compiled."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import caching, config

import replica
from replica._core import jit as _jit
from replica._core.jit import for_each_chunk, jit

ONE = 1.0


def plus_one(x):
    return x + ONE


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of its own, and nothing warned of yet."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(_jit, "_warned", False)
    return tmp_path / "cache"


def files(cache: Path, ending: str) -> list[Path]:
    return sorted(cache.rglob(f"*{ending}"))


def fill(cache: Path) -> None:
    assert jit(plus_one)(1.0) == 2.0
    assert len(files(cache, ".nbi")) == len(files(cache, ".nbc")) == 1


def test_jit_stores_and_reads_what_it_compiles(cache):
    fill(cache)
    again = jit(plus_one)
    assert again(1.0) == 2.0
    assert sum(again.stats.cache_hits.values()) == 1


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def empty(_: bytes) -> bytes:
    return b""


def noise(content: bytes) -> bytes:
    return np.random.default_rng(1).bytes(len(content))


def flip(content: bytes) -> bytes:
    middle = len(content) // 2  # inside the machine code, where pickle does not look
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("ending", "damage"),
    [(".nbi", cut), (".nbi", empty), (".nbi", noise), (".nbc", cut), (".nbc", empty),
     (".nbc", noise), (".nbc", flip)],
)  # fmt: skip
def test_jit_compiles_without_a_damaged_cache_and_mends_it(cache, ending, damage):
    fill(cache)
    (path,) = files(cache, ending)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(RuntimeWarning, match="cannot be read") as caught:
        assert jit(plus_one)(1.0) == 2.0
    assert len(caught) == 1
    assert str(path.parent) in str(caught[0].message)
    assert "NUMBA_CACHE_DIR" in str(caught[0].message)
    again = jit(plus_one)  # without a warning
    assert again(1.0) == 2.0
    assert sum(again.stats.cache_hits.values()) == 1


def test_jit_compiles_without_a_cache_on_a_full_disk_and_warns_once(cache, monkeypatch):
    def no_space(self, path):
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", no_space)
    compiled = jit(plus_one)
    with pytest.warns(RuntimeWarning, match="cannot be written.*No space left") as caught:
        assert [compiled(1.0), compiled(1)] == [2.0, 2.0]  # two signatures
    assert len(caught) == 1
    assert str(cache) in str(caught[0].message)


def test_jit_compiles_where_no_folder_can_be_written(cache, monkeypatch):
    def read_only(self):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", read_only)
    with warnings.catch_warnings():  # decorating, and so importing, says nothing
        warnings.simplefilter("error")
        compiled = jit(plus_one)
    with pytest.warns(RuntimeWarning, match="no folder that can be written") as caught:
        assert [compiled(1.0), compiled(1)] == [2.0, 2.0]  # two signatures
    assert len(caught) == 1
    assert str(cache) in str(caught[0].message)
    assert str(Path(__file__).parent / "__pycache__") in str(caught[0].message)


# To store a function without a module Numba looks for it in all modules, deprecated ones too.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_jit_says_when_the_folder_asked_for_cannot_be_used(cache, monkeypatch):
    cache.write_text("a file, where a folder was asked for")
    monkeypatch.setattr(config, "CACHE_DIR", str(cache / "below"))
    here = cache.parent / "module.py"
    here.write_text("def plus_two(x):\n    return x + 2.0\n")
    scope: dict = {}
    exec(compile(here.read_text(), str(here), "exec"), scope)
    compiled = jit(scope["plus_two"])
    with pytest.warns(RuntimeWarning, match="cannot be kept in") as caught:
        assert compiled(1.0) == 3.0
    (message,) = [str(w.message) for w in caught if w.category is RuntimeWarning]
    assert str(cache / "below") in message
    assert str(cache.parent / "__pycache__") in message


def open_to_all(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or not open_to_all(Path(numba.__file__)),
    reason="only root can become another user",
)
def test_jit_works_for_a_user_who_may_write_nowhere():
    code = (
        "import os, sys, numba\nsys.path[:0] = sys.argv[1:]\nimport test_jit\n"
        "numba.njit(test_jit.plus_one)(1.0)  # imports what that user may not be able to read\n"
        "os.setgid(65534)\nos.setuid(65534)\n"
        "print(test_jit.jit(test_jit.plus_one)(1.0))"
    )
    path = [str(Path(__file__).parent), str(Path(replica.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-c", code, *path], capture_output=True, text=True, cwd="/",
        env=os.environ | {"HOME": "/nonexistent", "NUMBA_CACHE_DIR": ""},
    )  # fmt: skip
    assert done.stdout.strip() == "2.0", done.stderr
    assert done.stderr.count("no folder that can be written") == 1


def test_jit_is_python_where_numba_is_switched_off(monkeypatch):
    monkeypatch.setattr(config, "DISABLE_JIT", 1)
    assert jit(plus_one) is plus_one


@pytest.mark.parametrize("size", [0, 1, 10_000])
def test_for_each_chunk_covers_the_range_once(size):
    seen = np.zeros(size, int)

    def kernel(start, stop):
        seen[start:stop] += 1

    for_each_chunk(kernel, size, min_chunk=64)
    assert (seen == 1).all()


def test_jit_compiles_again_without_a_word_what_an_older_version_cached(cache, monkeypatch):
    fill(cache)

    def gone(self, key):
        raise AttributeError("module has no attribute 'OldName'")

    monkeypatch.setattr(caching.IndexDataCacheFile, "load", gone)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert jit(plus_one)(1.0) == 2.0
