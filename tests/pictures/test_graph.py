"""The drawing of a flow: what is in it, and where."""

from datetime import UTC, datetime
from itertools import combinations
from uuid import UUID

import pytest
from drawings import SVG, has, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from szal import (
    ExecutionRecord,
    FlowDef,
    FlowMode,
    InvalidFlow,
    StepDef,
    StepResult,
    StepStatus,
    TriggerMode,
    WorkflowState,
)
from szal.engine.status import ExecutionStatus, Wait
from szal.model.results import StepReport
from szal.pictures import skeleton
from szal.pictures.graph import graph_svg
from szal.scheduler.plan import Plan
from szal.stores.limits import WaitingStep


def steps(*names, **more):
    return [StepDef(name, **more) for name in names]


def dag(*edges, **more):
    """Return a flow of steps that are told by what they wait for: ``("c", "a", "b")``."""
    by_name = {}
    for name, *needs in edges:
        by_name[name] = StepDef(name, depends_on=[by_name[each] for each in needs], **more)
    return FlowDef("f", FlowMode.DAG, steps=by_name.values())


def drawn_edges(picture):
    """Return which steps an edge leads from and to, by whatever joins; ends that are at no box are at a join."""
    into, out = {}, {}
    found = set()
    for points in picture.edges:
        sources, targets = picture.names_at(*points[0], at_end=True), picture.names_at(points[-1][0], points[-1][1] + 7)
        targets = targets or picture.names_at(points[-1][0] + 7, points[-1][1])
        if not targets:
            into.setdefault(points[-1], set()).update(sources)
        elif not sources:
            out.setdefault(points[0], set()).update(targets)
        else:
            found |= {(source, target) for source in sources for target in targets}
    assert sorted(into) == sorted(set(into) | {near(into, end) for end in out})
    for end, targets in out.items():
        found |= {(source, target) for source in into[near(into, end)] for target in targets}
    return found


def near(ends, point):
    """Return the end of other edges that is at the same join."""
    return next(end for end in ends if abs(end[0] - point[0]) + abs(end[1] - point[1]) < 9)


def planned_edges(flow):
    plan = Plan.of(flow)
    return {
        (node.step.name, plan.nodes[target].step.name)
        for node in plan.nodes
        for target, _ in plan.successors(node.place)
    }


def points_along(points):
    """Yield points on an edge, between its ends."""
    if len(points) in (2, 4):
        return
    yield points[1]
    for place in range(1, len(points) - 1, 4):
        start, one, two, end, after = points[place : place + 5]
        for step in range(1, 10):
            t, u = step / 10, 1 - step / 10
            yield tuple(
                u**3 * a + 3 * u * u * t * b + 3 * u * t * t * c + t**3 * d
                for a, b, c, d in zip(start, one, two, end, strict=True)
            )
        yield end
        yield ((end[0] + after[0]) / 2, (end[1] + after[1]) / 2)


def check(flow, **options):
    """Check all that holds of the drawing of any flow."""
    picture = seen(graph_svg(flow, **options))
    assert picture.boxes.keys() == {step.name for step in flow.walk()}
    for (one, first), (other, second) in combinations(picture.boxes.items(), 2):
        assert not first.overlaps(second), (one, other)
    assert drawn_edges(picture) == planned_edges(flow)
    assert len(picture.edges) <= len(planned_edges(flow))
    for points in picture.edges:
        for x, y in points_along(points):
            assert not [name for name, box in picture.boxes.items() if box.contains(x, y, -0.6)]
    for box, text in picture.texts:
        assert box.contains(text.left, text.top)
        assert box.contains(text.right, text.bottom)
    whole = picture.root.get("viewBox").split()
    for box in picture.boxes.values():
        assert box.left >= 0
        assert box.top >= 0
        assert box.right <= float(whole[2])
        assert box.bottom <= float(whole[3])
    return picture


class TestModes:
    def test_sequential(self):
        assert [*check(FlowDef("f", steps=steps("a", "b", "c"))).boxes] == ["a", "b", "c"]

    def test_parallel(self):
        assert check(FlowDef("f", FlowMode.PARALLEL, steps=steps("a", "b", "c"))).edges == []

    def test_hierarchical(self):
        flow = FlowDef("f", FlowMode.HIERARCHICAL, steps=[StepDef("a", sub_steps=steps("b", "c")), StepDef("d")])
        picture = check(flow)
        dotted = [path for path in picture.root.iter() if "szal-under" in path.get("class", "")]
        assert len(dotted) == 1

    def test_no_steps(self):
        assert check(FlowDef("f")).boxes == {}

    def test_an_invalid_flow(self):
        with pytest.raises(InvalidFlow):
            graph_svg(FlowDef("f", steps=steps("a", "a")))


