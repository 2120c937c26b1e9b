"""The language of a step's ``condition``: comparisons of JSON values, compiled to closures.

Loosest first: ``||``, ``&&``, one comparison (``== != > >= < <= in contains``), prefix ``!``, then literals, paths and
parentheses. Nothing in it can fail at run time: a missing path is null, and what cannot be compared is unequal and
unordered.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeAlias

from szal.errors import ConditionError
from szal.expressions.comparison import TESTS, Test, is_truthy
from szal.expressions.path import Context, Json, Path, Scanner, step_names

__all__ = [
    "MAX_LENGTH",
    "MAX_NESTING",
    "CompiledCondition",
    "ConditionCache",
    "evaluate",
]

MAX_LENGTH: Final = 65_536
"""The longest condition, in characters."""

MAX_NESTING: Final = 100
"""How many parentheses and ``!`` may be open around one value."""

_Term: TypeAlias = Callable[[Context], Json]


@dataclass(frozen=True, slots=True)
class CompiledCondition:
    """A condition, ready to be evaluated any number of times, by any number of threads. Equal if its text is.

    >>> condition = CompiledCondition.compile("steps.test.output.failed == 0 && inputs.envs contains 'prod'")
    >>> condition.evaluate({"inputs": {"envs": ["prod"]}, "steps": {"test": {"output": {"failed": 0}}}})
    True
    >>> [str(path) for path in condition.references], condition.steps
    (['steps.test.output.failed', 'inputs.envs'], frozenset({'test'}))
    """

    text: str
    references: tuple[Path, ...] = field(compare=False, repr=False)
    """The paths it mentions, each once, in order."""
    steps: frozenset[str] = field(compare=False, repr=False)
    """The names of the steps among them."""
    _term: _Term = field(compare=False, repr=False)

    @classmethod
    def compile(cls, text: str) -> "CompiledCondition":
        """Parse *text*; blank text is always true. Takes time linear in its length.

        >>> CompiledCondition.compile("inputs.env = 'prod'")
        Traceback (most recent call last):
        szal.errors.ConditionError: expected an operator, found '=' (compare with ==) at position 11
          inputs.env = 'prod'
                     ^
        """
        if len(text) > MAX_LENGTH:
            raise ConditionError(text, MAX_LENGTH, f"a condition is at most {MAX_LENGTH} characters long")
        parser = _Parser(text)
        term = parser.parse()
        references = tuple(dict.fromkeys(parser.references))
        return cls(text, references, step_names(references), term)

    def evaluate(self, context: Context) -> bool:
        return is_truthy(self._term(context))

    def __reduce__(self) -> tuple[Callable[[str], "CompiledCondition"], tuple[str]]:
        return CompiledCondition.compile, (self.text,)  # closures cannot be pickled


def evaluate(text: str, context: Context) -> bool:
    """Compile *text* and evaluate it once.

    >>> evaluate("inputs.count >= 3 && !inputs.dry-run", {"inputs": {"count": 3.0}})
    True
    """
    return CompiledCondition.compile(text).evaluate(context)


class ConditionCache:
    """The most recently used conditions, compiled: at most *capacity* of them. Any thread may use it.

    >>> cache = ConditionCache(capacity=100)
    >>> cache.get("inputs.env == 'prod'") is cache.get("inputs.env == 'prod'")
    True
    """

    def __init__(self, capacity: int = 1024) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        self._compiled = lru_cache(maxsize=capacity)(CompiledCondition.compile)

    def get(self, text: str) -> CompiledCondition:
        """Return *text* compiled. Raises `ConditionError`, anew each time: a failure is not kept."""
        return self._compiled(text)

    def __len__(self) -> int:
        return self._compiled.cache_info().currsize


def _constant(value: Json) -> _Term:
    return lambda _context: value


def _comparison(test: Test, left: _Term, right: _Term) -> _Term:
    return lambda context: test(left(context), right(context))


def _negation(term: _Term) -> _Term:
    return lambda context: not is_truthy(term(context))


def _joined(terms: list[_Term], decisive: bool) -> _Term:
    """Make ``||`` (True) or ``&&`` (False): the first term that is *decisive* is the last one asked."""
    if len(terms) == 2:
        first, second = terms

        def both(context: Context) -> bool:
            return decisive if is_truthy(first(context)) is decisive else is_truthy(second(context))

        return both

    def joined(context: Context) -> bool:
        for term in terms:
            if is_truthy(term(context)) is decisive:
                return decisive
        return not decisive

    return terms[0] if len(terms) == 1 else joined


_COMPARISON = re.compile(r"[=!]=|[<>]=?|(?:in|contains)(?![\w-])")
_NOT = re.compile(r"!(?!=)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?(?![\w.-])")
_NUMBER_START = frozenset("-0123456789")
_LITERALS: Final[dict[str, Json]] = {"true": True, "false": False, "null": None}
_HINTS = {"=": "compare with ==", "&": "and is &&", "|": "or is ||", "and": "and is &&", "or": "or is ||"}


class _Parser:
    """Recursive descent: one method per level of binding, each turning what it reads into a closure."""

    def __init__(self, text: str) -> None:
        self._scanner = Scanner(text)
        self._nesting = 0
        self.references: list[Path] = []

    def parse(self) -> _Term:
        if not self._scanner.text.strip():
            return _constant(True)
        self._scanner.skip_space()
        term = self._expression()
        if not self._scanner.at_end:
            raise self._expected("an operator")
        return term

    def _expression(self) -> _Term:
        """Read ``||`` of ``&&`` of comparisons."""
        alternatives = []
        while True:
            terms = [self._comparison()]
            while self._take("&&"):
                terms.append(self._comparison())
            alternatives.append(_joined(terms, False))
            if not self._take("||"):
                return _joined(alternatives, True)

    def _comparison(self) -> _Term:
        left = self._operand()
        operator = self._scanner.match(_COMPARISON)
        if operator is None:
            return left
        self._scanner.skip_space()
        right = self._operand()
        if _COMPARISON.match(self._scanner.text, self._scanner.position):
            raise self._scanner.error("comparisons do not chain: join them with &&, or use parentheses")
        return _comparison(TESTS[operator], left, right)

    def _operand(self) -> _Term:
        outside = self._nesting
        while self._scanner.match(_NOT):
            self._descend()
        negations = self._nesting - outside
        term = self._value()
        self._nesting = outside
        for _ in range(2 - negations % 2 if negations else 0):  # an even number of them still makes a boolean
            term = _negation(term)
        return term

    def _value(self) -> _Term:
        """Read a literal, a path or a parenthesis, and the space after it."""
        scanner = self._scanner
        start = scanner.position
        first = scanner.text[start : start + 1]
        term: _Term
        if first == "(":
            return self._parenthesis()
        if scanner.at_quote:
            term = _constant(scanner.string())
        elif first in _NUMBER_START:
            term = _constant(self._number())
        else:
            word = scanner.word()
            if word is None or word in ("in", "contains"):
                scanner.position = start
                raise self._expected("a value")
            if word in _LITERALS:
                term = _constant(_LITERALS[word])
            else:
                scanner.position = start
                path = scanner.path()
                self.references.append(path)
                term = path.resolver()
        scanner.skip_space()
        return term

    def _parenthesis(self) -> _Term:
        start = self._scanner.position
        self._scanner.take("(")
        self._descend()
        term = self._expression()
        if not self._take(")"):
            raise self._expected(f"an operator or the ')' for position {start}")
        self._nesting -= 1
        return term

    def _number(self) -> int | float:
        start = self._scanner.position
        digits = self._scanner.match(_NUMBER)
        if digits is None:
            raise self._scanner.error("malformed number")
        try:
            return int(digits)
        except ValueError:  # a fraction or an exponent, or more digits than Python converts
            number = float(digits)
        if math.isinf(number):
            raise self._scanner.error("this number is too large", start)
        return number

    def _descend(self) -> None:
        """Count what was just opened, and step over the space after it."""
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self._scanner.error(f"nested deeper than {MAX_NESTING} levels", self._scanner.position - 1)
        self._scanner.skip_space()

    def _take(self, literal: str) -> bool:
        taken = self._scanner.take(literal)
        if taken:
            self._scanner.skip_space()
        return taken

    def _expected(self, what: str) -> ConditionError:
        found = self._scanner.found
        hint = _HINTS.get(found[1:-1])
        return self._scanner.error(f"expected {what}, found {found}" + (f" ({hint})" if hint else ""))
