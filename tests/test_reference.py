"""The reference tables are what their scripts compute; imports nothing from `replica`.

Three rows per table are recomputed. They are the cheap ones (no search for several solutions);
`python -m tests.reference.piecewise --verify` compares the scripts with independent routes.
"""

import pytest
from mpmath import mp, mpf

from reference import piecewise, ridge
from reference.tables import FOLDER, read

TABLES = ridge.TABLES | piecewise.TABLES
ROWS = {
    "ridge": (1, 70, 149),
    "early_stopping": (1, 40, 88),
    "optimal_stopping": (2, 4, 16),
    "piecewise": (0, 36, 45),
    "ridgeless": (1, 24, 99),
    "threshold": (7, 9, 11),
}


def mismatches(table: str, row: dict[str, str]) -> list[str]:
    """Columns in which a row of the table differs from its recomputation by more than 1e-25."""
    make_row, _, names = TABLES[table]
    inputs = tuple(float(row[name]) for name in names[: n_inputs(table)])
    computed = dict(zip(names, make_row(inputs), strict=True))
    mp.dps = 40
    wrong = []
    for name in names:
        new, old = mpf(str(computed[name])), mpf(row[name])
        tolerance = mpf("1e-2") if name == "condition" else mpf("1e-25")
        if new != old and not abs(new - old) <= tolerance * abs(old):
            wrong.append(name)
    return wrong


def n_inputs(table: str) -> int:
    """Number of leading columns that are inputs."""
    return len(TABLES[table][1]()[0])


@pytest.mark.parametrize("table", TABLES)
def test_table_holds_the_inputs_of_its_script(table):
    inputs, names = TABLES[table][1](), TABLES[table][2]
    rows = read(FOLDER / f"{table}.csv")
    assert list(rows[0]) == names
    columns = names[: len(inputs[0])]
    assert [tuple(float(row[name]) for name in columns) for row in rows] == inputs
    assert len(set(inputs)) == len(inputs)


@pytest.mark.parametrize("table", TABLES)
def test_table_is_what_its_script_computes(table):
    rows = read(FOLDER / f"{table}.csv")
    for index in ROWS[table]:
        assert mismatches(table, rows[index]) == []


@pytest.mark.parametrize("table", ["ridge", "piecewise"])
def test_mismatches_catches_a_perturbed_row(table):
    row = read(FOLDER / f"{table}.csv")[ROWS[table][0]]
    mp.dps = 40
    row["gen_error"] = mp.nstr(mpf(row["gen_error"]) * (1 + mpf("1e-22")), 30)
    assert mismatches(table, row) == ["gen_error"]


def test_solve_reproduces_the_leaky_relu_table():
    row = read(FOLDER / "leaky_relu_rs.csv")[2]
    mp.dps = piecewise.DIGITS
    inputs = [mpf(row[name]) for name in ("alpha", "S", "lam", "slope")]  # decimal, not float64
    solution = piecewise.outputs(piecewise.solve(*inputs)[0], *inputs)
    for name in ("gamma", "R", "chi", "gen_error"):
        assert abs(getattr(solution, name) / mpf(row[name]) - 1) < mpf("1e-24")


def test_threshold_satisfies_the_closed_form():
    row = read(FOLDER / "threshold.csv")[9]
    mp.dps = 40
    closed_form = piecewise.threshold_closed_form
    alpha, S = mpf(row["alpha_c"]), mpf(float(row["S"]))
    assert abs(closed_form(alpha, S)) < mpf("1e-27")
    assert abs(closed_form(alpha * (1 + mpf("1e-20")), S)) > mpf("1e-21")
