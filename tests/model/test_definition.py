"""A flow as it is recorded: what counts as a difference, and what as the same content."""

from typing import Any

import attrs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from szal import (
    BackoffStrategy,
    EncodeError,
    FlowDef,
    FlowMode,
    MigrationRegistry,
    StepDef,
    TriggerMode,
)
from szal.model.definition import Definition, content_id, differences
from szal.model.json import decode_flow, encode_flow
from szal.model.step import new_id

DAG, SEQUENTIAL, PARALLEL, HIERARCHICAL = (
    FlowMode.DAG,
    FlowMode.SEQUENTIAL,
    FlowMode.PARALLEL,
    FlowMode.HIERARCHICAL,
)


# -- differences -------------------------------------------------------------------------------------


def step_change(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, ...]:
    """Return the differences of one step, without its name in front."""
    lines = differences(*(FlowDef("f", steps=[StepDef("s", **fields)]) for fields in (old, new)))
    assert all(line.startswith("step 's': ") for line in lines)
    return tuple(line.removeprefix("step 's': ") for line in lines)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ({"timeout": 60}, {"timeout": 90.0}, "timeout 60.0 -> 90.0"),
        ({}, {"timeout": 0.25}, "timeout none -> 0.25"),
        ({"max_retries": 1}, {"max_retries": 2}, "max_retries 1 -> 2"),
        ({}, {"retry_delay": 3}, "retry_delay 1.0 -> 3.0"),
        ({"max_retry_delay": 5}, {}, "max_retry_delay 5.0 -> none"),
        ({}, {"total_timeout": 5}, "total_timeout none -> 5.0"),
        ({}, {"until": "output"}, "until none -> 'output'"),
        ({}, {"delay": 5}, "delay none -> 5.0"),
        ({}, {"until_timeout": 5}, "until_timeout none -> 5.0"),
        ({}, {"inline": "always"}, "inline none -> 'always'"),
        ({}, {"isolation": "process"}, "isolation none -> 'process'"),
        ({}, {"resources": {"db": 1}}, 'resources none -> {"db":1}'),
        ({}, {"backoff": BackoffStrategy.LINEAR}, "backoff fixed -> linear"),
        ({}, {"trigger_mode": TriggerMode.ALL_DONE}, "trigger_mode all -> all_done"),
        ({}, {"rollbackable": True}, "rollbackable false -> true"),
        ({}, {"continue_on_error": True}, "continue_on_error none -> true"),
        ({}, {"undo_on_failure": True}, "undo_on_failure none -> true"),
        ({}, {"cancel_losers": True}, "cancel_losers none -> true"),
        ({}, {"priority": -1}, "priority none -> -1"),
        ({}, {"finally_": True}, "finally none -> true"),
        ({}, {"retry_on": OSError}, 'retry_on none -> ["OSError"]'),
        ({}, {"condition": "inputs.go"}, "condition none -> 'inputs.go'"),
        ({}, {"config": {"a": 1}}, 'config none -> {"a":1}'),
        ({"config": {"a": 1}}, {"config": {"a": 1.0}}, "config.a 1 -> 1.0"),
        ({"config": {"a": {"b c": [1, 2]}}}, {"config": {"a": {"b c": [1, 3]}}}, "config.a['b c'][1] 2 -> 3"),
        ({"config": {"a": None}}, {"config": {}}, "config.a null -> none"),
        ({"config": {"a": {}}}, {"config": {"a": []}}, "config.a {} -> []"),
        ({"config": [1]}, {"config": [1, True]}, "config[1] none -> true"),
        ({"description": "a\nb"}, {"description": "c"}, "description 'a\\nb' -> 'c'"),
    ],
)
def test_a_changed_step_says_what_changed(old: dict[str, Any], new: dict[str, Any], line: str) -> None:
    assert step_change(old, new) == (line,)


def test_of_long_texts_only_the_part_that_differs_is_shown() -> None:
    (line,) = step_change({"condition": "x" * 500 + "old" + "y" * 500}, {"condition": "x" * 500 + "new" + "y" * 500})
    assert line == f"condition ...{'x' * 20}old{'y' * 37}... -> ...{'x' * 20}new{'y' * 37}..."


