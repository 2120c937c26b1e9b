"""What the `config` of a step of szal's own types must be, whatever the machine: found before anything runs.

What a template fills in is checked again with its value, by the same functions, when the step runs.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from szal.errors import ConditionError, did_you_mean
from szal.expressions.path import Json, Path
from szal.model.key import ROLLBACK
from szal.model.shapes import COMMAND_OUTPUTS
from szal.model.variables import INPUT, OUTPUT, is_szals, variable_of
from szal.number import problem_of, shown

__all__ = [
    "DEFAULT_SHELL",
    "STOP_SIGNALS",
    "UP_TO_DATE",
    "VARIABLE",
    "Fault",
    "faults_in",
    "is_open",
    "misplaced_in",
    "undo_of",
    "words_of",
]

UP_TO_DATE: Final = "up_to_date"
"""Which files make a step needless, in the config of a step that is not the engine's own: a key of it."""
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
"""The name of an environment variable, as POSIX has it."""
DEFAULT_SHELL: Final = "sh"
"""What runs a command that says no other shell."""
STOP_SIGNALS: Final = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ABRT", "ALRM", "WINCH", "KILL")
"""What a command may be told to end with."""
_MAX_GRACE: Final = 1e6


class InText(NamedTuple):
    """A position in a text, and that as line and column, which count from 1."""

    position: int
    line: int
    column: int


class Fault(NamedTuple):
    """What is wrong with a field of a config, so that no attempt could work with it.

    >>> print(Fault("cwd", "is empty"))
    config.cwd is empty
    """

    field: str
    text: str
    part: str | None = None
    """The key in an object that it is about."""
    is_sentence: bool = False
    """Whether the text says by itself which field it is about."""
    at: InText | None = None
    """Where in the text of the field it is."""

    def __str__(self) -> str:
        if self.at is not None:
            return f"config.{self.field}, line {self.at.line}, column {self.at.column}: {self.text}"
        return self.text if self.is_sentence else f"config.{self.field} {self.text}"


_Check = Callable[[Json], Iterator[tuple[str, str | None]]]


def is_open(value: Json) -> bool:
    """Whether a template is to fill in *value*, or a part of it.

    >>> is_open("{{inputs.where}}/src"), is_open("src")
    (True, False)
    """
    return isinstance(value, str) and "{{" in value


@lru_cache(maxsize=128)  # most steps have the same few
def words_of(command: str) -> tuple[str, ...]:
    """Return the words of a command line, as a shell splits it; raise ValueError where it cannot."""
    return tuple(shlex.split(command))


def _of_text(what: str, *, nul: bool = True) -> _Check:
    def check(value: Json) -> Iterator[tuple[str, str | None]]:
        if not isinstance(value, str) or not value.strip():
            yield f"must be {what}, not {shown(value)}", None
        elif not nul and "\0" in value:
            yield "contains a NUL character", None

    return check


_run = _of_text("a command", nul=False)
_cwd = _of_text("a directory", nul=False)


def _shell(value: Json) -> Iterator[tuple[str, str | None]]:
    wanted = 'must be a command like "bash -e"'
    if not isinstance(value, str) or not value.strip():
        yield f"{wanted}, not {shown(value)}", None
    elif is_open(value):
        yield f"{wanted}, and takes no template ({shown(value)})", None
    elif "\0" in value:
        yield "contains a NUL character", None
    else:
        try:
            if not words_of(value) or not words_of(value)[0]:
                yield f"{wanted}, not {shown(value)}", None
        except ValueError as error:
            yield f"{wanted}, not {shown(value)}: {str(error).lower()}", None


def _env(value: Json) -> Iterator[tuple[str, str | None]]:
    if not isinstance(value, Mapping):
        yield f"must be an object, not {shown(value)}", None
        return
    for name, text in value.items():
        if is_open(name):
            continue  # it is told with the templates: no key is filled in
        if not isinstance(name, str) or not VARIABLE.fullmatch(name):
            rule = "the name of a variable has letters, digits and _, and begins with no digit"
            yield f"has the name {shown(name)}: {rule}", name if isinstance(name, str) else None
        elif is_szals(name):
            yield f"has the name {name}, which szal itself gives a value: take another", name
        elif isinstance(text, str) and "\0" in text:
            yield f"contains a NUL character in {name}", name


