"""Objects by name, as in "package.module:function", and where their modules are looked for."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import attrs

from szal.errors import SzalError, did_you_mean

__all__ = ["NotThere", "import_object", "look_in"]


@attrs.define
class NotThere(SzalError):
    """There is no such module, or nothing of that name in it."""

    problem: str

    def __str__(self) -> str:
        return self.problem


def look_in(*directories: str | os.PathLike[str]) -> None:
    """Have modules looked for in *directories* too, the first of them first: before anywhere else.

    For programs that are there to run flows: it changes `sys.path`.
    """
    for directory in reversed(directories):
        path = str(Path(directory).absolute())
        if path not in sys.path:
            sys.path.insert(0, path)


def import_object(name: str) -> Any:
    """Return the object at "package.module:attribute"; raise `NotThere`, and whatever the module raises.

    >>> import_object("os.path:basename")("/a/b")
    'b'
    >>> import_object("os.path:basenam")
    Traceback (most recent call last):
    szal.steps.lookup.NotThere: there is no basenam in os.path; did you mean 'basename'?
    """
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise NotThere(f"there is no module {error.name}, here or on sys.path") from error
        raise
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            hint = did_you_mean(part, [known for known in dir(found) if not known.startswith("__")])
            raise NotThere(f"there is no {part} in {module}{hint}") from error
    return found
