"""What stands for itself in conditions and templates: strings, numbers, true, false, null, and lists of these."""

import math
import re
from typing import Final

from szal.expressions.path import Json, Scanner
from szal.number import JSON_NUMBER

__all__ = ["MAX_LISTS", "WORDS", "is_literal_next", "read_literal"]

MAX_LISTS: Final = 10
"""How many lists a literal may be inside one another."""

WORDS: Final[dict[str, Json]] = {"true": True, "false": False, "null": None}
"""The words that are values."""

_NUMBER = re.compile(rf"{JSON_NUMBER.pattern}(?![\w.-])")
_STARTS = frozenset("-0123456789['\"")


def is_literal_next(scanner: Scanner) -> bool:
    """Whether what stands here can only be a literal: a word may be a path, too."""
    return scanner.text[scanner.position : scanner.position + 1] in _STARTS and not scanner.at_end


def read_literal(scanner: Scanner, depth: int = 0) -> Json:
    """Read the literal that begins here, *depth* lists deep. Raises `ConditionError`.

    >>> read_literal(Scanner("['dev', 2, [true, null]]"))
    ['dev', 2, [True, None]]
    """
    if scanner.at_quote:
        return scanner.string()
    first = scanner.text[scanner.position : scanner.position + 1]
    if first == "[":
        return _list(scanner, depth)
    if first in _STARTS and first:
        return _number(scanner)
    start = scanner.position
    word = scanner.word()
    if word in WORDS:
        return WORDS[word]
    scanner.position = start
    hint = "" if word is None else f" (text stands in quotes: '{word}')"
    raise scanner.error(f"expected a string, a number, true, false, null or a list, found {scanner.found}{hint}")


def _list(scanner: Scanner, depth: int) -> list[Json]:
    if depth == MAX_LISTS:
        raise scanner.error(f"lists nested deeper than {MAX_LISTS} levels")
    start = scanner.position
    scanner.take("[")
    scanner.skip_space()
    found: list[Json] = []
    if scanner.take("]"):
        return found
    while True:
        found.append(read_literal(scanner, depth + 1))
        scanner.skip_space()
        if scanner.take("]"):
            return found
        if not scanner.take(","):
            raise scanner.error(f"expected ',' or the ']' for position {start}, found {scanner.found}")
        scanner.skip_space()


def _number(scanner: Scanner) -> int | float:
    start = scanner.position
    digits = scanner.match(_NUMBER)
    if digits is None:
        raise scanner.error("malformed number")
    try:
        return int(digits)
    except ValueError:  # a fraction or an exponent, or more digits than Python converts
        number = float(digits)
    if math.isinf(number):
        raise scanner.error("this number is too large", start)
    return number
