"""A virtualenv for each peer, made when it is first needed and kept."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.party import Peer

__all__ = ["Environments", "interpreter"]

_LONGEST = 900.0  # seconds for one installation
_NEWEST = 20  # of Python 3: no newer one is looked for


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
        found = interpreter(peer.python)
        if found is None:
            self.missing[peer.name] = f"needs Python {peer.python[0]}.{peer.python[1]}, which is not found here"
            return None
        base, version = found
        wanted = " ".join(peer.requirements)
        digest = hashlib.sha256(wanted.encode()).hexdigest()[:8]
        home = self._folder / f"{peer.name}-py{version}-{digest}"
        python = home / "bin" / "python"
        ready = home / "ready"
        if not ready.exists():
            self._tell(f"installing {wanted} into {home}\n")
            try:
                _make(base, home, python, peer.requirements)
            except (OSError, subprocess.SubprocessError) as error:
                self.missing[peer.name] = _reason(error)
                shutil.rmtree(home, ignore_errors=True)
                return None
            ready.touch()
        return str(python)


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "szal-benchmarks"


def interpreter(least: tuple[int, int]) -> tuple[str, str] | None:
    """Return a Python that is not older than *least*, with its version: this one, or the oldest that is on PATH.

    pyenv's are looked at too, as its shims answer for the version alone that is chosen.
    """
    if sys.version_info >= least:
        return sys.executable, f"{sys.version_info.major}.{sys.version_info.minor}"
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for minor in range(least[1], _NEWEST + 1):
        version = f"{least[0]}.{minor}"
        pyenvs = sorted(versions.glob(f"{version}.*/bin/python"))
        for each in filter(None, [*map(str, pyenvs), shutil.which(f"python{version}")]):
            if _works(each):
                return each, version
    return None


def _works(python: str) -> bool:
    try:
        _run(python, "-c", "import venv, ensurepip")
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _make(base: str, home: Path, python: Path, requirements: tuple[str, ...]) -> None:
    _run(base, "-m", "venv", "--clear", str(home))
    _run(str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet", *requirements)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_LONGEST)


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = (error.stderr or error.stdout or "").strip().splitlines()
        return lines[-1] if lines else str(error)
    return str(error)
