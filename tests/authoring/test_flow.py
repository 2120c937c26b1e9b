"""Flows written as functions: how parameters are bound, and what is refused where it is written."""

import functools
import pickle
import textwrap
import threading
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Optional, Union  # noqa: F401 (a text names it)

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import szal
from szal import (
    Engine,
    Flow,
    FlowDef,
    FlowMode,
    InvalidFlow,
    InvalidInputs,
    NotAHandler,
    StepDef,
    StepStatus,
    TriggerMode,
    WorkflowState,
)
from szal.authoring.parameters import parameters_of

module_flow = Flow("module")


@module_flow.step
def at_the_top(ctx, n=1):
    """Return n, doubled."""
    return 2 * n


@pytest.fixture
def flow():
    return Flow("ci")


def steps_before(flow, name):
    names = {step.id: step.name for step in flow.definition.steps}
    step = next(step for step in flow.definition.steps if step.name == name)
    return [names[id_] for id_ in step.depends_on]


# -- binding -----------------------------------------------------------------------------------------------


def test_a_parameter_named_after_a_step_is_a_dependency_and_its_output(flow):
    @flow.step
    def build():
        return {"wheel": "ci.whl"}

    @flow.step
    def test(build):
        return f"tested {build['wheel']}"

    assert steps_before(flow, "test") == ["build"]
    assert flow.run()["test"].output == "tested ci.whl"


def test_any_other_parameter_is_an_input(flow):
    @flow.step
    def build(revision):
        return revision

    assert flow.run({"revision": "HEAD"})["build"].output == "HEAD"
    assert steps_before(flow, "build") == []


def test_ctx_is_the_context_wherever_it_stands(flow):
    @flow.step
    def build(revision, ctx):
        return [ctx.step.name, ctx.attempt, revision]

    assert flow.run({"revision": "HEAD"})["build"].output == ["build", 1, "HEAD"]


def test_a_plain_handler_is_called_as_it_is(flow):
    def build(ctx): ...

    flow.step(build)
    assert flow.handlers.resolve(flow.definition.steps[0]) is build


def test_keyword_only_parameters_are_bound_too(flow):
    @flow.step
    def build(*, ctx):
        return ctx.step.name

    @flow.step
    def test(*, build, level="full"):
        return f"{build} {level}"

    assert flow.run()["test"].output == "build full"


def test_the_step_that_a_parameter_names_may_be_written_later(flow):
    @flow.step
    def test(build):
        return f"tested {build}"

    @flow.step
    def build():
        return "ci.whl"

    assert flow.run()["test"].output == "tested ci.whl"


def test_two_steps_may_have_different_defaults_of_one_input_and_what_is_given_replaces_both(flow):
    @flow.step
    def small(size=1):
        return size

    @flow.step
    def large(size=100):
        return size

    assert flow.run().outputs == {"small": 1, "large": 100}
    assert flow.run({"size": 7}).outputs == {"small": 7, "large": 7}
    assert flow.run({"size": None}).outputs == {"small": None, "large": None}


def test_a_step_without_output_is_the_default_or_none(flow):
    @flow.step(condition="false")
    def lint(): ...

    @flow.step
    def report(lint):
        return lint

    @flow.step
    def count(lint=0):
        return lint

    result = flow.run()
    assert result["lint"].status is StepStatus.SKIPPED
    assert [result["report"].output, result["count"].output] == [None, 0]


def test_an_undo_is_bound_as_steps_are_and_its_own_name_is_what_the_step_came_to(capsys):
    flow = Flow("ci", rollback_on_failure=True)

    @flow.step
    def build():
        return "ci.whl"

    @flow.step
    def publish(build):
        return f"https://example.org/{build}"

    @publish.rollback
    def unpublish(ctx, publish, build, revision, dry=False):
        print("took back", publish, build, revision, dry, ctx.output == publish)

    @flow.step
    def announce(publish):
        raise ConnectionError("no network")

    result = flow.run({"revision": "HEAD"})
    assert result.state is WorkflowState.ROLLED_BACK
    assert capsys.readouterr().out == "took back https://example.org/ci.whl ci.whl HEAD False True\n"


def test_a_registered_undo_makes_its_step_rollbackable(flow):
    @flow.step
    def publish(): ...

    assert not flow.definition.steps[0].rollbackable
    publish.rollback(lambda ctx: None)
    assert flow.definition.steps[0].rollbackable


