"""How an engine's child processes are started: what can be said of it, and what it comes to."""

import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from szal.steps.start import Start

__all__ = ["ProcessStart", "modules", "problem_of_preload", "problem_of_start", "way_to_start"]

ProcessStart = Literal["spawn", "forkserver"]


def modules(names: object) -> tuple[str, ...]:
    """Return what is to be preloaded as a tuple; raise TypeError for what is no sequence of names."""
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"process_preload must be a sequence of names of modules, not {names!r}")
    return tuple(names)


def problem_of_start(value: object) -> str | None:
    """Return what keeps *value* from saying how processes are started here; None: nothing.

    >>> problem_of_start("fork")
    "is one of spawn, forkserver, not 'fork'"
    """
    if value not in get_args(ProcessStart):
        return f"is one of {', '.join(get_args(ProcessStart))}, not {value!r}"
    missing = [f"{module.__name__}.{name}" for module, name in _NEEDED if not hasattr(module, name)]
    if value == "forkserver" and missing:
        return f"{value!r} needs {', '.join(missing)}, which this system does not have"
    return None


_NEEDED = ((os, "fork"), (socket, "send_fds"))


def problem_of_preload(names: Sequence[str], start: str) -> str | None:
    """Return what keeps modules from being preloaded; None: nothing."""
    if names and start != "forkserver":
        return f"{', '.join(names)}: only process_start='forkserver' has a process that imports modules beforehand"
    unfit = [name for name in names if not all(part.isidentifier() for part in name.split("."))]
    return f"{unfit[0]!r} is no name of a module" if unfit else None


def way_to_start(value: ProcessStart, preload: Sequence[str]) -> "Start":
    """Return what starts child processes so."""
    if value == "forkserver":
        from szal.steps.forks import Forks

        return Forks(preload)
    from szal.steps.start import Afresh

    return Afresh()
