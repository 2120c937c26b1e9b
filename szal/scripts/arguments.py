"""The arguments of a program: options, what they take, and operands; as getopt takes a command line apart."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import attrs

from szal.scripts.cursor import Word

__all__ = ["Argument", "Options"]


class Argument(NamedTuple):
    """An option with the word that holds what it takes, None where that is nothing; or an operand, as `option` ""."""

    option: str
    word: Word | None


@attrs.frozen
class Options:
    """Which options of a program take a word, and what else there is to know of them.

    >>> options = Options("c", long=("--eval",))
    >>> [argument.option for argument in options.arguments([Word("-xc"), Word("code"), Word("--eval=code"), Word("-")])]
    ['-x', '-c', '--eval', '']
    """

    letters: str = ""
    """Those that take a word: the rest of their own, or else the next one."""
    long: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    """Those that take two words."""
    last: str = ""
    """Letters after which there are operands only."""
    permutes: bool = False
    """Whether options may come after operands."""
    joins: bool = True
    """Whether the rest of its own word may be what a letter takes; to a shell it is more letters."""

    def arguments(self, words: Sequence[Word]) -> Iterator[Argument]:
        """Yield what *words* are to the program."""
        place = 0
        while place < len(words):
            word = words[place]
            place += 1
            if word.text == "--":
                break
            if word.text[:1] not in ("-", "+") or len(word.text) == 1:
                yield Argument("", word)
                if self.permutes:
                    continue
                break
            if word.text in self.pairs:
                place += 2
                continue
            found = list(self._options(word, words[place:]))
            place += sum(argument.word is not None and argument.word is not word for argument in found)
            yield from found
            if found[-1].option[1:] in [*self.last]:
                break
        yield from (Argument("", word) for word in words[place:])

    def _options(self, word: Word, after: Sequence[Word]) -> Iterator[Argument]:
        name, joined, _ = word.text.partition("=")
        following = iter(after)
        if name in self.long:
            yield Argument(name, word if joined else next(following, None))
        elif word.text.startswith("--"):
            yield Argument(name, None)
        else:
            for place, letter in enumerate(word.text[1:], 1):
                takes = letter in self.letters
                is_joined = takes and self.joins and place + 1 < len(word.text)
                yield Argument("-" + letter, word if is_joined else next(following, None) if takes else None)
                if is_joined or (takes and self.joins):
                    break
