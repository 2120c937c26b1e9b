"""The folder with the files of commands: whose it is, and when it is gone."""

import contextlib
import os
import shutil
import signal
import stat
import tempfile
from pathlib import Path

import pytest
from processes import number_in, wait_until, zygote
from steps.commands import command, outcome, printed
from zygote import Process

from szal.steps.folder import CommandFiles

FOLDER = f"szal-{os.geteuid()}"
PROGRAM = """
import sys, tempfile
from szal import Engine, FlowDef, Handlers, StepDef
tempfile.tempdir = None
config = {"run": 'echo "$SZAL_RESULT"; ' + sys.argv[1]}
with Engine(Handlers()) as engine:
    print(engine.run(FlowDef("f", steps=[StepDef("a", step_type="shell", config=config)]))["a"].output["stdout"])
"""


def program(tmp_path, run):
    """Start a program that runs this command, with a folder for temporary files of its own."""
    return Process(zygote(), PROGRAM, [run], environ={**os.environ, "TMPDIR": str(tmp_path)})


def files_in(path):
    return [file for file in path.rglob("*") if file.is_file()]


def test_nobody_but_its_user_may_look_into_it():
    path = Path(printed(command('echo "$SZAL_RESULT"')))
    for folder in (path.parent, path.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert path.parent.parent == Path(tempfile.gettempdir(), FOLDER)


def test_it_is_gone_when_its_process_has_ended(tmp_path):
    out, _ = program(tmp_path, "true").communicate(timeout=30)
    assert str(tmp_path) in out
    assert list(tmp_path.iterdir()) == []


def test_what_a_process_that_was_killed_has_left_is_removed_by_the_next(tmp_path):
    ready = tmp_path / "ready"
    one = program(tmp_path, f"echo $$ > {ready}; exec sleep 100")
    pid = wait_until(lambda: number_in(ready), 30)
    one.send_signal(signal.SIGKILL)
    one.communicate(timeout=30)
    with contextlib.suppress(ProcessLookupError):  # whoever looks after it may have been quicker
        os.kill(pid, signal.SIGKILL)
    assert files_in(tmp_path / FOLDER)
    program(tmp_path, "true").communicate(timeout=30)
    assert list(tmp_path.iterdir()) == [ready]


def test_what_a_living_process_has_stays(tmp_path):
    ready, go = tmp_path / "ready", tmp_path / "go"
    one = program(
        tmp_path, f'touch {ready}; until test -e {go}; do sleep 0.02; done; test -f "$SZAL_RESULT"; echo there'
    )
    wait_until(ready.exists, 30)
    program(tmp_path, "true").communicate(timeout=30)
    go.touch()
    out, _ = one.communicate(timeout=30)
    assert out.split()[-1] == "there"


def test_a_child_has_one_of_its_own():
    with CommandFiles() as files:
        mine = Path(files.add("a"))
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            with CommandFiles() as others:
                os.write(writer, others.add("a").encode())
            os._exit(0)
        os.waitpid(pid, 0)
        theirs = Path(os.read(reader, 1000).decode())
        os.close(reader)
        os.close(writer)
        assert theirs.parent != mine.parent
        assert mine.exists()


def test_where_something_has_removed_it_another_is_made():
    with CommandFiles() as files:
        folder = Path(files.add("a")).parent
    shutil.rmtree(folder)
    assert outcome(command('echo a=1 > "$SZAL_RESULT"')).output["outputs"] == {"a": "1"}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: (path.mkdir(), path.chmod(0o777)), id="a folder that others may look into"),
        pytest.param(lambda path: path.symlink_to(path.parent), id="a link"),
        pytest.param(lambda path: path.touch(), id="a file"),
    ],
)
def test_what_somebody_else_has_put_in_its_place_is_not_used(tmp_path, monkeypatch, make):
    with CommandFiles() as files:
        folder = Path(files.add("a")).parent
    shutil.rmtree(folder)
    make(tmp_path / FOLDER)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with CommandFiles() as files:
        path = Path(files.add("a"))
    assert path.parent.parent == tmp_path
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    shutil.rmtree(path.parent)


def test_files_that_cannot_be_made_fail_the_attempt_and_it_says_what_to_do(tmp_path, monkeypatch):
    with CommandFiles() as files:
        folder = Path(files.add("a")).parent
    shutil.rmtree(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert outcome(command("true")).error == (
        f"no files for the command in {tmp_path}/nowhere: No such file or directory: "
        "have TMPDIR name a folder that has room"
    )
