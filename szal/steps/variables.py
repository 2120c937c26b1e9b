"""The environment of a command: what it is part of, and its flow's inputs and earlier outputs."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import attrs

from szal.errors import EncodeError, GiveUp, OutputMasked
from szal.expressions.path import Json, quoted_name
from szal.model.json.text import as_recorded, dumps
from szal.model.state import StepStatus
from szal.model.variables import INDEX, INPUT, ITEM, OUTPUT, RESULT, UNDONE, file_of, is_szals, variable_of
from szal.scheduler.context import StepContext
from szal.steps.folder import CommandFiles, KeptFiles

__all__ = ["MAX_VARIABLE", "environment_of"]

MAX_VARIABLE: Final = 100_000
"""Bytes of a variable, its name included. Linux takes 128 KiB."""

_LARGEST_LIMIT: Final = 2 << 20
"""Bytes. What is said of it where there is no limit on the stack is more than the system takes."""
_NAMED: Final = re.compile(r"SZAL_(?:INPUT|OUTPUT|ITEM)\w*", re.ASCII)


def environment_of(
    ctx: StepContext, run: str, own: Mapping[str, str], files: CommandFiles, *, result: str
) -> dict[str, str]:
    """Return the variables of a command: those of this process, *own*, which its step says, and szal's.

    *run* is the script as it is written, *result* the file for what it comes to. A value that is too large for a
    variable is a file, and a file that *run* names is made in any case. Raises `GiveUp` where it names a variable that
    there cannot be.
    """
    around = {name: value for name, value in os.environ.items() if not is_szals(name)}  # of a szal around this one
    about = {
        "SZAL_EXECUTION_ID": ctx.execution_id,
        "SZAL_FLOW": ctx.flow_name,
        "SZAL_STEP": ctx.step.name,
        "SZAL_ATTEMPT": str(ctx.attempt),
        "SZAL_IDEMPOTENCY_KEY": ctx.idempotency_key,
        RESULT: result,
    }
    if ctx.index is not None:
        about[INDEX] = str(ctx.index)
    named = frozenset(_NAMED.findall(run))
    return {**around, **about, **_values(ctx, named, files), **own}


@attrs.frozen
class _Value:
    """What a command may see: in which variable, what it is, and as which text; or why there is none."""

    variable: str
    file: str
    what: str
    text: str | None
    """None where that is too large to be kept."""
    size: int
    problem: str = ""
    """Why it is no variable."""
    is_nothing: bool = False
    """Whether it is no file either."""

    @classmethod
    def of(cls, variable: str, what: str, text_of: Callable[[], str]) -> "_Value":
        """Return the value, which *text_of* gives, or raises `EncodeError` for what has no JSON."""
        try:
            text = text_of()
        except EncodeError as error:
            return cls(variable, file_of(variable), what, "", 0, f"has no JSON: {error}", is_nothing=True)
        except OutputMasked as error:
            return cls(variable, file_of(variable), what, "", 0, f"is not known: {error}", is_nothing=True)
        size = len(variable) + (len(text) if text.isascii() else len(text.encode()))
        problem = "contains a NUL character" if "\0" in text else "is too large for one" if size > MAX_VARIABLE else ""
        return cls(variable, file_of(variable), what, text if size <= MAX_VARIABLE else None, size, problem)


def _values(ctx: StepContext, named: frozenset[str], files: CommandFiles) -> dict[str, str]:
    """Return the variables with what a command may see of its flow, and with the files where that is too large."""
    found = _found(ctx)
    in_files = _without_room(value for value, _ in found)
    environment: dict[str, str] = {}
    for value, text_of in found:
        is_named, names_file = value.variable in named, value.file in named
        problem = value.problem or ("is too large for one, beside the others" if value.variable in in_files else "")
        if problem and (is_named or names_file) and (value.is_nothing or not names_file):
            hint = "" if value.is_nothing else f": read the file ${value.file}"
            raise GiveUp(f"step {ctx.step.name!r}: {value.variable} is no variable: {value.what} {problem}{hint}")
        if not problem and value.text is not None:
            environment.setdefault(value.variable, value.text)  # the first of a name has it
        if names_file or (problem and not value.is_nothing):
            environment.setdefault(value.file, _file(ctx, value, text_of, files))
    return environment


def _file(ctx: StepContext, value: _Value, text_of: Callable[[], str], files: CommandFiles) -> str:
    if value.variable in (UNDONE, ITEM):  # which is of this attempt alone
        return files.add(value.variable, text_of().encode())
    kept: KeptFiles = ctx.kept.get(_FILES) or ctx.kept.setdefault(_FILES, KeptFiles())
    return kept.give(value.what, files, value.variable, lambda: text_of().encode())


def _without_room(found: Iterable[_Value]) -> frozenset[str]:
    """Return the variables that are to be files because all together have no room: the largest."""
    sizes = {value.variable: value.size for value in found if not value.problem}
    left_out = []
    total, room = sum(sizes.values()), _room()
    for variable in sorted(sizes, key=lambda name: (-sizes[name], name)) if total > room else ():
        if total <= room:
            break
        left_out.append(variable)
        total -= sizes[variable]
    return frozenset(left_out)


def _room() -> int:
    """Return how many bytes all of them may have: a quarter of what a program can be given, arguments included."""
    try:
        limit = os.sysconf("SC_ARG_MAX")
    except (ValueError, OSError):
        limit = -1
    return min(limit, _LARGEST_LIMIT) // 4 if limit > 0 else MAX_VARIABLE


# -- what there is -----------------------------------------------------------------------------------

_VALUES: Final = "values for variables"
_FILES: Final = "files of values"


def _found(ctx: StepContext) -> list[tuple[_Value, Callable[[], str]]]:
    """Return what templates see as well, and how to have it as text. It is kept for the other commands of the run."""
    values, known = ctx.values, ctx.kept.setdefault(_VALUES, {})
    found = []
    for name in values["inputs"]:
        text_of: Callable[[], str] = partial(_input_of, values["inputs"], name)
        found.append((known.get((INPUT, name)) or _known(known, INPUT, name, f"input {name!r}", text_of), text_of))
    for result in ctx.before():
        if result.output is not None or result.status is StepStatus.COMPLETED:
            name = result.step_name
            text_of = partial(_output_of, values["steps"], name)
            what = f"the output of step {name!r}"
            found.append((known.get((OUTPUT, name)) or _known(known, OUTPUT, name, what, text_of), text_of))
    if ctx.index is not None:
        text_of = partial(_item_of, ctx.values)
        found.append((_Value.of(ITEM, "this element", text_of), text_of))
    if ctx.has_output:
        path = f"steps{quoted_name(ctx.step.name)}.output"
        text_of = lambda: as_recorded(ctx.output, path, nul=True)[0]  # noqa: E731
        found.append((_Value.of(UNDONE, "the output of this step", text_of), text_of))
    return found


def _known(
    known: dict[tuple[str, str], _Value], prefix: str, name: str, what: str, text_of: Callable[[], str]
) -> _Value:
    value = known[prefix, name] = _Value.of(variable_of(prefix, name), what, text_of)
    return value


def _output_of(steps: Mapping[str, Json], name: str) -> str:
    return _text(steps[name]["output"], "steps", name, ".output")


def _input_of(inputs: Mapping[str, Json], name: str) -> str:
    return _text(inputs[name], "inputs", name, "")


def _item_of(values: Mapping[str, Json]) -> str:
    item = values["item"]
    return item if isinstance(item, str) and item.isascii() else _json_or_text(item, "item")


def _text(value: Json, root: str, name: str, rest: str) -> str:
    """Return *value* as a variable has it; raise `EncodeError`, with its path, where it has no JSON."""
    if isinstance(value, str) and value.isascii():
        return value
    return _json_or_text(value, f"{root}{quoted_name(name)}{rest}")


def _json_or_text(value: Json, path: str) -> str:
    text = dumps(value, path)  # refuses lone surrogates too
    return value if isinstance(value, str) else text
