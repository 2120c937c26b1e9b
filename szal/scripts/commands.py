"""The commands of a shell script: which words are theirs, and in which order shells read them.

Compound commands are followed only as far as it takes to know what the next word is: whether the shell takes a script
is for the shell to say.
"""

import re
from typing import Final

import attrs

from szal.scripts.constructs import FUNCTION, Constructs
from szal.scripts.cursor import Cursor, NotUnderstood, Quotes, Refusal, Spot, Word
from szal.scripts.here_documents import read_delimiter
from szal.scripts.programs import NAME, check_assigned, check_command
from szal.scripts.rules import ASSIGNMENT
from szal.scripts.words import WordReader

__all__ = ["read_script"]

_DESCRIPTOR: Final = Refusal("stands for the number of an open file", "write the number itself")

_OPENING: Final = frozenset(("{", "if", "while", "until"))
_CLOSING: Final = {"}": "{", "fi": "if", "done": "loop", "esac": "case"}
_BETWEEN: Final = frozenset(("then", "else", "elif", "do", "!"))
_RESERVED: Final = _OPENING | _CLOSING.keys() | _BETWEEN | {"for", "select", "case", "function", "[[", "time"}
_REDIRECTION: Final = re.compile(r"<<<|<<-|<<|<>|<&|<|>>|>&|>\||>|&>>|&>")
_NUMBER: Final = re.compile(r"[0-9]+|\{[A-Za-z_][A-Za-z0-9_]*\}")


def read_script(text: str, *, knows_ansi: bool) -> list[Spot]:
    """Return the placeholders (`MARK`) of a script, in order; those that can hold no value are refused.

    >>> [spot.refusal and spot.refusal.reason for spot in read_script("echo \\0 '\\0' $((\\0))", knows_ansi=False)]
    [None, None, 'stands in arithmetic, where bash runs commands that stand in a value, even in that of a variable']
    """
    cursor = Cursor(text, knows_ansi)
    reader = _Commands(cursor)
    try:
        reader.read()
    except NotUnderstood as error:
        _refuse_the_rest(cursor, reader.understood, error.position)
    return cursor.spots


def _refuse_the_rest(cursor: Cursor, understood: int, position: int) -> None:
    """Refuse what comes after the first *understood* placeholders; *position*: what is not understood."""
    line = cursor.text.count("\n", 0, position) + 1
    column = position - cursor.text.rfind("\n", 0, position)
    shown = cursor.text[position : position + 20].split("\n")[0].replace("\0", "…")
    refusal = Refusal(
        f"stands where szal does not know how the script is read: what begins at line {line}, column {column} of it "
        f"({shown}) has no end, or is read otherwise by another shell",
        'write "${variable}"',
    )
    while len(cursor.spots) < cursor.text.count("\0"):
        cursor.spots.append(Spot(len(cursor.spots), Quotes.NONE))
    for spot in cursor.spots[understood:]:
        spot.refuse(refusal)


@attrs.define(eq=False)
class _Group:
    """A compound command that is open: what it began with, and which placeholders came before its pipeline or feed it.

    Of ``case``: whether a pattern comes next.
    """

    kind: str
    pipeline: int
    fed: list[Spot]
    wants_pattern: bool = False


@attrs.define(eq=False)
class _Frame:
    """What is open within one pair of brackets, or in the whole script.

    `words` are those of a simple command, `input` what its redirections have it read. `pipeline` is how many
    placeholders came before the pipeline that is being read; `fed`, those in the commands before this one in it, or
    before the compound command around it; `input_of_all`, what all commands here may read; `goes_on`, whether the line
    ended with ``|``, so that the next belongs to it.
    """

    pipeline: int
    groups: list[_Group] = attrs.field(factory=list)
    words: list[Word] = attrs.field(factory=list)
    fed: list[Spot] = attrs.field(factory=list)
    input: list[Spot] = attrs.field(factory=list)
    input_of_all: list[Spot] = attrs.field(factory=list)
    goes_on: bool = False
    has_ended: bool = False  # a compound command has: only redirections and operators may follow

    @property
    def input_around(self) -> list[Spot]:
        """What the first command of a pipeline reads: the input of the compound command around it, or of all."""
        return self.groups[-1].fed if self.groups else self.input_of_all


