"""`FlowDef.validate`: every problem at once, each with its step's name, whatever the size of the flow."""

import itertools
import math
import pickle
import time

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ids import uid
from pairs import FULL

from szal import CycleDetected, Engine, FlowDef, FlowMode, InvalidFlow, StepDef, TriggerMode
from szal.model.step import MAX_COUNT

LONG = 20_000 if FULL else 6_000
DAG, HIERARCHICAL, SEQUENTIAL, PARALLEL = FlowMode.DAG, FlowMode.HIERARCHICAL, FlowMode.SEQUENTIAL, FlowMode.PARALLEL


def problems(flow):
    """Return what `validate` says is wrong: nothing, or the problems of one `InvalidFlow`."""
    try:
        flow.validate()
    except InvalidFlow as invalid:
        error = invalid
    else:
        return []
    text = str(error)
    assert error.flow == flow.name
    assert all(problem in text for problem in error.problems[:20])
    assert error.problems
    return list(error.problems)


def only_problem(flow, *words):
    """Check that exactly one thing is wrong, and that the message has all of *words*."""
    found = problems(flow)
    assert len(found) == 1, found
    for word in words:
        assert word in found[0], found[0]


def dag(*steps):
    return FlowDef("dag", DAG, steps=steps)


@pytest.mark.parametrize("mode", FlowMode, ids=str)
def test_nothing_is_wrong_with_an_empty_flow(mode):
    assert problems(FlowDef("empty", mode)) == []


def test_nothing_is_wrong_with_a_good_flow():
    a = StepDef("a", config={"text": "{{inputs.x}}"}, max_retries=3, timeout=1.5)
    b = StepDef("b", depends_on=a, condition="steps.a.output.n > 3 && inputs.env == 'prod'")
    c = StepDef("c", depends_on=[a, b], trigger_mode=TriggerMode.ANY, config={"list": [{"deep": "{{steps.a.output}}"}]})
    assert problems(dag(c, b, a)) == []


def test_every_problem_is_reported_at_once():
    broken = [
        StepDef("twice"),
        StepDef("twice"),
        StepDef("unknown", depends_on="no-such-id"),
        StepDef("lonely", trigger_mode=TriggerMode.ANY),
        StepDef("parent", sub_steps=[StepDef("child")]),
        StepDef("syntax", condition="inputs.x =="),
        StepDef("template", config={"text": "{{inputs."}),
        StepDef("stranger", condition="steps.nobody.output"),
        StepDef("negative", max_retries=-1),
        StepDef("late", timeout=-1.0),
    ]
    flow = FlowDef("bad", DAG, steps=broken)
    with pytest.raises(InvalidFlow) as caught:
        flow.validate()
    assert type(caught.value) is InvalidFlow
    found = caught.value.problems
    for name in ("twice", "unknown", "lonely", "parent", "syntax", "template", "stranger", "negative", "late"):
        assert any(f"'{name}'" in problem for problem in found), (name, found)
    assert len(found) == 9
    assert str(caught.value).startswith("invalid flow 'bad': 9 problems\n")


def test_a_cycle_is_reported_together_with_the_rest():
    a, b = StepDef("a", id=uid(1), depends_on=uid(2)), StepDef("b", id=uid(2), depends_on=uid(1), max_retries=-1)
    with pytest.raises(CycleDetected) as caught:
        dag(a, b, StepDef("c", timeout=-1)).validate()
    assert len(caught.value.problems) == 3
    assert caught.value.path in {("a", "b", "a"), ("b", "a", "b")}


def test_one_step_may_have_many_problems():
    step = StepDef(
        "s", max_retries=-1, retry_delay=-1, timeout=-1, max_retry_delay=-1, retry_jitter=-0.1, condition="("
    )
    assert len(problems(dag(step))) == 6


def test_an_invalid_flow_does_not_run():
    calls = []
    with Engine(calls.append) as engine, pytest.raises(InvalidFlow):
        engine.run(FlowDef("bad", steps=[StepDef("a"), StepDef("a")]))
    assert calls == []


def test_the_error_survives_pickling():
    flow = dag(StepDef("a", id=uid(1), depends_on=uid(1)), StepDef("a"))
    with pytest.raises(CycleDetected) as caught:
        flow.validate()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.path, copy.problems) == (str(caught.value), caught.value.path, caught.value.problems)


# -- names and ids -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", FlowMode, ids=str)
def test_names_are_unique(mode):
    only_problem(FlowDef("f", mode, steps=[StepDef("a"), StepDef("b"), StepDef("a")]), "'a'", "duplicate step name")