def test_what_waits_for_the_same_is_a_block_if_it_is_many():
    many = [(f"load {n}", "list") for n in range(40)]
    picture = check(dag(("list",), *many, ("tell", *(name for name, _ in many))))
    assert (len(picture.blocks), len(picture.edges)) == (1, 2)


def test_edges_of_many_to_many_meet_in_one_point():
    first = [(f"a{n}", *((f"r{n}",) if n else ())) for n in range(4)]
    roots = [(f"r{n}",) for n in range(1, 4)]
    second = [(f"b{n}", "a0", "a1", "a2", "a3", *((f"r{n}",) if n else ())) for n in range(1)]
    third = [(f"c{n}", "a0", "a1", "a2", "a3") for n in range(4)]
    last = [(f"d{n}", f"c{n}") for n in range(1, 4)]
    picture = check(dag(*roots, *first, *second, *third, *last))
    assert len(picture.edges) < len(planned_edges(dag(*roots, *first, *second, *third, *last)))


def test_a_long_chain_is_in_rows():
    names = [f"step {n}" for n in range(50)]
    flow = FlowDef("f", FlowMode.DAG)
    flow.add_step(StepDef("first"))
    for name in names:
        flow.add_step(StepDef(name, depends_on=[flow.steps[-1]]))
    before = flow.steps[-1]
    flow.add_step(StepDef("left", depends_on=[before, flow.steps[0]]))
    flow.add_step(StepDef("right", depends_on=[before, flow.steps[0]]))
    picture = check(flow)
    assert len(picture.chains) == 1
    rows = {}
    for name in names:
        rows.setdefault(picture.boxes[name].top, []).append(name)
    assert [name for row in sorted(rows) for name in rows[row]] == names


def test_finally_steps_stand_below_all_others():
    flow = dag(("a",), ("b", "a"), ("c", "a"))
    flow.add_step(StepDef("tell", finally_=True))
    picture = check(flow)
    assert picture.boxes["tell"].top > max(box.bottom for name, box in picture.boxes.items() if name != "tell")


def test_what_is_wide_goes_from_left_to_right():
    chains = [edge for n in range(12) for edge in ((f"fetch {n}", "list"), (f"load {n}", f"fetch {n}"))]
    picture = check(dag(("list",), *chains))
    assert picture.boxes["list"].right < picture.boxes["fetch 3"].left
    assert picture.boxes["fetch 3"].right < picture.boxes["load 3"].left


def test_an_edge_that_would_pass_too_many_layers_is_straight(monkeypatch):
    monkeypatch.setattr(skeleton, "_MOST_BENDS", 20)
    flow = dag(("0",), ("1", "0"), *((str(n), str(n - 1), "0") for n in range(2, 20)))
    picture = seen(graph_svg(flow))
    assert drawn_edges(picture) == planned_edges(flow)
    assert 1 < sum(len(points) == 2 for points in picture.edges) < 18


def test_the_same_flow_is_the_same_picture():
    edges = [("a",), ("b", "a"), ("c", "a"), ("d", "b", "c"), ("e", "a", "d")]
    assert graph_svg(dag(*edges)) == graph_svg(dag(*edges))


@st.composite
def flows(draw):
    names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), min_size=1, max_size=40)
    names = names.map(lambda name: " ".join(name.split())).filter(lambda name: name and "{{" not in name)
    chosen = draw(st.lists(names, min_size=1, max_size=14, unique=True))
    mode = draw(st.sampled_from(FlowMode))
    made = []
    for place, name in enumerate(chosen):
        needs = draw(st.lists(st.sampled_from(made), unique=True, max_size=4)) if made and mode is FlowMode.DAG else []
        more = draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "max_retries": st.integers(0, 3),
                    "condition": st.sampled_from(["inputs.n > 1", "inputs.a && inputs.b == 'x'"]),
                    "foreach": st.sampled_from(["inputs.files", [1, 2, 3]]),
                    "rollbackable": st.booleans(),
                },
            )
        )
        trigger = draw(st.sampled_from(TriggerMode)) if needs and "condition" not in more else TriggerMode.ALL
        made.append(StepDef(name, id=str(UUID(int=place + 1)), depends_on=needs, trigger_mode=trigger, **more))
    finals = {}
    if draw(st.booleans()):
        finals = {"finally": StepDef("finally, whatever", finally_=True)}
    return FlowDef("f", mode, steps=[*made, *finals.values()], rollback_on_failure=draw(st.booleans()))


@settings(max_examples=40, deadline=None)
@given(flows())
def test_any_flow(flow):
    check(flow)


def look(*results, state=WorkflowState.RUNNING, **more):
    return ExecutionStatus(record=ExecutionRecord("x", "f", state), results=results, **more)


