"""What a handler changes in what it is given is its attempt's own."""

from collections import OrderedDict, defaultdict

import pytest
from helper_engine import bounded

from szal import Engine, EngineConfig, FlowDef, Handlers, InMemoryStorage, StepDef
from szal.expressions.copies import own_copy


def run(handler, flow, inputs=None, **config):
    with Engine(handler, EngineConfig(**config)) as engine:
        return bounded(engine.run, flow, inputs)


class TestConfig:
    @pytest.mark.parametrize("rest", [{"n": 1}, {"who": "{{inputs.who}}"}], ids=["plain", "with a template"])
    def test_a_pop_does_not_reach_the_next_attempt_nor_the_definition(self, rest):
        def handler(ctx):
            url = ctx.config.pop("url")
            ctx.config["headers"].clear()
            assert ctx.config["headers"] == {}  # its own, for as long as it runs
            if ctx.attempt == 1:
                raise ConnectionError("reset")
            return url

        config = {"url": "http://x", "headers": {"Auth": "secret"}, **rest}
        flow = FlowDef("f", steps=[StepDef("get", config=config, max_retries=2, retry_delay=0)])
        for _ in range(2):
            result = run(handler, flow, {"who": "ann"})
            assert (result["get"].output, result["get"].attempts) == ("http://x", 2)
        assert config == {"url": "http://x", "headers": {"Auth": "secret"}, **rest}

    def test_another_flow_that_shares_it_sees_nothing(self):
        base = {"opts": {"retries": 3}}
        run(lambda ctx: ctx.config["opts"].update(retries=0), FlowDef("f", steps=[StepDef("a", config=base)]))
        result = run(lambda ctx: ctx.config["opts"]["retries"], FlowDef("g", steps=[StepDef("a", config=base)]))
        assert result["a"].output == 3

    def test_arguments_of_a_function_called_by_name_are_its_own(self):
        inputs = {"rows": [3, 1, 2]}
        config = {"call": "heapq:heapify", "args": ["{{inputs.rows}}"]}
        assert run(Handlers(), FlowDef("f", steps=[StepDef("a", step_type="python", config=config)]), inputs).success
        assert inputs == {"rows": [3, 1, 2]}


class TestInputs:
    def test_defaults_do_not_grow_from_run_to_run(self):
        def handler(ctx):
            ctx.inputs["tags"].append(ctx.step.name)
            ctx.inputs["new"] = 1
            return ctx.inputs

        flow = FlowDef("f", steps=[StepDef("a"), StepDef("b")], inputs={"tags": []})
        for _ in range(2):
            result = run(handler, flow)
            assert result.outputs == {"a": {"tags": ["a"], "new": 1}, "b": {"tags": ["b"], "new": 1}}
        assert flow.inputs == {"tags": []}

    def test_the_callers_are_left_alone_and_leave_the_run_alone(self):
        mine = {"rows": [1, 2]}

        def handler(ctx):
            mine["rows"].append(3)
            ctx.inputs["rows"].clear()
            return len(ctx.inputs["rows"])

        untouched = "inputs.rows[1] == 2 && inputs.rows[2] == null"
        result = run(handler, FlowDef("f", steps=[StepDef("a"), StepDef("b", condition=untouched)]), mine)
        assert result.outputs == {"a": 0, "b": 0}
        assert mine == {"rows": [1, 2, 3, 3]}

    def test_a_sub_flows_are_its_own(self):
        child = FlowDef("child", steps=[StepDef("inner")], inputs={"d": [], "rows": None})
        config = {"flow_name": "child", "inputs": {"rows": "{{inputs.rows}}"}}
        flow = FlowDef("p", steps=[StepDef("child", step_type="sub_flow", config=config), StepDef("after")])

        def handler(ctx):
            if ctx.flow_name == "child":
                ctx.inputs["rows"].clear()
                ctx.inputs["d"].append(1)
                return None
            return ctx.inputs["rows"]

        assert run(handler, flow, {"rows": [1]}, storage=InMemoryStorage([child]))["after"].output == [1]
        assert child.inputs == {"d": [], "rows": None}


