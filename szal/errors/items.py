"""A step that was to run once for each element of a list did not."""

import attrs

from szal.errors.step import StepError

__all__ = ["ItemsFailed", "NoList", "TooManyItems"]

_SHOWN = 3  # failures


@attrs.define(repr=False, slots=False)
class ItemsFailed(StepError):
    """Of the items of a step some failed, or did not run; `__cause__` is the exception of the first that failed.

    Cause: the handler raised for these elements, or the flow was stopped before all of them had run.
    Next: mend what the text names, then `szal rerun ID`: the items that completed are kept.

    >>> print(ItemsFailed("resize", 5, 1, ((2, "ValueError: three"),)))
    1 of 5 items failed; [2]: ValueError: three
    >>> print(ItemsFailed("resize", 5, 0, (), 3, "cancelled"))
    3 of 5 items not run: cancelled
    """

    step: str
    count: int
    failed: int
    first: tuple[tuple[int, str], ...]
    """The first of those that failed: index, and text."""
    not_run: int = 0
    reason: str = ""
    """Why the others did not run."""

    def __str__(self) -> str:
        parts = [f"{self.failed} of {self.count} items failed"] if self.failed else []
        parts += [f"[{index}]: {text}" for index, text in self.first[:_SHOWN]]
        if self.failed > _SHOWN:
            parts.append(f"and {self.failed - _SHOWN} more")
        if self.not_run:
            parts.append(f"{self.not_run} of {self.count} items not run: {self.reason}")
        return "; ".join(parts)


@attrs.define(repr=False, slots=False)
class NoList(StepError):
    """Where a step was to find the list that it runs over, there was none. It fails, and is not tried again.

    Cause: the name is misspelt, or the step before it returned something else, or did not complete.
    Next: compare with what the message says there is; `szal show ID` prints outputs.

    >>> print(NoList("resize", "steps.list.output.files", "steps.list.output has 'names'"))
    step 'resize' has no list to run over at steps.list.output.files: steps.list.output has 'names'
    """

    step: str
    path: str
    there_is: str

    def __str__(self) -> str:
        return f"step {self.step!r} has no list to run over at {self.path}: {self.there_is}"


@attrs.define(repr=False, slots=False)
class TooManyItems(StepError):
    """The list that a step was to run over is longer than it may be. Nothing of it runs.

    Cause: the list has more elements than the step's `max_items`.
    Next: hand on chunks of the list, or raise `max_items`: each item takes some kilobytes of memory, and a row.

    >>> print(TooManyItems("resize", 250_000, 100_000))
    step 'resize' was to run over 250000 elements, and takes 100000 at most (max_items)
    """

    step: str
    count: int
    most: int

    def __str__(self) -> str:
        return f"step {self.step!r} was to run over {self.count} elements, and takes {self.most} at most (max_items)"