def test_the_flows_own_fields_come_first() -> None:
    old = FlowDef("a", DAG, timeout=5, inputs={"env": "dev"})
    new = FlowDef("b", SEQUENTIAL, version=2, rollback_on_failure=True, inputs={"env": "prod"}, steps=[StepDef("s")])
    assert differences(old, new) == (
        "name 'a' -> 'b'",
        "mode dag -> sequential",
        "rollback_on_failure false -> true",
        "timeout 5.0 -> none",
        "version 1 -> 2",
        "inputs.env 'dev' -> 'prod'",
        "step 's' is new",
    )


def test_dependencies_are_compared_by_the_names_they_refer_to() -> None:
    def flow(*needed: int) -> FlowDef:
        first = [StepDef("a"), StepDef("b"), StepDef("c")]
        return FlowDef("f", DAG, steps=[*first, StepDef("last", depends_on=[first[n] for n in needed])])

    assert differences(flow(0, 1), flow(1, 0)) == ()
    assert differences(flow(0), flow(0, 2)) == ("""step 'last': depends_on ["a"] -> ["a","c"]""",)


def test_a_dependency_on_nothing_is_no_dependency_on_a_step_of_that_name() -> None:
    unknown = FlowDef("f", DAG, steps=[StepDef("a"), StepDef("b", depends_on=["a"])])
    known = FlowDef("f", DAG, steps=[a := StepDef("a"), StepDef("b", depends_on=[a])])
    assert len(differences(unknown, known)) == 1


@pytest.mark.parametrize("mode", list(FlowMode))
def test_the_order_of_steps_counts_only_where_they_run_in_it(mode: FlowMode) -> None:
    old, new = (FlowDef("f", mode, steps=[StepDef(name) for name in order]) for order in ("abcd", "acdb"))
    counts = mode in (SEQUENTIAL, HIERARCHICAL)
    assert differences(old, new) == (("order of steps: 'c' now comes before 'b'",) if counts else ())
    assert (content_id(old) != content_id(new)) == counts


def test_a_step_put_between_others_is_new_and_moves_nothing() -> None:
    old, new = (FlowDef("f", steps=[StepDef(name) for name in order]) for order in ("abc", "axbc"))
    assert differences(old, new) == ("step 'x' is new",)
    assert differences(new, old) == ("step 'x' was removed",)


def test_sub_steps_are_compared_wherever_they_are() -> None:
    old = FlowDef("f", HIERARCHICAL, steps=[StepDef("a", sub_steps=[StepDef("x", max_retries=1)]), StepDef("b")])
    new = FlowDef("f", HIERARCHICAL, steps=[StepDef("a"), StepDef("b", sub_steps=[StepDef("x", max_retries=2)])])
    assert set(differences(old, new)) == {
        "step 'x': max_retries 1 -> 2",
        "step 'x': parent 'a' -> 'b'",
        "order of steps: 'b' now comes before 'x'",
    }


def nested(depth: int, leaf: StepDef) -> FlowDef:
    for level in range(depth):
        leaf = StepDef(f"s{level}", sub_steps=[leaf])
    return FlowDef("deep", HIERARCHICAL, steps=[leaf])


def test_sub_flows_are_compared_by_name_and_content() -> None:
    def flow(*sub_flows: FlowDef) -> FlowDef:
        return FlowDef("f", sub_flows=sub_flows)

    old = flow(FlowDef("a", steps=[StepDef("s")]), FlowDef("b"), FlowDef("c"))
    new = flow(FlowDef("c"), FlowDef("a", steps=[StepDef("s", timeout=5)]), FlowDef("d"))
    assert differences(old, new) == (
        "sub-flow 'a': step 's': timeout none -> 5.0",
        "sub-flow 'b' was removed",
        "sub-flow 'd' is new",
    )
    assert content_id(old) != content_id(new)


def test_a_sub_flow_that_is_changed_in_place_is_another_definition() -> None:
    inner = FlowDef("inner", steps=[StepDef("a")])
    outer = FlowDef("outer", sub_flows=[inner])
    before = Definition.of(outer)
    inner.add_step(StepDef("b"))
    assert Definition.of(outer).content_id != before.content_id


def test_deep_nesting_is_no_recursion() -> None:
    old, new = nested(2_000, StepDef("leaf")), nested(2_000, StepDef("leaf", max_retries=1))
    assert differences(old, new) == ("step 'leaf': max_retries 0 -> 1",)
    assert content_id(old) == content_id(nested(2_000, StepDef("leaf")))
    registry = MigrationRegistry()
    registry.register(1, 2, lambda flow: flow)
    assert differences(old, registry.migrate_latest(old)) == ("version 1 -> 2",)


