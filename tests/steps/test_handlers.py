"""Which function does which step, and the step type "python"."""

import pytest

from szal.engine.engine import Engine
from szal.errors import HandlerNotFound
from szal.model.flow import FlowDef
from szal.model.state import StepStatus, WorkflowState
from szal.model.step import StepDef
from szal.steps.handlers import Handlers, call_python, import_object


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

    @pytest.mark.parametrize("config", [None, {}, {"call": 1}, ["plain"]])
    def test_a_config_without_a_function_names_the_step(self, config):
        result = run(StepDef("build", step_type="python", config=config, max_retries=2, retry_delay=0.0))
        assert (result.error, result.attempts) == ("GiveUp: step 'build': config.call must be \"module:function\"", 1)

    def test_nor_is_a_name_of_another_form_tried_again(self):
        config = {"call": "no function"}
        result = run(StepDef("build", step_type="python", config=config, max_retries=2, retry_delay=0.0))
        problem = "config.call: 'no function' is not of the form module:attribute"
        assert (result.error, result.attempts) == (f"GiveUp: step 'build': {problem}", 1)


class TestImporting:
    def test_a_dotted_attribute_is_followed(self):
        assert import_object(f"{__name__}:Deep.method")() == "deep"

    @pytest.mark.parametrize("name", ["plain", "module:", ":function", ""])
    def test_a_name_of_another_form_is_refused(self, name):
        with pytest.raises(ValueError, match="is not of the form module:attribute"):
            import_object(name)

    def test_what_is_missing_is_named(self):
        with pytest.raises(ModuleNotFoundError, match="no_such_module"):
            import_object("no_such_module:function")
        with pytest.raises(AttributeError, match="no_such_function"):
            import_object("json:no_such_function")
