"""What runs a script: a shell with the options that it has by default, or what a step names, as it is written."""

import os
import shlex
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Final

import attrs

from szal.model.config import DEFAULT_SHELL, words_of
from szal.steps.folder import CommandFiles

__all__ = ["Interpreter"]

_SHELLS: Final = frozenset({"ash", "bash", "dash", "ksh", "mksh", "sh", "yash", "zsh"})
_MAX_ARGUMENT: Final = 100_000
"""Bytes. Linux takes 128 KiB in one argument."""


@attrs.frozen
class Interpreter:
    """A program and its options, to which a script is given as an argument."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, shell: str | None, *, directory: str | None, path: str | None) -> "Interpreter":
        """Return what *shell* says, "sh" where it says nothing.

        A shell that is named alone ends its script where a line fails (``-e``), and a pipeline fails with any of its
        commands (``-o pipefail``) where this shell has that. It is looked for on *path*, as seen from *directory*.
        """
        words = words_of(shell or DEFAULT_SHELL)
        if len(words) > 1 or PurePath(words[0]).name not in _SHELLS:
            return cls(words)
        where = str(Path(directory or "", words[0])) if os.sep in words[0] else words[0]
        try:
            has_pipefail = _has_pipefail(where, path or os.environ.get("PATH"))
        except FileNotFoundError:  # which is told when it is to run
            has_pipefail = False
        return cls((*words, *(("-e", "-o", "pipefail") if has_pipefail else ("-e",))))

    def command_for(self, script: str, files: CommandFiles) -> list[str]:
        """Return the command that runs *script*: what is too large for an argument is read from a file."""
        content = script.encode(errors="surrogateescape")
        if len(content) <= _MAX_ARGUMENT:
            return [*self.words, "-c", script]
        path = files.add("script", content)
        if PurePath(self.words[0]).name in _SHELLS:
            return [*self.words, "-c", f". {shlex.quote(path)}"]  # so that $0 is the shell, as it is for a short one
        return [*self.words, path]

    def __str__(self) -> str:
        return shlex.join(self.words)


@lru_cache(maxsize=64)
def _has_pipefail(shell: str, path: str | None) -> bool:
    """Whether this shell has that option, asked once: dash has it from 0.5.13 on."""
    program = shutil.which(shell, path=path)
    if program is None:
        raise FileNotFoundError(shell)  # a step may yet make it
    asked = [program, "-c", "set -o pipefail && echo yes"]
    try:
        # What it prints, and not how it ends: another part of this program may have been told that.
        done = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.stdout == b"yes\n"