def words(svg):
    """Return what stands in the box of each step, and the class of its state."""
    found = {}
    for group in seen(svg).root.iter(f"{SVG}g"):
        if has(group, "szal-node"):
            texts = [text.text for text in group.iter(f"{SVG}text")]
            found[texts[0]] = [group.get("class").split("szal-")[-1], *texts[1:]]
    return found


def result(name, status=StepStatus.COMPLETED, **more):
    return StepResult(name, name, status, **more)


class TestExecutions:
    def test_each_step_has_its_state(self):
        flow = dag(("a",), ("b", "a"), ("c", "b"))
        failed = result("b", StepStatus.FAILED, attempts=3, duration=2.0, error="OSError: no", error_type="OSError")
        skipped = result("c", StepStatus.SKIPPED, error="dependency failed")
        svg = graph_svg(flow, look(result("a", attempts=1, duration=0.5), failed, skipped))
        assert words(svg) == {
            "a": ["completed", "completed · 500ms"],
            "b": ["failed", "failed · 2.0s · 3 tries", "OSError: no"],
            "c": ["skipped", "skipped: dependency failed"],
        }
        off = [path.get("class") for path in seen(svg).root.iter(f"{SVG}path") if has(path, "szal-edge")]
        assert sorted(off) == ["szal-edge", "szal-edge szal-off"]

    def test_one_that_waits_and_one_that_needs_a_decision(self):
        flow = FlowDef("f", FlowMode.PARALLEL, steps=steps("ask", "pay", "rest"))
        until = datetime(2026, 6, 10, 12, 30, tzinfo=UTC)
        status = look(
            *(result(name, StepStatus.PENDING) for name in ("ask", "pay", "rest")),
            state=WorkflowState.PAUSED,
            waits=[Wait("x", "ask", "yes", until), Wait("x", "pay"), Wait("other", "rest")],
        )
        assert words(graph_svg(flow, status)) == {
            "ask": ["paused", "until 2026-06-10 12:30 UTC"],
            "pay": ["undecided", "needs a decision"],
            "rest": ["pending"],
        }

    def test_one_that_runs_says_what_it_reported(self):
        running = result("a", StepStatus.RUNNING, report=StepReport({"line": "10 of 20"}, datetime.now(UTC)))
        assert words(graph_svg(dag(("a",)), look(running, is_running=True))) == {"a": ["running", "running: 10 of 20"]}

    def test_nobody_runs_it_any_more(self):
        status = look(result("a", StepStatus.RUNNING), is_interrupted=True)
        assert words(graph_svg(dag(("a",)), status)) == {"a": ["interrupted", "interrupted"]}

    def test_one_that_waits_for_what_others_use(self):
        status = look(result("a", StepStatus.PENDING), queued=[WaitingStep("a", "api", 1, capacity=5, used=5)])
        assert words(graph_svg(dag(("a",)), status)) == {"a": ["paused", "waits for 'api' (5 of 5 in use)"]}

    def test_items_are_counted(self):
        items = [result("a"), result("a", StepStatus.FAILED)]
        svg = graph_svg(FlowDef("f", steps=steps("a", foreach="inputs.n")), look(result("a", attempts=1, items=items)))
        assert "2 items: 1 completed, 1 failed" in words(svg)["a"]

    def test_a_step_leads_to_where_it_is_said_to(self):
        svg = graph_svg(dag(("a",)), link=lambda name: f'/steps/{name}?"<')
        root = seen(svg).root
        assert [each.get("href") for each in root.iter(f"{SVG}a")] == ['/steps/a?"<']
        assert root.get("role") == "group"  # an image would hide its links from who has it read out

    def test_a_picture_says_what_it_is(self):
        root = seen(graph_svg(dag(("a",), ("b", "a")))).root
        assert (root.get("role"), root.get("aria-label")) == ("img", "flow f, 2 steps")


def test_a_definition_says_what_a_step_is():
    flow = FlowDef(
        "f",
        rollback_on_failure=True,
        steps=[
            StepDef("build", step_type="shell", config={"run": "make all\nmake install"}, max_retries=2),
            StepDef("ask", step_type="wait", config={"signal": "yes"}, condition="inputs.env == 'prod'"),
            StepDef("rest", step_type="sleep", config={"seconds": 90}),
            StepDef("poll", step_type="http", until="output.ok", continue_on_error=True),
            StepDef("deploy", step_type="sub_flow", config={"flow_name": "deploy"}, rollbackable=True),
        ],
    )
    assert words(graph_svg(flow)) == {
        "build": ["node", "$ make all", "up to 3 attempts"],
        "ask": ["node", "if inputs.env == 'prod'", "waits for signal yes"],
        "rest": ["node", "sleeps 1m30s"],
        "poll": ["node", "until output.ok", "http", "may fail"],
        "deploy": ["node", "runs flow deploy", "undone if the flow fails"],
    }
