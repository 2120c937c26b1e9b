"""The main job, end to end: szal releases its own package, once well and once taking it back.

    python examples/demo.py

Everything goes to a temporary folder; the record of both runs is in a SQLite file there.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from szal import WorkflowState, open_store

ROOT = Path(__file__).resolve().parent.parent
WIDTH = shutil.get_terminal_size((100, 24)).columns


def szal(*arguments: str, expect: int = 0) -> str:
    """Run the command line as a person would, and show it."""
    print(f"\n$ szal {' '.join(arguments)}\n", flush=True)
    done = subprocess.run([sys.executable, "-m", "szal", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="", flush=True)
    if done.returncode != expect:
        sys.exit(f"expected exit status {expect}, got {done.returncode}")
    return done.stdout


def published(out: Path) -> str:
    return ", ".join(sorted(path.name for path in out.glob("*"))) or "nothing"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="szal-demo-") as folder:
        out = Path(folder, "channel")
        store = f"sqlite:///{folder}/szal.db"
        inputs = [
            "-i",
            f"python={sys.executable}",
            "-i",
            f"source={ROOT}",
            "-i",
            f"work={folder}/work",
            "-i",
            f"out={out}",
        ]
        flow = str(ROOT / "examples" / "release.yaml")

        szal("run", flow, *inputs, "--store", store)
        print(f"\npublished: {published(out)}")

        shutil.rmtree(out)
        szal("run", flow, *inputs, "-i", "announce=no", "--store", store, expect=1)
        print(f"\npublished after the rollback: {published(out)}")

        szal("list", "--store", store)
        with open_store(store) as opened:
            last = opened.find(limit=1)[0]
        if last.state is not WorkflowState.ROLLED_BACK:
            sys.exit(f"expected the last one to be rolled back, and it is {last.state}")
        szal("show", last.execution_id, "--store", store)


if __name__ == "__main__":
    main()
