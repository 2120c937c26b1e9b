"""`szal worker`: a process that runs what programs submit."""

import json
import signal

import pytest
from processes import command_line, wait_until

from szal import Engine, EngineConfig, FlowDef, FlowMode, StepDef, WorkflowState, open_store

FLOWS = """
import szal

mail = szal.Flow("mail")

@mail.step
def send(to):
    return f"sent to {to}"

other = szal.Flow("other")

@other.step
def begin():
    return 1
"""
SLOW = """
import threading
import szal
import szal.cli.worker

told = threading.Event()

class Engine(szal.Engine):
    def close(self, drain=None):
        super().close(drain)
        told.set()

szal.cli.worker.Engine = Engine
slow = szal.Flow("slow")

@slow.step
def begin(ctx):
    open("begun", "w").close()
    told.wait(30)  # until the engine knows of the signal

@slow.step
def after(begin):
    return "after"
"""


@pytest.fixture
def url(here):
    (here / "shop.py").write_text(FLOWS)
    url = f"sqlite:///{here}/szal.db"
    open_store(url).close()
    return url


@pytest.fixture
def shop(url):
    """An engine that submits."""
    with open_store(url) as store, Engine([], EngineConfig(execution_store=store)) as engine:
        yield engine


def mail():
    return FlowDef("mail", steps=[StepDef("send")])


def test_it_runs_what_was_submitted_and_ends_when_nothing_is_due(szal, shop, url):
    for number in range(3):
        shop.submit(mail(), {"to": f"a{number}"}, execution_id=f"e{number}")
    result = szal("worker", "shop:mail", "--store", url, "--until-idle")
    assert result.exit_code == 0, result.stderr
    assert [shop.look(f"e{number}").state for number in range(3)] == [WorkflowState.COMPLETED] * 3
    lines = [line.split(maxsplit=1)[1] for line in result.stdout.splitlines()]
    assert sorted(lines) == sorted(f"mail e{n} {what}" for n in range(3) for what in ("started", "completed"))


def test_it_tells_in_json_too(szal, shop, url):
    shop.submit(mail(), {"to": "a"}, execution_id="e", queue="slow")
    result = szal("worker", "shop:mail", "--store", url, "--until-idle", "--queue", "slow", "--json")
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(each["event"], each["execution_id"]) for each in told] == [("flow_started", "e"), ("flow_completed", "e")]


def test_what_is_of_other_flows_is_left(szal, shop, url):
    shop.submit(mail(), {"to": "a"}, execution_id="e")
    assert szal("worker", "shop:other", "--store", url, "--until-idle").exit_code == 0
    assert shop.look("e").state is WorkflowState.CREATED
    assert szal("worker", "shop:other", "shop:mail", "--store", url, "--until-idle").exit_code == 0
    assert shop.look("e").state is WorkflowState.COMPLETED


def test_a_store_is_needed(szal, here):
    (here / "shop.py").write_text(FLOWS)
    assert szal("worker", "shop:mail").exit_code == 2


def test_what_can_be_no_queue_or_no_flow_is_refused(szal, url):
    for words in (("worker", "shop:mail", "--until-idle"), ("next",)):
        result = szal(*words, "--queue", "", "--store", url)
        assert (result.exit_code, "the name of a queue is empty" in result.stderr) == (2, True), words
    result = szal("worker", "shop:nothing", "--store", url, "--processes", "2")  # or each of them would say so for ever
    assert (result.exit_code, "there is no nothing in shop" in result.stderr) == (2, True)


def test_sigterm_lets_the_step_end_and_leaves_the_rest_to_others(here, shop, url):
    begin = StepDef("begin")
    flow = FlowDef("slow", FlowMode.DAG, steps=[begin, StepDef("after", depends_on=[begin])])
    shop.submit(flow, execution_id="e")
    (here / "slow.py").write_text(SLOW)
    process = command_line("worker", "slow:slow", "--store", url, cwd=here)
    wait_until((here / "begun").exists, 30)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "SIGTERM: taking up nothing more" in err
    status = shop.look("e")
    assert (status.state, status.is_interrupted) == (WorkflowState.RUNNING, True)
    assert str(status.steps["begin"].status) == "completed"
    assert str(status.steps["after"].status) == "pending"


def test_several_processes_work_and_end_together(here, shop, url):
    process = command_line("worker", "--store", url, "--processes", "2", "--", "shop:mail", cwd=here)
    try:
        ids = [shop.submit(mail(), {"to": "a"}) for _ in range(6)]
        for each in ids:
            assert shop.result(each, timeout=60).success
    finally:
        process.send_signal(signal.SIGTERM)  # whatever happens: it would begin its processes again and again
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert out.count("completed") == 6


def test_several_processes_end_when_nothing_is_due(here, shop, url):
    shop.submit(mail(), {"to": "a"}, execution_id="e")
    process = command_line("worker", "shop:mail", "--store", url, "--processes", "2", "--until-idle", cwd=here)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err, out.count("completed")) == (0, "", 1)