def _stop(value: Json) -> Iterator[tuple[str, str | None]]:
    wanted = 'must be like {"signal": "INT", "grace": 10}'
    if not isinstance(value, Mapping):
        yield f"{wanted}, not {shown(value)}", None
        return
    for key in value:
        if key not in ("signal", "grace"):
            yield f"{wanted}; it has no {shown(key)}", key if isinstance(key, str) else None
    name, grace = value.get("signal"), value.get("grace")
    if name is not None and name not in STOP_SIGNALS:
        bare = name.upper().removeprefix("SIG") if isinstance(name, str) else None
        hint = f": write {bare!r}" if bare in STOP_SIGNALS else ""
        yield f"has the signal {shown(name)}, which is none of {', '.join(STOP_SIGNALS)}{hint}", "signal"
    if grace is not None and (problem_of(grace) is not None or not 0 <= grace < _MAX_GRACE):
        yield f"has the grace {shown(grace)}, which must be a number of seconds", "grace"


def _no_grace(_: Json) -> Iterator[tuple[str, str | None]]:
    yield 'is a part of config.stop: write {"stop": {"grace": 10}}', None


def _output(value: Json) -> Iterator[tuple[str, str | None]]:
    if value not in COMMAND_OUTPUTS:
        yield f"must be {', '.join(COMMAND_OUTPUTS[:-1])} or {COMMAND_OUTPUTS[-1]}, not {shown(value)}", None


def _call(value: Json) -> Iterator[tuple[str, str | None]]:
    module, _, attribute = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        yield f'must be like "package.module:function", not {shown(value)}', None


def _args(value: Json) -> Iterator[tuple[str, str | None]]:
    if not isinstance(value, Mapping | list | tuple):
        yield f"must be an object or an array, not {shown(value)}", None


def _up_to_date(value: Json) -> Iterator[tuple[str, str | None]]:
    wanted = 'must be like {"sources": ["in.csv"], "outputs": ["out.csv"]}'
    if not isinstance(value, Mapping):
        yield f"{wanted}, not {shown(value)}", None
        return
    for key, files in value.items():
        if key not in ("sources", "outputs"):
            yield f"{wanted}; it has no {shown(key)}", key if isinstance(key, str) else None
        elif not isinstance(files, list | tuple) or not all(isinstance(each, str) and each for each in files):
            yield f"{wanted}; its {key} are no list of texts ({shown(files)})", str(key)
    if not value.get("outputs"):
        yield f"{wanted}; without outputs nobody knows whether they are there", None


def _seconds(value: Json) -> Iterator[tuple[str, str | None]]:
    if problem_of(value) is not None or value < 0:
        yield f"must be a number of seconds, not {shown(value)}", None


def _inputs(value: Json) -> Iterator[tuple[str, str | None]]:
    if not isinstance(value, Mapping):
        yield f"must be an object, not {shown(value)}", None


class _Kind(NamedTuple):
    """The fields of a type that are checked, which of them templates fill in as a whole, and which it needs."""

    fields: Mapping[str, _Check]
    filled: frozenset[str]
    needed: str
    missing: Fault
    keys: tuple[str, ...]


def _kind(step_type: str, filled: tuple[str, ...], *more: str, **fields: _Check) -> _Kind:
    """Return the kind of that type; *more* keys than its *fields* may have any value."""
    needed = next(iter(fields))
    missing = Fault(needed, f"{step_type} step requires config.{needed}", is_sentence=True)
    return _Kind(fields, frozenset(filled), needed, missing, (*fields, *more, ROLLBACK))


_KINDS: Final[Mapping[str, _Kind]] = {
    "shell": _kind(
        "shell",
        ("run", "cwd"),
        run=_run,
        cwd=_cwd,
        env=_env,
        shell=_shell,
        stop=_stop,
        grace=_no_grace,
        output=_output,
        up_to_date=_up_to_date,
    ),
    "python": _kind("python", ("args",), call=_call, args=_args, up_to_date=_up_to_date),
    "sleep": _kind("sleep", ("seconds",), seconds=_seconds),
    "wait": _kind("wait", ("signal", "timeout"), "default", signal=_of_text("the name of a signal"), timeout=_seconds),
    "sub_flow": _kind("sub_flow", ("flow_name", "inputs"), flow_name=_of_text("the name of a flow"), inputs=_inputs),
}