def test_names_are_unique_on_all_levels_of_a_hierarchy():
    steps = [StepDef("a", sub_steps=[StepDef("b", sub_steps=[StepDef("c")])]), StepDef("c")]
    only_problem(FlowDef("f", HIERARCHICAL, steps=steps), "'c'", "duplicate step name")


def test_the_same_step_twice_is_a_duplicate():
    step = StepDef("a")
    assert problems(FlowDef("f", DAG, steps=[step, step]))


def test_ids_are_unique():
    assert problems(dag(StepDef("a", id=uid(1)), StepDef("b", id=uid(1)), StepDef("c", depends_on=uid(1))))


@pytest.mark.parametrize("name", ["a.b", "a b", "größe", "'quoted'", 'with "both"', "in", "[0]", "🧵"])
def test_any_name_will_do(name):
    assert problems(dag(StepDef(name))) == []


# -- dependencies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [SEQUENTIAL, PARALLEL, HIERARCHICAL], ids=str)
def test_dependencies_are_for_dags(mode):
    a = StepDef("a")
    only_problem(FlowDef("f", mode, steps=[a, StepDef("b", depends_on=a)]), "'b'", "depends_on")


def test_dependencies_of_sub_steps_are_found():
    a = StepDef("a")
    flow = FlowDef("f", HIERARCHICAL, steps=[a, StepDef("p", sub_steps=[StepDef("b", depends_on=a)])])
    only_problem(flow, "'b'", "depends_on")


def test_dependencies_are_steps_of_the_flow():
    only_problem(dag(StepDef("a", depends_on=StepDef("elsewhere", id="other-id"))), "'a'", "other-id")


@pytest.mark.parametrize("trigger", [TriggerMode.ANY], ids=str)
def test_any_needs_something_to_choose_from(trigger):
    only_problem(dag(StepDef("a", trigger_mode=trigger)), "'a'", "depend")


@pytest.mark.parametrize("mode", [SEQUENTIAL, PARALLEL, DAG], ids=str)
def test_sub_steps_are_for_hierarchies(mode):
    flow = FlowDef("f", mode, steps=[StepDef("a", sub_steps=[StepDef("b")])])
    only_problem(flow, "'a'", "sub")


@pytest.mark.parametrize("trigger", [TriggerMode.ANY, TriggerMode.ONE_FAILED, TriggerMode.ONE_DONE], ids=str)
class TestAConditionOfAStepThatWaitsForOneOfSeveral:
    def test_may_not_name_one_of_them(self, trigger: TriggerMode) -> None:
        a, b = StepDef("a"), StepDef("b")
        first = StepDef("first", depends_on=[a, b], trigger_mode=trigger, condition="steps.b.status == 'failed'")
        only_problem(
            dag(a, b, first),
            f"step 'first': condition refers to step 'b', which may not have ended by then, as trigger mode {trigger}",
            "put the condition on a step that depends on 'b' alone, or wait for all of them (trigger mode all_done)",
        )

    def test_nor_what_only_one_of_them_waits_for(self, trigger: TriggerMode) -> None:
        a, b = StepDef("a"), StepDef("b")
        c = StepDef("c", depends_on=a)
        first = StepDef("first", depends_on=[b, c], trigger_mode=trigger, condition="steps.a.status == 'failed'")
        only_problem(dag(a, b, c, first), "'first'", "'a', which may not have ended by then")

    def test_may_name_what_must_have_ended_on_every_path(self, trigger: TriggerMode) -> None:
        root = StepDef("root")
        a = StepDef("a", depends_on=root)
        b = StepDef("b", depends_on=a)
        condition = "steps.root.output && steps.a.status == 'failed'"
        assert (
            problems(dag(root, a, b, StepDef("c", depends_on=[a, b], trigger_mode=trigger, condition=condition))) == []
        )

    def test_may_name_the_only_one(self, trigger: TriggerMode) -> None:
        a = StepDef("a")
        assert problems(dag(a, StepDef("c", depends_on=a, trigger_mode=trigger, condition="steps.a.output"))) == []

    def test_may_have_a_config_that_names_one_of_them(self, trigger: TriggerMode) -> None:
        a, b = StepDef("a"), StepDef("b")
        config = {"text": "{{steps.a.output?}}"}
        assert problems(dag(a, b, StepDef("c", depends_on=[a, b], trigger_mode=trigger, config=config))) == []


# -- cycles ------------------------------------------------------------------------------------------


def cycle(*names):
    return [StepDef(name, id=uid(name), depends_on=uid(names[place - 1])) for place, name in enumerate(names)]


