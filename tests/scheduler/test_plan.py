"""A flow compiled for execution: its nodes, its edges, and what may be seen from where."""

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ids import uid

from szal import Engine, FlowDef, FlowMode, InvalidFlow, StepDef, TriggerMode
from szal.scheduler.plan import EdgeKind, Plan

pytestmark = pytest.mark.slow

LONG = 25_000


@st.composite
def forests(draw: st.DrawFn) -> list[StepDef]:
    """Draw sub-steps in sub-steps, named in no order."""
    names = iter(draw(st.permutations(range(12))))

    def grow(depth: int) -> list[StepDef]:
        steps = []
        for _ in range(draw(st.integers(0, 3 if depth else 4))):
            name = next(names, None)
            if name is None:
                break
            steps.append(StepDef(f"s{name}", sub_steps=grow(depth + 1) if depth < 3 else ()))
        return steps

    return grow(0)


@st.composite
def dags(draw: st.DrawFn) -> FlowDef:
    """Draw a DAG whose steps are defined in any order."""
    count = draw(st.integers(0, 8))
    steps = []
    for number in range(count):
        needs = draw(st.lists(st.sampled_from([uid(n) for n in range(number)]), max_size=3)) if number else []
        trigger = draw(st.sampled_from([mode for mode in TriggerMode if needs or not mode.is_early]))
        steps.append(StepDef(f"s{number}", id=uid(number), depends_on=needs, trigger_mode=trigger))
    return FlowDef("dag", FlowMode.DAG, steps=draw(st.permutations(steps)))


def depth_first(steps):
    """Every step with its parent's name, by the obvious recursion."""
    for step in steps:
        yield step, None
        for sub_step, parent in depth_first(step.sub_steps):
            yield sub_step, parent or step.name


def edges(plan):
    """Return the edges as (name, name, kind)."""
    return sorted(
        (node.step.name, plan.nodes[target].step.name, kind)
        for node in plan.nodes
        for target, kind in plan.successors(node.place)
    )


def waiting(plan):
    """Return how many edges each node waits for."""
    return [plan.waiting[node.gate] for node in plan.nodes]


@given(forests())
def test_nodes_stand_in_depth_first_order(steps):
    plan = Plan.of(FlowDef("tree", FlowMode.HIERARCHICAL, steps=steps))
    expected = [step.name for step, _ in depth_first(steps)]
    assert [node.step.name for node in plan.nodes] == expected
    assert [node.place for node in plan.nodes] == list(range(len(expected)))
    assert plan.places == {name: place for place, name in enumerate(expected)}


@given(forests())
def test_a_hierarchy_waits_for_the_step_before_and_for_the_parent(steps):
    plan = Plan.of(FlowDef("tree", FlowMode.HIERARCHICAL, steps=steps))
    walked = list(depth_first(steps))
    expected = [(parent, step.name, EdgeKind.PARENT) for step, parent in walked if parent]
    for (before, _), (step, parent) in itertools.pairwise(walked):
        if before.name != parent:
            expected.append((before.name, step.name, EdgeKind.PRIOR))
    assert edges(plan) == sorted(expected)


@given(forests())
def test_a_flow_walks_in_the_same_order(steps):
    flow = FlowDef("tree", FlowMode.HIERARCHICAL, steps=steps)
    assert [step.name for step in flow.walk()] == [step.name for step, _ in depth_first(steps)]


@given(dags())
def test_a_dag_has_one_edge_for_each_dependency(flow):
    plan = Plan.of(flow)
    names = {step.id: step.name for step in flow.steps}
    kinds = {
        TriggerMode.ANY: EdgeKind.EITHER,
        TriggerMode.ONE_FAILED: EdgeKind.FAILING,
        TriggerMode.ONE_DONE: EdgeKind.FIRST,
    }
    expected = [
        (names[need], step.name, kinds.get(step.trigger_mode, EdgeKind.DEPENDENCY))
        for step in flow.steps
        for need in set(step.depends_on)
    ]
    assert edges(plan) == sorted(expected)
    assert waiting(plan) == [len(set(step.depends_on)) for step in flow.steps]
    assert [node.step for node in plan.nodes] == flow.steps


@given(dags())
def test_nodes_that_wait_for_the_same_stand_behind_one_gate(flow):
    plan = Plan.of(flow)
    gates = {}
    for node in plan.nodes:
        trigger = node.step.trigger_mode if node.step.trigger_mode.is_early else None
        gates.setdefault((trigger, frozenset(node.step.depends_on)), []).append(node)
    assert plan.gates == list(gates.values())


