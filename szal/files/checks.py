"""What a file says of commands and functions, held against what they can be; problems are noted where they stand."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from szal.expressions.path import Json
from szal.files.document import Entry, Place
from szal.files.fields import Fields
from szal.model.config import Fault, faults_in, misplaced_in, undo_of
from szal.model.flow import FlowDef
from szal.steps.machine import first_steps, missing_for, split_home

__all__ = ["check_command", "check_config", "check_expansion", "check_machine"]

_EXPANDED: Final = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][^}]*\}?|\()|^~(?=/|$)")
"""What a shell would put something else for."""


def check_config(fields: Fields, step_type: str, config: Json, *, partial: bool = True) -> None:
    """Note what is wrong with *config*, which is what *fields* say of a step, or a part of it."""
    for fault in faults_in(step_type, config, partial=partial):
        if fault.field in fields.entries:
            _note_fault(fields, fault)
        else:
            fields.problem(f"{fields.label}: {fault.text}")


def check_command(fields: Fields, command: str, shell: Json) -> None:
    """Note placeholders that stand where no value can be, in the *command* under "run", which *shell* is to run."""
    for fault in misplaced_in({"run": command, "shell": shell}):
        _note_fault(fields, fault)


def _note_fault(fields: Fields, fault: Fault) -> None:
    is_sentence = fault.at is not None
    text = f"{fault.field!r} in {fields.label}{':' if is_sentence else ''} {fault.text}"
    fields.problem(text, place=_place_of(fields.entries[fault.field], fault))


def check_expansion(fields: Fields) -> None:
    """Note variables where nothing puts their values: szal is no shell, and only the home directory is known to it."""
    cwd = fields.get("cwd")
    if cwd is not None and isinstance(cwd.data, str):
        _check_text(fields, "cwd", split_home(cwd.data)[1], cwd.place, "only ~ and $HOME at the beginning are")
    env = fields.get("env")
    for name, entry in env.data.items() if env is not None and isinstance(env.data, dict) else ():
        if isinstance(entry.value.data, str):
            line = f"write it in the command: export {name}=…"
            _check_text(fields, "env", entry.value.data, entry.value.place, line)


def _check_text(fields: Fields, key: str, text: str, place: Place, instead: str) -> None:
    if (match := _EXPANDED.search(text)) is not None:
        found = match[0] + ("…)" if match[0] == "$(" else "")
        escape = "" if found == "~" else "; {{'$'}} stands for a $ itself"
        fields.problem(f"{key!r} in {fields.label}: {found} is not expanded here; {instead}{escape}", place=place)


def check_machine(top: Fields, flow: FlowDef, steps: Mapping[str, Fields], base: str) -> None:
    """Note what commands and functions need that is not on this machine, seen from the directory *base*."""
    first = first_steps(flow)
    for step in flow.walk():
        fields = steps[step.name]
        if fields.is_faulty:
            continue
        if step.step_type in ("shell", "python"):
            may_be_made = step.id not in first
            _note(missing_for(step.step_type, step.config, base, may_be_made=may_be_made), fields, top)
        if isinstance(step.config, dict) and isinstance(step.config.get("rollback"), dict):
            faults = missing_for(*undo_of(step.config), base, may_be_made=True)
            _note(faults, fields.inner("rollback"), fields, top)


def _note(faults: Iterable[Fault], *around: Fields) -> None:
    """Note faults in the innermost of the objects *around* that says the field, once."""
    for fault in faults:
        for fields in around:
            inside = fields if fault.field in fields.entries else fields.inner("config")
            if fault.field in inside.entries:
                text = f"{fault.field!r} in {fields.label}: {fault.text}"
                fields.problem(text, place=inside.entries[fault.field].value.place)
                break
        else:
            around[0].problem(f"{fault.field!r} of {around[0].label}: {fault.text}")


def _place_of(entry: Entry, fault: Fault) -> Place:
    inner, part = entry.value.data, fault.part
    if fault.at is not None:
        return entry.value.place_of(fault.at.position)
    return inner[part].place if part is not None and isinstance(inner, dict) and part in inner else entry.value.place