@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_a_cycle_is_named_along_its_path(length):
    names = [f"s{number}" for number in range(length)]
    free = [StepDef("free"), StepDef("behind", depends_on=names[0]), StepDef("after", depends_on=["s0"])]
    with pytest.raises(CycleDetected) as caught:
        dag(*free, *cycle(*names)).validate()
    path = caught.value.path
    assert (path[0], len(path)) == (path[-1], length + 1)
    start = path.index("s0")
    assert [*path[start:-1], *path[:start]] == names
    assert " -> ".join(path) in str(caught.value)


def test_a_cycle_is_told_in_the_order_of_running():
    """b waits for a: `a -> b -> a`, not the other way round."""
    with pytest.raises(CycleDetected) as caught:
        dag(*cycle("a", "b", "c")).validate()
    assert " -> ".join(caught.value.path) in {"a -> b -> c -> a", "b -> c -> a -> b", "c -> a -> b -> c"}


@given(st.integers(1, 6), st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=10))
def test_cycles_are_reported_exactly_where_there_are_any(count, edges):
    before = [{source for node, source in edges if node == place and source < count} for place in range(count)]
    steps = [StepDef(f"s{n}", id=uid(n), depends_on=map(uid, sorted(before[n]))) for n in range(count)]
    closure = {(node, source) for node in range(count) for source in before[node]}
    for middle in range(count):
        closure |= {(a, b) for a, m in closure if m == middle for n, b in closure if n == middle}
    if not any(node == source for node, source in closure):
        assert problems(dag(*steps)) == []
        return
    with pytest.raises(CycleDetected) as caught:
        dag(*steps).validate()
    path = [int(name[1:]) for name in caught.value.path]
    assert path[0] == path[-1]
    assert len(set(path)) == len(path) - 1 >= 1
    assert all(source in before[node] for source, node in itertools.pairwise(path))


# -- conditions and templates --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["(", "a ==", "inputs.x ===  1", "steps.", "'open", "inputs.x &&", "1 2", "steps[", "\ud800 =="]
)
def test_conditions_that_do_not_parse(text):
    only_problem(dag(StepDef("a", condition=text)), "'a'", "condition")


@pytest.mark.parametrize("text", ["", "   ", "true", "inputs.anything.at.all[3]", "!inputs.x || (1 < 2)"])
def test_conditions_that_do(text):
    assert problems(dag(StepDef("a", condition=text))) == []


@pytest.mark.parametrize("text", ["{{", "{{inputs.", "a {{ }} b", "{{inputs.x}", "{{inputs.x == 1}}"])
@pytest.mark.parametrize(
    "config",
    [lambda text: text, lambda text: {"a": [{"b": text}]}, lambda text: [[text]]],
    ids=["text", "object", "array"],
)
def test_templates_that_do_not_parse(text, config):
    only_problem(dag(StepDef("a", config=config(text))), "'a'", "config")


@pytest.mark.parametrize("condition", [3, True, ["inputs.x"]], ids=str)
def test_a_condition_that_is_no_text_is_a_problem_not_a_crash(condition):
    only_problem(dag(StepDef("a", condition=condition)), "'a'", "condition")


def test_a_name_that_is_no_text_is_a_problem_not_a_crash():
    for name in (None, 3, "", ["a"]):
        assert len(problems(dag(StepDef(name)))) == 1


def test_a_hostile_condition_is_a_problem_not_a_crash():
    only_problem(dag(StepDef("a", condition="(" * LONG + "1" + ")" * LONG)), "'a'")


def referring(name, depends_on=(), trigger=TriggerMode.ALL):
    return StepDef(name, depends_on=depends_on, trigger_mode=trigger, condition="steps.other.status == 'completed'")


def test_a_condition_may_refer_to_any_ancestor():
    other = StepDef("other")
    middle = StepDef("middle", depends_on=other)
    for trigger in TriggerMode:
        assert problems(dag(other, middle, referring("a", middle, trigger), referring("b", other, trigger))) == []


@pytest.mark.parametrize("where", ["unknown", "itself", "after", "beside"])
def test_a_condition_refers_to_steps_that_run_before_its_own(where):
    other, step = StepDef("other"), referring("step")
    flow = {
        "unknown": dag(StepDef("others"), step),
        "itself": dag(referring("other")),
        "after": dag(step, StepDef("other", depends_on=step)),
        "beside": dag(other, step),
    }[where]
    only_problem(flow, "'other'" if where == "itself" else "'step'", "other", "condition")


