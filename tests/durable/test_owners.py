"""Who is known to have ended: by proof only, as what is not is run a second time. Else the lease decides."""

import os
import shutil
import subprocess
import sys
import textwrap
import threading
from functools import cache
from pathlib import Path

import pytest
from durable.children import SETUP, Child
from helper_engine import waited
from processes import wait_until

import szal
from szal import ExecutionOwned, FlowDef, StepDef
from szal.engine import owners
from szal.engine.owners import is_gone, owner_name

ONE = FlowDef("one", steps=[StepDef("charge")])


def parts():
    """Return the parts of this process's name, which a test may change, as a dict in their order."""
    return dict(zip(("host", "boot", "namespaces", "pid", "start", "random"), owner_name().split("/"), strict=True))


def named(**changed):
    return "/".join({**parts(), **changed}.values())


@pytest.fixture
def ended():
    """The number of a process that there was."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return str(process.pid)


# -- proof --------------------------------------------------------------------------------------------


def test_a_living_process_is_not_gone():
    assert not is_gone(owner_name())


def test_a_process_that_has_ended_is_gone():
    with Child(
        "    from szal.engine.owners import owner_name; tell(owner_name()); listen()", "sqlite:///:memory:"
    ) as child:
        owner = child.hear()
        assert not is_gone(owner)
        child.process.kill()
        child.process.wait()
        assert is_gone(owner)


def test_one_that_nobody_has_reaped_is_gone():
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(named(pid=str(process.pid), start="1"))
    process.wait()


def test_a_process_with_the_same_number_is_another_one():
    assert is_gone(named(start=str(int(parts()["start"]) + 1)))


# -- no proof -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", ["elsewhere/boot/pid:[1]/1/2/x", "nonsense", ""])
def test_of_a_process_of_another_machine_nothing_is_known(owner):
    assert not is_gone(owner)


@pytest.mark.parametrize("part", ["host", "boot", "namespaces"])
def test_nor_of_one_elsewhere_on_this_machine_though_there_is_none_of_that_number(ended, part):
    assert is_gone(named(pid=ended))
    assert not is_gone(named(pid=ended, **{part: "another"}))


def test_nor_of_an_owner_whose_name_has_no_namespace(ended):
    """As szal wrote them before."""
    host, boot, _, _, start, random = parts().values()
    assert not is_gone(f"{host}/{boot}/{ended}/{start}/{random}")


@pytest.mark.parametrize("pid", ["", "-1", "x", "9" * 30])
def test_nor_where_the_number_is_none(pid):
    assert not is_gone(named(pid=pid))


def test_of_one_whose_start_is_not_told_only_its_absence_is_proof(ended):
    assert not is_gone(named(start=""))
    assert is_gone(named(pid=ended, start=""))


def test_where_the_system_tells_nothing_nothing_is_proven(monkeypatch, tmp_path, ended):
    before = named(pid=ended)
    monkeypatch.setattr(owners, "_BOOT", tmp_path / "there is none")
    assert not is_gone(before)
    assert not is_gone(named(pid=ended))


# -- two owners on one machine --------------------------------------------------------------------------

OTHER_PIDS = ("unshare", "--pid", "--fork", "--kill-child")
PREFIXES = {
    "another pid namespace": (*OTHER_PIDS, "--mount-proc"),
    "another pid namespace, and the /proc of this one": OTHER_PIDS,
    "hidepid, another user": (
        *("unshare", "--mount", "sh", "-c"),
        'mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"',
        "sh",
    ),
}


@cache
def refused(prefix):
    """Return why processes cannot be started so here; empty where they can."""
    if shutil.which(prefix[0]) is None:
        return f"{prefix[0]} is not installed"
    done = subprocess.run([*prefix, sys.executable, "-c", ""], capture_output=True, text=True, check=False, timeout=20)
    return "" if done.returncode == 0 else f"not allowed here: {done.stderr.strip()}"


def elsewhere(where, code, *arguments):
    """Start a process that runs *code* after `SETUP`, where another cannot see it, or it not another."""
    if reason := refused(PREFIXES[where]):
        pytest.skip(reason)
    script = textwrap.dedent(SETUP + code)
    paths = os.pathsep.join([str(Path(szal.__file__).parents[1]), str(Path(__file__).parents[1])])
    command = [*PREFIXES[where], sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True, env=environment)


@pytest.fixture
def for_all(store_url):
    """Let any user write the database."""
    if store_url.startswith("sqlite"):
        directory = Path(store_url.removeprefix("sqlite:///")).parent
        directory.chmod(0o777)
        return lambda: [file.chmod(0o666) for file in directory.iterdir()]
    return lambda: None


@pytest.mark.parametrize(
    ("where", "kind"),
    [(where, kind) for where in PREFIXES for kind in ("sqlite", "postgres") if "user" not in where or kind == "sqlite"],
)
def test_who_cannot_see_an_owner_does_not_run_what_it_runs(store_url, new_engine, for_all, where):
    code = """
    try:
        tell([result.execution_id for result in new_engine().recover()], new_engine().resume("e").state)
    except ExecutionOwned:
        tell("owned")
    """
    begun, go = threading.Event(), threading.Event()
    execution = new_engine(lambda ctx: (begun.set(), waited(go))[1]).start(ONE, execution_id="e")
    waited(begun)
    for_all()
    out, err = elsewhere(where, code, store_url).communicate(timeout=20)
    go.set()
    assert execution.result(timeout=20).success
    assert (out, err) == ("owned\n", "")


def test_an_owner_that_cannot_be_seen_from_here_is_not_gone_and_then_its_lease_decides(store_url, new_engine):
    code = """
    def handler(ctx):
        tell("begun")
        listen()

    new_engine(handler, lease_ttl=2).run(FlowDef("one", steps=[StepDef("charge")]), execution_id="e")
    """
    with elsewhere("another pid namespace", code, store_url) as process:
        try:
            assert process.stdout.readline() == "begun\n", process.stderr.read()
            engine = new_engine()
            assert engine.recover() == []
            with pytest.raises(ExecutionOwned):
                engine.resume("e")
        finally:
            process.kill()
            process.wait()
        [result] = wait_until(engine.recover)
        assert result.success