class _Commands:
    def __init__(self, cursor: Cursor) -> None:
        self._at = cursor
        self._words = WordReader(cursor, self._within_brackets)
        self._constructs = Constructs(cursor, self._words)
        self.understood = 0
        """How many placeholders stand in commands that are understood as a whole."""

    def read(self) -> None:
        """Read the whole script."""
        frame = _Frame(0)
        while self._token(frame, is_whole=True):
            pass
        self.understood = len(self._at.spots)

    def _within_brackets(self, read: list[Spot]) -> None:
        frame = _Frame(len(self._at.spots), fed=read, input_of_all=read)
        waiting = len(self._at.here_documents)
        while self._token(frame, is_whole=False):
            pass
        if len(self._at.here_documents) > waiting:
            raise NotUnderstood(self._at.position)

    # -- from one token to the next --------------------------------------------------------------------

    def _token(self, frame: _Frame, *, is_whole: bool) -> bool:
        """Read what comes next; return whether there is more: false at the end, and past a closing bracket."""
        at = self._at
        self._constructs.skip_blanks()
        if at.at_end:
            if not is_whole:
                raise NotUnderstood(at.position)
            self._finish(frame)
            if at.here_documents:
                raise NotUnderstood(at.here_documents[0].position)
            return False
        group = frame.groups[-1] if frame.groups else None
        char = at.peek()
        if char == "\n":
            self._newline(frame, is_whole=is_whole)
        elif group is not None and group.wants_pattern:
            if self._constructs.pattern():
                group.wants_pattern = False
            else:
                self._close(frame, "case")
        elif char == ")" and (group is None or group.kind != "("):
            if is_whole or frame.groups:
                raise NotUnderstood(at.position)
            self._finish(frame)
            at.position += 1
            return False
        elif char in "()":
            self._bracket(frame, char)
        elif (match := _REDIRECTION.match(at.text, at.position)) and not at.at("<(") and not at.at(">("):
            self._redirection(frame, match[0])
        elif char in ";&|":
            self._operator(frame, char, is_whole=is_whole)
        else:
            self._word(frame)
        return True

    def _newline(self, frame: _Frame, *, is_whole: bool) -> None:
        self._finish(frame)
        self._constructs.read_line_end()
        if not frame.goes_on:
            self._next_pipeline(frame, is_whole=is_whole)

    def _next_pipeline(self, frame: _Frame, *, is_whole: bool) -> None:
        frame.pipeline = len(self._at.spots)
        frame.fed = frame.input_around
        if is_whole and not frame.groups and not self._at.here_documents:
            self.understood = frame.pipeline

    def _operator(self, frame: _Frame, char: str, *, is_whole: bool) -> None:
        at = self._at
        self._finish(frame)
        if at.at(";;") or at.at(";&"):
            at.position += 3 if at.at(";;&") else 2
            if not frame.groups or frame.groups[-1].kind != "case":
                raise NotUnderstood(at.position)
            frame.groups[-1].wants_pattern = True
            self._next_pipeline(frame, is_whole=False)
        elif char == "|" and not at.at("||"):
            at.position += 2 if at.at("|&") else 1
            frame.fed, frame.goes_on = [*frame.input_around, *at.spots[frame.pipeline :]], True
        else:
            at.position += 2 if at.at("||") or at.at("&&") else 1
            self._next_pipeline(frame, is_whole=is_whole)

    def _finish(self, frame: _Frame) -> None:
        """Take the simple command that ends here."""
        if frame.words:
            if check_command(frame.words, [*frame.fed, *frame.input]):
                raise NotUnderstood(self._at.position)
            frame.goes_on = False
        frame.words, frame.input = [], []
        frame.has_ended = False

    # -- compound commands -----------------------------------------------------------------------------

    def _bracket(self, frame: _Frame, char: str) -> None:
        at = self._at
        if char == ")":
            self._finish(frame)
            self._close(frame, "(")
            at.position += 1
        elif frame.words or frame.has_ended:
            raise NotUnderstood(at.position)
        elif at.at("(("):
            self._constructs.arithmetic()
            frame.has_ended, frame.goes_on = True, False
        else:
            at.position += 1
            self._open(frame, "(")

    def _open(self, frame: _Frame, kind: str, *, wants_pattern: bool = False) -> None:
        frame.groups.append(_Group(kind, frame.pipeline, frame.fed, wants_pattern))
        frame.pipeline = len(self._at.spots)
        frame.goes_on = False

    def _close(self, frame: _Frame, kind: str) -> None:
        if not frame.groups or frame.groups[-1].kind != kind:
            raise NotUnderstood(self._at.position)
        group = frame.groups.pop()
        frame.pipeline, frame.fed = group.pipeline, group.fed
        frame.has_ended, frame.goes_on = True, False

    def _word(self, frame: _Frame) -> None:
        at = self._at
        start = at.position
        word = self._words.word()
        if not frame.words and word.is_plain and word.text in _RESERVED:
            self._reserved(frame, word.text)
        elif at.peek() in ("<", ">") and word.is_plain and _NUMBER.fullmatch(word.text):
            pass  # the number of what is redirected
        elif frame.has_ended:
            raise NotUnderstood(start)
        elif not frame.words and (match := FUNCTION.match(at.text, at.position)):
            word.refuse(NAME)
            at.position = match.end()
        elif at.at("("):
            if not word.is_plain or ASSIGNMENT.fullmatch(word.text) is None:
                raise NotUnderstood(at.position)
            for element in self._constructs.array():
                word.spots += element.spots
            frame.words.append(word)
        else:
            frame.words.append(word)

    def _reserved(self, frame: _Frame, name: str) -> None:
        at = self._at
        if name in _BETWEEN or name == "time":
            frame.has_ended = False
            if name == "!" and at.at("("):
                raise NotUnderstood(at.position)  # a pattern, where bash has extglob
            if name == "time":
                self._constructs.skip_blanks()
                at.position += 2 if re.match(r"-p(?=[ \t])", at.text[at.position : at.position + 3]) else 0
        elif name in _CLOSING:
            self._close(frame, _CLOSING[name])
        elif frame.has_ended:
            raise NotUnderstood(at.position)
        elif name == "[[":
            self._constructs.condition()
            frame.has_ended, frame.goes_on = True, False
        elif name == "function":
            self._constructs.function()
        elif name == "case":
            self._open(frame, "case", wants_pattern=True)
            self._constructs.case()
        elif name in ("for", "select"):
            self._open(frame, "loop")
            check_assigned(*self._constructs.loop())
        else:
            self._open(frame, "loop" if name in ("while", "until") else name)

    # -- redirections ----------------------------------------------------------------------------------

    def _redirection(self, frame: _Frame, operator: str) -> None:
        at = self._at
        start = at.position
        at.position += len(operator)
        if operator in ("<<", "<<-"):
            read_delimiter(at, start, strips_tabs=operator == "<<-")
            return
        self._constructs.skip_blanks()
        word = self._constructs.word()
        if operator in (">&", "<&"):
            word.refuse(_DESCRIPTOR)
        if operator == "<<<":
            frame.input += word.spots
        elif operator == "<":
            frame.input += [spot for spot in word.spots if spot not in word.direct]
