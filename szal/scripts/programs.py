"""Which words are code to the program that is given them: no quotes protect a value that is read twice.

The tables hold what people use in scripts. What any other program makes of its arguments is its own affair.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from szal.scripts.arguments import Options
from szal.scripts.cursor import EXPANSION, MARK, Refusal, Spot, Word
from szal.scripts.rules import (
    ASSIGNMENT,
    COMPUTED,
    EXPANDED,
    NAMES_ONLY,
    Interpreter,
    Program,
    Rule,
    assigned,
    env,
    every_word,
    file,
    make,
    printf,
    read,
    read_by,
    shell,
    sudo,
    test,
    wait,
    xargs,
    xargs_command,
)

__all__ = ["NAME", "check_assigned", "check_command"]

NAME: Final = Refusal("stands where a name is to be", "write the name itself")
"""What is said of a placeholder to the left of an ``=``, and the like."""

_ATTRIBUTE: Final = "write two lines: local name, then name={placeholder}"
_ARGUMENT: Final = "give it as an argument: {placeholder} after the code, which finds it in "
_ENVIRONMENT: Final = "have the code read the environment variable {variable}"


def _interpreter(letters: str, instead: str, *long: str, others: str = "", last: str = "") -> Interpreter:
    code = (*(f"-{letter}" for letter in letters), *long)
    return Interpreter(code, instead, Options(letters + others + last, long, last=last))


def _client(
    letters: str,
    instead: str,
    *long: str,
    others: str = "",
    files: tuple[str, ...] = (),
    operands: int | None = None,
    reads_input: bool = True,
) -> Interpreter:
    code = (*(f"-{letter}" for letter in letters), *long)
    options = Options(letters + others, (*long, *files), permutes=True)
    return Interpreter(code, instead, options, files, False, operands, reads_input)


_ANYWHERE: Final[Mapping[str, Rule]] = {
    **dict.fromkeys(["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "yash", "rbash", "fish", "csh", "tcsh"], shell),
    **dict.fromkeys(("python", "pypy"), _interpreter("c", f"{_ARGUMENT}sys.argv[1]", others="WX", last="mc")),
    "perl": _interpreter("eE", f"{_ARGUMENT}$ARGV[0]", others="I"),
    "ruby": _interpreter("e", f"{_ARGUMENT}ARGV[0]", others="IrC"),
    **dict.fromkeys(
        ("node", "nodejs", "bun"),
        _interpreter("ep", f"{_ARGUMENT}process.argv[1]", "-pe", "--eval", "--print", others="r"),
    ),
    "php": _interpreter("rRBE", f"{_ARGUMENT}$argv[1]", "--run", others="dc"),
    **dict.fromkeys(
        ("lua", "luajit", "R", "Rscript", "osascript", "groovy", "julia", "elixir", "gnuplot"),
        _interpreter("e", _ENVIRONMENT, "--eval"),
    ),
    **dict.fromkeys(("pwsh", "powershell"), _interpreter("", _ENVIRONMENT, "-c", "-C", "-Command", "-command")),
}
"""Programs that are looked for in every word of a command: some other program may run them."""

_SQL: Final = "send SQL without it, with parameters, from a program"
_SUDO: Final = "run the command itself, as by sudo -u USER"
_AWK: Final = Program(
    Options("feviFE", ("--file", "--source", "--assign", "--include")),
    'write ENVIRON["{variable}"] in the program',
    files=("-f", "--file", "-E"),
    code=("-e", "--source"),
    values=("-v", "--assign"),
)
_SED: Final = Program(
    Options("efl", ("--expression", "--file"), permutes=True),
    'use awk, with ENVIRON["{variable}"] in the program',
    files=("-f", "--file"),
    code=("-e", "--expression"),
    no_code=re.compile(r"(\.\w+)?"),  # what the -i of BSD takes
)
_JQ: Final = Program(
    Options("fL", ("--from-file",), ("--arg", "--argjson", "--slurpfile", "--rawfile"), permutes=True),
    "write $ENV.{variable} in the filter",
    files=("-f", "--from-file"),
)

_COMMANDS: Final[Mapping[str, Rule]] = {
    **_ANYWHERE,
    "eval": every_word("run the command itself, without eval"),
    "trap": every_word("""write '… "${variable}" …', in single quotes: it is filled in when the trap runs"""),
    **dict.fromkeys(
        ("ssh", "slogin", "rsh", "autossh"),
        every_word("write it to the input of the other side: printf '%s' {placeholder} | ssh HOST 'cat > FILE'"),
    ),
    "xargs": xargs,
    **dict.fromkeys(("parallel", "watch", "hyperfine", "tmux"), every_word('write "${variable}" in single quotes')),
    **dict.fromkeys(("sudo", "doas"), sudo),
    "let": every_word("compute with expr {placeholder} + 1"),
    **dict.fromkeys(("declare", "typeset", "local"), every_word(_ATTRIBUTE)),
    **dict.fromkeys(("unset", "mapfile", "readarray", "getopts"), every_word(NAMES_ONLY)),
    "read": read,
    **dict.fromkeys(("alias", "bind", "compgen", "complete", "enable", "fc"), every_word("write the word itself")),
    **dict.fromkeys(("export", "readonly"), assigned),
    **dict.fromkeys((".", "source"), file),
    **dict.fromkeys(("test", "["), test),
    "printf": printf,
    "wait": wait,
    "env": env,
    **dict.fromkeys(("make", "gmake"), make),
    **dict.fromkeys(("awk", "gawk", "mawk", "nawk"), _AWK),
    **dict.fromkeys(("sed", "gsed"), _SED),
    **dict.fromkeys(("jq", "yq"), _JQ),
    "psql": _client(
        "c",
        "have psql read the variable: \\set and \\getenv",
        "--command",
        others="dfFhLopPRTUv",
        files=("-f", "--file"),
    ),
    **dict.fromkeys(("mysql", "mariadb"), _client("e", _SQL, "--execute", others="DhPSu")),
    "sqlite3": _client("", _SQL, "-cmd", files=("-init",), operands=1),
    **dict.fromkeys(("mongosh", "mongo"), _client("", _ENVIRONMENT, "--eval")),
    **dict.fromkeys(("su", "runuser", "script"), _client("c", _SUDO, "--command")),
    "flock": _client("c", _SUDO, "--command", reads_input=False),
    **dict.fromkeys(("npx", "npm"), _client("c", _SUDO, "--call", reads_input=False)),
    **dict.fromkeys(("at", "batch", "crontab", "ed", "tclsh"), _client("", 'write "${variable}" in single quotes')),
    **dict.fromkeys(("dc", "expect"), _client("ec", _ENVIRONMENT, "--expression")),
    **dict.fromkeys(("vi", "vim", "nvim", "ex"), _client("c", _ENVIRONMENT, "--cmd")),
}
"""Programs as the command itself, also behind those that run another one."""

_RUNNERS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("sudo", "doas", "env", "nohup", "setsid", "nice", "ionice", "exec", "command", "builtin"), 0),
    **dict.fromkeys(("time", "stdbuf", "strace", "ltrace", "unbuffer", "xvfb-run", "systemd-run", "sshpass"), 0),
    **dict.fromkeys(("caffeinate", "arch", "unshare", "nsenter", "busybox", "toybox", "fakeroot", "setpriv"), 0),
    **dict.fromkeys(("tini", "runuser", "coproc"), 0),
    **dict.fromkeys(("timeout", "gtimeout", "chroot", "flock", "taskset", "chrt", "faketime", "gosu", "su-exec"), 1),
}
"""Programs that run the command that follows, and how many words of theirs come before it."""

_REMOTE: Final = frozenset(("ssh", "docker", "podman", "nerdctl", "kubectl", "oc", "lxc"))
"""Programs that hand their input on to one that is named somewhere in their words."""
_FIND_ACTIONS: Final = frozenset(("-exec", "-execdir", "-ok", "-okdir"))
_UNCLEAR: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\[[^\]]*\Z|.*\{.*(?:,|\.\.).*\}", re.ASCII | re.DOTALL)
"""Commands that bash makes others of: an index that goes on behind spaces, several words in braces."""
_MOST: Final = 20
"""How many interpreters there may be in one command."""
_TOO_MANY: Final = Refusal("stands in a command with too many interpreters to look at", "write a command for each")
_CHANGING: Final = frozenset(("alias", "declare", "typeset", "local"))
_UNKNOWN: Final = re.compile(rf"[{EXPANSION}{MARK}*?\[]")
"""What is in the name of a command that only the shell will know."""
_CODE_OPTION: Final = re.compile(r"-[A-Za-z]*[ce]|--eval|--command|-Command")


# -- a command, and what it assigns ------------------------------------------------------------------


def check_assigned(name: str, words: Sequence[Word]) -> None:
    """Refuse placeholders in *words*, which are assigned to the variable *name*, where that reads them again."""
    for word in words if name in EXPANDED | COMPUTED else ():
        word.refuse(read_by(f"bash in {name}", "give the variable another name"))


def check_command(words: Sequence[Word], stdin: Sequence[Spot]) -> bool:
    """Refuse the placeholders of a command that are code there; *stdin*: those in what it reads.

    Returns whether it changes how what follows is read.
    """
    first = 0
    while first < len(words) and _assigns(words[first]):
        first += 1
    command = words[first:]
    if not command:
        return False
    if _UNCLEAR.match(command[0].text):
        return True
    if stdin or any(word.spots for word in command):
        _check_words(command, stdin)
    return _changes_reading(command)


def _check_words(command: Sequence[Word], stdin: Sequence[Spot]) -> None:
    for word in command:
        if (match := ASSIGNMENT.match(word.text)) is not None:
            check_assigned(match[1], [word])
    for place in _commands_in(command):
        rule = _COMMANDS.get(_name_of(command[place]))
        if rule is not None:
            rule(_name_of(command[place]), command[place + 1 :], stdin)
        if command[place].text == "xargs":
            _check_handed_on(xargs_command(command[place + 1 :]), stdin)
        elif place and command[place - 1].text in _FIND_ACTIONS:
            sources = [spot for word in command[:place] for spot in word.spots]
            _check_handed_on([word.filled("{}") for word in command[place:]], sources)
    inner = [place for place, word in enumerate(command) if _name_of(word) in _ANYWHERE]
    fed = stdin if _name_of(command[0]) in _REMOTE else ()
    for place in inner[:_MOST]:
        name = _name_of(command[place])
        _ANYWHERE[name](name, command[place + 1 :], fed)
    for word in command if len(inner) > _MOST else ():
        word.refuse(_TOO_MANY)
    is_unknown = command[0].text != "[" and _UNKNOWN.search(command[0].text)
    if is_unknown or any(word.text.startswith("--entrypoint") for word in command):
        _check_unknown(command)


def _check_handed_on(command: Sequence[Word], sources: Sequence[Spot]) -> None:
    """Refuse *sources*, which stand for themselves in a *command* of its own, where they are code in that."""
    if sources and command:
        check_command(command, [])
        for refusal in [spot.refusal for word in command for spot in word.handed_on if spot.refusal is not None]:
            for source in sources:
                source.refuse(Refusal(f"is handed on, and {refusal.reason}", refusal.instead))


def _assigns(word: Word) -> bool:
    """Whether *word* assigns to a variable; refuse placeholders left of the ``=``."""
    match = ASSIGNMENT.match(word.text)
    if match is None or len(match[1]) > word.plain:
        before, is_assignment, _ = word.text.partition("=")
        if is_assignment and MARK in before and not before.startswith("-"):
            word.refuse(NAME)
        return False
    if MARK in match[0]:
        word.refuse(NAME)
    check_assigned(match[1], [word])
    return True


def _commands_in(words: Sequence[Word]) -> Iterator[int]:
    """Yield the places of words that may be a command: the first, and those that such a one may run."""
    pending, seen = [0], set[int]()
    pending += [place for place, word in enumerate(words, 1) if word.text in _FIND_ACTIONS and place < len(words)]
    while pending:
        start = pending.pop()
        if start in seen:
            continue
        seen.add(start)
        yield start
        own = _RUNNERS.get(_name_of(words[start]))
        if own is not None:
            pending += _run_by(words, start + 1, own)


def _run_by(words: Sequence[Word], start: int, own: int) -> Iterator[int]:
    """Yield the places, from *start* on, where the command may be that a program with *own* operands runs."""
    after_option = False
    for place in range(start, len(words)):
        text = words[place].text
        if text.startswith("-"):
            after_option = "=" not in text
        elif not ASSIGNMENT.match(text):
            yield place
            if not after_option:
                if not own:
                    return
                own -= 1
            after_option = False


def _check_unknown(command: Sequence[Word]) -> None:
    """Refuse what comes after -c or -e, of a program of which only the shell will know the name."""
    for before, word in pairwise(command):
        if _CODE_OPTION.fullmatch(before.text):
            word.refuse(Refusal(f"may be code after {before.text}", "give it as an argument after the code"))


def _changes_reading(command: Sequence[Word]) -> bool:
    """Whether later words are read otherwise after it: aliases, and variables that compute what they are assigned."""
    if _CHANGING.isdisjoint(word.text for word in command):
        return False
    names = {command[place].text for place in _commands_in(command)}
    if "alias" in names:
        return True
    options = (word.text for word in command[1:] if word.text[:1] in ("-", "+") or not word.is_plain)
    return not names.isdisjoint(_CHANGING) and any(
        re.search(r"^[-+].*[in]", text) or text[:1] in (EXPANSION, MARK) for text in options
    )


_VERSION: Final = re.compile(r"(?<=[a-z])[0-9]+(?:\.[0-9]+)*$")


def _name_of(word: Word) -> str:
    """Return the name of the program that *word* is: without its folder and its version."""
    name = word.text.rpartition("/")[2]
    return name if name in _COMMANDS else _VERSION.sub("", name)
