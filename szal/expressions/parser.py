"""A condition's text, read: a closure that evaluates it, and what it mentions and compares."""

import re
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs

from szal.errors import ConditionError
from szal.expressions.comparison import ORDERINGS, TESTS, Kind, Test, is_truthy, kind_of, strict_ordering
from szal.expressions.literal import WORDS, is_literal_next, read_literal
from szal.expressions.path import Context, Json, Path, Scanner

__all__ = ["MAX_LENGTH", "MAX_NESTING", "Comparison", "Operand", "Parsed", "Term", "parse"]

MAX_LENGTH: Final = 65_536
"""The longest condition, in characters."""

MAX_NESTING: Final = 100
"""How many parentheses and ``!`` may be open around one value."""

Term: TypeAlias = Callable[[Context], Json]


@attrs.frozen
class Operand:
    """A value in a condition: what a path finds, a literal, or what is made of others."""

    term: Term
    text: str
    kind: Kind | None = None
    """Its type, where that is known: of a literal, and of what `!`, ``&&`` and comparisons make."""
    path: Path | None = None
    literal: Json = None
    is_literal: bool = False


@attrs.frozen
class Comparison:
    """Two operands and what stands between them."""

    operator: str
    left: Operand
    right: Operand

    @property
    def text(self) -> str:
        return f"{self.left.text} {self.operator} {self.right.text}"


@attrs.frozen
class Parsed:
    """What a condition comes to."""

    term: Term
    references: tuple[Path, ...]
    """The paths it mentions, each once, in order."""
    comparisons: tuple[Comparison, ...]
    truths: tuple[Operand, ...]
    """The operands that are asked whether they hold."""
    places: tuple[tuple[int, Path], ...]
    """Where in the text its paths stand, in order."""


def parse(text: str, *, strict: bool = False) -> Parsed:
    """Read *text*, in time linear in its length. *strict*: what has no order is not ordered, see `NotComparable`.

    >>> [comparison.text for comparison in parse("steps.a.output == 0 && inputs.n > 1").comparisons]
    ['steps.a.output == 0', 'inputs.n > 1']
    """
    if len(text) > MAX_LENGTH:
        raise ConditionError(text, MAX_LENGTH, f"a condition is at most {MAX_LENGTH} characters long")
    parser = _Parser(text, strict)
    term = parser.parse()
    references = tuple(dict.fromkeys(path for _, path in parser.places))
    return Parsed(term, references, tuple(parser.comparisons), tuple(parser.truths), tuple(parser.places))


def _constant(value: Json) -> Term:
    return lambda _context: value


def _compared(test: Test, left: Term, right: Term) -> Term:
    return lambda context: test(left(context), right(context))


def _negation(term: Term) -> Term:
    return lambda context: not is_truthy(term(context))


def _joined(terms: list[Term], decisive: bool) -> Term:
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

    return joined


_COMPARISON = re.compile(r"[=!]=|[<>]=?|(?:in|contains)(?![\w-])")
_NOT = re.compile(r"!(?!=)")
_NOT_A_WORD = re.compile(r"\s+(?!(?:in|contains)\b)[\w'\"(\[!-]")  # what follows a "not" that is meant as one
_HINTS: Final = {
    "=": "compare with ==",
    "&": "and is &&",
    "|": "or is ||",
    "and": "and is &&",
    "or": "or is ||",
    "not": "not is !, as in !(x in y)",
    "is": "compare with ==",
    "{": "a condition names a path without {{ }}",
    "$": "a condition is written without ${{ }}",
}
_FUNCTIONS: Final = {
    "always": "write when: all_done, in Python trigger_mode=TriggerMode.ALL_DONE",
    "cancelled": "once a flow is cancelled, no step begins any more",
    "contains": "write a contains b",
    "failure": "write when: one_failed, in Python trigger_mode=TriggerMode.ONE_FAILED; or ask for "
    "steps.NAME.status == 'failed', under ALL_DONE",
    "fromJSON": "write output: json on the step, and name what is in it",
    "not": "write !(...)",
    "success": "leave it out: a step begins when all that it needs has succeeded",
}


