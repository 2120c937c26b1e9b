"""How values come into a script: from files that its first line reads, so that they never stand in the process list."""

import shlex
from collections.abc import Mapping
from typing import Final

from szal.steps.folder import CommandFiles

__all__ = ["loading"]

_MAX_LITERAL: Final = 32_768
"""Characters of a value that stands in quotes: bash takes a second for one of 300 000 that is full of them."""


def loading(values: Mapping[str, str], files: CommandFiles) -> str:
    """Return what a script is to begin with so that it has *values* in variables; empty where there are none.

    It is no line of its own, so that the script keeps its line numbers. Where the files cannot be read, as after a
    change of user, the script ends. Raises UnicodeEncodeError for a lone surrogate.
    """
    if not values:
        return ""
    lines = [line for name, value in values.items() for line in _assignment(name, value, files)]
    path = files.add("values", "\n".join(lines).encode(errors="surrogateescape"))
    return f". {shlex.quote(path)} || exit; "


def _assignment(name: str, value: str, files: CommandFiles) -> tuple[str, ...]:
    if len(value) <= _MAX_LITERAL:
        return (f"{name}={shlex.quote(value)}",)
    path = shlex.quote(files.add("value", value.encode(errors="surrogateescape")))
    # a shell cuts the line ends off what it reads so, hence the dot
    return f"{name}=$(cat {path} && echo .) || exit", f"{name}=${{{name}%.}}"
