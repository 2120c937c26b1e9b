"""Words of a shell script: their quotes, and what is expanded in them.

Where shells differ, or where reading on takes more than this knows, it raises `NotUnderstood`.
"""

import re
from collections.abc import Callable
from typing import Final

from szal.scripts.cursor import EXPANSION, MARK, Cursor, NotUnderstood, Quotes, Refusal, Spot, Word

__all__ = ["ARITHMETIC", "WORD_ENDS", "Commands", "WordReader"]

Commands = Callable[[list[Spot]], None]
"""Reads the commands after an opening bracket, and the bracket that closes them; is told what is written to them."""

WORD_ENDS: Final = frozenset(" \t\n;&|()<>")
ARITHMETIC: Final = Refusal(
    "stands in arithmetic, where bash runs commands that stand in a value, even in that of a variable",
    "compare with [ {placeholder} -gt 5 ], compute with expr {placeholder} + 1",
)
_BACKSLASH: Final = Refusal("stands after a backslash", r"write \\ for a backslash before the value, or leave it out")
_DOLLAR: Final = Refusal("stands after a $", r"write \{{'$'}} for a dollar sign before the value")
_BACKTICKS: Final = Refusal("stands in backticks", "write $(…) in place of `…`")
_ANSI: Final = Refusal("stands in $'…'", "end the quotes before it, as in $'…'{placeholder}")
_LOCALE: Final = Refusal('stands in $"…"', 'write "…" without the $')
_BRACES: Final = Refusal("stands in ${…}", 'assign it first, as in suffix={placeholder}, and write "$suffix" there')

_PLAIN: Final = re.compile(r"[^ \t\n;&|()<>'\"\\$`\0]+")
_IN_DOUBLE: Final = re.compile(r"[^\"\\$`\0]+")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]")
_TO_BACKTICK: Final = re.compile(r"`(?:[^`\\]|\\.)*`", re.DOTALL)
_ANSI_QUOTED: Final = re.compile(r"\$'(?:[^'\\]|\\.)*'", re.DOTALL)
_HARMLESS_PAIR: Final = re.compile(r"'[^\"'`\\{}$]*'|\"(?:[^\"'`\\{}$]|\$[A-Za-z_][A-Za-z0-9_]*)*\"")
_IN_BRACES: Final = re.compile(r"(?:[^'\"\\$`{}\0<>]|[<>](?!\())+")
_IN_ARITHMETIC: Final = re.compile(r"(?:[^'\"\\$`{}()\0#]|(?<=[0-9])#)+")
_PARAMETER: Final = re.compile(r"[A-Za-z0-9_@*#?!\0-]|\$\}")
_MAX_DEPTH: Final = 40


