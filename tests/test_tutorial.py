"""docs/tutorial.md, followed as a newcomer would: each file is written, each command typed, in the page's own order."""

import doctest
import re
import shlex
from pathlib import Path

from processes import run_command_line, zygote
from zygote import Process

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
PROGRAM = """
import runpy, sys
sys.path.insert(0, "")
sys.argv[0] = sys.argv.pop(1)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
CHECK = doctest.OutputChecker()
AS_SHOWN = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def typed(command: str) -> str:
    """Return what a command prints."""
    program, *words = shlex.split(command)
    if program == "ls":
        return "\n".join(sorted(path.name for path in Path().iterdir() if path.suffix not in (".db-shm", ".db-wal")))
    if program == "szal":
        done = run_command_line(*words)
        return done.stdout + done.stderr
    assert program == "python", command
    out, err = Process(zygote(), PROGRAM, words).communicate(timeout=30)
    return out + err


def test_each_command_prints_what_the_page_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("SZAL_STORE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    commands = 0
    for kind, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind == "python":
            Path(text.split("\n", 1)[0].removeprefix("# ")).write_text(text)
            continue
        for command, expected in COMMAND.findall(text):
            said = typed(command)
            assert CHECK.check_output(expected, said, AS_SHOWN), f"$ {command}\n{said}\ninstead of\n{expected}"
            assert said.count("fetching page 3") <= 1, "ctx.once has called twice"
            commands += 1
    assert commands >= 10