# -- inputs ------------------------------------------------------------------------------------------------


def test_missing_and_unknown_inputs_are_told_at_once_before_anything_starts(flow):
    ran = []

    @flow.step
    def build(revision):
        ran.append(revision)

    with pytest.raises(InvalidInputs) as caught:
        flow.run({"revison": "HEAD"})
    assert caught.value.problems == (
        "unknown input 'revison'; did you mean 'revision'?",
        "input 'revision' is required: step 'build' takes it",
    )
    assert ran == []


def test_a_flow_whose_functions_take_nothing_takes_no_input(flow):
    flow.step(lambda ctx: None, name="build")
    with pytest.raises(InvalidInputs, match="unknown input 'revision'; the flow takes none"):
        flow.run({"revision": "HEAD"})


def test_a_missing_input_may_have_been_meant_to_be_a_step(flow):
    @flow.step
    def build(): ...

    @flow.step
    def test(biuld): ...

    with pytest.raises(InvalidInputs, match=r"input 'biuld' is required.*did you mean the step 'build'\?"):
        flow.run()


def test_an_input_that_is_given_as_a_keyword_is_told_how_to_give_it(flow):
    flow.step(lambda revision: revision, name="build")
    as_mapping = r"no setting 'revision': it is an input, and inputs .* as in run\(\{'revision': …\}\)"
    for run in (flow.run, functools.partial(szal.run, flow)):
        with pytest.raises(TypeError, match=as_mapping):
            run(revision=7)
    with pytest.raises(TypeError, match="no setting 'durabilty'; did you mean 'durability'"):
        flow.run({"revision": 7}, durabilty="step")
    declared = FlowDef("declared", inputs={"revision": 7}, steps=[StepDef("build")])
    with pytest.raises(TypeError, match=as_mapping):
        szal.run(declared, handler=lambda ctx: None, revision=8)


@pytest.mark.parametrize(
    ("annotation", "read_as"),
    [
        (int, "integer"),
        (int | None, "integer"),
        (Union[None, str], "string"),  # noqa: UP007 (as many programs write it)
        ("int | None", "integer"),
        ("Optional[bool]", "boolean"),
        (Annotated[float | None, "euros"], "number"),
        (int | float, "number"),
        (int | str, None),
        (list[str] | None, "list"),
        (dict[str, int], "object"),
        (Path, "string"),
        ("datetime.date", None),  # there is no datetime here but in the name of a class: it stays a text
        ("OnlyForTypeCheckers", None),
        (None, None),
    ],
)
def test_what_an_annotation_says_of_an_input(annotation, read_as):
    def step(given): ...

    step.__annotations__["given"] = annotation
    (parameter,) = parameters_of(step, "a step")
    assert parameter.type == read_as


def test_an_input_that_one_step_has_a_default_for_is_required_where_another_has_none(flow):
    flow.step(lambda size=1: size, name="small")
    flow.step(lambda size: size, name="large")
    with pytest.raises(InvalidInputs, match="'size' is required: step 'large' takes it"):
        flow.run()


def test_what_conditions_and_templates_name_is_an_input_too(flow):
    flow.step(lambda ctx: ctx.config, name="a", condition="inputs.env == 'prod'", config={"to": "{{inputs.to}}"})
    flow.step(lambda ctx: ctx.config, name="b", config={"cc": "{{inputs.cc?}}"})
    with pytest.raises(InvalidInputs) as caught:
        flow.run({"enw": "prod"})
    assert caught.value.missing == ("env", "to")
    assert "unknown input 'enw'; did you mean 'env'?" in caught.value.problems
    assert flow.run({"env": "prod", "to": "x"}).outputs == {"a": {"to": "x"}, "b": {"cc": None}}


def test_where_a_flow_declares_its_inputs_another_name_is_refused_with_a_suggestion():
    flow = Flow("ci", inputs={"revision": {"type": "string"}})

    @flow.step
    def build(revison): ...

    @flow.step
    def test(biuld): ...

    with pytest.raises(InvalidFlow) as caught:
        flow.run()
    assert caught.value.problems == (
        "step 'build' takes 'revison', which is no step and no input of the flow; did you mean 'revision'?",
        "step 'test' takes 'biuld', which is no step and no input of the flow; did you mean 'build'?",
    )