def test_a_layer_that_waits_for_all_of_another_has_as_many_edges_as_that_has_steps():
    first = [StepDef(f"a{n}", id=uid(f"a{n}")) for n in range(50)]
    names = [step.id for step in first]
    second = [StepDef(f"b{n}", depends_on=names[n:] + names[:n]) for n in range(50)]
    plan = Plan.of(FlowDef("layers", FlowMode.DAG, steps=[*first, *second]))
    assert sum(len(node.edges) for node in plan.nodes) == 50


@given(dags())
def test_what_is_before_a_step_is_what_it_waits_for_directly_or_not(flow):
    plan = Plan.of(flow)
    known = {}
    for number in range(len(flow.steps)):  # each depends on lower numbers only
        step = flow.steps[plan.places[f"s{number}"]]
        known[step.id] = set(step.depends_on).union(*(known[need] for need in step.depends_on))
    for step in flow.steps:
        place = plan.places[step.name]
        names = {each.id: each.name for each in flow.steps}
        expected = sorted(plan.places[names[each]] for each in known[step.id])
        assert list(plan.all_before(place)) == expected
        assert [source for source in range(len(flow.steps)) if plan.is_before(source, place)] == expected


@pytest.mark.parametrize("mode", [FlowMode.SEQUENTIAL, FlowMode.HIERARCHICAL], ids=str)
def test_in_a_line_all_that_stands_before_is_before(mode):
    plan = Plan.of(FlowDef("line", mode, steps=[StepDef(name) for name in "abc"]))
    assert edges(plan) == [("a", "b", EdgeKind.PRIOR), ("b", "c", EdgeKind.PRIOR)]
    assert [list(plan.all_before(place)) for place in range(3)] == [[], [0], [0, 1]]
    assert (plan.is_before(0, 2), plan.is_before(2, 0), plan.is_before(1, 1)) == (True, False, False)


def test_parallel_steps_have_no_edges():
    plan = Plan.of(FlowDef("beside", FlowMode.PARALLEL, steps=[StepDef(name) for name in "abc"]))
    assert (edges(plan), waiting(plan)) == ([], [0, 0, 0])
    assert not any(plan.is_before(a, b) for a in range(3) for b in range(3))


def test_a_rollback_goes_on_whatever_happens():
    plan = Plan.chain((StepDef(name), None) for name in "abc")
    assert edges(plan) == [("a", "b", EdgeKind.AFTER), ("b", "c", EdgeKind.AFTER)]
    assert waiting(plan) == [0, 1, 1]
    assert Plan.chain([]).nodes == []


def scope(plan, name):
    return {seen for seen, _ in plan.nodes[plan.places[name]].seen_by_condition}


def test_a_condition_is_given_the_steps_it_names_and_no_others():
    a, b = StepDef("a"), StepDef("b")
    c = StepDef("c", depends_on=[a, b], condition="steps.a.output && inputs.x")
    d = StepDef("d", depends_on=[c], condition="steps.b.output || steps.c.output")
    plan = Plan.of(FlowDef("f", FlowMode.DAG, steps=[d, c, b, a]))
    assert (scope(plan, "c"), scope(plan, "d"), scope(plan, "a")) == ({"a"}, {"b", "c"}, set())


def test_a_condition_behind_any_is_given_what_every_way_to_it_has_passed():
    root = StepDef("root")
    left, right = StepDef("left", depends_on=root), StepDef("right", depends_on=root)
    condition = "steps.root.output && steps.left.output && steps.right.output"
    either = StepDef("either", depends_on=[left, right], trigger_mode=TriggerMode.ANY, condition=condition)
    after = StepDef("after", depends_on=either, condition=condition)
    both = StepDef("both", depends_on=[either, left], condition=condition)
    plan = Plan.of(FlowDef("f", FlowMode.DAG, steps=[root, left, right, either, after, both]))
    assert (scope(plan, "either"), scope(plan, "after"), scope(plan, "both")) == ({"root"}, {"root"}, {"root", "left"})


# -- compiled once -----------------------------------------------------------------------------------


def test_a_plan_is_made_once():
    flow = FlowDef("f", steps=[StepDef("a")])
    assert Plan.of(flow) is Plan.of(flow)