class _Parser:
    """Recursive descent: one method per level of binding, each turning what it reads into a closure."""

    def __init__(self, text: str, strict: bool) -> None:
        self._scanner = Scanner(text)
        self._strict = strict
        self._nesting = 0
        self.places: list[tuple[int, Path]] = []
        self.comparisons: list[Comparison] = []
        self.truths: list[Operand] = []

    def parse(self) -> Term:
        if not self._scanner.text.strip():
            return _constant(True)
        self._scanner.skip_space()
        whole = self._expression()
        if not self._scanner.at_end:
            raise self._expected("an operator")
        self.truths.append(whole)
        return whole.term

    def _expression(self) -> Operand:
        """Read ``||`` of ``&&`` of comparisons."""
        start = self._scanner.position
        alternatives: list[Operand] = []
        while True:
            terms = [self._comparison()]
            while self._take("&&"):
                terms.append(self._comparison())
            alternatives.append(self._join(terms, False, start))
            if not self._take("||"):
                return self._join(alternatives, True, start)

    def _join(self, operands: list[Operand], decisive: bool, start: int) -> Operand:
        if len(operands) == 1:
            return operands[0]
        self.truths += operands
        return Operand(_joined([each.term for each in operands], decisive), self._since(start), Kind.BOOLEAN)

    def _comparison(self) -> Operand:
        start = self._scanner.position
        left = self._operand()
        operator = self._scanner.match(_COMPARISON)
        if operator is None:
            return left
        self._scanner.skip_space()
        comparison = Comparison(operator, left, self._operand())
        if _COMPARISON.match(self._scanner.text, self._scanner.position):
            raise self._scanner.error("comparisons do not chain: join them with &&, or use parentheses")
        self.comparisons.append(comparison)
        is_strict = self._strict and operator in ORDERINGS
        test = strict_ordering(operator, comparison.text) if is_strict else TESTS[operator]
        return Operand(_compared(test, left.term, comparison.right.term), self._since(start), Kind.BOOLEAN)

    def _operand(self) -> Operand:
        start, outside = self._scanner.position, self._nesting
        while self._scanner.match(_NOT):
            self._descend()
        negations = self._nesting - outside
        value = self._value()
        self._nesting = outside
        if not negations:
            return value
        self.truths.append(value)
        term = value.term
        for _ in range(2 - negations % 2):  # an even number of them still makes a boolean
            term = _negation(term)
        return Operand(term, self._since(start), Kind.BOOLEAN)

    def _value(self) -> Operand:
        """Read a literal, a path or a parenthesis, and the space after it."""
        scanner, start = self._scanner, self._scanner.position
        if scanner.text.startswith("(", start):
            return self._parenthesis()
        if is_literal_next(scanner):
            return self._literal(start, read_literal(scanner))
        word = scanner.word()
        if word is not None:
            self._refuse_function(word, start)
        if word is None or word in ("in", "contains"):
            scanner.position = start
            raise self._expected("a value")
        if word in WORDS:
            return self._literal(start, WORDS[word])
        scanner.position = start
        path = scanner.path()
        self.places.append((start, path))
        scanner.skip_space()
        return Operand(path.resolver(), path.text, path=path)

    def _literal(self, start: int, value: Json) -> Operand:
        text = self._since(start)
        self._scanner.skip_space()
        return Operand(_constant(value), text, kind_of(value), literal=value, is_literal=True)

    def _refuse_function(self, word: str, start: int) -> None:
        """Raise the error for what is no path, as others would write it."""
        scanner = self._scanner
        if scanner.text.startswith("(", scanner.position):
            hint = _FUNCTIONS.get(word, "only operators")
            raise scanner.error(f"a condition has no functions such as {word}(): {hint}", start)
        if word == "not" and _NOT_A_WORD.match(scanner.text, scanner.position):
            raise scanner.error("not is written !", start)

    def _parenthesis(self) -> Operand:
        start = self._scanner.position
        self._scanner.take("(")
        self._descend()
        inner = self._expression()
        if not self._take(")"):
            raise self._expected(f"an operator or the ')' for position {start}")
        self._nesting -= 1
        return Operand(inner.term, self._since(start), inner.kind, inner.path, inner.literal, inner.is_literal)

    def _since(self, start: int) -> str:
        """Return what has been read from *start* on, for a message: cut, so that nested ones stay small."""
        text = self._scanner.text
        end = min(self._scanner.position, start + _LONGEST)
        return text[start:end].rstrip() + ("…" if end < self._scanner.position else "")

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


_LONGEST: Final = 200  # characters of a comparison that a message repeats
