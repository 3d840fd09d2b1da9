"""The base of all results: status, tables, representations, plot."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest

from replica import ArgumentError, LeakyReLU, Status
from replica._core.results import Result, over, status_names

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


@dataclass(frozen=True, repr=False)
class Formula(Result):
    """Numbers that follow from numbers: nothing to converge."""

    _problem = ("batch_size",)

    batch_size: int
    loss: float
    real_batch: float | None


@dataclass(frozen=True, repr=False)
class Layers(Result):
    """A number for each neuron of layers of different size."""

    _problem = ("student",)

    student: Any
    zeta: Any = over("layer", "neuron")


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


def grid(alpha, S, values=None):
    """A result on the grid of the two arguments."""
    alpha, S = (np.array(a) for a in np.broadcast_arrays(alpha, S))
    values = np.arange(float(alpha.size)).reshape(alpha.shape) if values is None else values
    status = np.zeros(alpha.shape, np.int8)
    return Curves("relu", alpha, S, values, status, T, values[..., None] + T)


def labels_of(ax):
    return [line.get_label() for line in ax.get_lines()]


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


@pytest.mark.parametrize(
    ("alpha", "S", "dims", "coordinates"),
    [
        (2.0, 0.25, (), set()),
        ([2.0], 0.25, ("axis_0",), set()),
        ([1.0, 2.0], 0.25, ("alpha",), {"alpha"}),
        ([1.0, 1.0], 0.25, ("axis_0",), set()),
        ([1.0, 2.0], [0.1, 0.2], ("axis_0",), set()),
        ([1.0, 2.0, 2.0], 0.25, ("alpha",), {"alpha"}),
        ([[1.0], [2.0]], [0.1, 0.2, 0.3], ("alpha", "S"), {"alpha", "S"}),
        ([[1.0, 2.0], [3.0, 4.0]], 0.25, ("axis_0", "axis_1"), set()),
        ([[1.0, 2.0], [3.0, 4.0]], [0.1, 0.2], ("axis_0", "axis_1"), set()),
        ([np.inf, np.inf], [0.1, 0.2], ("S",), {"S"}),
        ([1.0, np.inf], 0.1, ("alpha",), {"alpha"}),
        (np.zeros(0), 0.1, ("axis_0",), set()),
    ],
)
def test_axes_of_a_grid_are_named_after_what_alone_varies_there(alpha, S, dims, coordinates):
    result = grid(alpha, S)
    data = result.to_xarray()
    assert data.gen_error.dims == dims
    assert set(data.coords) == coordinates | {"t"}
    assert data.R.dims == (*dims, "t")
    np.testing.assert_array_equal(data.gen_error, result.gen_error)
    if coordinates:
        at = {name: getattr(result, name).flat[-1] for name in coordinates}
        last = data.gen_error.sel(at).to_numpy().ravel()[-1]
        assert last == result.gen_error.flat[-1]
    frame = result.to_pandas()
    assert len(frame) == result.gen_error.size * T.size
    assert not any(name.startswith("axis_") for name in frame)
    np.testing.assert_array_equal(frame.alpha, np.repeat(result.alpha, T.size))
    np.testing.assert_array_equal(frame.R, result.R.ravel())


def test_result_of_one_number_is_one_row():
    frame = Formula(16, 0.5, None).to_pandas()
    assert frame.to_dict("records") == [{"batch_size": 16, "loss": 0.5}]
    assert frame.attrs == {"real_batch": None}
    data = Formula(16, 0.5, 0.25).to_xarray()
    assert {name: float(value) for name, value in data.items()} == {
        "batch_size": 16, "loss": 0.5, "real_batch": 0.25,
    }  # fmt: skip
    assert Formula(16, 0.5, None).converged is True
    with pytest.raises(ArgumentError, match="single number"):
        Formula(16, 0.5, None).plot()
    with pytest.raises(
        ArgumentError, match=r"quantity must be one of \('loss',\), got 'real_batch'"
    ):
        Formula(16, 0.5, None).plot("real_batch")


def test_result_of_layers_is_filled_up():
    result = Layers(LeakyReLU(0.0), (np.array([1.0, 2.0, 3.0]), np.array([4.0])))
    data = result.to_xarray()
    assert dict(data.sizes) == {"layer": 2, "neuron": 3}
    assert data.attrs == {"student": "relu"}
    np.testing.assert_array_equal(data.zeta, [[1, 2, 3], [4, np.nan, np.nan]])
    frame = result.to_pandas().dropna()
    assert frame.zeta.tolist() == [1, 2, 3, 4]
    assert frame[["layer", "neuron"]].to_numpy().tolist() == [[0, 0], [0, 1], [0, 2], [1, 0]]
    assert "shape (3,), 1 .. 3; shape (1,), 4 .. 4" in repr(result)
    assert labels_of(result.plot()) == ["layer 0", "layer 1"]


def test_result_tables_know_the_student_by_name_and_the_status_in_words():
    result = Curves(LeakyReLU(0.3), *(getattr(curves(), name) for name in FIELDS[1:]))
    assert result.to_pandas().attrs == {"student": "leaky-relu(0.3)"}
    assert set(result.to_pandas().status) == {"converged", "max_iterations"}
    assert "student    LeakyReLU(0.3)" in repr(result)
    assert result.to_dict().keys() == {*FIELDS, "messages"}
    assert result.to_dict()["student"] is result.student


def test_result_plot_tells_curves_by_all_that_varies_between_them():
    together = grid([1.0, 2.0], [0.1, 0.2])
    assert labels_of(together.plot("R")) == ["α = 1, S = 0.1", "α = 2, S = 0.2"]
    assert labels_of(grid([1.0, 1.0], 0.1).plot("R")) == ["axis 0 = 0", "axis 0 = 1"]
    crossed = grid([[1.0], [2.0]], [0.1, 0.2])
    assert labels_of(crossed.plot()) == ["α = 1", "α = 2"]
    assert labels_of(crossed.plot("R"))[1] == "α = 1, S = 0.2"
    dense = grid([[1.0, 2.0], [3.0, 4.0]], [[0.1], [0.2]])  # alpha differs along the curve, too
    assert labels_of(dense.plot()) == ["S = 0.1", "S = 0.2"]
    assert labels_of(grid([1.0, 2.0], 0.1).plot()) == ["Curves"]


def test_result_plot_adds_to_axes_and_takes_properties_of_lines():
    ax = grid([1.0, 2.0], 0.1).plot(label="a")
    assert grid([1.0, 2.0], 0.2).plot(ax=ax, label="b", lw=3.0) is ax
    assert labels_of(ax) == ["a", "b"]
    colors = [line.get_color() for line in ax.get_lines()]
    assert colors[0] != colors[1]
    assert ax.get_lines()[1].get_linewidth() == 3.0
    with pytest.raises(TypeError, match="plot has no argument 'colour'; did you mean color"):
        curves().plot(colour="red")
    with pytest.raises(TypeError, match="did you mean quantity"):
        curves().plot(quantiti="R")
    with pytest.raises(ArgumentError, match="label names a single curve, got 2 curves"):
        curves().plot(label="a")


def test_result_plot_marks_divergences_and_draws_truth_values():
    infinite = grid([1.0, 2.0, 3.0], 0.1, np.array([1.0, np.inf, 2.0]))
    ax = infinite.plot()
    assert [text.get_text() for text in ax.texts] == ["∞"]
    stable = grid([1.0, 2.0], 0.1, np.array([True, False])).plot()
    assert stable.get_lines()[0].get_ydata().tolist() == [1.0, 0.0]


def test_result_plot_of_runs_that_all_diverged_is_empty():
    gone = Runs(7, T, runs().gen_error, np.full(3, Status.DIVERGENT, np.int8))
    ax = gone.plot()
    assert np.isnan(ax.get_lines()[0].get_ydata()).all()
    assert not ax.collections
    one = Runs(7, T, runs().gen_error[:, :1], np.array([Status.DONE], np.int8)).plot()
    assert one.get_lines()[0].get_ydata().tolist() == [1.0, 2.0, 3.0]
    assert not one.collections


def test_every_status_has_a_message_and_a_name_for_tables():
    assert all(status.message for status in Status)
    names = status_names(np.array(list(Status)))
    assert names[Status.MAX_ITERATIONS] == "max_iterations"
    assert status_names(Status.DONE) == "done"
    assert len(set(names)) == len(Status)


def test_result_is_readable_as_text_and_in_a_notebook():
    text = repr(curves())
    assert text.startswith("Curves\n")
    assert "5 converged, 1 max_iterations" in text
    assert "shape (2, 3), 0 .. 5" in text
    html = curves()._repr_html_()
    assert html.index("student") < html.index("gen_error")
    odd = Curves("<script>", *(getattr(curves(), name) for name in FIELDS[1:]))
    assert "<script" not in odd._repr_html_()
