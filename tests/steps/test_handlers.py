"""Which function does which step, and the step type "python"."""

import pytest

from szal.engine.engine import Engine
from szal.errors import HandlerNotFound, InvalidFlow
from szal.model.flow import FlowDef
from szal.model.state import StepStatus, WorkflowState
from szal.model.step import StepDef
from szal.steps.handlers import Handlers, call_python
from szal.steps.lookup import NotThere, import_object


@pytest.fixture
def handlers():
    return Handlers()


def run(step, inputs=None, handlers=None):
    with Engine(handlers or Handlers()) as engine:
        return engine.run(FlowDef("demo", steps=[step]), inputs)[step.name]


def call(function, args=None, inputs=None):
    """Run a step that calls a function of this module."""
    config = {"call": function if ":" in function else f"{__name__}:{function}"}
    if args is not None:
        config["args"] = args
    return run(StepDef("call", step_type="python", config=config), inputs)


# What steps call. A class, to show that an attribute of an attribute can be named.


def plain(a, b=2):
    return [a, b]


def with_ctx(ctx, a):
    return [ctx.step.name, a]


class Deep:
    @staticmethod
    def method():
        return "deep"


class TestRegistry:
    def test_a_name_goes_before_a_type_and_a_type_before_the_default(self):
        handlers = Handlers(default=lambda ctx: "default")
        handlers.step("build")(lambda ctx: "by name")
        handlers.step_type("compile")(lambda ctx: "by type")
        steps = [
            StepDef("build", step_type="compile"),
            StepDef("other", step_type="compile"),
            StepDef("third", step_type="unknown"),
            StepDef("fourth"),
        ]
        with Engine(handlers) as engine:
            outputs = engine.run(FlowDef("demo", steps=steps)).outputs
        assert list(outputs.values()) == ["by name", "by type", "default", "default"]

    def test_without_a_default_an_unknown_step_has_no_handler(self, handlers):
        assert handlers.resolve(StepDef("build")) is None
        with pytest.raises(HandlerNotFound) as caught, Engine(handlers) as engine:
            engine.run(FlowDef("demo", steps=[StepDef("build"), StepDef("sh", step_type="shell"), StepDef("test")]))
        assert caught.value.steps == ("build", "test")

    def test_shell_and_python_are_there_from_the_start(self, handlers):
        assert handlers.resolve(StepDef("a", step_type="python")) is call_python
        assert run(StepDef("a", step_type="shell", config={"run": "echo hello"})).output["stdout"] == "hello"

    def test_registering_leaves_the_function_as_it_was(self, handlers):
        def build(ctx):
            return None

        assert handlers.step("build")(build) is build
        assert handlers.step_type("compile")(build) is build
        assert handlers.rollback("build")(build) is build
        assert handlers.type_rollback("compile")(build) is build

    @pytest.mark.parametrize("kind", ["step", "step_type", "rollback", "type_rollback"])
    def test_a_second_registration_is_refused(self, handlers, kind):
        getattr(handlers, kind)("build")(len)
        with pytest.raises(ValueError, match="'build' is registered already"):
            getattr(handlers, kind)("build")(len)

    def test_a_step_type_of_the_engine_is_refused(self, handlers):
        with pytest.raises(ValueError, match="'sub_flow' is the engine's own"):
            handlers.step_type("sub_flow")


class TestRollback:
    def test_a_name_goes_before_a_type_and_a_type_before_the_config(self, handlers):
        handlers.rollback("build")(len)
        handlers.type_rollback("compile")(max)
        config = {"rollback": {"run": "true"}}
        assert handlers.resolve_rollback(StepDef("build", step_type="compile", config=config)) is len
        assert handlers.resolve_rollback(StepDef("other", step_type="compile", config=config)) is max
        assert handlers.resolve_rollback(StepDef("third", config=config)) not in (None, len, max)
        assert handlers.resolve_rollback(StepDef("fourth", config={})) is None

    def test_a_function_in_the_config_undoes_a_step_with_templates_rendered_then(self, tmp_path, monkeypatch):
        undone = []
        monkeypatch.setattr(f"{__name__}.plain", lambda *args, ctx: undone.append((args, ctx.output)), raising=True)
        make = StepDef(
            "make",
            step_type="shell",
            rollbackable=True,
            config={"run": "echo made", "rollback": {"call": f"{__name__}:plain", "args": ["{{inputs.x}}"]}},
        )
        fail = StepDef("fail", step_type="shell", config={"run": "exit 1"})
        with Engine(Handlers()) as engine:
            result = engine.run(FlowDef("demo", steps=[make, fail], rollback_on_failure=True), {"x": {"deep": 1}})
        assert result.state is WorkflowState.ROLLED_BACK
        assert undone == [(({"deep": 1},), {"exit_code": 0, "stdout": "made", "stderr": ""})]


