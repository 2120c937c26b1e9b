"""What a flow takes: the declarations of its inputs, and whether what is given fits them."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final, NamedTuple

import attrs

from szal.errors import InvalidInputs, closest, did_you_mean, secret_variable
from szal.expressions.comparison import TESTS
from szal.expressions.path import Json
from szal.model.variables import INPUT, clashes
from szal.number import problem_of, shown

__all__ = [
    "ANY_INPUTS",
    "KEYS",
    "TYPES",
    "Input",
    "Inputs",
    "is_declaration",
    "listed",
    "written",
]

KEYS: Final = ("type", "default", "required", "enum", "help", "secret")
"""The keys of a declaration."""

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_LISTED: Final = 20  # names and values in a message
_is_equal: Final = TESTS["=="]


class Kind(NamedTuple):
    """A type of inputs: what messages call it, and which values are of it."""

    called: str
    has: Callable[[Any], bool]


def _is_date(value: object) -> bool:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


TYPES: Final[Mapping[str, Kind]] = {
    "string": Kind("text", lambda value: isinstance(value, str)),
    "integer": Kind("a whole number", lambda value: problem_of(value, whole=True) is None),
    "number": Kind("a number", lambda value: problem_of(value) is None),
    "boolean": Kind("true or false", lambda value: isinstance(value, bool)),
    "date": Kind("a date such as '2026-06-10'", _is_date),
    "list": Kind("a list", lambda value: isinstance(value, list | tuple)),
    "object": Kind("an object", lambda value: isinstance(value, dict)),
}
"""The types that an input may be declared to have, by name."""


@attrs.frozen
class Input:
    """An input as it is declared. One of which only the default is said takes any value."""

    name: str
    type: str | None = None
    default: Json = None
    required: bool = False
    enum: tuple[Json, ...] | None = None
    help: str = ""
    taken_by: str | None = None
    """The step that takes it, in a flow that declares none. Then null is a value as others are, and an input that is
    not given is not there."""
    reads_as: str | None = None
    """The type that it is read as where it is written as text, although it takes anything."""
    standing_in: str = ""
    """What takes its place where it is not given, for people to read."""
    secret: bool = False
    """Whether it must not be seen: what is wrong with it is told without it."""

    @classmethod
    def of(cls, name: str, said: Json) -> "Input":
        """Return the input that a flow says this of, a declaration or its default. That has to be valid."""
        if not is_declaration(said):
            return cls(name, default=said)
        enum = said.get("enum")
        return cls(
            name,
            said.get("type"),
            said.get("default"),
            said.get("required", False),
            None if enum is None else tuple(enum),
            said.get("help", ""),
            secret=said.get("secret", False),
        )

    @property
    def takes_anything(self) -> bool:
        """Whether nothing that is given, or not given, can be wrong."""
        return self.type is None and self.enum is None and not self.required

    @property
    def expected(self) -> str:
        """What it takes, for a message: ``one of 'staging', 'prod'``."""
        if self.enum is not None:
            return f"one of {listed([written(each) for each in self.enum])}"
        return "a value" if self.type is None else TYPES[self.type].called

    def problem_with(self, value: Json) -> str | None:
        """Return what is wrong with *value* as this input; None: nothing.

        >>> Input("n", "integer").problem_with("three")
        "expected a whole number, given 'three'"
        """
        if value is None and not self.required and (self.default is None or self.takes_anything):
            return None
        if (value is None and self.required) or (self.type is not None and not TYPES[self.type].has(value)):
            return self.unfit(value)
        if self.enum is not None and not any(_is_equal(value, each) for each in self.enum):
            texts = [each for each in self.enum if isinstance(each, str)]
            return self.unfit(value, did_you_mean(value, texts) if isinstance(value, str) else "")
        return None

    def unfit(self, value: Json, hint: str = "") -> str:
        """Return the message that *value* is not what this input takes."""
        if self.type == "date" and isinstance(value, date) and not hint:
            hint = "; use isoformat()"
        given = "something else (it is secret)" if self.secret and value is not None else written(value)
        return f"expected {self.expected}, given {given}{hint}"


class Inputs:
    """The inputs that a flow declares, or that are known of one that declares none; else it takes whatever it is given.

    `defaults` has what each is where it is not given: null where nothing is said of that.
    """

    def __init__(
        self,
        said: Mapping[str, Json],
        *,
        known: Mapping[str, Input] | None = None,
        steps: Collection[str] = (),
        are_variables: bool = False,
    ) -> None:
        """Take what a flow says of its inputs, or all that is *known* of them.

        *are_variables*: it has commands, which find them in variables. One that is missing may have been meant to be
        one of the *steps*.
        """
        self._are_variables = are_variables
        self._steps = steps
        declared = {name: Input.of(name, value) for name, value in said.items()}
        self.by_name: Mapping[str, Input] = declared or known or {}
        self.is_closed = bool(declared) or known is not None
        self.defaults = {name: each.default for name, each in self.by_name.items() if each.taken_by is None}
        self._checked = [each for each in self.by_name.values() if not each.takes_anything]
        self.secrets = [each for each in self.by_name.values() if each.secret]
        """Those that must not be seen."""

    def effective(
        self,
        flow_name: str,
        given: Mapping[str, Json] | None,
        *,
        earlier: Mapping[str, Json] | None = None,
        unreadable: Mapping[str, str] | None = None,
        later: Collection[str] = (),
    ) -> dict[str, Json]:
        """Return what a run sees: what is *given*, laid over the inputs of an *earlier* run, and over the defaults.

        An input that has no default, and need not be given, is null. Raises `InvalidInputs` with all that is wrong.
        *unreadable* says, by name, what is wrong with inputs that were given in a form that could not be read. What is
        given *later* is null now.

        >>> inputs = Inputs({"day": {"type": "date", "required": True}, "n": 3})
        >>> inputs.effective("report", {"day": "2026-06-10"})
        {'day': '2026-06-10', 'n': 3}
        >>> inputs.effective("report", {"daj": "2026-06-10"})
        Traceback (most recent call last):
        szal.errors.InvalidInputs: invalid inputs for flow 'report': 2 problems
          - unknown input 'daj'; did you mean 'day'?
          - input 'day' is required: a date such as '2026-06-10'
        """
        if given is not None and type(given) is not dict and not isinstance(given, Mapping):
            raise InvalidInputs(flow_name, (f"they are no mapping of names to values, but {shown(given)}",))
        given, earlier = given or {}, earlier or {}
        if not self.is_closed and not unreadable:
            found = {**earlier, **given}
            if self._are_variables and len(found) > 1:
                _check_variables(flow_name, found)
            return found
        found = {**self.defaults, **earlier, **given}
        if self._checked or unreadable or not self.by_name.keys() >= found.keys():
            self._check(flow_name, given, earlier, unreadable or {}, later)
        return found

    def _check(
        self,
        flow_name: str,
        given: Mapping[str, Json],
        earlier: Mapping[str, Json],
        unreadable: Mapping[str, str],
        later: Collection[str],
    ) -> None:
        problems = [self._unknown(name) for name in given if self.is_closed and name not in self.by_name]
        problems += [f"input {name!r}: {problem}" for name, problem in unreadable.items()]
        missing = []
        for each in self._checked:
            name = each.name
            if name in unreadable or name in later:
                continue
            if name in given or name in earlier:
                if each.taken_by is not None:
                    continue
                problem = each.problem_with(given[name] if name in given else earlier[name])
                if problem is not None:
                    problems.append(f"input {name!r}: {problem}")
            elif each.required:
                problems.append(f"input {name!r} is required: {self._wanted(each)}")
                missing.append(name)
        if problems:
            raise InvalidInputs(flow_name, tuple(problems), tuple(missing))

    def _unknown(self, name: object) -> str:
        known = list(self.by_name)
        hint = did_you_mean(name, known) if isinstance(name, str) else ""
        takes = listed(list(map(repr, known))) or "none: make it a parameter of a step, or declare it"
        return f"unknown input {shown(name)}{hint or f'; the flow takes {takes}'}"

    def _wanted(self, missing: Input) -> str:
        if missing.secret:
            return f"{missing.expected} (secret: {secret_variable(missing.name)} may hold it)"
        if missing.taken_by is None:
            return missing.expected
        if missing.taken_by == "concurrency_key" and missing.taken_by not in self._steps:
            return "the flow's concurrency_key names it"
        meant = closest(missing.name, list(self._steps))
        hint = "" if meant is None else f"; did you mean the step {meant!r}?"
        return f"step {missing.taken_by!r} takes it{hint}"


def _check_variables(flow_name: str, names: Iterable[object]) -> None:
    found = clashes(INPUT, (name for name in names if isinstance(name, str)))
    if problems := tuple(f"the inputs {clash}" for clash in found):
        raise InvalidInputs(flow_name, problems)


ANY_INPUTS: Final = Inputs({})
"""What a flow takes that declares none."""


def is_declaration(said: object) -> bool:
    """Whether what a flow says of an input is a declaration, and not its default.

    >>> is_declaration({"type": "integer", "default": 3}), is_declaration({"type": "integer", "n": 3})
    (True, False)
    """
    return isinstance(said, dict) and bool(said) and all(key in KEYS for key in said)


def listed(texts: Sequence[str]) -> str:
    """Return *texts* for a message; of many the first ones."""
    more = f" and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return ", ".join(texts[:_LISTED]) + more


def written(value: Json) -> str:
    """Return a value for people to read: text in quotes, anything else as JSON, as it is in files; cut.

    >>> written("prod"), written([None, True])
    ("'prod'", '[null, true]')
    """
    if isinstance(value, str):
        return shown(value)
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return shown(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
