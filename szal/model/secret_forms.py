"""What a secret is looked for as in the texts of others: which texts it consists of, and how they may stand there."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

from szal.expressions.path import Json
from szal.storable import storable

__all__ = ["MASK", "SHORTEST", "Forms", "digits_of", "parts_of", "texts_in"]

MASK: Final = "***"
"""What stands for what must not be seen."""

SHORTEST: Final = 4
"""Characters of a secret that is looked for in other texts: a shorter one would be found where it does not stand."""

_SHORTEST_LINE: Final = 8
"""Characters of a line of a secret of several lines that is looked for by itself: commands print lines."""


def texts_in(value: Json) -> Iterator[str]:
    """Yield the texts and numbers that *value* consists of; neither keys nor true and false nor null."""
    for each in parts_of(value):
        if isinstance(each, str):
            yield each
        elif isinstance(each, int | float) and not isinstance(each, bool):
            yield from digits_of(each)


def parts_of(value: Json) -> Iterator[Json]:
    """Yield *value* and all that is in it, each once."""
    pending, seen = [value], set[int]()
    for each in pending:  # grows while it is read
        if id(each) in seen:  # it may contain itself
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, dict):
            pending.extend(each.values())
        elif isinstance(each, list | tuple):
            pending.extend(each)


def digits_of(number: float) -> Iterator[str]:
    """Yield how a number is written: one that is whole may be an int here, and a float there."""
    yield (text := str(number))
    if text.endswith(".0"):
        yield text[:-2]


@attrs.frozen
class Forms:
    """All the forms in which secrets are looked for."""

    texts: tuple[str, ...]  # the longest first
    pattern: re.Pattern[str]  # at each place, the longest that stands there

    @classmethod
    def of(cls, secrets: Iterable[str]) -> "Forms":
        texts = sorted({form for secret in secrets for form in _forms_of(secret)}, key=lambda text: (-len(text), text))
        return cls(tuple(texts), re.compile(f"(?=({'|'.join(map(re.escape, texts))}))"))

    @property
    def longest(self) -> int:
        return len(self.texts[0])

    def hidden_in(self, text: str) -> str:
        if not any(form in text for form in self.texts):
            return text
        parts, end = list[str](), 0
        for found in self.pattern.finditer(text):  # at each place: they may overlap
            if found.start() > end or not parts:
                parts += (text[end : found.start()], MASK)
            end = max(end, found.end(1))
        return "".join((*parts, text[end:]))

    def ends_at_beginning(self, text: str) -> int:
        """Return how many characters at the beginning of *text* are the end of a form, if at least `SHORTEST`."""
        sizes = (n for form in self.texts for n in range(len(form) - 1, SHORTEST - 1, -1) if text.startswith(form[-n:]))
        return max(sizes, default=0)

    def begins_at_end(self, text: str) -> int:
        """Return how many characters at the end of *text* are the beginning of a form, if at least `SHORTEST`."""
        sizes = (n for form in self.texts for n in range(len(form) - 1, SHORTEST - 1, -1) if text.endswith(form[:n]))
        return max(sizes, default=0)


def _forms_of(secret: str) -> Iterator[str]:
    """Yield the forms that *secret* has in the texts of others."""
    from shlex import quote as quote_for_shell  # only runs with secrets need these
    from urllib.parse import quote, quote_plus

    whole = secret.strip()
    lines = [line.strip() for line in whole.splitlines()]
    parts = [line for line in lines if len(line) >= _SHORTEST_LINE] if len(lines) > 1 else []
    for text in (whole, *parts):
        yield text
        yield storable(text)
        for ascii_only in (True, False):
            inner = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
            yield inner
            yield json.dumps(inner, ensure_ascii=ascii_only)[1:-1]  # JSON in JSON
        yield repr(text)[1:-1]
        encoded = text.encode(errors="surrogatepass")
        yield repr(encoded)[2:-1]
        yield from (quote(encoded), quote(encoded, safe=""), quote_plus(encoded))
        yield quote_for_shell(text).removeprefix("'").removesuffix("'")
        yield text.replace("'", "'\\''")  # as GNU's tools quote
