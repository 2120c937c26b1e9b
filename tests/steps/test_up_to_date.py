"""Steps whose work is there already: ``done_when``, and ``up_to_date`` in files."""

import os

import pytest
from helper_engine import statuses

from szal import (
    Engine,
    EngineConfig,
    Flow,
    FlowDef,
    FlowMode,
    Handlers,
    InvalidFlow,
    LoadError,
    StepDef,
    load_flow,
    open_store,
)


def run(flow, handler, **inputs):
    with Engine(handler) as engine:
        return engine.run(flow, inputs)


async def ask(ctx):
    return False


def answers(ctx):
    yield False


NO_ANSWER = [
    (ask, "is ask, an async function"),
    (answers, "is answers, a generator function"),
    (bool, "is the class bool"),
    (lambda: True, r"is called with \(ctx\), and takes \(\)"),
]
"""What would be true whatever it says, or could not be asked."""


class TestDoneWhen:
    @pytest.mark.parametrize("is_there", [True, False])
    def test_what_is_there_is_skipped_and_blocks_nothing(self, is_there):
        calls = []
        load = StepDef("load", done_when=lambda ctx: ctx.inputs["there"])
        flow = FlowDef("f", FlowMode.DAG, steps=[load, StepDef("after", depends_on=[load])])
        result = run(flow, lambda ctx: calls.append(ctx.step.name), there=is_there)
        assert result.success
        assert calls == (["after"] if is_there else ["load", "after"])
        assert (str(result["load"].status), result["load"].error) == (
            ("skipped", "up to date") if is_there else ("completed", None)
        )

    def test_it_is_asked_before_the_first_attempt_only(self):
        asked = []

        def handler(ctx):
            if ctx.attempt == 1:
                raise OSError("not yet")

        flow = FlowDef("f", steps=[StepDef("a", max_retries=1, retry_delay=0, done_when=lambda ctx: asked.append(1))])
        assert run(flow, handler)["a"].attempts == 2
        assert asked == [1]

    def test_what_it_raises_is_the_steps_failure(self):
        result = run(FlowDef("f", steps=[StepDef("a", done_when=lambda ctx: 1 / 0)]), lambda ctx: None)
        assert result["a"].error == "ZeroDivisionError: division by zero"

    def test_handlers_have_it_by_name(self):
        handlers = Handlers(lambda ctx: "done")
        handlers.done_when("a")(lambda ctx: True)
        result = run(FlowDef("f", steps=[StepDef("a"), StepDef("b")]), handlers)
        assert statuses(result) == {"a": "skipped", "b": "completed"}

    def test_each_item_is_asked_for(self):
        flow = FlowDef("f", steps=[StepDef("a", foreach="inputs.n", done_when=lambda ctx: ctx.item > 1)])
        assert [str(item.status) for item in run(flow, lambda ctx: ctx.item, n=[1, 2])["a"].items] == [
            "completed",
            "skipped",
        ]

    def test_a_flow_of_functions_has_it_also_where_its_definition_comes_from_the_store(self):
        flow, store = Flow("f"), open_store("memory:")

        @flow.step
        def ask():
            return 1

        @flow.step(done_when=lambda ctx: True)
        def load(ask):
            return ask

        stored = FlowDef("f", flow.definition.mode, steps=flow.definition.steps, id=flow.definition.id)
        with Engine(flow, EngineConfig(execution_store=store)) as engine:
            engine.run(stored, execution_id="e")
            assert engine.rerun("e")["load"].error == "up to date"
        assert load(2) == 2

    def test_it_must_be_a_function_and_a_step_that_has_a_handler(self):
        with pytest.raises(InvalidFlow, match="done_when is no function"):
            FlowDef("f", steps=[StepDef("a", done_when=True)]).validate()
        for function, problem in NO_ANSWER:
            with pytest.raises(InvalidFlow, match=f"step 'a': done_when {problem}"):
                FlowDef("f", steps=[StepDef("a", done_when=function)]).validate()
        nap = StepDef("a", step_type="sleep", config={"seconds": 0}, done_when=lambda ctx: True)
        with pytest.raises(InvalidFlow, match="done_when does not go with the type 'sleep'"):
            FlowDef("f", steps=[nap]).validate()


class TestFiles:
    @pytest.fixture
    def file(self, tmp_path):
        """A flow that makes b.txt and c.txt of all files in a folder."""
        file = tmp_path / "flow.yaml"
        file.write_text(
            """
name: f
steps:
  - name: make
    run: cat in/*.txt > b.txt; cat b.txt > c.txt; echo made
    output: text
    up_to_date: {sources: ["in/*.txt"], outputs: [b.txt, "{{inputs.last}}"]}
inputs: {last: c.txt}
"""
        )
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "1.txt").write_text("one")
        return file

    def made(self, file, **inputs):
        return run(load_flow(file), Handlers(), **inputs)["make"].output == "made"

    def test_it_runs_where_something_is_missing_or_older(self, file, tmp_path):
        assert self.made(file)
        assert not self.made(file)
        (tmp_path / "in" / "2.txt").write_text("two")
        os.utime(tmp_path / "in" / "2.txt", (2**31, 2**31))
        assert self.made(file)
        os.utime(tmp_path / "in" / "2.txt", (0, 0))
        assert not self.made(file)
        (tmp_path / "c.txt").unlink()
        assert self.made(file)

    def test_a_source_that_is_not_there_fails_it(self, file, tmp_path):
        (tmp_path / "in" / "1.txt").unlink()
        result = run(load_flow(file), Handlers())["make"]
        assert "up_to_date: there is no source 'in/*.txt' in" in result.error

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ("{sources: [a]}", "4:17: 'up_to_date' of step 'a' names no 'outputs'"),
            ("{outputs: [a], source: [b]}", "4:32: unknown key 'source' in 'up_to_date' of step 'a'; did you mean"),
            ("a.txt", "4:17: 'up_to_date' in step 'a' must be an object"),
            ("{outputs: [7]}", "4:28: "),
        ],
    )
    def test_what_is_wrong_is_told_with_its_place(self, tmp_path, given, told):
        file = tmp_path / "f.yaml"
        file.write_text(f"name: f\nsteps:\n  - {{name: a, run: x,\n    up_to_date: {given}}}\n")
        with pytest.raises(LoadError) as error:
            load_flow(file)
        assert told in str(error.value)

    def test_a_wait_takes_none(self, tmp_path):
        file = tmp_path / "f.yaml"
        file.write_text("name: f\nsteps:\n  - {name: a, sleep: 1, up_to_date: {outputs: [a]}}\n")
        with pytest.raises(LoadError, match="'up_to_date' does not go with 'sleep'"):
            load_flow(file)

    def test_a_config_in_python_is_checked(self):
        flow = FlowDef(
            "f", steps=[StepDef("a", step_type="shell", config={"run": "x", "up_to_date": {"output": ["b"]}})]
        )
        with pytest.raises(InvalidFlow, match=r"config\.up_to_date must be like .*; it has no 'output'"):
            run(flow, Handlers())