def faults_in(step_type: str, config: Json, *, rendered: bool = False, partial: bool = False) -> list[Fault]:
    """Return what is wrong with the *config* of a step of one of szal's own types; null stands for a missing field.

    *rendered*: its templates are filled in, and keys that mean nothing are left alone, as what was recorded goes on.
    *partial*: it is a part of one, and what is missing stands elsewhere.

    >>> for fault in faults_in("shell", {"run": "{{inputs.command}}", "shell": "bash '", "env": {"A-B": "1"}}):
    ...     print(fault)
    config.env has the name 'A-B': the name of a variable has letters, digits and _, and begins with no digit
    config.shell must be a command like "bash -e", not "bash '": no closing quotation
    """
    kind = _KINDS[step_type]
    given = config if isinstance(config, Mapping) else {}
    found = [] if partial or given.get(kind.needed) is not None else [kind.missing]
    for field, check in kind.fields.items():
        value = given.get(field)
        if value is not None and (rendered or field not in kind.filled or not is_open(value)):
            found += [Fault(field, text, part) for text, part in check(value)]
    if not rendered:
        found += [_unknown(key, step_type, kind) for key in given if key not in kind.keys and not is_open(key)]
    if rendered or step_type != "shell":
        return found
    return [*found, *(_expanded_in(given) if partial else misplaced_in(given))]


def _unknown(key: object, step_type: str, kind: _Kind) -> Fault:
    known = [name for name in kind.keys if name != "grace"]
    hint = did_you_mean(key, known) if isinstance(key, str) else ""
    rest = hint or f", which has {', '.join(known)}"
    text = f"config.{key} is unknown in a {step_type} step{rest}"
    return Fault(str(key), text, is_sentence=True)


def misplaced_in(config: Mapping[str, Json]) -> list[Fault]:
    """Return what is wrong with the places of the placeholders in the command of *config*.

    >>> print(misplaced_in({"run": "cd {{inputs.x}}; eval {{inputs.y}}"})[0])
    config.run, line 1, column 23: {{inputs.y}} is read as code by eval: run the command itself, without eval
    """
    found, command, shell = _expanded_in(config), config.get("run"), config.get("shell")
    if not isinstance(command, str) or not is_open(command) or (shell is not None and [*_shell(shell)]):
        return found
    from szal.scripts.script import Script  # most programs have no commands

    try:
        script = Script.read(command, words_of(shell or DEFAULT_SHELL))
    except ConditionError:
        return found  # which is told with the templates
    return [
        *found,
        *(
            Fault("run", each.told(*_variable_with(each.path)), at=_in_text(command, each.position))
            for each in script.misplaced
        ),
    ]


def _variable_with(path: Path) -> tuple[str, str]:
    """Return the name of a variable that has what is at *path*, and what to write for it to be there."""
    match path.segments:
        case ("inputs", str(name)):
            return variable_of(INPUT, name), ""
        case ("steps", str(name), "output"):
            return variable_of(OUTPUT, name), ""
    return "VALUE", f", with VALUE: \"{{{{{path}}}}}\" under 'env'"


def _expanded_in(config: Mapping[str, Json]) -> list[Fault]:
    """Return which variables of *config* are filled in, although a shell runs the commands in their values."""
    env = config.get("env")
    if not isinstance(env, Mapping) or not any(map(is_open, env.values())):
        return []
    from szal.scripts.rules import EXPANDED

    text = "fills in {}, of which a shell runs the commands in its value: write it as it is"
    return [Fault("env", text.format(name), name) for name, value in env.items() if name in EXPANDED and is_open(value)]


def _in_text(text: str, position: int) -> InText:
    return InText(position, text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position))


def undo_of(config: Json) -> tuple[str, Json]:
    """Return the type and the config of the undo in a step's *config*.

    >>> undo_of({"rollback": {"call": "shop:refund"}})
    ('python', {'call': 'shop:refund'})
    """
    undo = config["rollback"]
    return "python" if isinstance(undo, Mapping) and "call" in undo else "shell", undo
