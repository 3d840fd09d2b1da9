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
WIDTH, SIDE = 9.0, 1.3  # of the picture and of the band of Simulation; inches
ROW, GAP = 0.52, 0.12  # height of a row, half the space between bands
