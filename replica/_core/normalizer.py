"""The names of normalizers, the same in theory and simulation."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Normalizer"]

Normalizer: TypeAlias = Literal["none", "wn", "pn", "bn", "bn-var", "bn-mean"]
