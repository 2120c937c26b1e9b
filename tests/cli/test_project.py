"""The command line of a project, which brings a store, flows and settings of engines."""

import contextlib
import json
import threading

import pytest

import szal
from szal.cli import project as projects
from szal.cli import run_in_project
from szal.cli.project import Project
from szal.cli.target import BadTarget, find_target

order = szal.Flow("order")
within = threading.local()


@order.step(max_retries=0)
def charge(euros: int) -> str:
    if euros < 0:
        raise ValueError("no such amount")
    return f"{euros} {getattr(within, 'what', 'outside')}"


order.add_step(szal.StepDef("ask", step_type="wait", config={"signal": "ship"}), needs=charge)


@contextlib.contextmanager
def shop(_: object):
    within.what = "in the shop"
    yield
    del within.what


@pytest.fixture
def call(here, capfd):
    """``call(*words)``: run a command of the project; gives its exit status, and what it printed."""
    project = Project(
        program="./do szal", store=f"sqlite:///{here}/shop.db", flows=[order], config={"around": [shop], "timeout": 1}
    )

    def call(*words):
        status = run_in_project(project, words)
        return status, capfd.readouterr().out

    return call


def test_flows_are_known_by_name_and_go_on_without_a_target(call):
    status, shown = call("run", "order", "-i", "euros=7", "--id", "order-7")
    assert status == 3
    assert "7 in the shop" in shown, "what is around attempts in the project is there"
    assert ": ./do szal signal order-7 ship\n" in shown
    assert call("signal", "order-7", "ship", "true")[0] == 0
    status, shown = call("resume", "order-7")
    assert (status, "order completed" in shown) == (0, True)


def test_a_name_that_no_flow_of_the_project_has_is_told_with_the_nearest():
    told = r"ordr: there is no such file, and no flow of this project; did you mean 'order'\? \(a flow in Python"
    with projects.within(Project(flows=[order])), pytest.raises(BadTarget, match=told):
        find_target("ordr")


def test_what_is_to_be_typed_next_names_neither_store_nor_target(call):
    assert call("run", "order", "-i", "euros=-1", "--id", "bad")[0] == 1
    assert ": ./do szal rerun bad\n" in call("show", "bad")[1]
    assert call("rerun", "bad", "-i", "euros=2", "--new-id", "good")[0] == 3


def test_many_go_on_with_the_flows_of_the_project(call):
    for name in ("a", "b"):
        assert call("run", "order", "-i", "euros=1", "--id", name)[0] == 3
        assert call("signal", name, "ship", "true")[0] == 0
    assert call("recover", "--limit", "1")[0] == 0
    assert call("resume", "--flow", "order", "--yes")[0] == 0
    listed = json.loads(call("list", "--json")[1])
    assert {each["state"] for each in listed} == {"Completed"}


def test_a_worker_runs_the_flows_of_the_project(call, here):
    with szal.Engine.open(f"sqlite:///{here}/shop.db") as shop:
        shop.submit(order, {"euros": 3}, execution_id="submitted")
    assert call("worker", "--until-idle")[0] == 0
    assert "3 in the shop" in call("show", "submitted")[1]


def test_a_thread_that_the_program_had_before_keeps_no_command_from_returning(call, here):
    """It is not a step that hangs, for which the process would be ended."""
    with szal.Engine.open(f"sqlite:///{here}/shop.db") as shop:
        shop.submit(order, {"euros": 3}, execution_id="submitted")
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    thread.start()
    try:
        assert call("worker", "--until-idle")[0] == 0
        assert thread.is_alive()
    finally:
        go_on.set()
        thread.join()


def test_another_store_that_is_named_counts(call, here):
    assert call("run", "order", "-i", "euros=1", "--id", "here")[0] == 3
    status, shown = call("run", "order", "-i", "euros=1", "--id", "there", "--store", f"sqlite:///{here}/other.db")
    assert status == 3
    assert f"./do szal signal there ship --store sqlite:///{here}/other.db\n" in shown
    assert [each["execution_id"] for each in json.loads(call("list", "--json")[1])] == ["here"]


def test_a_name_that_is_no_flow_of_it_is_no_target(call):
    assert call("run", "nothing")[0] == 2