def test_a_config_that_json_cannot_hold_is_named() -> None:
    flow = FlowDef("f", steps=[StepDef("a", config={"when": {1, 2}})])
    with pytest.raises(EncodeError, match=r'\["config"\]\["when"\]: set'):
        content_id(flow)
    registry = MigrationRegistry()
    registry.register(1, 2, lambda flow: flow)
    with pytest.raises(EncodeError, match=r"step 'a': config\[\"when\"\]: set"):
        registry.migrate_latest(flow)


# -- the same content --------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8"), max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
SECONDS = st.none() | st.integers(0, 10**6) | st.floats(0, 10**6) | st.just(1e300)


def steps_named(labels: list[str]) -> st.SearchStrategy[list[StepDef]]:
    return st.tuples(
        *(
            st.builds(
                StepDef,
                st.just(label),
                timeout=SECONDS,
                max_retry_delay=SECONDS,
                retry_jitter=st.sampled_from([0, 0.0, 1, 1.0, 0.5]),
                retry_on=st.lists(st.sampled_from([OSError, "OSError", "http.client.NotConnected", 75]), max_size=2),
                config=JSON,
                trigger_mode=st.sampled_from(list(TriggerMode)),
            )
            for label in labels
        )
    ).map(list)


@st.composite
def flows(draw: st.DrawFn) -> FlowDef:
    """Draw any flow: few names, so that two flows often share them; a name may even be there twice."""
    mode = draw(st.sampled_from(list(FlowMode)))
    labels = draw(st.lists(st.sampled_from("abc"), max_size=4, unique=draw(st.integers(0, 3)) > 0))
    steps: list[StepDef] = draw(steps_named(labels))
    if mode is DAG:
        for place, step in enumerate(steps):
            needed = draw(st.lists(st.sampled_from(steps[:place]), max_size=3)) if place else []
            steps[place] = attrs.evolve(step, depends_on=needed)
    while mode is HIERARCHICAL and len(steps) > 1 and draw(st.booleans()):
        child = steps.pop()
        steps[-1] = attrs.evolve(steps[-1], sub_steps=[*steps[-1].sub_steps, child])
    return FlowDef(
        draw(st.sampled_from(["f", "g"])),
        mode,
        version=draw(st.integers(0, 2)),
        steps=steps,
        timeout=draw(SECONDS),
        inputs=draw(st.dictionaries(TEXT, JSON, max_size=2)),
        sub_flows=draw(st.lists(sub_flows, max_size=2, unique_by=lambda flow: flow.name)),
    )


sub_flows = st.builds(
    lambda name, labels, timeout: FlowDef(name, steps=[StepDef(label, timeout=timeout) for label in labels]),
    st.sampled_from("hij"),
    st.lists(st.sampled_from("abc"), max_size=2, unique=True),
    SECONDS,
)


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


def with_other_ids(flow: FlowDef) -> FlowDef:
    """Return the same content under new ids, its objects' keys in another order."""
    ids = {step.id: new_id() for step in flow.walk()}

    def again(step: StepDef) -> StepDef:
        return attrs.evolve(
            step,
            id=ids[step.id],
            depends_on=[ids.get(id_, id_) for id_ in reversed(step.depends_on)],
            config=reversed_keys(step.config),
            sub_steps=[again(sub) for sub in step.sub_steps],
        )

    inputs = reversed_keys(dict(flow.inputs))
    return attrs.evolve(flow, id=new_id(), steps=[again(step) for step in flow.steps], inputs=inputs)


@settings(max_examples=50)
@given(flows())
def test_content_is_the_same_under_other_ids_and_another_order_of_keys(flow: FlowDef) -> None:
    other = with_other_ids(flow)
    assert content_id(other) == content_id(flow)
    assert differences(flow, other) == ()


@settings(max_examples=50)
@given(flows())
def test_content_is_the_same_after_a_round_trip_through_json(flow: FlowDef) -> None:
    again = decode_flow(encode_flow(flow))
    assert content_id(again) == content_id(flow)
    assert differences(flow, again) == ()


@settings(max_examples=50)
@given(flows(), st.data())
def test_the_order_of_steps_without_an_order_is_no_content(flow: FlowDef, data: st.DataObject) -> None:
    assume(not flow.mode.is_linear)
    other = attrs.evolve(flow, steps=data.draw(st.permutations(flow.steps)))
    assert content_id(other) == content_id(flow)
    assert differences(flow, other) == ()