class TestOutputs:
    def test_a_sort_in_place_is_nobody_elses(self):
        def handler(ctx):
            if ctx.step.name == "read":
                return [3, 1, 2]
            if ctx.step.name == "sort":
                ctx.outputs["read"].sort()
                assert ctx.outputs["read"] == [1, 2, 3]
            return ctx.outputs["read"]

        steps = [StepDef(name) for name in ("read", "sort", "use")]
        result = run(handler, FlowDef("f", steps=steps))
        assert [result[name].output for name in ("read", "sort", "use")] == [[3, 1, 2], [1, 2, 3], [3, 1, 2]]

    def test_what_an_undo_changes_is_not_in_the_result(self):
        def handler(ctx):
            if ctx.step.name == "bad":
                raise ValueError
            return {"ids": [1, 2]}

        flow = FlowDef("f", steps=[StepDef("a", rollbackable=True), StepDef("bad")], rollback_on_failure=True)
        result = run(handler, flow, rollback_handler=lambda ctx: ctx.output["ids"].clear())
        assert result["a"].output == {"ids": [1, 2]}

    def test_a_list_in_a_tuple_is_nobody_elses(self):
        def handler(ctx):
            for mine in (ctx.config, ctx.inputs["pair"]):
                mine[0].append("changed")
            assert (ctx.config, ctx.inputs) == ((["changed"],), {"pair": (["changed"],)})
            if ctx.attempt == 1:
                raise ValueError

        given = {"pair": ([],)}
        step = StepDef("a", config=([],), max_retries=1, retry_delay=0)
        assert run(handler, FlowDef("f", steps=[step], inputs=given)).success
        assert (given, step.config) == ({"pair": ([],)}, ([],))

    def test_other_objects_pass_as_they_are(self):
        class Bag(dict):
            """A class of the program's own."""

        connection, bag = object(), Bag(a=1)

        def handler(ctx):
            if ctx.step.name == "open":
                return {"connection": connection, "bag": bag}
            return ctx.outputs["open"]["connection"] is connection and ctx.outputs["open"]["bag"] is bag

        assert run(handler, FlowDef("f", steps=[StepDef("open"), StepDef("use")]))["use"].output is True


class TestACopy:
    @pytest.mark.parametrize(
        "value",
        [
            {},
            [1, [2, [3, {"a": []}]]],
            {"a": [{}, []], "b": (1, [2])},
            (1, [2], ((), (3, {"a": [4]}))),
            OrderedDict(a=[1], b=OrderedDict(c=[2])),
            defaultdict(list, a=[1]),
        ],
    )
    def test_is_equal_and_of_the_same_classes(self, value):
        copy = own_copy(value)
        assert copy == value
        assert copy is not value
        assert type(copy) is type(value)

    @pytest.mark.parametrize("value", [None, 1, "x", (), (1, (2, "x")), {1}])
    def test_of_anything_else_is_the_thing_itself(self, value):
        assert own_copy(value) is value

    def test_of_what_contains_itself_or_one_thing_often(self):
        circle = [1]
        circle.append(circle)
        mine = own_copy(circle)
        assert mine is not circle
        assert mine[1] is mine
        laughs = ["ha"]
        for _ in range(64):  # 2**64 of them, if each were copied
            laughs = [laughs, laughs]
        mine = own_copy(laughs)
        assert mine[0] is mine[1]

    def test_of_tuples_has_lists_and_dicts_of_its_own_in_them(self):
        inner = [1]
        shared = (inner, (2, "x"))
        circle = []
        circle.append((circle, shared))
        value = {"a": (shared, shared, {"b": inner}), "c": circle}
        mine = own_copy(value)
        assert mine["a"] == value["a"]
        assert mine["a"][0][0] is not inner
        assert mine["a"][0] is mine["a"][1]
        assert mine["a"][0][0] is mine["a"][2]["b"] is mine["c"][0][1][0]
        assert mine["a"][0][1] is shared[1]
        assert mine["c"][0][0] is mine["c"] is not circle
        for _ in range(64):
            shared = (shared, shared)
        mine = own_copy(shared)
        assert mine[0] is mine[1]

    def test_no_depth_of_tuples_is_too_much(self):
        deep = ([],)
        for _ in range(100_000):
            deep = (deep,)
        mine = own_copy(deep)
        while deep:
            mine, deep = mine[0], deep[0]
        assert mine == deep
        assert mine is not deep

    def test_no_depth_is_too_much(self):
        deep: list = []
        for _ in range(100_000):
            deep = [deep]
        mine = own_copy(deep)
        assert mine is not deep
        while mine:  # taken apart by hand: destroying it at once would recurse
            mine, deep = mine.pop(), deep.pop()
