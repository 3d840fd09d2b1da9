"""The examples, the lecture, the verdicts on the site, and the job script of docs/cluster.md."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest

import replica

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LECTURE = ROOT / "docs" / "lecture.ipynb"


@pytest.fixture
def shown(monkeypatch):
    """A list that counts the figures shown, in place of windows."""
    import matplotlib.pyplot as plt

    figures = []

    def show():
        figures.extend(plt.get_fignums())
        plt.close("all")

    monkeypatch.setattr(plt, "show", show)
    plt.switch_backend("agg")
    yield figures
    plt.close("all")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_shows_one_figure(path, shown, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert len(shown) == 1


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_says_what_to_see(path):
    text = path.read_text(encoding="utf-8")
    title, line = text.splitlines()[1:3]
    assert set(line) == {"="}
    assert len(line) == len(title)
    assert "What to see" in text


# -------------------------------------------------------------------------------------- lecture


def lecture_source() -> str:
    cells = nbformat.read(LECTURE, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "code")


def test_lecture_holds_what_it_claims(shown, monkeypatch, capsys):
    exec(compile(lecture_source(), str(LECTURE), "exec"), {"__name__": "__main__"})
    assert len(shown) >= 4


def test_lecture_would_notice_a_wrong_theory(shown, capsys):
    right = "theory = replica.gen_error(2.0, S, S)"
    source = lecture_source()
    assert source.count(right) == 1
    wrong = source.replace(right, "theory = replica.gen_error(2.0, S, 4 * S)")
    with pytest.raises(AssertionError):
        exec(compile(wrong, str(LECTURE), "exec"), {"__name__": "__main__"})


def test_lecture_is_stored_without_outputs():
    notebook = nbformat.read(LECTURE, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"mystnb"}
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of the machinery between here and the kernel
def test_lecture_runs_in_a_kernel(monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(LECTURE, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert not any(output.get("name") == "stderr" for output in outputs)


# ----------------------------------------------------------------------------------- validation


def test_validation_results_shows_every_figure_of_the_summary():
    page = (ROOT / "docs" / "validation_results.md").read_text(encoding="utf-8")
    results = ROOT / "validation" / "results"
    figures = set(re.findall(r"\((\w+)\.png\)", (results / "summary.md").read_text("utf-8")))
    assert figures
    assert figures == set(re.findall(r"results/(\w+)\.png\)", page))
    assert figures <= set(re.findall(r"^\((\w+)\)=$", page, re.MULTILINE))
    assert all((results / f"{name}.png").is_file() for name in figures)


# ------------------------------------------------------------------------------------- job array


def blocks_of(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def submit(tmp_path):
    """Write the two scripts of the page; return a function that starts one task of the array."""
    (task,) = (block for block in blocks_of("cluster.md", "python") if "ARRAY_TASK_ID" in block)
    (script,) = (block for block in blocks_of("cluster.md", "bash") if "#SBATCH" in block)
    slow = task.replace('"epochs": 20', '"epochs": 400')  # long enough to be killed half-way
    assert slow != task
    (tmp_path / "task.py").write_text(slow)
    (tmp_path / "array.sh").write_text(script)
    (tmp_path / "scratch").mkdir()

    started = []

    def start(number: int, n_tasks: int) -> subprocess.Popen:
        variables = {
            "SLURM_ARRAY_TASK_ID": str(number),
            "SLURM_ARRAY_TASK_COUNT": str(n_tasks),
            "SLURM_CPUS_PER_TASK": "1",
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "TMPDIR": str(tmp_path / "scratch"),
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        process = subprocess.Popen(
            ["bash", "array.sh"], cwd=tmp_path, env=os.environ | variables,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.communicate()


def finished(store: Path) -> int:
    try:
        table = replica.load_runs(store)
    except replica.StoreError:  # the file is there, its tables are not yet
        return 0
    return int(np.sum(table["status"] == "done")) if table.n_rows else 0


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="bash")
def test_cluster_page_job_array_is_killed_and_resumed(submit, tmp_path):
    n_tasks = 2
    tasks = [submit(number, n_tasks) for number in range(n_tasks)]
    deadline = time.monotonic() + 120
    while not (stores := list(tmp_path.glob("scratch/*/task-0.sqlite"))) or finished(stores[0]) < 3:
        assert time.monotonic() < deadline
        assert tasks[0].poll() is None, tasks[0].communicate()[1]
        time.sleep(0.05)
    tasks[0].send_signal(signal.SIGTERM)  # the time is up
    for task in tasks:
        _, errors = task.communicate(timeout=120)
        assert "Traceback" not in errors
    assert tasks[0].returncode == 1
    assert tasks[1].returncode == 0
    assert 3 <= finished(tmp_path / "results" / "task-0.sqlite") < 20
    assert finished(tmp_path / "results" / "task-1.sqlite") == 20

    again = submit(0, n_tasks)
    output, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert "20 runs: 20 done" in output
    assert finished(tmp_path / "results" / "task-0.sqlite") == 20
    assert list((tmp_path / "scratch").iterdir()) == []
