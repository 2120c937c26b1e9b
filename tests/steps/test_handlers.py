"""Which function does which step, and the step type "python"."""

import functools

import pytest

import szal
from szal.authoring.flow import Flow
from szal.engine.config import EngineConfig
from szal.engine.engine import Engine
from szal.errors import HandlerNotFound, InvalidFlow, NotAHandler, UnusedHandlers
from szal.model.catalogue import InMemoryStorage
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


# -- slips ---------------------------------------------------------------------------------------------------


class AsyncCallable:
    async def __call__(self, ctx):
        return 1


async def fetch(ctx):
    return 1


def rows(ctx):
    yield 1


NO_HANDLERS = [
    (dict, "is the class dict"),
    ({}, "of type dict"),
    ({"build": len}, r"of type dict: register functions in a Handlers\(\)"),
    (fetch, "is fetch, an async function"),
    (functools.partial(fetch), "is fetch, an async function"),
    (AsyncCallable(), "is AsyncCallable, an async function"),
    (rows, "is rows, a generator function"),
    (Handlers, "is the class Handlers: give an instance"),
    (lambda: 1, r"is called with \(ctx\), and takes \(\)"),
    (lambda ctx, build: 1, r"is called with \(ctx\), and takes \(ctx, build\)"),
    (lambda *, ctx: 1, r"is called with \(ctx\), and takes \(\*, ctx\)"),
]


GIVEN = {
    "an engine": Engine,
    "several": lambda handler: Engine([Handlers(), handler]),
    "a step": Handlers().step("build"),
    "a type": Handlers().step_type("build"),
    "an undo": Handlers().rollback("build"),
    "an undo of a type": Handlers().type_rollback("build"),
    "a default": Handlers,
    "a run": lambda handler: szal.run(FlowDef("demo"), handler=handler),
    "the engine's undo": lambda handler: EngineConfig(rollback_handler=handler),
}


@pytest.mark.parametrize(("handler", "problem"), NO_HANDLERS)
@pytest.mark.parametrize("give", GIVEN.values(), ids=GIVEN)
def test_what_does_nothing_when_it_is_called_is_no_handler(give, handler, problem):
    with pytest.raises(NotAHandler, match=problem):
        give(handler)


def test_none_is_no_handler_of_an_engine():
    with pytest.raises(NotAHandler, match="of type NoneType"):
        Engine(None)


@pytest.mark.parametrize("decorator", ["step", "step_type", "rollback", "type_rollback"])
def test_a_decorator_without_a_name_is_refused(handlers, decorator):
    with pytest.raises(TypeError, match=rf"the name is missing: write @handlers\.{decorator}\('plain'\)"):
        getattr(handlers, decorator)(plain)


def test_an_async_function_that_is_called_by_name_is_refused_and_not_counted_as_done():
    assert call("fetch").error.endswith("is fetch, an async function: szal calls plain functions, each on a thread")
    assert "is rows, a generator function" in call("rows").error


def test_an_unknown_type_of_step_is_named_with_the_one_that_was_meant(handlers):
    handlers.step_type("http")(plain)
    flow = FlowDef("demo", steps=[StepDef("a", step_type="shel"), StepDef("b", step_type="htpp"), StepDef("c")])
    with Engine(handlers) as engine, pytest.raises(HandlerNotFound) as caught:
        engine.run(flow)
    assert str(caught.value) == (
        "no handler for steps: a, b, c (there is no step type 'shel'; did you mean 'shell'?; "
        "there is no step type 'htpp'; did you mean 'http'?)"
    )
    with Engine(handlers) as engine, pytest.raises(HandlerNotFound, match=r"'wiat'; did you mean 'wait'?"):
        engine.run(FlowDef("demo", steps=[StepDef("a", step_type="wiat")]))