@st.composite
def pairs(draw: st.DrawFn) -> tuple[FlowDef, FlowDef]:
    """Draw two flows that differ in nothing, in a little, or in everything."""
    one = draw(flows())
    other = one if draw(st.booleans()) else draw(flows())
    if other is one:
        steps: list[StepDef] = draw(st.permutations(one.steps))
        if steps and draw(st.booleans()):
            steps[0] = attrs.evolve(steps[0], config=draw(JSON), timeout=draw(SECONDS))
        other = attrs.evolve(with_other_ids(attrs.evolve(one, steps=steps)), version=draw(st.integers(0, 2)))
    return one, other


@settings(max_examples=60)
@given(pairs())
def test_there_are_no_differences_exactly_where_the_content_is_the_same(pair: tuple[FlowDef, FlowDef]) -> None:
    found = differences(*pair)
    assert (found == ()) == (content_id(pair[0]) == content_id(pair[1]))
    assert bool(found) == bool(differences(pair[1], pair[0]))
    assert all("\n" not in line for line in found)


def test_one_true_and_1_0_are_three_values() -> None:
    ids = {content_id(FlowDef("f", steps=[StepDef("s", config={"n": n})])) for n in (1, 1.0, True)}
    assert len(ids) == 3


def test_the_digest_is_the_same_in_every_process_and_release() -> None:
    flow = FlowDef("ci", DAG, steps=[a := StepDef("a", timeout=2.5), StepDef("b", depends_on=[a])])
    assert content_id(flow) == "c15fdef26945e6917b5529fa7e6e80d2c11cdf3cb5c22a433f5faba0892317e9"


# -- as it is recorded ---------------------------------------------------------------------------------


@settings(max_examples=50)
@given(flows())
def test_what_is_recorded_is_the_text_and_its_digest(flow: FlowDef) -> None:
    definition = Definition.of(flow)
    assert definition.text == encode_flow(flow)
    assert definition.content_id == content_id(flow) == content_id(decode_flow(definition.text))


def test_it_is_made_once_for_as_long_as_the_flow_stays_the_same() -> None:
    flow = FlowDef("ci", steps=[StepDef("build"), StepDef("test")])
    made = Definition.of(flow)
    assert Definition.of(flow) is made
    flow.add_step(StepDef("publish"))
    longer = Definition.of(flow)
    assert longer.content_id == content_id(flow) != made.content_id
    flow.steps[1] = attrs.evolve(flow.steps[1], timeout=5.0)
    assert Definition.of(flow).content_id == content_id(flow) != longer.content_id


@pytest.mark.parametrize(
    "change",
    [
        {"name": "cd"},
        {"version": 2},
        {"rollback_on_failure": True},
        {"fail_fast": True},
        {"isolation": "process"},
        {"timeout": 5.0},
        {"inputs": {"a": 1}},
    ],
    ids=str,
)
def test_a_change_of_the_flow_itself_is_seen(change: dict[str, Any]) -> None:
    flow = FlowDef("ci", steps=[StepDef("build")])
    made = Definition.of(flow)
    for name, value in change.items():
        setattr(flow, name, value)
    assert Definition.of(flow).text == encode_flow(flow) != made.text


def test_an_input_that_changes_in_place_is_seen() -> None:
    flow = FlowDef("ci", inputs={"files": []}, steps=[StepDef("build")])
    made = Definition.of(flow)
    flow.inputs["files"].append("a")
    assert Definition.of(flow).content_id != made.content_id


@pytest.mark.parametrize(
    "change",
    [lambda c: c.update(n=True), lambda c: c["l"].append(2), lambda c: c["t"][0].clear()],
    ids=["a value", "a list", "in a tuple"],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_config_that_is_changed_in_place_is_another_definition(change: Any, nested: bool) -> None:
    config: dict[str, Any] = {"n": 1, "l": [1], "t": ([1],)}
    step = StepDef("a", config=config)
    flow = FlowDef("f", HIERARCHICAL, steps=[StepDef("p", sub_steps=[step])] if nested else [step])
    before = Definition.of(flow)
    assert Definition.of(flow) is before
    change(config)
    after = Definition.of(flow)
    assert after.content_id != before.content_id
    assert after.content_id == content_id(decode_flow(after.text)) == content_id(flow)
