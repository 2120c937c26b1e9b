"""The drawing of a flow: what is in it, and where."""

from itertools import combinations
from uuid import UUID

import pytest
from drawings import seen
from hypothesis import given, settings
from hypothesis import strategies as st

from szal import FlowDef, FlowMode, InvalidFlow, StepDef, TriggerMode
from szal.pictures import skeleton
from szal.pictures.graph import graph_svg
from szal.scheduler.plan import Plan


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
        sources, targets = picture.names_at(*points[0]), picture.names_at(points[-1][0], points[-1][1] + 7)
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
    if len(points) == 2:
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
