"""Paths into JSON, such as ``steps.build.output.files[0]``: what conditions, templates and ``foreach`` refer by."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, TypeAlias

import attrs

from szal.errors import ConditionError

__all__ = [
    "Context",
    "Json",
    "Path",
    "ResultLike",
    "Scanner",
    "build_step_context",
    "outcome_values",
    "quoted_name",
    "resolve_path",
    "spelled",
    "step_names",
]

Json: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, or a list or dict (with str keys) of JSON values."""

Context: TypeAlias = Mapping[str, Json]
"""What paths are looked up in; any mapping will do, also one that computes its values."""

_MISSING: Final = object()


@attrs.frozen
class Path:
    """Where to find a value: the keys (str) and indexes (int) that lead to it, and how the author spelled that.

    A name after a dot is any run of letters, digits, ``_`` and ``-`` (so ``a.b-1`` has a part named ``b-1``); every
    other key is quoted in brackets. The first name does not begin with a digit or a dash. An index counts from 0, and
    only on a list; a key, ``.0`` included, only in an object. Indexes are never negative.

    >>> path = Path.parse('steps["unit.test"].output.items[0]')
    >>> path.segments
    ('steps', 'unit.test', 'output', 'items', 0)
    >>> path.step
    'unit.test'
    >>> print(path)
    steps["unit.test"].output.items[0]
    """

    text: str
    segments: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: str) -> "Path":
        """Read a path that is the whole of *text*, but for spaces around it. Raises `ConditionError`."""
        scanner = Scanner(text)
        scanner.skip_space()
        path = scanner.path()
        scanner.skip_space()
        if not scanner.at_end:
            raise scanner.error(f"unexpected {scanner.found} in a path")
        return path

    def __str__(self) -> str:
        return self.text

    @property
    def step(self) -> str | None:
        """The name of the step this looks at, if it is one of ``steps.NAME…``."""
        match self.segments:
            case ("steps", str(name), *_):
                return name
        return None

    def resolve(self, context: Context, default: Json = None) -> Json:
        """Return the value this leads to in *context*, or *default* where any part of the way is missing.

        >>> Path.parse("inputs.tags[1]").resolve({"inputs": {"tags": ["a"]}}) is None
        True
        """
        value: Json = context
        for segment in self.segments:
            if isinstance(segment, int):
                if not isinstance(value, (list, tuple)) or segment >= len(value):
                    return default
                value = value[segment]
            else:
                # dict first: it is the usual case, and asking an abstract class costs several times as much
                if not isinstance(value, (dict, Mapping)):
                    return default
                value = value.get(segment, _MISSING)
                if value is _MISSING:
                    return default
        return value

    def resolver(self) -> Callable[[Context], Json]:
        """Return a function that does what `resolve` does, faster: for whoever calls it often."""
        segments, resolve = self.segments, self.resolve
        if any(isinstance(segment, int) for segment in segments):
            return resolve

        def resolved(context: Context) -> Json:
            value: Json = context
            for segment in segments:
                if type(value) is not dict:
                    return resolve(context)
                value = value.get(segment)  # what is missing is None, as what is None
            return value

        return resolved


def resolve_path(path: Path | str, context: Context, default: Json = None) -> Json:
    """Return the value at *path* in *context*, or *default* where there is none.

    >>> resolve_path("inputs.regions[1]", {"inputs": {"regions": ["eu", "us"]}})
    'us'
    """
    return (Path.parse(path) if isinstance(path, str) else path).resolve(context, default)


def spelled(segments: Iterable[str | int]) -> str:
    """Return the text of a path.

    >>> spelled(("steps", "unit test", "output", 0))
    'steps["unit test"].output[0]'
    """
    parts = (quoted_name(part) if isinstance(part, str) else f"[{part}]" for part in segments)
    return "".join(parts).removeprefix(".")


def step_names(paths: Iterable[Path]) -> frozenset[str]:
    """Return the names of the steps that *paths* look at.

    >>> step_names([Path.parse("steps.build.output"), Path.parse("inputs.env")])
    frozenset({'build'})
    """
    return frozenset(name for name in (path.step for path in paths) if name is not None)


class ResultLike(Protocol):
    """How a step ended, as far as conditions look at it."""

    @property
    def step_name(self) -> str: ...
    @property
    def status(self) -> object: ...
    @property
    def output(self) -> Json: ...
    @property
    def error(self) -> str | None: ...


def build_step_context(
    inputs: Mapping[str, Json] | None, outcomes: Mapping[str, ResultLike] | Iterable[ResultLike] = ()
) -> dict[str, Json]:
    """Make the context of a condition or a template; *outcomes* go by the keys of a mapping, else by their step's name.

    >>> build_step_context({"env": "prod"})
    {'inputs': {'env': 'prod'}, 'steps': {}}
    """
    named = outcomes.items() if isinstance(outcomes, Mapping) else ((each.step_name, each) for each in outcomes)
    steps = {name: outcome_values(outcome) for name, outcome in named}
    return {"inputs": {} if inputs is None else inputs, "steps": steps}