class TestPython:
    def test_arguments_by_name_are_rendered(self):
        assert call("plain", {"a": "{{inputs.x}}", "b": "<{{inputs.x}}>"}, {"x": [1]}).output == [[1], "<[1]>"]

    def test_arguments_by_position(self):
        assert call("plain", ["{{inputs.x}}"], {"x": 1}).output == [1, 2]

    def test_a_parameter_called_ctx_gets_the_context(self):
        assert call("with_ctx", {"a": 1}).output == ["call", 1]

    def test_an_argument_called_ctx_goes_before_that(self):
        assert call("plain", {"a": 1}).output == [1, 2]
        assert "has no attribute" in call("with_ctx", {"a": 1, "ctx": "mine"}).error

    def test_a_function_without_a_signature_can_be_called(self):
        assert call("builtins:max", [[1, 3, 2]]).output == 3

    def test_what_it_raises_fails_the_step(self):
        result = call("plain")
        assert result.status is StepStatus.FAILED
        assert result.error.startswith("TypeError: plain() missing 1 required positional argument")

    @pytest.mark.parametrize(
        ("config", "problem"),
        [
            (None, "python step requires config.call"),
            ({}, "python step requires config.call"),
            (["plain"], "python step requires config.call"),
            ({"call": 1}, 'config.call must be like "package.module:function", not 1'),
            ({"call": "no function"}, "config.call must be like \"package.module:function\", not 'no function'"),
            ({"call": "{{inputs.x}}:f"}, "config.call holds {{, and nothing is filled in there"),
            ({"call": "json:dumps", "args": "x"}, "config.args must be an object or an array, not 'x'"),
        ],
    )
    def test_a_config_that_cannot_work_is_refused_before_anything_runs(self, config, problem):
        ran = []
        handlers = Handlers()
        handlers.step("before")(ran.append)
        flow = FlowDef("demo", steps=[StepDef("before"), StepDef("build", step_type="python", config=config)])
        with pytest.raises(InvalidFlow) as caught, Engine(handlers) as engine:
            engine.run(flow)
        assert (caught.value.problems, ran) == ((f"step 'build': {problem}",), [])

    def test_so_is_that_of_an_undo(self):
        config = {"run": "true", "rollback": {"call": "nothing"}}
        step = StepDef("make", step_type="shell", config=config, rollbackable=True)
        flow = FlowDef("demo", steps=[step], rollback_on_failure=True)
        told = r"step 'make': config\.rollback: config\.call must be like"
        with pytest.raises(InvalidFlow, match=told), Engine(Handlers()) as engine:
            engine.run(flow)

    @pytest.mark.parametrize("rollback", [5, "rm -rf x", ["rm"], None, {}])
    def test_an_undo_that_is_none_is_refused(self, rollback):
        config = {"run": "true", "rollback": rollback}
        step = StepDef("make", step_type="shell", config=config, rollbackable=True)
        flow = FlowDef("demo", steps=[step], rollback_on_failure=True)
        with (
            pytest.raises(InvalidFlow, match=r"config\.rollback: shell step requires config\.run"),
            Engine(Handlers()) as engine,
        ):
            engine.run(flow)

    def test_a_step_that_the_program_does_itself_may_have_any_config(self):
        handlers = Handlers()
        handlers.step("build")(lambda ctx: ctx.config)
        assert run(StepDef("build", step_type="python", config=[1]), handlers=handlers).output == [1]

    @pytest.mark.parametrize(
        ("function", "problem"),
        [
            ("no_such_module:f", "config.call 'no_such_module:f': there is no module no_such_module"),
            ("json.no_such:f", "config.call 'json.no_such:f': there is no module json.no_such"),
            ("json:dmps", "config.call 'json:dmps': there is no dmps in json; did you mean 'dumps'?"),
            ("sys:path", "config.call 'sys:path' is no function, but of type list"),
        ],
    )
    def test_a_function_that_is_not_there_is_not_looked_for_again(self, function, problem):
        config = {"call": function}
        result = run(StepDef("build", step_type="python", config=config, max_retries=2, retry_delay=0.0))
        assert result.error.startswith(f"GiveUp: step 'build': {problem}")
        assert result.attempts == 1

    def test_arguments_that_turn_out_to_be_none_are_not_tried_again(self):
        config = {"call": "json:dumps", "args": "{{inputs.x}}"}
        step = StepDef("build", step_type="python", config=config, max_retries=2, retry_delay=0.0)
        result = run(step, {"x": "text"})
        problem = "config.args must be an object or an array, not 'text'"
        assert (result.error, result.attempts) == (f"GiveUp: step 'build': {problem}", 1)

    def test_a_module_that_fails_when_it_is_imported_is_tried_again(self, tmp_path, monkeypatch):
        (tmp_path / "flaky_module.py").write_text("raise OSError('not yet')\n")
        monkeypatch.syspath_prepend(tmp_path)
        config = {"call": "flaky_module:f"}
        result = run(StepDef("build", step_type="python", config=config, max_retries=2, retry_delay=0.0))
        assert (result.error, result.attempts) == ("retry exhausted: build after 3 attempts: OSError: not yet", 3)


class TestImporting:
    def test_a_dotted_attribute_is_followed(self):
        assert import_object(f"{__name__}:Deep.method")() == "deep"

    def test_what_is_missing_is_named(self):
        with pytest.raises(NotThere, match="no module no_such_module"):
            import_object("no_such_module:function")
        with pytest.raises(NotThere, match="no no_such_function in json"):
            import_object("json:no_such_function")
