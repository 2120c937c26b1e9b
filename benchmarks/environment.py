"""A virtualenv for each peer, made when it is first needed and kept."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.party import Peer

__all__ = ["Environments"]

_LONGEST = 900.0  # seconds for one installation


class Environments:
    """The virtualenvs in *folder*. What could not be installed is in `missing`, with the reason."""

    def __init__(self, folder: Path | None, tell: Callable[[str], None]) -> None:
        self._folder = folder.absolute() if folder is not None else _cache()
        self._tell = tell
        self.missing: dict[str, str] = {}

    def python(self, peer: Peer) -> str | None:
        """Return the interpreter that has *peer*, or None; tries once."""
        if peer.name in self.missing:
            return None
        wanted = " ".join(peer.requirements)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        digest = hashlib.sha256(wanted.encode()).hexdigest()[:8]
        home = self._folder / f"{peer.name}-py{version}-{digest}"
        python = home / "bin" / "python"
        ready = home / "ready"
        if not ready.exists():
            self._tell(f"installing {wanted} into {home}\n")
            try:
                _make(home, python, peer.requirements)
            except (OSError, subprocess.SubprocessError) as error:
                self.missing[peer.name] = _reason(error)
                shutil.rmtree(home, ignore_errors=True)
                return None
            ready.touch()
        return str(python)


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "szal-benchmarks"


def _make(home: Path, python: Path, requirements: tuple[str, ...]) -> None:
    _run(sys.executable, "-m", "venv", "--clear", str(home))
    _run(str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet", *requirements)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_LONGEST)


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = (error.stderr or error.stdout or "").strip().splitlines()
        return lines[-1] if lines else str(error)
    return str(error)
