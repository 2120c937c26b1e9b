"""What must not be seen: found in texts and values, and masked in all that is recorded or shown."""

import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import translate
from typing import Final, TypeAlias, cast

import attrs

from szal.errors import StepError
from szal.expressions.path import Json
from szal.interruption import is_interruption
from szal.model.json.text import MAX_DEPTH
from szal.model.results import StepResult
from szal.model.secret_forms import MASK, SHORTEST, Forms, digits_of, parts_of, texts_in
from szal.raised import bare_copy, is_a

__all__ = ["Redaction", "Rule", "Rules"]

_DEEPEST: Final = MAX_DEPTH + 8
"""Lists and dicts inside one another that are looked into, of what need not be JSON, and may contain itself."""

Rule: TypeAlias = "str | re.Pattern[str] | Callable[[str], str]"
"""A name of inputs and keys, in which ``*`` stands for anything; a pattern of texts; or what masks a text."""

Mask: TypeAlias = Callable[[str], str]


@attrs.frozen
class Rules:
    """What is to be masked in every run of an engine (`EngineConfig.redact`), sorted by what it is.

    >>> Rules.of(("password", re.compile("[0-9]*")))
    Traceback (most recent call last):
    ValueError: redact: the pattern '[0-9]*' matches the empty text
    """

    names: re.Pattern[str] | None = None
    patterns: tuple[re.Pattern[str], ...] = ()
    functions: tuple[Mask, ...] = ()

    @classmethod
    def of(cls, rules: Sequence[Rule]) -> "Rules":
        """Return *rules*; raise TypeError or ValueError for what is none."""
        names, patterns, functions = list[str](), list[re.Pattern[str]](), list[Mask]()
        for rule in rules:
            if isinstance(rule, str):
                if not rule:
                    raise ValueError("redact: a name is empty")
                names.append(translate(rule))
            elif isinstance(rule, re.Pattern):
                patterns.append(_checked(rule))
            elif callable(rule):
                functions.append(rule)
            else:
                raise TypeError(f"redact takes names, compiled patterns and functions, not {type(rule).__name__}")
        if not rules:
            return NO_RULES
        name = re.compile("|".join(names), re.IGNORECASE) if names else None
        return cls(name, tuple(patterns), tuple(functions))


def _checked(pattern: re.Pattern[str]) -> re.Pattern[str]:
    if not isinstance(pattern.pattern, str):
        raise TypeError(f"redact: the pattern {pattern.pattern!r} is one of bytes: texts are searched")
    if pattern.search("") is not None:
        raise ValueError(f"redact: the pattern {pattern.pattern!r} matches the empty text")
    return pattern


NO_RULES: Final = Rules()