def test_who_refers_to_a_step_beside_it_is_told_to_need_that():
    other, step = StepDef("other"), referring("step")
    to_do = "refers to step 'other', which cannot have run before it: add 'other' to what it needs"
    only_problem(dag(other, step), "'step'", to_do)
    between = StepDef("between", depends_on=step)
    for flow in (  # where it would be a circle, or other than finally steps would need one
        dag(step, between, StepDef("other", depends_on=between)),
        dag(StepDef("other", finally_=True), step),
        dag(referring("other")),
    ):
        assert not any("what it needs" in problem for problem in problems(flow))


def test_in_a_sequence_what_stands_before_has_run():
    assert problems(FlowDef("f", steps=[StepDef("other"), StepDef("x"), referring("step")])) == []
    only_problem(FlowDef("f", steps=[referring("step"), StepDef("other")]), "'step'", "other")


def test_parallel_steps_know_nothing_of_each_other():
    only_problem(FlowDef("f", PARALLEL, steps=[StepDef("other"), referring("step")]), "'step'", "other")


@pytest.mark.parametrize(
    ("steps", "good"),
    [
        ([StepDef("other", sub_steps=[referring("step")])], True),
        ([StepDef("x", sub_steps=[StepDef("other")]), referring("step")], True),
        ([StepDef("x", sub_steps=[StepDef("y", sub_steps=[StepDef("other")]), referring("step")])], True),
        ([StepDef("x", sub_steps=[referring("step"), StepDef("other")])], False),
        ([attrs.evolve(referring("step"), sub_steps=[StepDef("other")])], False),
        ([StepDef("x", sub_steps=[referring("step")]), StepDef("other")], False),
    ],
)
def test_in_a_hierarchy_what_stands_before_in_depth_first_order_has_run(steps, good):
    assert len(problems(FlowDef("f", HIERARCHICAL, steps=steps))) == (0 if good else 1)


def test_a_condition_may_name_a_step_by_index():
    steps = [StepDef("a.b"), StepDef("c", condition='steps["a.b"].output')]
    assert problems(FlowDef("f", steps=steps)) == []
    only_problem(FlowDef("f", steps=[*steps, StepDef("d", condition='steps["a.c"].output')]), "'d'", "a.c")


def test_each_reference_of_a_condition_is_checked():
    step = StepDef("step", condition="steps.one.output || inputs.x && !(steps.two.output in steps.three.output)")
    assert len(problems(dag(step))) in {1, 3}
    assert all(word in " ".join(problems(dag(step))) for word in ("one", "two", "three"))


# -- numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["timeout", "max_retries", "retry_delay", "max_retry_delay", "retry_jitter"])
def test_numbers_are_not_negative(field):
    only_problem(dag(StepDef("a", **{field: -1})), "'a'", field, "-1")
    assert problems(dag(StepDef("a", **{field: 0}))) == []


@pytest.mark.parametrize("field", ["timeout", "retry_delay", "max_retry_delay", "retry_jitter"])
def test_numbers_are_numbers(field):
    only_problem(dag(StepDef("a", **{field: math.nan})), "'a'", field)


@pytest.mark.parametrize("field", ["timeout", "max_retries"])
def test_a_number_that_no_float_holds_is_no_crash(field):
    assert len(problems(dag(StepDef("a", **{field: 10**400})))) <= 1


def test_a_flows_numbers_are_not_negative():
    only_problem(FlowDef("f", timeout=-0.5), "timeout")


@pytest.mark.parametrize("number", [MAX_COUNT + 1, 10**300, 10**400, 1.5, 2.0], ids=["u32", "300", "400", "1.5", "2.0"])
def test_what_is_counted_is_whole_and_no_larger_than_a_record_can_hold(number):
    only_problem(FlowDef("f", version=number), "version")
    only_problem(dag(StepDef("a", max_retries=number)), "'a'", "max_retries")
    assert problems(FlowDef("f", version=MAX_COUNT, steps=[StepDef("a", max_retries=MAX_COUNT)])) == []


# -- texts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 5, b"x", ["x"]], ids=repr)
@pytest.mark.parametrize("field", ["id", "description", "step_type"])
def test_a_text_that_is_none_could_not_be_read_back(field, value):
    if field != "step_type" or value is not None:
        only_problem(dag(StepDef("a", **{field: value})), "'a'", f"{field} is not a string ({value!r})")
    if field != "step_type":
        only_problem(FlowDef("f", **{field: value}), f"the flow's {field} is not a string ({value!r})")


@pytest.mark.parametrize("value", [None, 5, ["x"], FlowDef("x")], ids=type)
def test_what_is_no_step_is_nothing_to_depend_on(value):
    only_problem(dag(StepDef("a", depends_on=[value])), "'a'", "depends_on holds what is no step and no id")