@pytest.mark.parametrize(
    "change",
    [
        lambda flow: flow.add_step(StepDef("c")),
        lambda flow: flow.steps.reverse(),
        lambda flow: flow.steps.pop(),
        lambda flow: flow.steps.__setitem__(0, StepDef("other")),
        lambda flow: setattr(flow, "mode", FlowMode.PARALLEL),
        lambda flow: setattr(flow, "steps", []),
    ],
    ids=["added", "reversed", "popped", "replaced", "mode", "emptied"],
)
def test_a_changed_flow_has_a_plan_of_its_own(change):
    flow = FlowDef("f", steps=[StepDef("a"), StepDef("b")])
    before = Plan.of(flow)
    change(flow)
    after = Plan.of(flow)
    assert after is not before
    assert [node.step for node in after.nodes] == flow.steps


@pytest.mark.parametrize(("old", "new"), [(1, True), (0, False), (1, 1.0), ([1], [True])])
def test_a_step_that_only_python_takes_for_equal_is_a_change(old, new):
    flow = FlowDef("f", steps=[StepDef("a", config={"n": old})])
    Plan.of(flow)
    flow.steps[0] = attrs.evolve(flow.steps[0], config={"n": new})
    assert Plan.of(flow).nodes[0].step is flow.steps[0]


def test_a_flow_that_has_become_invalid_has_no_plan():
    flow = FlowDef("f", steps=[StepDef("a")])
    Plan.of(flow)
    flow.add_step(StepDef("a"))
    for _ in range(2):
        with pytest.raises(InvalidFlow):
            Plan.of(flow)
    flow.steps.pop()
    assert [node.step.name for node in Plan.of(flow).nodes] == ["a"]


def test_a_limit_of_the_flow_that_has_become_invalid_is_noticed():
    flow = FlowDef("f", steps=[StepDef("a")])
    Plan.of(flow)
    flow.timeout = -1.0
    with pytest.raises(InvalidFlow):
        Plan.of(flow)


# -- size --------------------------------------------------------------------------------------------


def test_a_chain_of_many_steps():
    steps = [StepDef(f"s{n}", id=uid(n), depends_on=[uid(n - 1)] if n else []) for n in range(LONG)]
    plan = Plan.of(FlowDef("chain", FlowMode.DAG, steps=steps))
    assert waiting(plan) == [0] + [1] * (LONG - 1)
    assert plan.is_before(0, LONG - 1)
    assert not plan.is_before(LONG - 1, 0)
    assert list(plan.all_before(LONG - 1)) == list(range(LONG - 1))


def test_a_hierarchy_thousands_of_levels_deep():
    step = StepDef("s0")
    for level in range(1, 5000):
        step = StepDef(f"s{level}", sub_steps=[step])
    flow = FlowDef("deep", FlowMode.HIERARCHICAL, steps=[step])
    plan = Plan.of(flow)
    assert [node.step.name for node in plan.nodes] == [f"s{level}" for level in range(4999, -1, -1)]
    assert Plan.of(flow) is plan


def test_a_deep_hierarchy_is_compared_with_another_without_a_deep_stack():
    def deep():
        step = StepDef("s0", id=uid(0))
        for level in range(1, 5000):
            step = StepDef(f"s{level}", id=uid(level), sub_steps=[step])
        return step

    flow = FlowDef("deep", FlowMode.HIERARCHICAL, steps=[deep()])
    Plan.of(flow)
    flow.steps = [deep()]
    assert len(Plan.of(flow).nodes) == 5000


def test_everything_waits_for_one_and_one_waits_for_everything():
    first = StepDef("first", id=uid("first"))
    middle = [StepDef(f"s{n}", id=uid(n), depends_on=[first]) for n in range(LONG // 2)]
    last = StepDef("last", depends_on=middle, trigger_mode=TriggerMode.ANY)
    plan = Plan.of(FlowDef("wide", FlowMode.DAG, steps=[last, first, *middle]))
    assert (len(list(plan.successors(1))), plan.waiting[0]) == (LONG // 2, LONG // 2)
    assert plan.starts_early


def test_a_config_that_is_changed_in_place_is_compiled_again():
    config = {"text": "{{inputs.a}}", "more": [1]}
    flow = FlowDef("f", steps=[StepDef("a", config=config)])
    assert Plan.of(flow) is Plan.of(flow)
    seen = []
    with Engine(lambda ctx: seen.append(ctx.config)) as engine:
        engine.run(flow, {"a": "A", "b": "B"})
        config["text"], config["more"] = "{{inputs.b}}", [True]
        engine.run(flow, {"a": "A", "b": "B"})
    assert seen == [{"text": "A", "more": [1]}, {"text": "B", "more": [True]}]