def test_a_declared_input_that_was_not_given_leaves_the_parameter_its_default():
    flow = Flow("ci", inputs={"size": {"type": "integer"}, "level": 3, "day": None})

    @flow.step
    def build(size=128, level=1, day="today"):
        return [size, level, day]

    assert flow.run()["build"].output == [128, 3, None]
    assert flow.run({"size": 5, "level": 6, "day": 7})["build"].output == [5, 6, 7]


def test_the_inputs_are_known_with_a_store_and_when_the_definition_is_run(flow, tmp_path):
    @flow.step
    def build(revision, size=(1, 2)):
        return [revision, list(size)]

    with Engine(flow) as engine, pytest.raises(InvalidInputs, match="unknown input 'x'"):
        engine.run(flow.definition, {"x": 1, "revision": 1})
    result = szal.run(flow, {"revision": 1}, store=f"sqlite:///{tmp_path}/ci.db")
    assert result["build"].output == [1, [1, 2]]


# -- what is written ---------------------------------------------------------------------------------------


def test_every_field_of_a_step_is_a_keyword(flow):
    values = {
        "max_retries": 2,
        "retry_delay": "1m30s",
        "timeout": timedelta(minutes=2),
        "trigger_mode": TriggerMode.ALL_DONE,
        "idempotent": False,
        "description": "builds",
    }
    flow.step(lambda ctx: None, name="build", **values)
    step = flow.definition.steps[0]
    assert {name: getattr(step, name) for name in values} == {**values, "retry_delay": 90.0, "timeout": 120.0}


def test_a_field_that_there_is_not_is_refused_with_a_suggestion(flow):
    with pytest.raises(TypeError, match=r"step 'build': there is no 'timeuot'; did you mean 'timeout'?"):
        flow.step(lambda ctx: None, name="build", timeuot=3)
    with pytest.raises(TypeError, match=r"flow 'ci': there is no 'tiemout'; did you mean 'timeout'?"):
        Flow("ci", tiemout=3)


def test_needs_is_order_without_data(flow):
    order = []

    @flow.step
    def build():
        order.append("build")

    @flow.step(needs=build)
    def test():
        order.append("test")

    wait = flow.add_step(StepDef("wait", step_type="sleep", config={"seconds": 0}), needs=["test"])

    @flow.step(needs=[wait, "lint"])
    def publish():
        order.append("publish")

    @flow.step(needs="build")
    def lint():
        order.append("lint")

    assert flow.run().success
    assert (order[0], sorted(order[1:3]), order[3]) == ("build", ["lint", "test"], "publish")


def test_a_need_of_a_step_that_there_is_not_is_told_with_a_suggestion(flow):
    flow.step(lambda ctx: None, name="build")
    flow.step(lambda ctx: None, name="test", needs="biuld")
    with pytest.raises(InvalidFlow, match=r"needs a step 'biuld', which there is not; did you mean 'build'?"):
        flow.definition  # noqa: B018


def test_a_need_of_a_step_of_another_flow_is_refused_where_it_is_written(flow):
    other = Flow("other").step(lambda ctx: None, name="build")
    with pytest.raises(InvalidFlow, match=r"step 'test' needs 'build', which is a step of flow 'other'"):
        flow.step(lambda ctx: None, name="test", needs=other)


def test_methods_partials_and_callable_objects_are_steps(flow):
    class Loader:
        def load(self, table="orders"):
            return f"loads {table}"

        def __call__(self, ctx):
            return f"called in {ctx.step.name}"

    def load(ctx, region, table="clients"):
        return f"{ctx.step.name}: {table} of {region}"

    flow.step(Loader().load)
    flow.step(Loader(), name="object")
    for region in ("eu", "us"):
        flow.step(functools.partial(load, region=region), name=f"load_{region}")
    assert flow.run().outputs == {
        "load": "loads orders",
        "object": "called in object",
        "load_eu": "load_eu: clients of eu",
        "load_us": "load_us: clients of us",
    }


def test_everything_wrong_is_told_at_once():
    flow = Flow("ci", inputs={"a": 1})
    flow.step(lambda b: None, name="build", max_retries=-1)
    flow.step(lambda ctx: None, name="test", needs="nothing")
    with pytest.raises(InvalidFlow) as caught:
        flow.run()
    assert caught.value.problems == (
        "step 'build' takes 'b', which is no step and no input of the flow",
        "step 'test' needs a step 'nothing', which there is not",
        "step 'build': max_retries is negative (-1)",
    )


