"""The files that commands are given, in a folder that nobody but this user may look into.

A process has one folder, made for its first command and removed when it ends. It holds a lock on it (``flock``). What
a process that was killed has left behind is known by its lock being free, and the next process removes it.
"""

import contextlib
import itertools
import os
import shutil
import stat
import tempfile
import threading
import weakref
from collections.abc import Callable, Hashable
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

import attrs

from szal import process_events
from szal.errors import CommandFilesUnusable

__all__ = ["CommandFiles", "KeptFiles"]

_PRIVATE: Final = 0o700
_FIXED: Final = 0o400
_OPEN: Final = 0o600


class CommandFiles:
    """The files of one attempt, which are gone when it has ended.

    >>> with CommandFiles() as files:
    ...     path = files.add("values", b"x=1")
    ...     print(Path(path).read_text(), oct(Path(path).stat().st_mode & 0o777))
    x=1 0o400
    >>> Path(path).exists()
    False
    """

    def __init__(self) -> None:
        self._number = next(_numbers)
        self._paths: list[str] = []

    def add(self, name: str, content: bytes = b"", *, is_open: bool = False) -> str:
        """Make a file with *content*, and return its path; *name* is for people. *is_open*: to be written to.

        Raises `CommandFilesUnusable`.
        """
        path = _folder.write(self._name(name), content, _OPEN if is_open else _FIXED)
        self._paths.append(path)
        return path

    def link(self, name: str, path: str) -> str:
        """Make a link to the file at *path*, and return its own; raise OSError where it is gone, or cannot have any."""
        mine = f"{os.path.dirname(path)}/{self._name(name)}"  # noqa: PTH120 (a Path costs as much as the rest)
        os.link(path, mine)
        self._paths.append(mine)
        return mine

    def _name(self, name: str) -> str:
        return f"{self._number}-{len(self._paths)}-{name[:80]}"

    def __enter__(self) -> "CommandFiles":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for path in self._paths:
            try:
                os.unlink(path)  # noqa: PTH108 (a Path costs as much as the rest)
            except FileNotFoundError:
                pass
            except OSError:  # the command has made a folder of it
                shutil.rmtree(path, ignore_errors=True)


class KeptFiles:
    """The files of one run that many of its commands are given, each written once. They are gone with this object.

    What a command does to its own is nobody else's: it is given a link, and what was changed in place is written again.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, _Kept] = {}
        # not at the end of the process: then the folder is removed
        weakref.finalize(self, _remove_kept, self._kept, os.getpid()).atexit = False

    def give(self, key: Hashable, files: CommandFiles, name: str, content_of: Callable[[], bytes]) -> str:
        """Return the path of a file of that *name* among *files*, with the content of all that have the same *key*."""
        kept = self._kept.get(key)
        if kept is None or not kept.is_whole():
            kept = self._kept[key] = _Kept.of(_folder.write(f"{next(_numbers)}-{name[:80]}", content_of(), _FIXED))
        try:
            return files.link(name, kept.path)
        except OSError:  # there are no links here
            return files.add(name, content_of())


class _Kept(NamedTuple):
    """A file, as it was written."""

    path: str
    size: int
    changed: int

    @classmethod
    def of(cls, path: str) -> "_Kept":
        found = os.stat(path)  # noqa: PTH116
        return cls(path, found.st_size, found.st_mtime_ns)

    def is_whole(self) -> bool:
        try:
            return self == _Kept.of(self.path)
        except OSError:
            return False


def _remove_kept(kept: "dict[Hashable, _Kept]", process: int) -> None:
    for each in kept.values() if os.getpid() == process else ():
        with contextlib.suppress(OSError):
            os.unlink(each.path)  # noqa: PTH108


# -- the folder of this process ----------------------------------------------------------------------


class _Folder:
    """That of this process."""

    def __init__(self) -> None:
        self._changing = threading.RLock()
        self._held: _Held | None = None
        process_events.enroll(self)

    def write(self, name: str, content: bytes, mode: int) -> str:
        """Make a file of that name, and return its path."""
        try:
            held = self._made()
            try:
                return _written(held.path, name, content, mode)
            except FileNotFoundError:  # something cleans up what it takes for old
                held = self._made(instead_of=held)
                return _written(held.path, name, content, mode)
        except OSError as error:
            raise CommandFilesUnusable(tempfile.tempdir, error.strerror or str(error)) from error

    def _made(self, *, instead_of: "_Held | None" = None) -> "_Held":
        with self._changing:
            if self._held is None or self._held is instead_of:
                gone, self._held = self._held, _Held.new()
                if gone is not None:
                    gone.let_go()
            return self._held

    # -- forks and the end: see `process_events` -----------------------------------------------------------

    def before_fork(self) -> None:
        """Take the lock."""
        self._changing.acquire()

    def after_fork_in_parent(self) -> None:
        """Give it back."""
        self._changing.release()

    def after_fork_in_child(self) -> None:
        """Leave the folder to the parent, whose lock stays on it."""
        self._changing = threading.RLock()
        held, self._held = self._held, None
        if held is not None:
            held.let_go()

    def begin_exit(self) -> None:
        """Nothing to do: commands may still be ending."""

    def finish_exit(self, began: float) -> None:  # noqa: ARG002 (it waits for nothing)
        """Remove it. Commands enroll after it, and so have ended before it."""
        held, self._held = self._held, None
        if held is not None:
            held.remove()


@attrs.frozen
class _Held:
    """A folder, and the descriptor that holds the lock on it."""

    path: str
    descriptor: int
    parent: str | None

    @classmethod
    def new(cls) -> "_Held":
        """Make one beside those of other processes of this user, and remove what is left of those that are gone."""
        while True:
            parent = _parent()
            try:
                path = tempfile.mkdtemp(prefix=f"{os.getpid()}-" if parent else "szal-", dir=parent)
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:  # another process has removed it: it was the last there, or is cleaning up
                continue
            if _is_locked(descriptor) is not False:
                break
            os.close(descriptor)
        if parent is not None:
            _sweep(parent)
        return cls(path, descriptor, parent)

    def let_go(self) -> None:
        """Give up the lock."""
        os.close(self.descriptor)

    def remove(self) -> None:
        """Remove the folder, and that of the user if it was the last in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.let_go()
        if self.parent is not None:
            with contextlib.suppress(OSError):  # others are there
                Path(self.parent).rmdir()


def _parent() -> str | None:
    """Return the folder for the folders of this user's processes; None where somebody else has taken its name."""
    uid = os.geteuid()
    path = Path(tempfile.gettempdir(), f"szal-{uid}")
    with contextlib.suppress(FileExistsError):
        path.mkdir(_PRIVATE)
    found = path.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == uid and not stat.S_IMODE(found.st_mode) & 0o077
    return str(path) if is_ours else None


def _is_locked(descriptor: int) -> bool | None:
    """Lock a folder; return whether that was so. False: another process holds it; None: there are no locks here."""
    import fcntl  # which there is where commands can be run

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _sweep(parent: str) -> None:
    """Remove the folders of processes that are gone."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # somebody else has removed it
                descriptor = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    if _is_locked(descriptor):
                        shutil.rmtree(entry.path, ignore_errors=True)
                finally:
                    os.close(descriptor)


def _written(folder: str, name: str, content: bytes, mode: int) -> str:
    path = f"{folder}/{name}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BaseException:
        os.unlink(path)  # noqa: PTH108 (as above)
        raise
    finally:
        os.close(descriptor)
    return path


_numbers: Final = itertools.count(1)
_folder: Final = _Folder()
"""Of the process, as the hooks that remove it are."""