class WordReader:
    """Reads words at a `Cursor`. *commands* reads what stands in ``$(…)``."""

    def __init__(self, cursor: Cursor, commands: Commands) -> None:
        self._at = cursor
        self._commands = commands

    def word(self) -> Word:
        """Read the word that begins here."""
        at, word = self._at, Word()
        start, first_spot = at.position, len(at.spots)
        is_before_text = bool(at.here_documents)
        while not at.at_end:
            char = at.peek()
            if (match := _PLAIN.match(at.text, at.position)) is not None:
                at.position = match.end()
                word.text += match[0]
                if word.is_plain:
                    word.plain = len(word.text)
                continue
            if char == "\\" and at.peek(2) == "\\\n":
                at.position += 2
                continue
            if char in WORD_ENDS and not (char in "<>" and at.peek(2)[1:] == "("):
                break
            word.is_plain = False
            self._special(char, word)
        if is_before_text and "\n" in at.text[start : at.position]:
            raise NotUnderstood(start)  # shells differ on where the text of the here-document begins
        word.spots = at.spots[first_spot:]
        return word

    def _special(self, char: str, word: Word) -> None:
        """Read what is no plain text, outside quotes."""
        at = self._at
        if char == MARK:
            word.text += MARK
            word.direct.append(at.spot(Quotes.NONE))
        elif char == "'":
            self._single(word)
        elif char == '"':
            self._double(word)
        elif char == "\\":
            word.text += self._escaped()
        elif char == "$":
            word.text += self.dollar(in_double=False)
        elif char == "`":
            word.text += self.backticks()
        else:
            at.position += 2
            self._nested(at.position - 2, is_written_to=char == ">")
            word.text += EXPANSION

    def _single(self, word: Word) -> None:
        at = self._at
        end = at.text.find("'", at.position + 1)
        if end < 0:
            raise NotUnderstood(at.position)
        word.text += at.text[at.position + 1 : end]
        while (mark := at.text.find(MARK, at.position, end)) >= 0:
            at.position = mark
            word.direct.append(at.spot(Quotes.SINGLE))
        at.position = end + 1

    def _double(self, word: Word) -> None:
        at = self._at
        start = at.position
        at.position += 1
        while not at.at_end:
            char = at.peek()
            if (match := _IN_DOUBLE.match(at.text, at.position)) is not None:
                at.position = match.end()
                word.text += match[0]
            elif char == '"':
                at.position += 1
                return
            elif char == MARK:
                word.text += MARK
                word.direct.append(at.spot(Quotes.DOUBLE))
            elif char == "\\":
                found = self._escaped()
                word.text += found if found in '$`"\\' or found in (MARK, "") else "\\" + found
            else:
                word.text += self.dollar(in_double=True) if char == "$" else self.backticks()
        raise NotUnderstood(start)

    def _escaped(self) -> str:
        """Read a backslash, and return what it leaves."""
        at = self._at
        found = at.peek(2)[1:]
        if not found:
            raise NotUnderstood(at.position)
        at.position += 1
        if found == MARK:
            with at.within(_BACKSLASH):
                at.spot(Quotes.NONE)
            return MARK
        at.position += 1
        return "" if found == "\n" else found

    def _nested(self, start: int, *, is_written_to: bool = False) -> None:
        at = self._at
        if at.depth == _MAX_DEPTH:
            raise NotUnderstood(start)
        at.depth += 1
        anything = Spot(0, Quotes.NONE)  # what the commands around it may write to it
        self._commands([anything] if is_written_to else [])
        if anything.refusal is not None:
            raise NotUnderstood(start)
        at.depth -= 1

    # -- what is expanded ------------------------------------------------------------------------------

    def dollar(self, *, in_double: bool) -> str:
        """Read a ``$`` and what it takes with it; return what that is in a `Word`."""
        at = self._at
        start, after = at.position, at.peek(2)[1:]
        at.position += 1
        if after == "(":
            at.position += 1
            if at.at("("):
                at.position += 1
                self.arithmetic(start)
            else:
                self._nested(start)
            return EXPANSION
        if after == "{":
            self._braces(start, in_double=in_double)
            return EXPANSION
        if after == "[" or at.at("\\\n"):  # arithmetic to bash alone; a $ that the next line belongs to
            raise NotUnderstood(start)
        if after == MARK:
            with at.within(_DOLLAR):
                at.spot(Quotes.NONE)
            return EXPANSION
        if after == "'" and not in_double:
            return self._ansi(start)
        if after == '"' and not in_double:
            word = Word()
            with at.within(_LOCALE):
                self._double(word)
            return word.text
        if (match := _NAME.match(at.text, at.position)) is None:
            return "$"
        at.position = match.end()
        return EXPANSION

    def _ansi(self, start: int) -> str:
        at = self._at
        match = _ANSI_QUOTED.match(at.text, start)
        if match is None or ("\\" in match[0] and not at.knows_ansi):
            raise NotUnderstood(start)
        at.refuse_up_to(match.end(), _ANSI)
        return EXPANSION if "\\" in match[0] else match[0][2:-1]

    def backticks(self) -> str:
        """Read ``…`` in backticks. Their end is the next one that has no backslash, to every shell."""
        at = self._at
        match = _TO_BACKTICK.match(at.text, at.position)
        if match is None:
            raise NotUnderstood(at.position)
        at.refuse_up_to(match.end(), _BACKTICKS)
        return EXPANSION

    def _braces(self, start: int, *, in_double: bool) -> None:
        """Read what follows ``$``: ``{…}``. Quotes in quotes are taken only where no reading of them moves its end."""
        at = self._at
        at.position += 1
        if _PARAMETER.match(at.text, at.position) is None:  # bash 5.3 has commands in braces
            raise NotUnderstood(start)
        at.position += at.peek() != MARK
        with at.within(_BRACES):
            while not at.at("}"):
                if (match := _IN_BRACES.match(at.text, at.position)) is not None:
                    at.position = match.end()
                else:
                    self._in_braces(start, at.peek(), in_double=in_double)
        at.position += 1

    def _in_braces(self, start: int, char: str, *, in_double: bool) -> None:
        at = self._at
        if char == MARK:
            at.spot(Quotes.NONE)
        elif char == "$":
            self.dollar(in_double=in_double)
        elif char == "`":
            self.backticks()
        elif char == "\\" and not (in_double and at.peek(2) == "\\'"):
            self._escaped()
        elif char in ("'", '"') and in_double:
            if (match := _HARMLESS_PAIR.match(at.text, at.position)) is None:
                raise NotUnderstood(start)
            at.refuse_up_to(match.end(), _BRACES)
        elif char == "'":
            self._single(Word())
        elif char == '"':
            self._double(Word())
        else:
            raise NotUnderstood(start)

    def arithmetic(self, start: int) -> None:
        """Read what follows ``((``, up to ``))``. With quotes in it, shells differ on what it is."""
        at, depth = self._at, 2
        with at.within(ARITHMETIC):
            while depth:
                if (match := _IN_ARITHMETIC.match(at.text, at.position)) is not None:
                    at.position = match.end()
                elif at.at(MARK):
                    at.spot(Quotes.NONE)
                elif at.at("$"):
                    self.dollar(in_double=True)
                elif at.at("("):
                    at.position += 1
                    depth += 1
                elif at.at(")") and (depth > 2 or at.at("))")):
                    closed = 1 if depth > 2 else 2
                    at.position += closed
                    depth -= closed
                else:
                    raise NotUnderstood(start)
