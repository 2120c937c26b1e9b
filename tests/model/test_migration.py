"""Definitions across versions: the registry against a naive model of paths."""

import pickle
import re
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from szal import (
    DefinitionMismatch,
    FlowDef,
    FlowMode,
    MigrationFailed,
    MigrationRegistry,
    StepDef,
    SzalError,
)
from szal.model.json import encode_flow
from szal.model.step import new_id

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
