"""How a program is given code: in every word, after an option, as its first operand, as its input."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import attrs

from szal.scripts.arguments import Options
from szal.scripts.cursor import MARK, Refusal, Spot, Word

__all__ = [
    "ASSIGNMENT",
    "COMPUTED",
    "EXPANDED",
    "NAMES_ONLY",
    "Interpreter",
    "Program",
    "Rule",
    "assigned",
    "env",
    "every_word",
    "file",
    "make",
    "printf",
    "read",
    "read_by",
    "shell",
    "sudo",
    "test",
    "wait",
    "xargs",
    "xargs_command",
]

ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\[[^\]]*\])?\+?=", re.ASCII)
"""What a word begins with that assigns to a variable."""
EXPANDED: Final = frozenset(("BASH_ENV", "ENV", "PROMPT_COMMAND", "PS0", "PS1", "PS2", "PS4"))
"""Variables of which bash, or another shell, expands the value, and runs the commands in it."""
COMPUTED: Final = frozenset(
    ("RANDOM", "SRANDOM", "SECONDS", "LINENO", "HISTCMD", "BASHPID", "OPTIND", "OPTERR", "EPOCHSECONDS")
)
"""Variables to which bash assigns what an expression comes to."""
NAMES_ONLY: Final = "write the name of the variable itself"
"""What to write where a program reads the names of variables."""

Rule = Callable[[str, Sequence[Word], Sequence[Spot]], None]
"""Is told the name of a program; refuses placeholders in the words after it, and in what is written to its input."""


def read_by(name: str, instead: str) -> Refusal:
    """Return what is said of a placeholder in code."""
    return Refusal(f"is read as code by {name}", instead)


def _refuse(words: Sequence[Word], refusal: Refusal) -> None:
    for word in words:
        word.refuse(refusal)


def _refuse_input(name: str, instead: str, stdin: Sequence[Spot]) -> None:
    for spot in stdin:
        spot.refuse(Refusal(f"is given to {name}, which runs what it reads", instead))


_INPUT: Final = frozenset(("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"))
"""What a program's input is called where it wants a file."""


def every_word(instead: str) -> Rule:
    """Return the rule of a program that reads all of its words as code, or as names."""

    def check(name: str, words: Sequence[Word], _: Sequence[Spot]) -> None:
        _refuse(words, read_by(name, instead))

    return check


def xargs(name: str, words: Sequence[Word], stdin: Sequence[Spot]) -> None:
    """Take none of its words, and of its input what ends with a NUL or a delimiter of the script's choice."""
    _refuse(words, read_by(name, 'write "${variable}", or a loop: while read -r line; do …; done'))
    if not any(re.match(r"-0|--null|-d|--delim", word.text) for word in words):
        instead = "write printf '%s\\0' {placeholder} | xargs -0 …"
        for spot in stdin:
            spot.refuse(Refusal("is given to xargs, which splits what it reads, and takes its quotes away", instead))


_XARGS: Final = Options(
    "adEILnPs", ("--arg-file", "--delimiter", "--max-args", "--max-chars", "--max-lines", "--max-procs", "--replace")
)


def xargs_command(words: Sequence[Word]) -> list[Word]:
    """Return the command that ``xargs`` runs, with a placeholder of its own for what it hands on."""
    stands_for, operands = None, list[Word]()
    for option, word in _XARGS.arguments(words):
        if not option and word is not None:
            operands.append(word)
        elif option == "-I" and word is not None:
            stands_for = word.text.removeprefix("-I")
        elif option in ("-i", "--replace"):
            stands_for = "{}"
    if stands_for:
        return [word.filled(stands_for) for word in operands]
    return [*operands, Word("{}").filled("{}")] if operands else []


def assigned(name: str, words: Sequence[Word], _: Sequence[Spot]) -> None:
    """Take ``NAME=VALUE`` only, as ``export`` has it; with options the value may be read again."""
    has_options = any(word.text[:1] == "-" for word in words)
    for word in words:
        match = ASSIGNMENT.match(word.text)
        if match is None or MARK in match[0] or has_options:
            word.refuse(Refusal(f"stands where {name} wants a name", f"write {name} NAME={{placeholder}}"))


@attrs.frozen
class Interpreter:
    """A program that runs code which stands after one of the options *code*, or else what it reads.

    *files*: options for files with code. *takes_file*: whether an operand is one, too; otherwise those after the first
    *operands* are code. *instead* says how that code gets a value.
    """

    code: tuple[str, ...]
    instead: str
    options: Options
    files: tuple[str, ...] = ("-m",)
    takes_file: bool = True
    operands: int | None = None
    reads_input: bool = True

    def __call__(self, name: str, words: Sequence[Word], stdin: Sequence[Spot]) -> None:
        """Be its rule."""
        has_code, operands = False, list[Word]()
        for option, word in self.options.arguments(words):
            if option in self.code and word is not None:
                word.refuse(read_by(f"{name} {option}", self.instead))
            elif not option and word is not None and word.text not in _INPUT:
                operands.append(word)
            has_code |= option in (*self.code, *self.files)
        code = [] if self.operands is None else operands[self.operands :]
        _refuse(code, read_by(name, self.instead))
        has_code |= bool(code or (self.takes_file and operands))
        if self.reads_input and not has_code:
            _refuse_input(name, self.instead, stdin)


_SHELL_ARGUMENT: Final = """give it as an argument: -c '… "$1" …' sh {placeholder}"""
_SHELL_OPTIONS: Final = Options("oO", ("--rcfile", "--init-file"), joins=False)