def test_nor_could_the_name_of_a_flow():
    only_problem(FlowDef(5), "the flow's name is not a string (5)")


# -- size ----------------------------------------------------------------------------------------------


def long_chain(count):
    return [StepDef(f"s{n}", id=uid(n), depends_on=[uid(n - 1)] if n else []) for n in range(count)]


def test_a_chain_of_very_many_steps_validates():
    steps = long_chain(100_000 if FULL else 30_000)
    steps[-1] = attrs.evolve(steps[-1], condition="steps.s0.status == 'completed'")
    begin = time.process_time()
    assert problems(dag(*reversed(steps))) == []
    assert time.process_time() - begin < 10


def test_a_cycle_of_many_steps_is_named():
    steps = long_chain(LONG)
    steps[0] = attrs.evolve(steps[0], depends_on=uid(LONG - 1))
    with pytest.raises(CycleDetected) as caught:
        dag(*steps).validate()
    assert len(caught.value.path) == LONG + 1


def test_a_hierarchy_thousands_of_levels_deep_validates():
    step = StepDef("s0", max_retries=-1)
    for level in range(1, LONG):
        step = StepDef(f"s{level}", sub_steps=[step])
    only_problem(FlowDef("deep", HIERARCHICAL, steps=[step]), "'s0'", "max_retries")
    levels = []  # taken apart from the top: to drop it whole would be the interpreter's recursion, not szal's
    while step.sub_steps:
        levels.append(step)
        step = step.sub_steps[0]


@pytest.mark.parametrize("mode", [SEQUENTIAL, PARALLEL, HIERARCHICAL], ids=str)
def test_many_steps_in_other_modes(mode):
    assert (
        problems(FlowDef("long", mode, steps=[StepDef(f"s{number}", id=uid(number)) for number in range(LONG)])) == []
    )


def test_many_problems_are_all_reported():
    steps = [StepDef(f"s{number}", id=uid(number), max_retries=-1) for number in range(LONG)]
    assert len(problems(FlowDef("bad", steps=steps))) == LONG


def test_many_conditions_on_distant_steps_cost_no_walk_each():
    steps = long_chain(20_000)
    steps = [attrs.evolve(step, condition="steps.s0.output") if step.id != uid(0) else step for step in steps]
    begin = time.process_time()
    assert problems(dag(*steps)) == []
    assert time.process_time() - begin < 10


def test_many_unknown_names_are_reported_in_little_time():
    steps = [StepDef(f"step-{n}", id=uid(n), condition=f"steps.stop-{n}.output") for n in range(1000)]
    begin = time.process_time()
    assert len(problems(dag(*steps))) == 1000
    assert time.process_time() - begin < 3


def test_what_is_of_the_wrong_type_is_a_problem_not_a_crash():
    wrong = FlowDef("f", "tree", steps=["a", StepDef("b", sub_steps=["c"])])
    assert list(problems(wrong)) == [
        "the flow's mode is none of sequential, parallel, dag, hierarchical ('tree')",
        "step number 1 is not a StepDef ('a')",
        "a sub-step of 'b' is not a StepDef ('c')",
    ]
    strings = FlowDef("f", FlowMode.DAG, steps=[StepDef("r"), StepDef("a", trigger_mode="some", backoff=7)])
    assert list(problems(strings)) == [
        "step 'a': backoff is none of fixed, linear, exponential (7)",
        "step 'a': trigger_mode is none of all, any, all_completed, all_done, one_failed, one_done ('some')",
    ]
    assert problems(FlowDef("f", steps=[StepDef("a", retry_on=[None])]))


def test_sub_flows_are_validated_with_what_they_belong_to():
    inner = FlowDef("inner", steps=[StepDef("a", max_retries=-1)])
    only_problem(FlowDef("f", sub_flows=[inner]), "sub-flow 'inner': step 'a': max_retries is negative (-1)")


@pytest.mark.parametrize(
    ("sub_flows", "problem"),
    [
        ([FlowDef("f")], "sub-flow 'f': another flow here has that name"),
        ([FlowDef("a"), FlowDef("a")], "sub-flow 'a': another flow here has that name"),
        ([FlowDef("a", sub_flows=[FlowDef("b")])], "sub-flow 'a': it has sub_flows of its own: put them beside it"),
        (["a"], "the flow's sub_flows hold what is no FlowDef ('a')"),
    ],
)
def test_sub_flows_have_names_of_their_own_and_stand_side_by_side(sub_flows, problem):
    assert problems(FlowDef("f", sub_flows=sub_flows)) == [problem]
