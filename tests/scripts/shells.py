"""Many scripts, run with many values by one process of a shell."""

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

SHELLS: Mapping[str, Sequence[str]] = {
    name: command
    for name, command in {
        "sh": ["sh", "-e"],
        "dash": ["dash", "-e"],
        "bash": ["bash", "-e"],
        "bash as sh": ["bash", "--posix", "-e"],
    }.items()
    if shutil.which(command[0])
}
"""Those that are installed, as a flow names them."""

_BEFORE = """
p() { for _a in "$@"; do printf '<%s>' "$_a"; done; }
x=1
"""


def printed(shell: str, scripts: Sequence[str], values: Sequence[str], folder: Path) -> list[list[str]]:
    """Return what each script prints with each value as the variable ``v``, and ``! STATUS`` after it where it fails.

    Each runs in a process of its own that the shell forks, in *folder*.
    """
    lines = [_BEFORE, f"cd {shlex.quote(str(folder))}"]
    for script in scripts:
        lines.append(f"script={shlex.quote(script)}")
        lines.append(f"for v in {shlex.join(values)}; do")
        lines.append('(eval "$script"; exit "$?") </dev/null; status=$?')  # quoted: a script may set IFS
        lines.append("[ $status = 0 ] || printf '! %s' $status; printf '\\036'; done")
    command = [part for part in SHELLS[shell] if part != "-e"]
    run = subprocess.run(command, input="\n".join(lines).encode(), capture_output=True, timeout=300)
    found = run.stdout.decode().split("\036")
    assert len(found) == len(scripts) * len(values) + 1, (run.stderr, found[-3:])
    return [found[start : start + len(values)] for start in range(0, len(found) - 1, len(values))]
