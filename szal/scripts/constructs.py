"""Parts of a script that are no simple command: comments and line ends, patterns of ``case``, ``[[ ]]``, arrays."""

import re
from typing import Final

from szal.scripts.cursor import Cursor, NotUnderstood, Refusal, Word
from szal.scripts.here_documents import read_texts
from szal.scripts.programs import NAME
from szal.scripts.words import WORD_ENDS, WordReader

__all__ = ["FUNCTION", "Constructs"]

FUNCTION: Final = re.compile(r"[ \t]*\([ \t]*\)")
"""What follows the name of a function where it is defined."""

_COMMENT: Final = Refusal("stands in a comment, where it would be nothing", "leave it out, or name it without braces")
_PATTERN: Final = Refusal("stands in a pattern of case", 'compare with [ "…" = {placeholder} ]')
_CONDITION: Final = Refusal(
    "stands in [[ ]], some operators of which run commands that stand in a value", "write [ … ], with = in place of =="
)
_OPERATORS: Final = frozenset("&|;<>(")
_IN: Final = re.compile(r"in(?=[ \t\n;]|\Z)")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class Constructs:
    """Reads them at a `Cursor`, with the words in them."""

    def __init__(self, cursor: Cursor, words: WordReader) -> None:
        self._at = cursor
        self._words = words

    def skip_blanks(self) -> None:
        """Step over spaces, lines that go on, and a comment."""
        at = self._at
        while True:
            if at.peek() in (" ", "\t"):
                at.position += 1
            elif at.at("\\\n"):
                before = at.text[at.position - 1 : at.position]
                at.position += 2
                if before in _OPERATORS and at.peek() in _OPERATORS:
                    raise NotUnderstood(at.position - 2)
            elif at.at("#"):
                end = at.text.find("\n", at.position)
                end = len(at.text) if end < 0 else end
                at.check_old_bash(end)
                at.refuse_up_to(end, _COMMENT)
            else:
                return

    def skip_lines(self) -> None:
        """Step over all that is no word."""
        self.skip_blanks()
        while self._at.at("\n"):
            self.read_line_end()
            self.skip_blanks()

    def read_line_end(self) -> None:
        """Step to the next line that belongs to a command."""
        self._at.position += 1
        if self._at.here_documents:
            read_texts(self._at, self._words)

    def word(self) -> Word:
        """Read a word that has to be there."""
        at = self._at
        if at.at_end or (at.peek() in WORD_ENDS and not at.at("<(") and not at.at(">(")):
            raise NotUnderstood(at.position)
        return self._words.word()

    def array(self) -> list[Word]:
        """Read the elements of an array, as in ``files=(a b)``."""
        at, elements = self._at, []
        at.position += 1
        self.skip_lines()
        while not at.at(")"):
            element = self.word()
            if element.text.startswith("["):
                element.refuse(NAME)
                if "]" not in element.text:  # to bash it goes on behind spaces
                    raise NotUnderstood(at.position)
            elements.append(element)
            self.skip_lines()
        at.position += 1
        return elements

    def function(self) -> None:
        """Read what follows ``function``."""
        self.skip_blanks()
        self.word().refuse(NAME)
        if match := FUNCTION.match(self._at.text, self._at.position):
            self._at.position = match.end()

    def loop(self) -> tuple[str, list[Word]]:
        """Read ``NAME in WORDS`` of a ``for``, or ``((…))``; return the name, and the words."""
        at = self._at
        self.skip_blanks()
        if at.at("(("):
            start = at.position
            at.position += 2
            self._words.arithmetic(start)
            return "", []
        name = self.word()
        name.refuse(NAME)
        if not _VARIABLE.fullmatch(name.text):
            raise NotUnderstood(at.position)
        self.skip_lines()
        if (match := _IN.match(at.text, at.position)) is None:
            return name.text, []
        at.position = match.end()
        words = []
        self.skip_blanks()
        while at.peek() not in ("", ";", "\n"):
            words.append(self.word())
            self.skip_blanks()
        return name.text, words

    def case(self) -> None:
        """Read what follows ``case``, up to ``in``."""
        self.skip_blanks()
        self.word()
        self.skip_lines()
        start = self._at.position
        word = self.word()
        if word.text != "in" or not word.is_plain:
            raise NotUnderstood(start)

    def pattern(self) -> bool:
        """Read a pattern of a ``case``, with its bracket; return whether there was one, and not ``esac``."""
        at = self._at
        may_end = not at.at("(")
        at.position += not may_end
        with at.within(_PATTERN):
            while True:
                self.skip_blanks()
                word = self.word()
                if may_end and word.is_plain and word.text == "esac":
                    return False
                self.skip_blanks()
                if not at.at("|"):
                    break
                at.position += 1
                may_end = False
        if not at.at(")"):
            raise NotUnderstood(at.position)
        at.position += 1
        return True

    def condition(self) -> None:
        """Read what follows ``[[``, as a shell would that has none: as words and operators."""
        at = self._at
        with at.within(_CONDITION):
            while True:
                if at.at("<<") or at.at("<(") or at.at(">(") or at.peek() in ("", ";", "#") or at.here_documents:
                    raise NotUnderstood(at.position)
                if at.at("\\\n") or at.at("&&"):
                    at.position += 2
                elif at.at("&"):
                    raise NotUnderstood(at.position)
                elif at.peek() in WORD_ENDS:
                    at.position += 1
                else:
                    word = self._words.word()
                    if word.is_plain and word.text == "]]":
                        return

    def arithmetic(self) -> None:
        """Read ``((…))``: to some shells commands, so nothing may stand in it that differs between the two."""
        at = self._at
        start = at.position
        at.position += 2
        self._words.arithmetic(start)
        if re.search(r"<<|[#\n]", at.text[start : at.position]):
            raise NotUnderstood(start)