def test_steps_that_take_each_other_are_a_cycle(flow):
    flow.step(lambda b: None, name="a")
    flow.step(lambda a: None, name="b")
    with pytest.raises(szal.CycleDetected, match="a -> b -> a"):
        flow.run()


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (lambda flow: flow.step(lambda *rows: None, name="a"), r"step 'a' takes \*rows"),
        (lambda flow: flow.step(lambda **rows: None, name="a"), r"step 'a' takes \*\*rows"),
        (lambda flow: flow.step(lambda row, /: None, name="a"), "step 'a' has the positional-only parameter 'row'"),
        (lambda flow: flow.step(dict.fromkeys, name="a"), "step 'a' .*positional-only"),
        (lambda flow: flow.step({}, name="a"), "step 'a' is no function, but of type dict"),
        (lambda flow: flow.step(dict, name="a"), "step 'a' is the class dict"),
        (lambda flow: flow.step(Flow.step, name="a"), "step 'a' takes 'self', as a method of a class does"),
    ],
)
def test_what_cannot_be_bound_is_refused_where_it_is_written(flow, write, problem):
    with pytest.raises(NotAHandler, match=problem):
        write(flow)


def test_functions_that_do_nothing_when_they_are_called_are_refused_where_they_are_written(flow):
    async def fetch(ctx): ...

    def rows(ctx):
        yield 1

    async def stream(ctx):
        yield 1

    for function in (fetch, functools.partial(fetch), stream):
        with pytest.raises(NotAHandler, match=r"step 'a' is .*, an async function"):
            flow.step(function, name="a")
    with pytest.raises(NotAHandler, match=r"step 'rows' is .*rows, a generator function"):
        flow.step(rows)
    build = flow.step(lambda ctx: None, name="build")
    with pytest.raises(NotAHandler, match=r"the rollback of step 'build' is .*, an async function"):
        build.rollback(fetch)


def test_a_name_taken_twice_is_refused_where_it_is_written(flow):
    flow.step(lambda ctx: None, name="build")
    with pytest.raises(InvalidFlow, match=r"step 'build': duplicate step name"):
        flow.step(lambda ctx: None, name="build")
    with pytest.raises(InvalidFlow, match=r"step 'build': duplicate step name"):
        flow.add_step(StepDef("build"))


def test_a_step_that_takes_its_own_output_is_refused(flow):
    flow.step(lambda build: None, name="build")
    with pytest.raises(InvalidFlow, match=r"step 'build' takes its own output"):
        flow.run()


def test_an_item_without_foreach_is_refused(flow):
    flow.step(lambda item: None, name="build")
    with pytest.raises(InvalidFlow, match=r"step 'build' takes 'item', and has no foreach="):
        flow.run()


def test_a_function_without_a_name_needs_one(flow):
    with pytest.raises(InvalidFlow, match=r"has no name of its own: write flow.step"):
        flow.step(lambda ctx: None)


def test_a_name_in_the_place_of_the_function_is_refused(flow):
    with pytest.raises(NotAHandler, match=r"is a text: write @flow.step\(name='build'\)"):
        flow.step("build")


def test_what_is_no_function_or_no_definition_is_told_where_it_belongs(flow):
    with pytest.raises(NotAHandler, match=r"is the flow 'deploy': write flow.sub_flow\('deploy', …\)"):
        flow.step(Flow("deploy"))
    for wrong in (lambda: None, "build", Flow("deploy"), None):
        with pytest.raises(
            TypeError, match=r"flow.add_step takes a StepDef \(a function is a step by flow.step\), not"
        ):
            flow.add_step(wrong)


def test_a_type_that_calls_no_function_is_refused(flow):
    with pytest.raises(InvalidFlow, match=r"step 'a' is of type 'wait', which calls no function: use flow.add_step"):
        flow.step(lambda ctx: None, name="a", step_type="wait", config={"signal": "go"})


def test_an_undo_takes_only_what_comes_before_its_step(flow):
    build = flow.step(lambda ctx: None, name="build")
    flow.step(lambda build: None, name="test")
    build.rollback(lambda test: None)
    with pytest.raises(InvalidFlow, match="the undo of step 'build' takes the output of step 'test', which cannot"):
        flow.run()


def test_in_a_sequential_flow_a_step_takes_the_outputs_of_those_before_it():
    flow = Flow("line", FlowMode.SEQUENTIAL)
    flow.step(lambda: 1, name="one")
    flow.step(lambda: 2, name="two")
    flow.step(lambda one, two: one + two, name="sum")
    assert flow.run()["sum"].output == 3


