"""The names of exception classes, which a step's retries are told by: one class has one name, however it was loaded.

A file can be run as a script, run with ``python -m``, or imported. In the first two cases its classes say that they are
of ``__main__``, of which every program has one. So the file decides there.
"""

import sys
from functools import lru_cache

__all__ = ["class_name", "is_called", "may_be_one"]

_MAIN = ("__main__", "__mp_main__")  # the second in a process that multiprocessing has spawned


def class_name(kind: type[BaseException]) -> str:
    """Return the dotted name that *kind* has where its file is imported; of a builtin the bare name.

    >>> class_name(ValueError), class_name(TimeoutError)
    ('ValueError', 'TimeoutError')
    """
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{_module_of(kind)}.{kind.__qualname__}"


def is_called(kind: type[BaseException], name: str) -> bool:
    """Whether *name* is a name of *kind*: its own, or one that another program has for the same file."""
    module, _, more = name.rpartition(f".{kind.__qualname__}")
    if more or not module:
        return kind.__qualname__ == name
    if module in (kind.__module__, _module_of(kind), *_MAIN):  # which program's main it was, nobody knows any more
        return True
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return file is not None and _may_be_of(file, module)


def may_be_one(name: str, other: str) -> bool:
    """Whether two recorded names may be of one class: one says less of where it is.

    >>> may_be_one("nightly.Busy", "jobs.nightly.Busy"), may_be_one("daily.Busy", "jobs.nightly.Busy")
    (True, False)
    """
    short, long = sorted((_without_main(name), _without_main(other)), key=len)
    return f".{long}".endswith(f".{short}")


def _without_main(name: str) -> str:
    module, _, rest = name.partition(".")
    return rest if module in _MAIN else name


def _module_of(kind: type[BaseException]) -> str:
    if kind.__module__ not in _MAIN:
        return kind.__module__
    main = sys.modules.get(kind.__module__)
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:  # it was run with -m
        return str(spec.name)
    return kind.__module__ if file is None else _name_of(file)


@lru_cache(maxsize=64)
def _name_of(file: str) -> str:
    """Return the name of the module in *file*, as far as the files beside it say to which package it belongs."""
    from pathlib import Path  # only programs that are no modules need it

    path = Path(file).resolve()
    parts = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").exists() and folder != folder.parent:
        parts.append(folder.name)
        folder = folder.parent
    return ".".join(reversed(parts))


def _may_be_of(file: str, module: str) -> bool:
    """Whether *module* may be in *file*: where its package is in some folder that another program has on its path."""
    from pathlib import Path

    whole = ".".join(Path(file).resolve().with_suffix("").parts)
    return f".{module}".endswith(f".{_name_of(file)}") and f".{whole}".endswith(f".{module}")
