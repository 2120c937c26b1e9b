"""What a process that dies leaves running: nothing, by the time that somebody goes on with its executions."""

import os
import signal
import sys

import pytest
from durable.children import Child
from processes import is_running, number_in, wait_until

from szal import Engine, EngineConfig, FlowDef, Handlers, StepDef, WorkflowState, open_store

RUN = """
    config = EngineConfig(execution_store=sink, lease_ttl=float(sys.argv[4]))
    command = {"run": sys.argv[2], "stop": {"grace": float(sys.argv[3])}}
    flow = FlowDef("f", steps=[StepDef("copy", step_type="shell", config=command)])
    Engine(Handlers(), config).run(flow, execution_id="e")
"""


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def die(store_url, tmp_path, log):
    """``die(script, grace=…, lease_ttl=…)`` runs a command in a process, kills that, and returns the group."""
    children = []

    def run(script, *, grace=20.0, lease_ttl=60.0):
        pid = tmp_path / "pid"
        until_killed = f"echo $$ > {pid}; while :; do sleep 0.02 || :; done"
        quiet = "exec >/dev/null 2>&1"  # nobody reads what it prints any more: that would end it with SIGPIPE
        script = f"{quiet}; echo begins >> {log}; {script}; test -e {pid} || {{ {until_killed}; }}"
        child = Child(RUN, store_url, script, grace, lease_ttl)
        children.append(child)
        group = wait_until(lambda: number_in(pid))
        child.process.kill()
        child.process.wait()
        return group

    yield run
    for child in children:
        child.__exit__()


def resume(url):
    with open_store(url) as store, Engine(Handlers(), EngineConfig(execution_store=store)) as engine:
        return engine.resume("e")


def test_a_copy_of_a_command_starts_when_the_old_one_has_ended(die, log, store_url):
    die(f"trap 'sleep 0.7; echo has ended >> {log}; exit' TERM")
    assert resume(store_url).state is WorkflowState.COMPLETED
    assert log.read_text().splitlines() == ["begins", "has ended", "begins"]


def test_it_is_killed_before_the_lease_can_have_run_out_whatever_its_grace(die, store_url):
    group = die("trap '' TERM", grace=60.0, lease_ttl=12.0)
    with open_store(store_url) as store:
        wait_until(lambda: not is_running(group))
        assert store.ledger.holder("e") is not None  # the lease still holds


def test_who_only_looks_does_not_wait_for_that(die, store_url):
    group = die("trap '' TERM", grace=20.0)
    with open_store(store_url) as store, Engine(Handlers(), EngineConfig(execution_store=store)) as engine:
        assert engine.interrupted() == ["e"]
    assert is_running(group)
    os.killpg(group, signal.SIGKILL)


# -- a szal in a step of szal ------------------------------------------------------------------------


@pytest.fixture
def inner(tmp_path):
    """A command that runs szal, whose command takes no notice of SIGTERM, and where its group is told."""
    pid = tmp_path / "pid"
    script = f"trap '' TERM; echo $$ > {pid}; echo ready; while :; do sleep 100; done"
    (tmp_path / "inner.yaml").write_text(f'name: inner\nsteps: [{{name: a, run: "{script}", stop: {{grace: 60s}}}}]\n')
    return f"exec {sys.executable} -m szal run {tmp_path}/inner.yaml", pid


def outer(command, **config):
    return FlowDef("outer", steps=[StepDef("outer", step_type="shell", config={"run": command, **config})])


def test_its_commands_end_within_the_grace_of_the_outer_one(inner):
    command, pid = inner
    with Engine(Handlers()) as engine:
        execution = engine.start(outer(command, stop={"grace": 3}))
        group = wait_until(lambda: number_in(pid), timeout=30.0)
        execution.cancel()
        result = execution.result(timeout=30.0)
        assert not is_running(group)
    assert result["outer"].error == "Cancelled: cancelled"
    assert result["outer"].duration > 0
    assert result.total_duration < 60


def test_its_commands_end_with_it_where_it_is_killed(inner):
    command, pid = inner
    with Engine(Handlers()) as engine:
        execution = engine.start(outer(command, stop={"signal": "KILL"}))
        group = wait_until(lambda: number_in(pid), timeout=30.0)
        execution.cancel()
        execution.result(timeout=30.0)
        wait_until(lambda: not is_running(group), timeout=30.0)  # it has no grace of its own: it is over already
