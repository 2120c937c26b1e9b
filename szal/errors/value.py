"""JSON and text that are not what they should be."""

import attrs

from szal.errors.root import SzalError

__all__ = ["ConditionError", "DecodeError", "EncodeError"]


@attrs.define(repr=False, slots=False)
class DecodeError(SzalError):
    """JSON that is not what it should be. `path` says where, as in ``result.steps[3].status``.

    Cause: a row or a file was written by something else, or was damaged.
    Next: look at it where the message says; `szal show ID --json` prints a record. A damaged one can be taken out with
        `store.remove(ID)`.

    >>> print(DecodeError("result.steps[3].status", "unknown status 'Done'"))
    result.steps[3].status: unknown status 'Done'
    """

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem


@attrs.define(repr=False, slots=False)
class EncodeError(SzalError):
    """A value that JSON cannot hold; `path` says where, `problem` what stands there.

    Cause: something was given that JSON has no form for, as a set, a date or NaN.
    Next: turn it into text, a number, a list or an object first, as with `str(value)` or `value.isoformat()`.

    >>> print(EncodeError("inputs['when']", "datetime"))
    inputs['when']: datetime
    """

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


@attrs.define(repr=False, slots=False)
class ConditionError(SzalError):
    """A condition, path or template that does not parse; prints the text with a caret at `position`.

    Cause: the text of a condition, a path or a template has a mistake where the caret stands.
    Next: correct it there; docs/semantics.md has the grammar.

    >>> print(ConditionError("a = 1", 2, "use == to compare"))
    use == to compare at position 2
      a = 1
        ^
    """

    text: str
    position: int
    problem: str

    def __str__(self) -> str:
        start = max(0, self.position - 40)
        shown = self.text[start : self.position + 40].translate(_ONE_LINE)
        caret = " " * (self.position - start)
        return f"{self.problem} at position {self.position}\n  {shown}\n  {caret}^"


_ONE_LINE = dict.fromkeys((*range(32), 127, 133, 8232, 8233), " ")
