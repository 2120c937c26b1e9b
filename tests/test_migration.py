"""Definitions across versions: the registry against a naive model of paths; what counts as a difference."""

import pickle
import re
from typing import Any

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from szal import (
    BackoffStrategy,
    DefinitionMismatch,
    EncodeError,
    FlowDef,
    FlowMode,
    MigrationFailed,
    MigrationRegistry,
    StepDef,
    SzalError,
    TriggerMode,
)
from szal.codec import decode_flow, encode_flow
from szal.definition import content_id, differences
from szal.step import new_id

DAG, SEQUENTIAL, PARALLEL, HIERARCHICAL = (
    FlowMode.DAG,
    FlowMode.SEQUENTIAL,
    FlowMode.PARALLEL,
    FlowMode.HIERARCHICAL,
)


def same(flow: FlowDef) -> FlowDef:
    return flow


def leaving_a_trace(before: int, after: int) -> Any:
    def migration(flow: FlowDef) -> FlowDef:
        flow.add_step(StepDef(f"{before}-{after}"))
        return flow

    return migration


def names(flow: FlowDef) -> list[str]:
    return [step.name for step in flow.steps]


# -- registering -------------------------------------------------------------------------------------


def test_an_empty_registry_knows_no_version_and_leaves_every_flow_as_it_is() -> None:
    flow = FlowDef("ci", version=7)
    assert MigrationRegistry().latest_version is None
    assert MigrationRegistry().migrate_latest(flow) is flow


def test_the_latest_version_is_the_greatest_that_a_step_leads_to() -> None:
    registry = MigrationRegistry()
    for before, after in [(4, 9), (1, 2), (2, 4)]:
        registry.register(before, after, same)
    assert registry.latest_version == 9


def test_register_is_a_decorator_that_returns_the_function() -> None:
    registry = MigrationRegistry()

    @registry.register(1, 2)
    def step(flow: FlowDef) -> FlowDef:
        return attrs.evolve(flow, description="new")

    assert step(FlowDef("ci")).version == 1
    assert registry.migrate_latest(FlowDef("ci")).description == "new"
    assert registry.register(2, 3, same) is same


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (2, 2, "cannot register 2 -> 2: a migration leads to a greater version"),
        (3, 1, "cannot register 3 -> 1: a migration leads to a greater version"),
        (1, 2, "cannot register 1 -> 2: 1 -> 3 is registered already"),
        (1, 3, "cannot register 1 -> 3: 1 -> 3 is registered already"),
        (-1, 1, "cannot register -1 -> 1: a version is an integer from 0 up, not -1"),
        (0, True, "cannot register 0 -> True: a version is an integer from 0 up, not True"),
        ("1", 2, "cannot register '1' -> 2: a version is an integer from 0 up, not '1'"),
    ],
)
def test_a_duplicate_or_non_increasing_registration_is_refused(before: Any, after: Any, problem: str) -> None:
    registry = MigrationRegistry()
    registry.register(1, 3, same)
    for attempt in (
        lambda: registry.register(before, after, same),
        lambda: registry.register(before, after)(same),
    ):
        with pytest.raises(MigrationFailed) as caught:
            attempt()
        assert str(caught.value) == problem
    assert registry.latest_version == 3


# -- migrating ---------------------------------------------------------------------------------------


def naive_path(edges: dict[int, int], here: int, target: int) -> list[str] | None:
    """Return the steps from *here* to *target*, trying every chain of edges there is; None without one."""
    if here == target:
        return []
    for before, after in edges.items():
        if before == here:
            rest = naive_path(edges, after, target)
            if rest is not None:
                return [f"{before}-{after}", *rest]
    return None


VERSION = st.integers(0, 7)