@pytest.mark.parametrize(
    ("step_type", "config", "problem"),
    [
        ("wait", {"signal": "go", "timout": 5}, "config.timout is unknown in a wait step; did you mean 'timeout'?"),
        ("sleep", {"seconds": 0, "secnods": 1}, "config.secnods is unknown in a sleep step; did you mean 'seconds'?"),
        ("shell", {"run": "true", "cdw": "/"}, "config.cdw is unknown in a shell step; did you mean 'cwd'?"),
        ("python", {"call": "a:b", "x": 1}, "config.x is unknown in a python step, which has call, args, "),
        (
            "sub_flow",
            {"flow_name": "x", "input": {}},
            "config.input is unknown in a sub_flow step; did",
        ),
        ("shell", {"run": "true", "rollback": {"run": "x", "dir": 1}}, "config.rollback: config.dir is unknown in a"),
    ],
)
@pytest.mark.parametrize("rolls_back", [True, False])
def test_a_key_that_means_nothing_is_refused(step_type, config, problem, rolls_back):
    flow = FlowDef("demo", steps=[StepDef("a", step_type=step_type, config=config)], rollback_on_failure=rolls_back)
    with Engine(Handlers()) as engine, pytest.raises(InvalidFlow) as caught:
        engine.run(flow)
    assert problem in str(caught.value)


def test_keys_of_other_types_are_the_programs_own(handlers):
    handlers.step_type("http")(lambda ctx: ctx.config)
    assert run(StepDef("a", step_type="http", config={"timout": 1}), handlers=handlers).output == {"timout": 1}


def test_an_undo_that_is_registered_makes_its_step_rollbackable(handlers):
    undone = []
    handlers.step("a")(lambda ctx: 1)
    handlers.step("b")(lambda ctx: 1 / 0)
    handlers.rollback("a")(lambda ctx: undone.append(ctx.output))
    with Engine(handlers) as engine:
        engine.run(FlowDef("demo", steps=[StepDef("a"), StepDef("b")], rollback_on_failure=True))
    assert undone == [1]


class TestStrict:
    """`Handlers(strict=True)`: a handler for nothing is an error."""

    def test_a_handler_for_no_step_is_named_with_the_one_that_was_meant(self):
        handlers = Handlers(lambda ctx: "the default", strict=True)
        handlers.step("biuld")(plain)
        handlers.rollback("tset")(plain)
        handlers.step_type("htpp")(plain)
        flow = FlowDef("demo", steps=[StepDef("build", step_type="http"), StepDef("test")])
        with Engine(handlers) as engine, pytest.raises(UnusedHandlers) as caught:
            engine.run(flow)
        assert caught.value.names == (
            "step 'biuld'; did you mean 'build'?",
            "step 'tset'; did you mean 'test'?",
            "step type 'htpp'; did you mean 'http'?",
        )

    def test_all_flows_of_the_engine_count(self):
        handlers = Handlers(strict=True)
        for name in "abc":
            handlers.step(name)(lambda ctx: ctx.step.name)
        sub_flow = FlowDef("sub", steps=[StepDef("b")])
        other = FlowDef("other", steps=[StepDef("c")])
        flow = FlowDef("demo", steps=[StepDef("a")], sub_flows=[sub_flow])
        with Engine(handlers, EngineConfig(storage=InMemoryStorage([other]))) as engine:
            assert engine.run(flow).success
        with Engine(handlers) as engine, pytest.raises(UnusedHandlers, match="step 'c'"):
            engine.run(flow)

    def test_beside_flows_of_functions_too(self):
        handlers = Handlers(strict=True)
        handlers.step("nothing")(plain)
        flow = Flow("ci")
        flow.step(lambda ctx: 1, name="build")
        with Engine([flow, handlers]) as engine, pytest.raises(UnusedHandlers, match="step 'nothing'"):
            engine.run(flow)

    def test_otherwise_it_is_none(self, handlers):
        handlers.step("biuld")(plain)
        handlers.step("build")(lambda ctx: 1)
        assert run(StepDef("build"), handlers=handlers).output == 1
