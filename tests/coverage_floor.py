"""Add up what the tests of every Python that measures it reached, and hold it against the floor.

CPython 3.11 measures at half as much again of the time that the tests take, so it leaves that to newer ones. Where
there is none of these, nothing was measured, and that is said.
"""

import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Return the exit status."""
    measured = sorted(Path(sys.argv[1]).glob("data.*"))
    if not measured:
        print("no coverage: of the Pythons here none measures it (3.12 and newer do)")
        return 0
    coverage = [sys.executable, "-m", "coverage"]
    subprocess.run([*coverage, "combine", "--quiet", "--keep", *map(str, measured)], check=True)
    return subprocess.run([*coverage, "report"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
