"""The word that was meant, for messages about one that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["closest", "suggestion"]


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean ...?" with the closest of `known`, or "" if none is close.

    A name in another case comes first, then one that `word` abbreviates, then one with few
    letters exchanged.

    Examples
    --------
    >>> suggestion("Relu", ["linear", "relu"])
    '; did you mean relu?'
    >>> suggestion("--stud", ["--zeta", "--student"])
    '; did you mean --student?'
    >>> suggestion("perceptron", ["linear", "relu"])
    ''
    """
    known = list(known)
    folded = word.casefold()
    same = [name for name in known if name.casefold() == folded]
    longer = [name for name in known if name.casefold().startswith(folded) and folded.strip("-")]
    lower = {name.casefold(): name for name in known}
    close = [lower[name] for name in get_close_matches(folded, lower, n=1, cutoff=0.5)]
    best = (same or longer or close or [""])[0]
    return f"; did you mean {best}?" if best else ""


def closest(word: str, known: Iterable[str]) -> str:
    """Return the same, or all of `known` if none is close.

    Examples
    --------
    >>> closest("sed", ["alpha", "seed"]), closest("x", ["alpha", "seed"])
    ('; did you mean seed?', '; it has alpha, seed')
    """
    known = list(known)
    return suggestion(word, known) or f"; it has {', '.join(known)}"