def test_in_a_sequential_flow_a_step_takes_no_output_of_those_after_it():
    flow = Flow("line", FlowMode.SEQUENTIAL)
    flow.step(lambda later: 1, name="first")
    flow.step(lambda: 2, name="later")
    with pytest.raises(InvalidFlow, match=r"step 'first' takes the output of step 'later', which cannot have run"):
        flow.run()


# -- what it stays -----------------------------------------------------------------------------------------


def test_a_decorated_function_stays_callable_and_keeps_what_it_says(flow):
    assert at_the_top(None, n=4) == 8
    assert at_the_top.__doc__ == "Return n, doubled."
    assert at_the_top.__name__ == "at_the_top"


def test_a_decorated_function_can_be_pickled():
    assert pickle.loads(pickle.dumps(at_the_top)) is at_the_top
    assert pickle.loads(pickle.dumps(Flow("f").step(textwrap.dedent))) is textwrap.dedent


def test_the_definition_is_a_flow_def_of_mode_dag(flow):
    flow.step(lambda ctx: None, name="build")
    definition = flow.definition
    assert isinstance(definition, FlowDef)
    assert (definition.name, definition.mode) == ("ci", FlowMode.DAG)
    flow.step(lambda build: None, name="test")
    assert flow.definition is definition
    assert [step.name for step in definition.steps] == ["build", "test"]
    assert attrs.evolve(definition) == definition


# -- engines -----------------------------------------------------------------------------------------------


def test_an_engine_of_several_flows_has_the_functions_of_each():
    flows = [Flow("one"), Flow("two")]
    for flow in flows:
        flow.step(lambda ctx: f"{ctx.step.name} of {ctx.flow_name}", name="load")
    with Engine(flows) as engine:
        assert [engine.run(flow)["load"].output for flow in flows] == ["load of one", "load of two"]
        assert engine.start(flows[1]).result(timeout=20)["load"].output == "load of two"


def test_an_engine_takes_a_registry_for_all_other_flows(flow):
    flow.step(lambda: "a function", name="build")
    handlers = szal.Handlers(lambda ctx: "the registry")
    with Engine([flow, handlers]) as engine:
        assert engine.run(flow)["build"].output == "a function"
        assert engine.run(FlowDef("other", steps=[StepDef("build")]))["build"].output == "the registry"


def test_two_flows_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two flows of this engine are called 'ci'"):
        Engine([Flow("ci"), Flow("ci")])


def test_an_engine_that_does_not_know_a_flow_says_so(flow):
    flow.step(lambda ctx: None, name="build")
    with Engine(Flow("other")) as engine, pytest.raises(szal.HandlerNotFound, match="no handler for step: build"):
        engine.run(flow)


def test_what_is_no_flow_is_refused():
    with Engine(lambda ctx: None) as engine, pytest.raises(TypeError, match="this is no flow, but of type str"):
        engine.run("ci")  # type: ignore[arg-type]


# -- what other features make of it ------------------------------------------------------------------------


def test_a_failure_that_is_caught_has_no_output(flow):
    @flow.step(continue_on_error=True)
    def fetch():
        raise ConnectionError("no network")

    @flow.step
    def use(ctx, fetch="the copy of yesterday"):
        return [fetch, ctx.steps["fetch"].error]

    assert flow.run()["use"].output == ["the copy of yesterday", "ConnectionError: no network"]


def test_a_finally_step_is_bound_as_any_other(flow, capsys):
    @flow.step
    def build():
        return "ci.whl"

    @flow.step
    def fail(build):
        raise ValueError("no")

    @flow.step(needs=fail, finally_=True)
    def tell(ctx, build, fail=None):
        print(ctx.flow.failed, build, fail)

    flow.run()
    assert capsys.readouterr().out == "('fail',) ci.whl None\n"


def test_a_step_of_the_first_trigger_has_the_outputs_that_were_there(flow):
    go = threading.Event()

    @flow.step
    def fast():
        return "fast"

    @flow.step
    def slow():
        go.wait(30)
        return "slow"

    @flow.step(trigger_mode=TriggerMode.ANY)
    def first(fast, slow):
        go.set()
        return [fast, slow]

    assert flow.run()["first"].output == ["fast", None]


