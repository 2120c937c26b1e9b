"""What a run sees of its values is what is recorded: live, and after a crash, the same."""

import collections
import decimal
import enum
import threading

import pytest
from durable.children import killed

from szal import (
    EncodeError,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    Handlers,
    InMemoryStorage,
    StepDef,
    StepStatus,
    WorkflowState,
    open_store,
)


class Colour(str, enum.Enum):  # noqa: UP042 (as people write them)
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


Pair = collections.namedtuple("Pair", "a b")

RETURNED = {
    "tuple": ((1, 2), [1, 2]),
    "nested": ({"x": [(1, {"y": ()})]}, {"x": [[1, {"y": []}]]}),
    "enum": (Colour.RED, "red"),
    "int_enum": ({"level": Level.LOW}, {"level": 1}),
    "enum_key": ({Colour.RED: 1}, {"red": 1}),
    "namedtuple": (Pair(1, [2]), [1, [2]]),
    "ordered": (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    "counter": (collections.Counter("aab"), {"a": 2, "b": 1}),
    "default": (collections.defaultdict(list, a=[1]), {"a": [1]}),
    "large": ([2**70, -(10**307)], [2**70, -(10**307)]),
    "float": ([-0.0, 1e300, 0.1], [-0.0, 1e300, 0.1]),
    "text": ("é🧵\\u0000", "é🧵\\u0000"),
    "flat": ({"a": 1, "b": None}, {"a": 1, "b": None}),
    "rows": ([{"id": 1}, {"id": 2}], [{"id": 1}, {"id": 2}]),
    "none": (None, None),
}
"""What a handler returns, and what everybody else sees of it."""


def exact(value):
    """Return *value* with its types, however deep."""
    if isinstance(value, dict):
        return type(value).__name__, [(exact(key), exact(inner)) for key, inner in value.items()]
    if isinstance(value, list | tuple):
        return type(value).__name__, [exact(inner) for inner in value]
    return type(value).__name__, str.__repr__(value) if isinstance(value, str) else repr(value)


def seen_of(name, value, engine):
    """Return what later steps, conditions, templates, an undo and the result see of *value*, the output of *name*."""
    seen = {}

    def handler(ctx):
        if ctx.step.name == name:
            return value
        if ctx.step.name == "see":
            seen["outputs"] = exact(ctx.outputs[name])
            seen["config"] = exact(ctx.config)
            raise ValueError
        return None

    see = StepDef("see", config={"value": f"{{{{steps.{name}.output}}}}"})
    flow = FlowDef("f", steps=[StepDef(name, rollbackable=True), see], rollback_on_failure=True)
    seen["result"] = exact(engine(handler, lambda ctx: seen.update(undo=exact(ctx.output))).run(flow)[name].output)
    return seen


def expected(value):
    form = exact(value)
    return {"outputs": form, "config": ("dict", [(exact("value"), form)]), "undo": form, "result": form}


@pytest.mark.parametrize("name", RETURNED)
def test_all_see_of_an_output_what_is_recorded(new_engine, store, name):
    returned, form = RETURNED[name]
    seen = seen_of(name, returned, lambda handler, undo: new_engine(handler, rollback_handler=undo))
    assert seen == expected(form)


class FourMethods:
    """A store of somebody else's."""

    def __init__(self):
        self.records = {}

    def save(self, record):
        self.records[record.execution_id] = record

    def get(self, execution_id):
        return self.records.get(execution_id)

    def list(self):
        return list(self.records)

    def remove(self, execution_id):
        return self.records.pop(execution_id, None) is not None


@pytest.mark.parametrize("name", RETURNED)
def test_so_they_do_with_a_store_of_somebody_elses(name):
    returned, form = RETURNED[name]

    def engine(handler, undo):
        return Engine(handler, EngineConfig(execution_store=FourMethods(), rollback_handler=undo))

    assert seen_of(name, returned, engine) == expected(form)


FLOW = """
    import collections, enum
    sys.path.insert(0, sys.argv[2])
    from durable.test_values_after_a_crash import RETURNED, flow_of_all, handlers_of_all

    new_engine(handlers_of_all(die), durability=sys.argv[3]).run(flow_of_all(), {"pair": (1, 2)}, execution_id="e")
"""


def handlers_of_all(at_kill=lambda: None):
    handlers = Handlers()

    @handlers.step_type("give")
    def give(ctx):
        return RETURNED[ctx.step.name][0]

    @handlers.step("kill")
    def kill(ctx):
        at_kill()

    @handlers.step("see")
    def see(ctx):
        seen = {name: repr(exact(value)) for name, value in ctx.outputs.items()}
        return seen | {"inputs": repr(exact(ctx.inputs)), "config": repr(exact(ctx.config))}

    @handlers.step("asked")
    def asked(ctx):
        return ctx.config

    return handlers


def flow_of_all():
    gives = [StepDef(name, step_type="give") for name in RETURNED]
    config = {"pair": (1, 2), "colour": Colour.RED, "all": ["{{inputs.pair}}", ({"x": "{{steps.tuple.output}}"},)]}
    kill = StepDef("kill", depends_on=gives)
    see = StepDef("see", depends_on=[kill], config=config)
    asked = StepDef(
        "asked", depends_on=[kill], condition="steps.enum.output == 'red' && steps.tuple.output[1] > 1", config=(1,)
    )
    return FlowDef("f", FlowMode.DAG, steps=[*gives, kill, see, asked], inputs={"pair": None, "level": Level.LOW})


@pytest.mark.parametrize("durability", ["flow", "step"])
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_run_that_is_killed_and_recovered_ends_as_one_that_is_not(new_engine, store_url, durability):
    from pathlib import Path

    killed(FLOW, store_url, Path(__file__).parents[1], durability)
    engine = new_engine(handlers_of_all(), durability=durability)
    [recovered] = engine.recover()
    straight = engine.run(flow_of_all(), {"pair": (1, 2)}, execution_id="straight")
    assert straight.success
    assert exact(recovered.outputs) == exact(straight.outputs)
    assert straight.outputs == {
        **{name: form for name, (_, form) in RETURNED.items()},
        "kill": None,
        "see": straight["see"].output,
        "asked": [1],
    }
    stored = engine.run(flow_of_all(), {"pair": (1, 2)}, execution_id="straight")
    assert exact(stored.outputs) == exact(straight.outputs)


def test_what_a_handler_changes_after_it_has_returned_it_is_not_what_was_recorded(new_engine, store):
    mine, rows = [], [[]]

    def handler(ctx):
        mine.append(ctx.step.name)
        rows[0].append(ctx.step.name)
        return {"mine": mine} if ctx.step.name == "a" else rows if ctx.step.name == "b" else mine

    engine = new_engine(handler)
    result = engine.run(FlowDef("f", steps=[StepDef("a"), StepDef("b"), StepDef("c")]), execution_id="e")
    assert result.outputs == {"a": {"mine": ["a"]}, "b": [["a", "b"]], "c": ["a", "b", "c"]}
    assert store.get("e").result.outputs == result.outputs


def test_keys_that_are_two_to_python_and_one_to_json_fail_their_step(new_engine, store):
    class Other(str):
        __slots__ = ()
        __hash__ = object.__hash__

        def __eq__(self, other):
            return self is other

    result = new_engine(lambda ctx: {Other("a"): 1, Other("a"): 2}).run(FlowDef("f", steps=[StepDef("a")]))
    assert result["a"].error == "OutputNotSerializable: output: duplicate key 'a'"


@pytest.mark.parametrize("output", [{7: "a", "7": "b"}, {"x": [{True: 1}]}, {None: 1}], ids=ascii)
def test_a_key_that_is_no_text_fails_its_step_by_its_path(new_engine, store, output):
    flow = FlowDef("f", steps=[StepDef("a", max_retries=3)])
    result = new_engine(lambda ctx: output).run(flow, execution_id="e")
    assert (result["a"].attempts, result["a"].error_type) == (1, "OutputNotSerializable")
    assert "a key of type" in result["a"].error
    assert store.get("e").state is WorkflowState.FAILED
    assert new_engine().rerun("e").success


@pytest.mark.parametrize("key", [7, True, None], ids=str)
def test_a_key_of_a_config_that_is_no_text_is_refused_by_its_path(new_engine, store, key):
    with pytest.raises(EncodeError, match=r'"config"\]\["of"\]: a key of type'):
        new_engine().run(FlowDef("f", steps=[StepDef("a", config={"of": {key: 1}})]))
    assert list(store.list()) == []


def test_a_rerun_sees_its_inputs_as_they_are_recorded(new_engine, store):
    engine = new_engine(lambda ctx: repr(ctx.inputs["pair"]))
    engine.run(FlowDef("f", steps=[StepDef("a")]), {"pair": 0}, execution_id="e")
    assert engine.rerun("e", from_step="a", inputs={"pair": (1, 2)})["a"].output == "[1, 2]"
    with pytest.raises(EncodeError, match=r'^inputs\["pair"\]: a key of type int'):
        engine.rerun("e", from_step="a", inputs={"pair": {1: 2}})


def test_a_sub_flow_sees_its_inputs_as_they_are_recorded(new_engine, store):
    config = {"flow_name": "child", "inputs": {"pair": (1, 2)}}
    child = FlowDef("child", steps=[StepDef("inner", config={"c": (1,)})], inputs={"pair": None, "level": Level.LOW})
    flow = FlowDef("f", steps=[StepDef("child", step_type="sub_flow", config=config)])
    engine = new_engine(lambda ctx: repr((ctx.inputs, ctx.config)), storage=InMemoryStorage([child]))
    assert engine.run(flow)["child"].output == {"inner": "({'pair': [1, 2], 'level': 1}, {'c': [1]})"}


def test_labels_are_text_as_it_is_recorded(new_engine, store):
    engine = new_engine()
    engine.run(FlowDef("f", steps=[]), execution_id="e", labels={Colour.RED: Colour.RED})
    assert exact(dict(store.get("e").labels)) == exact({"red": "red"})


class TestWithoutAStore:
    """Handlers hand on what they like; conditions and templates see the JSON that a store would have."""

    def run(self, output, *steps, inputs=None, seen=None):
        def handler(ctx):
            if ctx.step.name == "a":
                return output
            if seen is not None:
                seen.append(ctx.outputs["a"])
            return ctx.config

        with Engine(handler) as engine:
            return engine.run(FlowDef("f", steps=[StepDef("a"), *steps]), inputs)

    @pytest.mark.parametrize("name", RETURNED)
    def test_a_template_sees_the_form_that_a_store_would_have(self, name):
        returned, form = RETURNED[name]
        seen = []
        result = self.run(returned, StepDef("b", config="{{steps.a.output}}"), seen=seen)
        assert exact(result["b"].output) == exact(form)
        assert exact(seen[0]) == exact(returned)
        assert exact(result["a"].output) == exact(returned)

    @pytest.mark.parametrize(
        ("output", "condition"),
        [
            ((1, 2), "steps.a.output[1] == 2"),
            (Colour.RED, "steps.a.output == 'red'"),
            ({"level": Level.LOW}, "steps.a.output.level == 1"),
            (Pair(1, 2), "steps.a.output contains 2"),
        ],
        ids=ascii,
    )
    def test_so_does_a_condition(self, output, condition):
        assert self.run(output, StepDef("b", condition=condition))["b"].status is StepStatus.COMPLETED

    @pytest.mark.parametrize(
        ("output", "where"),
        [
            ({1, 2}, "steps.a.output: set"),
            ({"when": [decimal.Decimal(1)]}, 'steps.a.output["when"][0]: Decimal'),
            ({"of": {7: 1}}, 'steps.a.output["of"]: a key of type int'),
            (threading.Lock(), "steps.a.output: lock"),
            (float("nan"), "steps.a.output: nan is not a JSON number"),
            (b"x", "steps.a.output: bytes"),
            (type("bool", (), {"__module__": "numpy"})(), "steps.a.output: numpy.bool"),
        ],
        ids=["set", "Decimal", "key", "lock", "nan", "bytes", "numpy"],
    )
    @pytest.mark.parametrize(
        "asks", [{"condition": "steps.a.output == true"}, {"config": ["{{steps.a.output}}"]}], ids=str
    )
    def test_what_has_no_json_fails_the_step_that_asks_by_its_path_and_no_attempt_follows(self, output, where, asks):
        result = self.run(output, StepDef("b", max_retries=2, **asks))
        assert result["a"].status is StepStatus.COMPLETED
        assert (result["b"].status, result["b"].error_type) == (StepStatus.FAILED, "ValueNotJson")
        assert result["b"].error == f"{where} (conditions and templates read nothing but JSON)"
        assert result["b"].attempts <= 1

    def test_nobody_who_does_not_ask_for_it_fails(self):
        steps = [StepDef("b", condition="steps.a.status == 'completed'"), StepDef("c", config="{{steps.a.error}}")]
        result = self.run({1, 2}, *steps)
        assert result.success
        assert result.completed_count == 3

    def test_a_nul_is_json(self):
        result = self.run(["a\0b"], StepDef("b", condition="steps.a.output[0] > 'a'", config="{{steps.a.output}}"))
        assert result["b"].output == ["a\0b"]

    def test_a_name_that_is_no_word_is_quoted_in_the_path(self):
        with Engine(lambda ctx: {1}) as engine:
            flow = FlowDef("f", steps=[StepDef("a.b"), StepDef("c", condition='steps["a.b"].output')])
            assert 'steps["a.b"].output: set' in engine.run(flow)["c"].error

    def test_of_inputs_each_is_looked_at_when_somebody_asks_for_it(self):
        steps = [StepDef("b", condition="inputs.colour == 'red'"), StepDef("c", config="{{inputs.lock}}")]
        result = self.run(None, *steps, inputs={"colour": Colour.RED, "lock": threading.Lock()})
        assert result["b"].status is StepStatus.COMPLETED
        assert result["c"].error == "inputs.lock: lock (conditions and templates read nothing but JSON)"

    def test_a_name_of_an_input_that_is_no_text_is_refused(self):
        with pytest.raises(EncodeError, match=r"^inputs: a key of type int"):
            self.run(None, inputs={7: 1})


def test_a_store_that_is_opened_by_its_url_shows_the_same(store_url, new_engine):
    new_engine(lambda ctx: (1, Colour.RED)).run(FlowDef("f", steps=[StepDef("a")]), execution_id="e")
    with open_store(store_url) as opened:
        assert exact(opened.get("e").result["a"].output) == exact([1, "red"])