def outcome_values(outcome: ResultLike) -> dict[str, Json]:
    """Return how a step ended, as conditions and templates see it under ``steps.NAME``."""
    return {"status": str(outcome.status), "output": outcome.output, "error": outcome.error}


def quoted_name(name: str) -> str:
    """Return how a path goes on with *name*: after a dot, or in brackets where it holds what no name may.

    >>> quoted_name("unit-test"), quoted_name("a.b")
    ('.unit-test', '["a.b"]')
    """
    return f".{name}" if _NAME.fullmatch(name) else f"[{json.dumps(name, ensure_ascii=False)}]"


_SPACE = re.compile(r"\s*")
_ROOT = re.compile(r"[^\W\d][\w-]*")
_NAME = re.compile(r"[\w-]+")
_INDEX = re.compile(r"0|[1-9][0-9]{0,17}(?![0-9])")
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_LOW_SURROGATE = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_PLAIN = {quote: re.compile(rf"[^{quote}\\\ud800-\udfff]*") for quote in "'\""}
_ESCAPES = {"\\": "\\", "'": "'", '"': '"', "/": "/", "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Scanner:
    """A position in a text, and how to read on from it. Every character is looked at a bounded number of times."""

    __slots__ = ("position", "text")

    def __init__(self, text: str, position: int = 0) -> None:
        self.text = text
        self.position = position

    @property
    def at_end(self) -> bool:
        return self.position >= len(self.text)

    @property
    def at_quote(self) -> bool:
        return self.text[self.position : self.position + 1] in ("'", '"')

    @property
    def found(self) -> str:
        """What stands here, for an error message."""
        if self.at_end:
            return "end of text"
        word = _NAME.match(self.text, self.position, self.position + 40)
        return repr(word[0] if word else self.text[self.position])

    def error(self, problem: str, position: int | None = None) -> ConditionError:
        """Make the error that reports *problem*, here or at *position*; the caller raises it."""
        return ConditionError(self.text, self.position if position is None else position, problem)

    def skip_space(self) -> None:
        self.match(_SPACE)

    def take(self, literal: str) -> bool:
        """Step over *literal*, if it stands here."""
        if not self.text.startswith(literal, self.position):
            return False
        self.position += len(literal)
        return True

    def match(self, pattern: re.Pattern[str]) -> str | None:
        """Step over what *pattern* matches here, and return it."""
        found = pattern.match(self.text, self.position)
        if found is None:
            return None
        self.position = found.end()
        return found[0]

    def word(self) -> str | None:
        """Read a name that can begin a path."""
        return self.match(_ROOT)

    def path(self, expected: str = "a path") -> Path:
        """Read the path that begins here; an error calls it *expected*."""
        start = self.position
        root = self.word()
        if root is None:
            raise self.error(f"expected {expected}, found {self.found}")
        segments: list[str | int] = [root]
        while True:
            if self.take("."):
                segments.append(self._name())
            elif self.take("["):
                segments.append(self._bracket())
            else:
                return Path(self.text[start : self.position], tuple(segments))

    def _name(self) -> str:
        name = self.match(_NAME)
        if name is None:
            raise self.error(f"expected a name after '.', found {self.found}")
        return name

    def _bracket(self) -> str | int:
        self.skip_space()
        segment: str | int
        if self.at_quote:
            segment = self.string()
        else:
            digits = self.match(_INDEX)
            if digits is None:
                raise self.error(f"expected a quoted key or an index from 0 up, found {self.found}")
            segment = int(digits)
        self.skip_space()
        if not self.take("]"):
            raise self.error(f"expected ']', found {self.found}")
        return segment

    def string(self) -> str:
        """Read the quoted string that begins here."""
        start = self.position
        quote = self.text[start]
        self.position += 1
        parts: list[str] = []
        while True:
            parts.append(self.match(_PLAIN[quote]) or "")
            if self.take(quote):
                return "".join(parts)
            if self.at_end:
                raise self.error(f"this {quote} is never closed", start)
            if self.text[self.position] != "\\":
                raise self.error("a lone surrogate is not text")
            parts.append(self._escape())

    def _escape(self) -> str:
        start = self.position
        letter = self.text[start + 1 : start + 2]
        self.position += 2
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        if not letter:
            raise self.error("a backslash ends the text", start)
        if letter != "u":
            raise self.error(f"unknown escape {self.text[start : start + 2]!r}", start)
        digits = self.match(_HEX)
        if digits is None:
            raise self.error("\\u takes four hexadecimal digits", start)
        code = int(digits, 16)
        if 0xD800 <= code < 0xDC00 and (low := self.match(_LOW_SURROGATE)):
            return chr(0x10000 + ((code - 0xD800) << 10) + (int(low[2:], 16) - 0xDC00))
        if 0xD800 <= code < 0xE000:
            raise self.error("a lone surrogate is not text", start)
        return chr(code)
