"""The variables in which a command finds its flow's inputs and outputs: their names, and which names make the same."""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

__all__ = [
    "INDEX",
    "INPUT",
    "ITEM",
    "OUTPUT",
    "RESULT",
    "UNDONE",
    "Clash",
    "clashes",
    "file_of",
    "is_szals",
    "variable_of",
]

INPUT: Final = "SZAL_INPUT_"
OUTPUT: Final = "SZAL_OUTPUT_"
UNDONE: Final = "SZAL_OUTPUT"
"""In an undo: the output of the step that is undone."""
RESULT: Final = "SZAL_RESULT"
ITEM: Final = "SZAL_ITEM"
"""Of a step that runs over a list: the element."""
INDEX: Final = "SZAL_INDEX"

_FILE: Final = "_FILE"
_OTHER: Final = re.compile(r"[^A-Za-z0-9]")
_FIXED: Final = frozenset(
    {"SZAL_EXECUTION_ID", "SZAL_FLOW", "SZAL_STEP", "SZAL_ATTEMPT", "SZAL_IDEMPOTENCY_KEY", RESULT, UNDONE, ITEM, INDEX}
)


def variable_of(prefix: str, name: str) -> str:
    """Return the variable of the input or step called *name*: upper case, with ``_`` for all but letters and digits.

    >>> variable_of(OUTPUT, "unit-test")
    'SZAL_OUTPUT_UNIT_TEST'
    """
    return prefix + _OTHER.sub("_", name).upper()


def file_of(variable: str) -> str:
    """Return the variable with the name of the file that the value of *variable* is in, where it is in one."""
    return variable + _FILE


def is_szals(variable: str) -> bool:
    """Whether szal gives commands a variable of that name.

    >>> is_szals("SZAL_INPUT_ENV"), is_szals("SZAL_STORE")
    (True, False)
    """
    return variable.startswith((INPUT, OUTPUT)) or variable in _FIXED


class Clash(NamedTuple):
    """Two names that make one variable.

    >>> for clash in clashes(OUTPUT, ["a-b", "report", "a_b", "report-file"]):
    ...     print(clash.name, clash)
    a_b 'a-b' and 'a_b' both make the variable SZAL_OUTPUT_A_B of commands: rename one
    report-file 'report' and 'report-file' both make the variable SZAL_OUTPUT_REPORT_FILE of commands: rename one
    """

    name: str
    other: str
    variable: str

    def __str__(self) -> str:
        return f"{self.other} and {self.name!r} both make the variable {self.variable} of commands: rename one"


def clashes(prefix: str, names: Iterable[str], *, has_undo: bool = False) -> Iterator[Clash]:
    """Yield the *names* that make a variable which one before them makes, be it the one for a file.

    *has_undo*: some step is undone by a command, which has variables for what that came to.
    """
    undone = "the output of what is undone"
    made_by = {UNDONE: undone, file_of(UNDONE): undone} if has_undo else {}
    for name in names:
        variable = variable_of(prefix, name)
        for made in (variable, file_of(variable)):
            other = made_by.setdefault(made, repr(name))
            if other != repr(name):
                yield Clash(name, other, made)
                break