def shell(name: str, words: Sequence[Word], stdin: Sequence[Spot]) -> None:
    """Take a shell, of which the first operand is code where there is a -c, and else a file."""
    arguments = list(_SHELL_OPTIONS.arguments(words))
    operands = [word for option, word in arguments if not option and word is not None]
    options = words[: words.index(operands[0])] if operands else words
    _refuse(options, read_by(f"{name} -c", _SHELL_ARGUMENT))
    if any(option in ("-c", "--command") for option, _ in arguments):
        _refuse(operands[:1], read_by(f"{name} -c", _SHELL_ARGUMENT))
    elif not operands or ("-s", None) in arguments:
        _refuse_input(name, _SHELL_ARGUMENT, stdin)
    else:
        file(name, operands[:1], stdin)


def file(name: str, words: Sequence[Word], stdin: Sequence[Spot]) -> None:
    """Take a file with code, but not what a command prints in its place, as in ``source <(…)``."""
    if words and words[0].text in _INPUT:
        _refuse_input(name, _SHELL_ARGUMENT, stdin)
    for spot in (spot for word in words for spot in word.spots if spot not in word.direct):
        spot.refuse(read_by(name, 'write "${variable}" in single quotes'))


@attrs.frozen
class Program:
    """A program of which the first operand is code, unless that is in a file, or after one of the options *code*.

    What follows the options *values* is no code, but read again. *no_code*: an operand that is none.
    """

    options: Options
    instead: str
    files: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    no_code: re.Pattern[str] = re.compile("")

    def __call__(self, name: str, words: Sequence[Word], _: Sequence[Spot]) -> None:
        """Be its rule."""
        refusal = read_by(name, self.instead)
        operands, has_code = [], False
        for option, word in self.options.arguments(words):
            has_code |= option in self.files or option in self.code
            if word is not None and not option and not self.no_code.fullmatch(word.text):
                operands.append(word)
            elif word is not None and option in (*self.code, *self.values):
                word.refuse(refusal)
        if not has_code:
            _refuse(operands[:1], refusal)
        _refuse([word for word in operands if self.values and ASSIGNMENT.match(word.text)], refusal)


_SUDO_LONG: Final = ("--user", "--group", "--host", "--prompt", "--chdir", "--chroot", "--other-user")


def test(name: str, words: Sequence[Word], _: Sequence[Spot]) -> None:
    """Take no names: bash runs commands in the index of an array. What a value says may be such an operator."""
    for operator, word in pairwise(words):
        if operator.text in ("-v", "-R") or (not operator.text.strip(MARK) and operator.direct):
            word.refuse(
                read_by(f"{name} {operator.text.replace(MARK, '-v')}", "write the name, or an operator before it")
            )


def printf(name: str, words: Sequence[Word], _: Sequence[Spot]) -> None:
    """Take no name of a variable, and no format that may be an option."""
    place = 0
    while place < len(words) and words[place].text.startswith("-v"):
        taken = 1 if len(words[place].text) > len("-v") else 2
        _refuse(words[place : place + taken], read_by(f"{name} -v", NAMES_ONLY))
        if words[place : place + taken][-1].text.removeprefix("-v") in EXPANDED | COMPUTED:
            _refuse(words, read_by("bash in that variable", "give the variable another name"))
        place += taken
    if place < len(words) and words[place].text == "--":
        place += 1
    if place < len(words) and MARK in words[place].text:
        words[place].refuse(
            Refusal("stands in the format of printf, which reads % and \\ in it", "write printf '%s' {placeholder}")
        )


def read(name: str, words: Sequence[Word], stdin: Sequence[Spot]) -> None:
    """Take the names of variables, but none that bash expands."""
    _refuse(words, read_by(name, NAMES_ONLY))
    if any(word.text in EXPANDED | COMPUTED for word in words):
        _refuse_input("bash in that variable", "give the variable another name", stdin)


def sudo(name: str, words: Sequence[Word], _: Sequence[Spot]) -> None:
    """Take no command that it hands to a shell, which expands variables in it."""
    for option, _word in Options("CDghpRTtUu", _SUDO_LONG).arguments(words):
        if option in ("-s", "-i", "--shell", "--login"):
            _refuse(words, read_by(f"{name} {option}", f"write {name} without {option}"))


def make(name: str, words: Sequence[Word], _: Sequence[Spot]) -> None:
    """Take no values of its variables: it expands what they say."""
    for word in words:
        if "=" in word.text and MARK not in word.text.partition("=")[0]:
            word.refuse(read_by(name, f'write NAME={{placeholder}} {name} …, and "$$NAME" in the recipe'))


def wait(name: str, words: Sequence[Word], _: Sequence[Spot]) -> None:
    """Take no word that may be its option for the name of a variable."""
    _refuse(
        [word for word in words if word.text.startswith((MARK, "-"))], read_by(f"{name} -p", "write %{placeholder}")
    )


def env(name: str, words: Sequence[Word], _: Sequence[Spot]) -> None:
    """Take no text that it splits, nor what may be the option for that."""
    for option, word in Options("SuC", ("--split-string",)).arguments(words):
        if not option and word is not None and not ASSIGNMENT.match(word.text):
            if word.text.startswith(MARK):
                word.refuse(Refusal("may be an option of env", "write env NAME={placeholder}"))
            break
        if option in ("-S", "--split-string") and word is not None:
            word.refuse(read_by(f"{name} {option}", "write the words themselves"))