@given(st.lists(st.tuples(VERSION, VERSION)), VERSION, VERSION)
def test_the_registry_does_what_a_naive_search_for_a_path_does(
    edges: list[tuple[int, int]], here: int, target: int
) -> None:
    registry = MigrationRegistry()
    accepted: dict[int, int] = {}
    for before, after in edges:
        try:
            registry.register(before, after, leaving_a_trace(before, after))
        except MigrationFailed:
            assert before in accepted or after <= before
        else:
            assert before not in accepted
            assert after > before
            accepted[before] = after
    flow = FlowDef("ci", version=here)
    expected = naive_path(accepted, here, target)
    if expected is None:
        with pytest.raises(MigrationFailed) as caught:
            registry.migrate_to(flow, target)
        assert {str(here), str(target)} <= set(re.findall(r"\d+", str(caught.value)))
    else:
        migrated = registry.migrate_to(flow, target)
        assert (migrated.version, names(migrated), migrated.id) == (target, expected, flow.id)
    assert (flow.version, flow.steps) == (here, [])


def chain(*edges: tuple[int, int]) -> MigrationRegistry:
    registry = MigrationRegistry("ci")
    for before, after in edges:
        registry.register(before, after, leaving_a_trace(before, after))
    return registry


@pytest.mark.parametrize(
    ("version", "target", "problem"),
    [
        (0, 5, "no migration from version 0 is registered, on the way from 0 to 5"),
        (1, 6, "no migration from version 4 is registered, on the way from 1 to 6"),
        (1, 3, "migration 2 -> 4 goes past version 3, on the way from 1 to 3"),
        (4, 1, "version 4 cannot be taken back to 1: there is no downgrade"),
    ],
    ids=["gap at the start", "gap", "overshoot", "downgrade"],
)
def test_no_gap_no_overshoot_no_downgrade(version: int, target: int, problem: str) -> None:
    with pytest.raises(MigrationFailed) as caught:
        chain((1, 2), (2, 4), (5, 6)).migrate_to(FlowDef("ci", version=version), target)
    assert str(caught.value) == f"flow 'ci': {problem}"


def watched() -> tuple[MigrationRegistry, list[FlowDef]]:
    """Return a registry with a step 1 -> 2, and what that step was given."""
    registry = MigrationRegistry()
    seen: list[FlowDef] = []

    @registry.register(1, 2)
    def watch(flow: FlowDef) -> FlowDef:
        seen.append(flow)
        return flow

    return registry, seen


def test_nothing_is_run_where_there_is_no_path() -> None:
    registry, seen = watched()
    with pytest.raises(MigrationFailed):
        registry.migrate_to(FlowDef("ci"), 3)
    assert seen == []


def test_a_definition_newer_than_the_program_is_refused() -> None:
    with pytest.raises(MigrationFailed, match="version 9 cannot be taken back to 2"):
        chain((1, 2)).migrate_latest(FlowDef("ci", version=9))


def test_migrate_latest_goes_all_the_way() -> None:
    assert names(chain((1, 2), (2, 4), (4, 5)).migrate_latest(FlowDef("ci"))) == ["1-2", "2-4", "4-5"]


def test_a_flow_of_the_wanted_version_is_returned_itself() -> None:
    flow = FlowDef("ci", version=2)
    assert chain((1, 2)).migrate_to(flow, 2) is flow


def test_a_registry_with_a_name_refuses_other_flows() -> None:
    with pytest.raises(MigrationFailed, match=r"flow 'other': these migrations are of flow 'ci'"):
        chain((1, 2)).migrate_latest(FlowDef("other"))


def test_what_a_migration_does_to_its_argument_is_not_seen_outside() -> None:
    flow = FlowDef(
        "ci",
        HIERARCHICAL,
        steps=[StepDef("a", config={"urls": ["x"]}, sub_steps=[StepDef("b", config={"n": [1]}), StepDef("c")])],
        inputs={"env": ["dev"]},
    )
    flow.validate()
    before = encode_flow(flow)

    def careless(given: FlowDef) -> FlowDef:
        given.steps[0].config["urls"].append("y")
        given.steps[0].sub_steps[0].config["n"].append(2)
        given.inputs["env"].append("prod")
        given.description, given.id = "changed", new_id()
        given.steps.pop()
        return given

    registry = MigrationRegistry()
    registry.register(1, 2, careless)
    migrated = registry.migrate_latest(flow)
    assert encode_flow(flow) == before
    assert (migrated.description, migrated.steps, migrated.id) == ("changed", [], flow.id)


