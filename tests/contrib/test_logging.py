"""Records of logging say which step they were made in."""

import logging
import threading

import pytest

from szal import Engine, EngineConfig, FlowDef, FlowMode, Handlers, StepDef
from szal.contrib.logging import ContextFilter

library = logging.getLogger("a.library")


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append((record.flow, record.step, record.attempt, record.getMessage()))


@pytest.fixture
def kept():
    handler = Kept()
    handler.addFilter(ContextFilter())
    library.addHandler(handler)
    yield handler
    library.removeHandler(handler)


def engine(handler, **config):
    return Engine(handler, EngineConfig(around=[ContextFilter().around], **config))


def test_parallel_steps_each_have_their_own(kept):
    meeting = threading.Barrier(3)

    def handler(ctx):
        meeting.wait(20)
        library.warning(ctx.step.name)

    with engine(handler) as running:
        assert running.run(FlowDef("f", FlowMode.PARALLEL, steps=[StepDef(name) for name in "abc"])).success
    assert sorted(kept.records) == [("f", name, 1, name) for name in "abc"]


def test_items_and_attempts_are_told_apart(kept):
    def handler(ctx):
        library.warning(ctx.item)
        if ctx.attempt == 1:
            raise OSError("once more")

    step = StepDef("each", foreach=["x", "y"], max_parallel=1, max_retries=1, retry_delay=0)
    with engine(handler) as running:
        assert running.run(FlowDef("f", steps=[step])).success
    assert sorted(kept.records) == [
        ("f", f"each[{index}]", attempt, item) for index, item in enumerate("xy") for attempt in (1, 2)
    ]


def test_an_undo_is_of_its_step(kept):
    handlers = Handlers(lambda ctx: 1 / (ctx.step.name != "fail"))
    handlers.rollback("pay")(lambda ctx: library.warning("undone"))
    steps = [StepDef("pay"), StepDef("fail")]
    with engine(handlers) as running:
        assert running.run(FlowDef("f", steps=steps, rollback_on_failure=True)).rolled_back
    assert kept.records == [("f", "pay", 1, "undone")]


def test_a_run_within_a_step_is_told_as_its_own(kept):
    inner = FlowDef("inner", steps=[StepDef("one")])

    def handler(ctx):
        if ctx.flow_name == "outer":
            assert running.run(inner).success
        library.warning("here")

    with engine(handler) as running:
        assert running.run(FlowDef("outer", steps=[StepDef("two")])).success
    assert kept.records == [("inner", "one", 1, "here"), ("outer", "two", 1, "here")]


def test_outside_there_is_none_and_what_a_record_says_itself_stays(kept):
    library.warning("alone")
    library.warning("own", extra={"flow": "mine"})
    assert kept.records == [("-", "-", "-", "alone"), ("mine", "-", "-", "own")]
