"""When steps ran: their attempts, and what they waited for."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree as ET

import attrs
import pytest
from drawings import SVG, has

from szal import ExecutionRecord, FlowDef, FlowResult, StepDef, StepResult, StepStatus, WorkflowState
from szal.engine.status import ExecutionStatus
from szal.model.json import AttemptEnd, Checkpoint
from szal.pictures.scale import Scale
from szal.pictures.timeline import timeline_svg

START = datetime(2026, 6, 10, 12, 0, 0, tzinfo=UTC)


def at(seconds):
    return START + timedelta(seconds=seconds)


def step(name, start=None, duration=0.0, status=StepStatus.COMPLETED, attempts=1, **more):
    began = None if start is None else at(start)
    return StepResult(name, name, status, duration=duration, attempts=attempts, started_at=began, **more)


def of(*results, state=WorkflowState.COMPLETED, end=10.0, flow=None, **more):
    finished = None if end is None else at(end)
    record = ExecutionRecord("x", "f", state, None, START, finished)
    return ExecutionStatus(record=record, results=results, flow=flow, **more)


@attrs.frozen
class Bar:
    """What is drawn of a time: from where to where, in percent, how, and what is told of it."""

    left: float
    right: float
    kind: str
    title: str


def bars(svg):
    """Return by the names of steps what is drawn of each."""
    found = {}
    for row in ET.fromstring(svg).iter(f"{SVG}g"):
        if not has(row, "szal-row"):
            continue
        name = row.find(f"{SVG}title").text.partition("\n")[0]
        found[name] = []
        for each in row:
            title = each.find(f"{SVG}title")
            if has(each, "szal-bar"):
                left, kind = float(each.get("x")[:-1]), each.get("class").split("szal-")[-1]
                found[name].append(Bar(left, left + float(each.get("width")[:-1]), kind, title.text))
            elif has(each, "szal-wait"):
                found[name].append(Bar(float(each.get("x1")[:-1]), float(each.get("x2")[:-1]), "waiting", title.text))
    return found


def test_a_step_is_a_bar_from_its_start_to_its_end():
    found = bars(timeline_svg(of(step("a", 0, 2.5), step("b", 2.5, 5.0, StepStatus.FAILED, error="ValueError: x"))))
    assert [(bar.left, bar.right, bar.kind) for bar in found["a"]] == [(0, 25, "completed")]
    assert [(bar.left, bar.right, bar.kind) for bar in found["b"]] == [(25, 75, "failed")]


def test_each_attempt_is_one_and_so_is_what_was_waited_between():
    ends = [AttemptEnd(at(1), at(2), "OSError: no"), AttemptEnd(at(4), at(5), None)]
    result = step("a", 1, 4, attempts=2)
    (found,) = bars(timeline_svg(of(result), {"a": Checkpoint(result, attempts=ends)})).values()
    assert [(bar.left, bar.right, bar.kind) for bar in found] == [
        (10, 20, "failed"),
        (20, 40, "waiting"),
        (40, 50, "completed"),
    ]
    assert [bar.title for bar in found] == [
        "attempt 1, 1.0s: failed: OSError: no",
        "waited 2.0s for attempt 2",
        "attempt 2, 1.0s: completed",
    ]


def test_each_attempt_to_undo_a_step_is_a_hollow_bar_behind_what_was_done():
    undos = [AttemptEnd(at(6), at(7), "OSError: no"), AttemptEnd(at(8), at(10))]
    result = step("a", 0, 4, StepStatus.ROLLED_BACK)
    svg = timeline_svg(of(result), {"a": Checkpoint(result, undos=undos)})
    (found,) = bars(svg).values()
    assert [(bar.left, bar.right, bar.kind, bar.title) for bar in found] == [
        (0, 40, "completed", "ran for 4.0s"),
        (60, 70, "failed", "undo 1, 1.0s: failed: OSError: no"),
        (70, 80, "waiting", "waited 1.0s to undo it again"),
        (80, 100, "rolled_back", "undo 2, 2.0s: undone"),
    ]
    assert [has(each, "szal-undo") for each in ET.fromstring(svg).iter(f"{SVG}rect") if has(each, "szal-bar")] == [
        False,
        True,
        True,
    ]


def test_a_step_that_was_undone_although_it_failed_is_drawn_as_one_that_failed_before_that():
    result = step("a", 0, 4, StepStatus.ROLLED_BACK, error="ValueError: x")
    (found,) = bars(timeline_svg(of(result), {"a": Checkpoint(result, undos=[AttemptEnd(at(5), at(6))])})).values()
    assert [(bar.kind, bar.title) for bar in found] == [
        ("failed", "failed, after it ran for 4.0s"),
        ("rolled_back", "undo, 1.0s: undone"),
    ]


def test_items_are_undone_each_at_its_time():
    items = [step("a", 0, 2, StepStatus.ROLLED_BACK), step("a", 0, 2, StepStatus.ROLLED_BACK)]
    kept = {f"a[{index}]": Checkpoint(items[index], undos=[AttemptEnd(at(5 - index), at(6))]) for index in (0, 1)}
    (found,) = bars(timeline_svg(of(step("a", 0, 2, StepStatus.ROLLED_BACK, items=items)), kept)).values()
    assert sorted(bar.title for bar in found if bar.kind == "rolled_back") == [
        "[0] undo, 1.0s: undone",
        "[1] undo, 2.0s: undone",
    ]


def test_of_very_many_attempts_the_last_are_told_by_their_numbers():
    result = step("a", 0, 10, attempts=30)
    (found,) = bars(timeline_svg(of(result), {"a": Checkpoint(result, attempts=[AttemptEnd(at(8), at(10))])})).values()
    assert [bar.title for bar in found] == ["waited 8.0s for attempt 30", "attempt 30, 2.0s: completed"]


def test_rows_stand_in_the_order_in_which_steps_began_and_what_never_did_comes_last():
    skipped = step("skipped", attempts=0, status=StepStatus.SKIPPED, error="dependency failed")
    assert [*bars(timeline_svg(of(skipped, step("late", 5, 1), step("early", 1, 1))))] == ["early", "late", "skipped"]


def test_what_runs_is_drawn_up_to_now():
    running = of(step("a", 0, status=StepStatus.RUNNING), state=WorkflowState.RUNNING, end=None, is_running=True)
    (found,) = bars(timeline_svg(running, now=at(4))).values()
    assert [(bar.left, bar.right, bar.kind) for bar in found] == [(0, 100, "running")]


def test_a_wait_is_drawn_as_one():
    flow = FlowDef("f", steps=[StepDef("ask", step_type="wait", config={"signal": "yes"})])
    (found,) = bars(timeline_svg(of(step("ask", 0, 10), flow=flow))).values()
    assert [bar.kind for bar in found] == ["waiting"]


def test_items_that_run_at_the_same_time_are_in_lanes():
    items = [step("a", 0, 4), step("a", 0, 6), step("a", 4, 2, StepStatus.FAILED, error="ValueError: 3")]
    svg = timeline_svg(of(step("a", 0, 6, items=items)))
    rows = {float(each.get("y")) for each in ET.fromstring(svg).iter(f"{SVG}rect") if has(each, "szal-bar")}
    (found,) = bars(svg).values()
    assert len(rows) in (2, 3)  # a failed one is less high
    assert [bar.title for bar in found if bar.kind == "failed"] == ["[2] failed, after it ran for 2.0s: ValueError: 3"]


def test_a_long_time_in_which_nothing_ran_is_cut_short():
    svg = timeline_svg(of(step("a", 0, 5), step("b", 86_400, 5), end=86_405))
    first, second = bars(svg)["a"][0], bars(svg)["b"][0]
    assert first.right - first.left == pytest.approx(46, abs=0.1)
    assert second.right - second.left == pytest.approx(46, abs=0.1)
    assert "23h59m in which nothing ran" in svg


def test_a_result_of_a_run_will_do():
    assert bars(timeline_svg(FlowResult("f", [step("a", 0, 1)])))["a"][0].right == 100


def test_no_steps():
    assert bars(timeline_svg(FlowResult("f", []))) == {}
    assert bars(timeline_svg(FlowResult("f", [step("a", attempts=0, status=StepStatus.PENDING)]))) == {"a": []}


@pytest.mark.parametrize("total", [0.0, 0.0004, 0.9, 7, 59, 61, 3599, 90_000, 10_000_000])
def test_ticks_are_few_and_apart(total):
    ticks = list(Scale.of(total, [(0.0, total)]).ticks())
    places = [place for place, _ in ticks]
    assert 1 <= len(ticks) <= 6
    assert all(after - before >= 9 for before, after in pairwise(places))
    assert len({text for _, text in ticks}) == len(ticks)
