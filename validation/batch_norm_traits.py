"""Section 5's traits of batch norm on the single layer."""

from __future__ import annotations

from ._claims import Claim
from ._runs import Setup


def run(setup: Setup) -> list[Claim]:
    """All claims, and the figure."""
    return []