def test_the_copy_that_a_migration_gets_is_the_same_definition() -> None:
    flow = FlowDef("ci", DAG, steps=[a := StepDef("a", config={"k": [1.0, None]}), StepDef("b", depends_on=[a])])
    registry, seen = watched()
    registry.migrate_latest(flow)
    assert attrs.evolve(seen[0], version=1) == flow


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda flow: None, "migration 1 -> 2 returned NoneType, not a FlowDef"),
        (lambda flow: attrs.evolve(flow, name="cd"), "migration 1 -> 2 changed the flow's name to 'cd'"),
        (lambda flow: attrs.evolve(flow, version=3), "migration 1 -> 2 returned version 3"),
        (lambda flow: flow.steps[3], "migration 1 -> 2 failed: IndexError: list index out of range"),
    ],
    ids=["nothing", "another name", "another version", "an exception"],
)
def test_a_migration_that_does_not_keep_its_contract_fails(function: Any, problem: str) -> None:
    registry = MigrationRegistry()
    registry.register(1, 2, function)
    with pytest.raises(MigrationFailed) as caught:
        registry.migrate_latest(FlowDef("ci"))
    assert str(caught.value) == f"flow 'ci': {problem}"
    assert isinstance(caught.value.__cause__, IndexError) == ("IndexError" in problem)


@pytest.mark.parametrize("version", [1, 2])
def test_a_migration_may_set_the_version_or_leave_it(version: int) -> None:
    registry = MigrationRegistry()
    registry.register(1, 2, lambda flow: attrs.evolve(flow, version=version))
    assert registry.migrate_latest(FlowDef("ci")).version == 2


@pytest.mark.parametrize("error", [MigrationFailed("ci", "no"), DefinitionMismatch("e1", ("version 1 -> 2",))], ids=str)
def test_the_errors_survive_pickling(error: SzalError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))


def test_a_mismatch_lists_its_differences_but_not_thousands_of_them() -> None:
    prefix = "execution e1 was started with a different definition: "
    assert str(DefinitionMismatch("e1", ("step 'a' is new",))) == prefix + "step 'a' is new"
    text = str(DefinitionMismatch("e1", tuple(f"step 's{n}' is new" for n in range(1000))))
    assert text.startswith(prefix + "1000 differences\n  - step 's0' is new\n")
    assert text.endswith("\n  - step 's19' is new\n  and 980 more")


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
        ({}, {"backoff": BackoffStrategy.LINEAR}, "backoff fixed -> linear"),
        ({}, {"trigger_mode": TriggerMode.ALL_DONE}, "trigger_mode all -> all_done"),
        ({}, {"rollbackable": True}, "rollbackable false -> true"),
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


def test_deep_nesting_is_no_recursion() -> None:
    old, new = nested(5_000, StepDef("leaf")), nested(5_000, StepDef("leaf", max_retries=1))
    assert differences(old, new) == ("step 'leaf': max_retries 0 -> 1",)
    assert content_id(old) == content_id(nested(5_000, StepDef("leaf")))
    registry = MigrationRegistry()
    registry.register(1, 2, same)
    assert differences(old, registry.migrate_latest(old)) == ("version 1 -> 2",)


def test_a_config_that_json_cannot_hold_is_named() -> None:
    flow = FlowDef("f", steps=[StepDef("a", config={"when": {1, 2}})])
    with pytest.raises(EncodeError, match=r'\["config"\]\["when"\]: set'):
        content_id(flow)
    registry = MigrationRegistry()
    registry.register(1, 2, same)
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
                retry_on=st.lists(st.sampled_from([OSError, "OSError", "http.client.NotConnected"]), max_size=2),
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


@given(flows())
def test_content_is_the_same_under_other_ids_and_another_order_of_keys(flow: FlowDef) -> None:
    other = with_other_ids(flow)
    assert content_id(other) == content_id(flow)
    assert differences(flow, other) == ()


@given(flows())
def test_content_is_the_same_after_a_round_trip_through_json(flow: FlowDef) -> None:
    again = decode_flow(encode_flow(flow))
    assert content_id(again) == content_id(flow)
    assert differences(flow, again) == ()


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
