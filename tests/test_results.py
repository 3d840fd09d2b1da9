"""The base of all results: status, tables, representations, plot."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest

from replica import ArgumentError, Status
from replica._core.results import Result, over

T = np.array([0.0, 1.0, 3.0])


@dataclass(frozen=True, repr=False)
class Curves(Result):
    """A grid of problems in (alpha, S), each with a history over t."""

    _problem = ("student", "alpha", "S")

    student: str
    alpha: np.ndarray
    S: np.ndarray
    gen_error: np.ndarray
    status: np.ndarray
    t: Any = over("t")
    R: Any = over(..., "t")


@dataclass(frozen=True, repr=False)
class Runs(Result):
    """Independent runs over time, as the simulators have them."""

    _problem = ("seed",)

    seed: int
    t: np.ndarray = over("t")
    gen_error: Any = over("t", "run")
    status: Any = over("run")


FIELDS = [item.name for item in fields(Curves)]


def curves(shape=(2, 3)):
    alpha = np.broadcast_to([0.5, 1.0, 2.0] if shape else 0.5, shape).copy()
    S = np.ones(shape) if len(shape) < 2 else np.arange(1.0, 1.0 + shape[0])[:, None] + 0 * alpha
    values = np.arange(alpha.size, dtype=float).reshape(shape)
    status = np.zeros(shape, dtype=np.int8)
    if alpha.size > 1:
        status.flat[-1] = Status.MAX_ITERATIONS
    return Curves("relu", alpha, S, values, status, T, values[..., None] + T)


def runs():
    error = np.array([[1.0, 3.0, 9.0], [2.0, 4.0, 9.0], [3.0, 5.0, np.nan]])
    return Runs(7, T, error, np.array([Status.DONE, Status.DONE, Status.DIVERGENT], np.int8))


def test_result_says_how_each_element_ended():
    result = curves()
    assert result.converged.tolist() == [[True] * 3, [True, True, False]]
    assert "iteration limit" in result.messages[1, 2]
    single = curves(())
    assert single.converged is True
    assert single.messages == "converged"
    assert result.problem.keys() == {"student", "alpha", "S"}
    assert result.to_dict()["messages"][0, 0] == "converged"


def test_result_to_xarray_names_the_axes_of_the_grid():
    data = curves().to_xarray()
    assert dict(data.sizes) == {"S": 2, "alpha": 3, "t": 3}
    assert float(data.gen_error.sel(S=2.0, alpha=1.0)) == 4.0
    assert float(data.R.sel(S=2.0, alpha=1.0, t=3.0)) == 7.0
    assert data.status.sel(S=2.0, alpha=2.0).item() == "max_iterations"
    assert data.attrs["student"] == "relu"


def test_result_to_xarray_keeps_arguments_that_vary_together():
    both = Curves("relu", T + 1, T + 2, T, np.zeros(3, np.int8), T, T[:, None] + T)
    data = both.to_xarray()
    assert data.gen_error.dims == ("axis_0",)
    np.testing.assert_array_equal(data.alpha, T + 1)
    np.testing.assert_array_equal(data.S, T + 2)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_result_to_pandas_has_a_row_for_each_element(shape):
    result = curves(shape)
    frame = result.to_pandas()
    assert len(frame) == max(result.gen_error.size, 1) * T.size
    assert frame.attrs["student"] == "relu"
    last = frame.iloc[-1]
    assert result.R.flat[-1] == last.R
    assert last.alpha == result.alpha.flat[-1]
    assert last.t == 3.0
    assert last.status == ("max_iterations" if shape else "converged")


def test_result_of_runs_in_tables():
    frame = runs().to_pandas()
    assert len(frame) == 9
    third = frame[(frame.run == 2) & (frame.t == 0.0)]
    assert third.gen_error.item() == 9.0
    assert third.status.item() == "divergent"
    assert dict(runs().to_xarray().sizes) == {"t": 3, "run": 3}


def test_result_plot_draws_a_curve_for_each_element_of_the_other_axes():
    ax = curves().plot()
    assert ax.get_xlabel().startswith("load")
    lines = [line for line in ax.get_lines() if not line.get_label().startswith("_")]
    assert [line.get_label() for line in lines] == ["S = 1", "S = 2"]
    np.testing.assert_array_equal(lines[1].get_ydata(), [3.0, 4.0, 5.0])
    ax = curves().plot("R", color="black")
    assert len(ax.get_lines()) == 6
    assert ax.get_lines()[0].get_color() == "black"


def test_result_plot_averages_the_runs_that_did_not_diverge():
    ax = runs().plot()
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), [2.0, 3.0, 4.0])
    (band,) = ax.collections
    low, high = band.get_datalim(ax.transData).intervaly
    assert (low, high) == (1.0, 5.0)  # the standard error of two values that differ by 2 is 1


def test_result_plot_refuses_what_it_cannot_draw():
    with pytest.raises(ArgumentError, match="quantity must be one of"):
        curves().plot("Q")
    with pytest.raises(ArgumentError, match="single number"):
        curves(()).plot("gen_error")
    many = np.zeros((60, 2))
    wide = Curves("relu", many + np.array([1, 2]), many + np.arange(60.0)[:, None], many,
                  np.zeros((60, 2), np.int8), T, many[..., None] + T)  # fmt: skip
    with pytest.raises(ArgumentError, match="60 curves"):
        wide.plot()


def test_result_is_readable_as_text_and_in_a_notebook():
    text = repr(curves())
    assert text.startswith("Curves\n")
    assert "5 converged, 1 max_iterations" in text
    assert "shape (2, 3), 0 .. 5" in text
    html = curves()._repr_html_()
    assert html.index("student") < html.index("gen_error")
    odd = Curves("<script>", *(getattr(curves(), name) for name in FIELDS[1:]))
    assert "<script" not in odd._repr_html_()
