"""What a word was meant to be."""

from collections.abc import Sequence

__all__ = ["closest", "did_you_mean"]


def did_you_mean(word: object, known: Sequence[str]) -> str:
    """Return ``; did you mean 'x'?`` for the known word closest to *word*, or nothing: so for what is no word."""
    close = closest(word, known)
    return "" if close is None else f"; did you mean {close!r}?"


def closest(word: object, known: Sequence[str]) -> str | None:
    """Return the known word closest to *word*, be it in capitals or not; None where none is close, or it is no word."""
    if not isinstance(word, str):
        return None
    from difflib import get_close_matches  # slow to import, and only needed for an error

    folded = {each.casefold(): each for each in reversed(known)}
    close = get_close_matches(word.casefold(), folded, n=1)
    return folded[close[0]] if close else None