def test_a_hierarchy_has_steps_below_steps():
    flow = Flow("tree", FlowMode.HIERARCHICAL)
    leaf = flow.step(lambda root: f"{root} leaf", name="leaf")
    plain = StepDef("sleep", step_type="sleep", config={"seconds": 0})
    flow.step(lambda: "root", name="root", sub_steps=[leaf, plain])
    flow.step(lambda leaf: f"{leaf}, then last", name="last")
    leaf.rollback(lambda ctx: None)
    assert [step.name for step in flow.definition.walk()] == ["root", "leaf", "sleep", "last"]
    assert flow.definition.steps[0].sub_steps[0].rollbackable
    assert flow.run().outputs["last"] == "root leaf, then last"


def test_depends_on_takes_decorated_steps_too(flow):
    build = flow.step(lambda ctx: 1, name="build")
    flow.step(lambda ctx: 2, name="test", depends_on=[build])
    other = flow.add_step(StepDef("other", step_type="sleep", config={"seconds": 0}))
    flow.step(lambda ctx: 3, name="last", depends_on=[other.id, flow.step(lambda ctx: 0, name="more")])
    assert [steps_before(flow, "test"), steps_before(flow, "last")] == [["build"], ["other", "more"]]


def test_steps_that_are_added_to_the_definition_count(flow):
    flow.step(lambda echo: echo["stdout"], name="use")
    flow.definition.parameters  # noqa: B018
    flow.definition.add_step(StepDef("echo", step_type="shell", config={"run": "echo hello"}))
    assert flow.run()["use"].output == "hello"


# -- random flows ------------------------------------------------------------------------------------------


@given(edges=st.lists(st.sets(st.integers(0, 7)), min_size=1, max_size=8), order=st.randoms(use_true_random=False))
def test_every_flow_of_functions_is_its_graph(edges, order):
    """Each step takes some of those before it, and an input; they are written in any order."""
    before = {f"s{place}": [f"s{other}" for other in sorted(some) if other < place] for place, some in enumerate(edges)}
    flow, names = Flow("random"), [*before]
    order.shuffle(names)
    for name in names:
        parameters = ", ".join([*before[name], "start=1"])
        function = eval(f"lambda {parameters}: start + sum([{', '.join(before[name])}])")
        flow.step(function, name=name)
    expected = {}
    for name, some in before.items():
        expected[name] = 2 + sum(expected[other] for other in some)
    assert flow.run({"start": 2}).outputs == expected
    assert all(set(steps_before(flow, name)) == set(some) for name, some in before.items())


@pytest.mark.parametrize("name", ["", 3, "ctx", "item", "index"])
def test_a_name_that_no_parameter_could_have_is_refused_where_it_is_written(flow, name):
    for write in (
        lambda: flow.step(lambda: None, name=name),
        lambda: flow.sub_flow(name, Flow("other")),
        lambda: flow.add_step(StepDef(name, step_type="sleep", config={"seconds": 0})),
    ):
        with pytest.raises(
            InvalidFlow, match=r"a step's name must be a text|a parameter of that name is never an output"
        ):
            write()


def test_what_is_needed_and_no_step_is_named(flow):
    def load(): ...

    flow.step(load, name="one")
    flow.step(load, name="two")
    for needed in (load, 3):
        with pytest.raises(
            InvalidFlow, match=r"needs what is no step .*: give what flow.step returned, or the step's name"
        ):
            flow.step(lambda: None, name="a", needs=needed)


def test_a_function_may_be_a_step_of_several_flows():
    one, two = Flow("one"), Flow("two")

    @one.step
    @two.step(name="read")
    def load():
        return 1

    for flow in (one, two):
        flow.step(lambda: None, name="after", needs=load)
        flow.step(lambda item: item, name="each", foreach=load)
    assert [
        [step.name for step in flow.definition.steps if step.id in flow.definition.steps[1].depends_on]
        for flow in (one, two)
    ] == [["load"], ["read"]]
    assert two.definition.steps[2].foreach == "steps.read.output"


def test_an_undo_of_a_step_without_output_has_the_default_of_the_parameter():
    flow = Flow("demo", rollback_on_failure=True)
    flow.step(lambda: None, name="nothing").rollback(lambda nothing="default": [nothing])
    boom = flow.step(lambda nothing: 1 / 0, name="boom", undo_on_failure=True)
    boom.rollback(lambda boom="default", nothing=2: [boom, nothing])
    result = flow.run()
    assert (result["boom"].undo_output, result["nothing"].undo_output) == (["default", None], [None])