class Redaction:
    """What must not be seen of a run and its sub-flows: its secrets, and what the engine's rules say. From any thread.

    A secret is looked for as it is, and as it stands in JSON, in a ``repr``, in a URL, quoted for a shell; not in
    base64 or the like. One of several lines is looked for line by line, too.

    >>> redaction = Redaction()
    >>> redaction.add(["hunter2"])
    >>> redaction.value({"url": "postgres://me:hunter2@db", "n": 2})
    {'url': 'postgres://me:***@db', 'n': 2}
    """

    def __init__(self, rules: Rules = NO_RULES) -> None:
        self._rules = rules
        self._secrets: frozenset[str] = frozenset()
        self._looked_for: Forms | None = None
        self.mask: Mask | None = None if rules is NO_RULES else self.text
        """What masks a text; None where there is nothing to mask."""

    @property
    def is_active(self) -> bool:
        """Whether there is anything to mask."""
        return self.mask is not None

    def add(self, values: Iterable[Json]) -> None:
        """Have *values* masked from now on: the texts and numbers in them, unless they are shorter than `SHORTEST`."""
        found = {text for value in values for text in texts_in(value) if len(text.strip()) >= SHORTEST}
        if found <= self._secrets:
            return
        self._secrets |= found
        self._looked_for = Forms.of(self._secrets)
        self.mask = self.text

    def is_named(self, name: object) -> bool:
        """Whether an input of that *name*, or what stands under that key, is to be masked as a whole."""
        names = self._rules.names
        return names is not None and isinstance(name, str) and names.match(name) is not None

    def named_in(self, value: Json) -> Iterator[Json]:
        """Yield what stands in *value* under keys that are named."""
        if self._rules.names is not None:
            dicts = (each for each in parts_of(value) if isinstance(each, dict))
            yield from (part for each in dicts for key, part in each.items() if self.is_named(key))

    def text(self, text: str) -> str:
        """Return *text* with `MASK` in the places of what must not be seen; the same object where there is nothing."""
        return self._by_rules(text if self._looked_for is None else self._looked_for.hidden_in(text))

    def _by_rules(self, text: str) -> str:
        for pattern in self._rules.patterns:
            text = pattern.sub(lambda found: MASK if found[0] else "", text)
        for function in self._rules.functions:
            text = _applied(function, text)
        return text

    def beginning_cut(self, text: str) -> str:
        """Return *text*, whose beginning was cut off, without the end of a secret that it may begin with."""
        found = 0 if self._looked_for is None else self._looked_for.ends_at_beginning(text)
        return MASK + text[found:] if found else text

    def end_open(self, text: str) -> str:
        """Return *text*, which goes on, without the beginning of a secret that it may end with."""
        found = 0 if self._looked_for is None else self._looked_for.begins_at_end(text)
        return text[:-found] + MASK if found else text

    def check_name(self, what: str, name: str) -> None:
        """Raise ValueError where *name*, by which others find *what*, and which is recorded as it is, has a secret."""
        if self.is_active and self.text(name) != name:
            raise ValueError(f"{what} would be recorded with a secret in it: {self.text(name)!r}")

    @property
    def longest(self) -> int:
        """How many characters what is looked for has at most."""
        return 0 if self._looked_for is None else self._looked_for.longest

    def value(self, value: Json) -> Json:
        """Return *value* with all texts in it masked, keys too; the same object where there is nothing to mask.

        A number that is a secret, or that a pattern finds, is `MASK`; so is what stands under a key that is named. What
        is no JSON is masked as a whole, if what it prints as has to be.
        """
        return self._masked(value, 0) if self.is_active else value

    def _masked(self, value: Json, depth: int) -> Json:
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            printed = str(value)
            is_secret = any(each in self._secrets for each in digits_of(value))
            return MASK if is_secret or self._by_rules(printed) != printed else value
        if depth < _DEEPEST and isinstance(value, dict):
            return self._masked_dict(value, depth)
        if depth < _DEEPEST and isinstance(value, list | tuple):
            parts = [self._masked(part, depth + 1) for part in value]
            return value if all(mine is part for mine, part in zip(parts, value, strict=True)) else parts
        seen = _printed(value)
        return value if seen is not None and self.text(seen) == seen else MASK

    def _masked_dict(self, value: dict[Json, Json], depth: int) -> Json:
        masked: dict[Json, Json] = {}
        same = True
        for key, part in value.items():
            is_whole = part is not None and self.is_named(key)
            mine, own = self._masked(key, depth + 1), self._masked(part, depth + 1)
            if is_whole and part != MASK:
                own = MASK
            same = same and mine is key and own is part
            masked[mine] = own
        return value if same else masked

    def result(self, result: StepResult) -> StepResult:
        """Return *result* as it may be recorded and shown: itself, where there is nothing to mask.

        Its exception is left out, or stands without its cause, where these tell what must not be seen.
        """
        if not self.is_active:
            return result
        output, undo_output = self.value(result.output), self.value(result.undo_output)
        items = None if result.items is None else [self.result(item) for item in result.items]
        error = None if result.error is None else self.text(result.error)
        exception = self.exception(result.exception)
        is_masked = output is not result.output
        changed = is_masked or undo_output is not result.undo_output or error is not result.error
        changed = changed or exception is not result.exception
        if items is not None and result.items is not None:
            changed = changed or any(mine is not item for mine, item in zip(items, result.items, strict=True))
        if not changed:
            return result
        return attrs.evolve(
            result,
            output=output,
            encoded_output=None if is_masked else result.encoded_output,
            undo_output=undo_output,
            items=items,
            error=error,
            exception=exception,
            is_masked=result.is_masked or is_masked,
        )

    def exception(self, error: BaseException | None) -> BaseException | None:
        """Return *error* if nothing must be masked in what would be printed of it; else one of szal's own, or None."""
        if error is None or not self.is_active or self._is_clean(error):
            return error
        if not is_a(error, StepError):
            return None
        try:
            alone = bare_copy(error)
        except Exception:  # noqa: BLE001 (of a class of the program's)
            return None
        return alone if self._is_clean(alone) else None

    def _is_clean(self, error: BaseException) -> bool:
        printed = _traceback_of(error)
        return printed is not None and self.text(printed) == printed


def _traceback_of(error: BaseException) -> str | None:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as broken:  # the error's class is foreign code
        if is_interruption(broken):
            raise
        return None


def _printed(value: object) -> str | None:
    try:
        return repr(value)
    except BaseException as broken:
        if is_interruption(broken):
            raise
        return None


def _applied(function: Mask, text: str) -> str:
    """Return what a function of the program's makes of *text*; where it fails, nothing of that is to be seen."""
    try:
        masked = cast(object, function(text))
    except Exception:  # noqa: BLE001 (whatever it raises: what it was to mask would be in the log, too)
        return MASK
    if not isinstance(masked, str):
        return MASK
    return text if masked == text else masked
