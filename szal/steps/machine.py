"""What a config names that is to be on this machine: directories, programs, functions. And where a command runs."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from szal.errors import GiveUp, describe
from szal.expressions.path import Json
from szal.model.config import Fault, faults_in, is_open, words_of
from szal.model.flow import FlowDef
from szal.scheduler.context import StepContext
from szal.steps.lookup import NotThere, import_object

__all__ = ["check_action", "directory_of", "first_steps", "missing_for", "split_home"]

_HOME: Final = re.compile(r"(?:~|\$HOME|\$\{HOME\})(?=/|$)")


def check_action(ctx: StepContext, step_type: str, config: Json, *, rendered: bool = False) -> None:
    """Raise `GiveUp`, naming the step, where no attempt could do what *config* says."""
    if faults := faults_in(step_type, config, rendered=rendered):
        raise GiveUp(f"step {ctx.step.name!r}: {faults[0]}")


def split_home(cwd: str) -> tuple[str, str]:
    """Return what a `cwd` begins with where that stands for the home directory, expanded, and the rest of it.

    >>> split_home("src/~"), split_home("$HOMES/src")
    (('', 'src/~'), ('', '$HOMES/src'))
    >>> split_home("$HOME/src") == split_home("~/src") == (str(Path.home()), "/src")
    True
    """
    match = _HOME.match(cwd)
    return ("", cwd) if match is None else (str(Path("~").expanduser()), cwd[match.end() :])


def directory_of(cwd: str | None, base: str | None) -> str | None:
    """Return where a command runs that is to run in *cwd*, seen from *base*. None: where this process does."""
    return base if cwd is None else str(Path(base or "", cwd))


def missing_for(step_type: str, config: Json, base: str | None, *, may_be_made: bool = False) -> list[Fault]:
    """Return what a "shell" or "python" step's *config* names that is not on this machine.

    What a template is still to fill in is not looked for, nor are directories and files that something that runs before
    may make (*may_be_made*). The module of a function is imported.
    """
    if step_type == "python":
        return list(_missing_function(config["call"]))
    cwd: str | None = config.get("cwd")
    if cwd is not None and not is_open(cwd):
        cwd = "".join(split_home(cwd))
    directory = None if is_open(cwd) else directory_of(cwd, base)
    found = [] if may_be_made else list(_missing_directory(directory))
    if not (may_be_made and os.sep in words_of(config.get("shell") or "sh")[0]):
        found += _missing_program(config, directory)
    return found


def first_steps(flow: FlowDef) -> frozenset[str]:
    """Return the ids of the steps before which no other has run for certain: what they need is to be there."""
    if flow.mode.is_linear:
        return frozenset(step.id for step in flow.steps[:1])
    return frozenset(step.id for step in flow.steps if not step.depends_on)


def _missing_directory(directory: str | None) -> Iterator[Fault]:
    if directory is not None and not Path(directory).is_dir():
        what = "is no directory" if Path(directory).exists() else "is not there"
        yield Fault("cwd", f"{directory!r} {what}")


def _missing_program(config: Mapping[str, Json], directory: str | None) -> Iterator[Fault]:
    program = words_of(config.get("shell") or "sh")[0]
    path = (config.get("env") or {}).get("PATH")
    if is_open(path):
        return
    where = str(Path(directory or "", program)) if os.sep in program else program
    if shutil.which(where, path=path) is None:
        yield Fault("shell", f"{program!r} is not a program on this machine")


def _missing_function(name: str) -> Iterator[Fault]:
    try:
        function = import_object(name)
    except NotThere as error:
        yield Fault("call", f"{name!r}: {error}")
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever a module does when it is imported)
        yield Fault("call", f"{name!r}: cannot import {name.partition(':')[0]}: {describe(error)}")
    else:
        if not callable(function):
            yield Fault("call", f"{name!r} is no function, but of type {type(function).__name__}")
