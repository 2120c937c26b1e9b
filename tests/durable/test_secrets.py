"""Secrets: nothing that is recorded or told holds one, and whoever goes on with an execution has to have it again."""

import json
import logging
import re
from pathlib import Path

import psycopg
import pytest
from durable.children import Child

import szal
from szal import (
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    GiveUp,
    Handlers,
    InvalidInputs,
    OutputMasked,
    SecretMissing,
    StepDef,
    StepStatus,
    WorkflowState,
)
from szal.stores import open_store
from szal.testing import crash_after, run_flow

SECRET = 'hün"ter\\2 $x'
INPUTS = {"password": {"type": "string", "secret": True, "required": True}, "n": 1}
ASK = StepDef("ask", step_type="wait", config={"signal": "go"})
PARTS = ("ter\\2", "ter\\\\2", "ter%5C2", "fcn", "xbcn")
"""What is left of it in whatever form it might have been written."""


def everything_in(url):
    """Return all that a database holds, as text: each file of SQLite's, each row of PostgreSQL's tables."""
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        files = list(path.parent.glob(f"{path.name}*"))
        assert files
        return "".join(file.read_bytes().decode("latin-1") for file in files)
    texts = []
    with psycopg.connect(url) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()").fetchall()
        assert len(names) > 3
        for (name,) in names:
            texts += (str(row) for row in connection.execute(f'SELECT t::text FROM "{name}" t').fetchall())
    return "\n".join(texts)


def assert_unseen(*texts):
    for text in texts:
        shown = text if isinstance(text, str) else repr(text)
        found = [part for part in (SECRET, *PARTS) if part in shown or part.encode().decode("latin-1") in shown]
        assert not found, shown[:3000]


class Told:
    """All that an engine tells."""

    def __init__(self):
        self.events, self.progress = [], []

    def config(self):
        return {"event_sink": self.events.append, "progress_sink": self.progress.append}


def shop(**fields):
    """A flow whose every step has to do with the secret, in all ways that there are."""
    inner = FlowDef("inner", inputs={"key": {"secret": True}, "text": ""}, steps=[StepDef("leaf")])
    command = 'echo "$SZAL_INPUT_PASSWORD" >&2; printf %s {{inputs.password}}; printf "%s" "u:$SZAL_INPUT_PASSWORD"'
    steps = [
        StepDef("login", rollbackable=True),
        StepDef("say", step_type="shell", config={"run": command}, rollbackable=True),
        StepDef("each", foreach="steps.login.output.parts"),
        StepDef(
            "below",
            step_type="sub_flow",
            config={"flow_name": "inner", "inputs": {"key": "{{inputs.password}}", "text": "k={{inputs.password}}"}},
        ),
        StepDef("flaky", max_retries=2, retry_delay=0),
        StepDef("end"),
    ]
    more = {"inputs": INPUTS, "steps": steps, "sub_flows": [inner], **fields}
    return FlowDef("shop", **more)


class Shop:
    """Does it, and notes what it sees."""

    def __init__(self, ends="well"):
        self.ends = ends
        self.seen = {}
        self.handlers = Handlers(self)
        self.handlers.rollback("login")(self.undo)
        self.handlers.rollback("say")(self.undo)

    def undo(self, ctx):
        self.seen[f"undo {ctx.step.name}"] = (ctx.inputs["password"], ctx.output)
        return f"undone: {ctx.inputs['password']}"

    def __call__(self, ctx):
        name, password = ctx.step.name, ctx.inputs.get("password", ctx.inputs.get("key"))
        self.seen[name] = password
        ctx.log.warning("with %s", password)
        ctx.report({"password": password, "text": f"<{password}>"})
        if name == "login":
            memo = ctx.once("token", lambda: f"token {password}")
            assert ctx.once("token", lambda: 1 / 0) == memo == f"token {password}"
            return {
                "url": f"https://u:{password}@h",
                "parts": [password, "x"],
                password: 1,
                "json": json.dumps(password),
            }
        if name == "each":
            return [ctx.item]
        if name == "leaf":
            assert ctx.inputs["text"] == f"k={password}"
            return {"leaf": password}
        if name == "flaky" and ctx.attempt < 2:
            raise KeyError(password)
        if name == "end":
            assert password in ctx.outputs["login"]["url"]
            assert ctx.outputs["below"] == {"leaf": {"leaf": password}}
            assert ctx.outputs["say"]["stdout"] == f"{password}u:{password}"
            assert ctx.outputs["each"] == [[password], ["x"]]
            if self.ends != "well":
                raise ValueError(f"cannot log in as u:{password}") from KeyError(password)
        return "ok"


@pytest.mark.parametrize("ends", ["well", "badly", "undone"])
def test_nothing_that_is_recorded_or_told_holds_one(store_url, new_engine, caplog, ends):
    caplog.set_level(logging.DEBUG)
    told, does = Told(), Shop(ends)
    with new_engine(does.handlers, **told.config()) as engine:
        result = engine.run(shop(rollback_on_failure=ends == "undone"), {"password": SECRET}, execution_id="a")
        looks = [engine.look("a"), engine.result("a")]
    assert does.seen["login"] == does.seen["leaf"] == does.seen["end"] == SECRET
    states = {"well": WorkflowState.COMPLETED, "badly": WorkflowState.FAILED, "undone": WorkflowState.ROLLED_BACK}
    assert result.state is states[ends], result.error
    if ends == "undone":
        assert does.seen["undo login"][0] == SECRET
        assert SECRET in does.seen["undo login"][1]["url"]
        assert result["login"].undo_output == "undone: ***"
    if ends != "well":
        assert result["end"].error == "ValueError: cannot log in as u:***"
        with pytest.raises(szal.StepFailed) as caught:
            result.raise_for_failure()
        assert_unseen(caught.value, str(caught.value), repr(caught.value.__cause__))
    assert result["login"].output["url"] == "https://u:***@h"
    assert result["login"].is_masked
    assert "flaky" in caplog.text
    assert any(progress.data == {"password": "***", "text": "<***>"} for progress in told.progress)
    assert any(event.error == "KeyError: '***'" for event in told.events)
    assert_unseen(everything_in(store_url), caplog.text, told.events, told.progress, result, *looks)
    with open_store(store_url) as store:
        record = store.get("a")
        assert (record.inputs, record.secret_inputs) == ({"password": "***", "n": 1}, ("password",))
        assert record.result.outputs == result.outputs


def test_nor_where_nothing_is_recorded(caplog):
    told, does = Told(), Shop("badly")
    with Engine(does.handlers, EngineConfig(**told.config())) as engine:
        execution = engine.start(shop(), {"password": SECRET})
        result = execution.result(timeout=30)
    assert result["end"].error == "ValueError: cannot log in as u:***"
    assert_unseen(result, caplog.text, told.events, told.progress, execution.progress())


def test_nor_with_a_store_of_four_methods():
    class Plain:
        def __init__(self):
            self.saved = []

        def save(self, record):
            self.saved.append(repr(record))

        def get(self, execution_id):
            return None

        def list(self, flow_name=None):
            return []

        def remove(self, execution_id):
            return None

    store = Plain()
    with Engine(Shop("badly").handlers, EngineConfig(execution_store=store)) as engine:
        engine.run(shop(), {"password": SECRET})
    assert len(store.saved) > 1
    assert_unseen(store.saved)


KILLED = """
    def handler(ctx):
        if ctx.step.name == "login":
            ctx.once("token", lambda: "token " + ctx.inputs["password"])
            return {"url": "u:" + ctx.inputs["password"]}
        if ctx.step.name == "wire":
            tell("there")
            listen()
        return "ok"

    flow = FlowDef("shop", inputs={"password": {"secret": True, "type": "string"}}, steps=[
        StepDef("login"), StepDef("free"), StepDef("wire"), StepDef("end"),
    ])
    with new_engine(handler, durability="step", lease_ttl=0.5) as engine:
        engine.run(flow, {"password": sys.argv[2]}, execution_id="a")
"""


@pytest.fixture
def killed(store_url):
    """The URL of a database in which an execution stands whose process was killed."""
    with Child(KILLED, store_url, SECRET) as child:
        assert child.hear() == "there"
        child.process.kill()
        child.process.wait()
    assert_unseen(everything_in(store_url))
    return store_url


class TestAfterACrash:
    def test_it_is_refused_without_the_secret_and_goes_on_with_it(self, killed, new_engine, caplog):
        seen = []
        with new_engine(lambda ctx: seen.append(ctx.inputs["password"])) as engine:
            with pytest.raises(SecretMissing) as caught:
                engine.resume("a")
            assert str(caught.value) == (
                "execution a: the input 'password' was not recorded, as it is secret: set SZAL_SECRET_PASSWORD,"
                " or give it"
            )
            with pytest.raises(SecretMissing):
                engine.check("a")
            with pytest.raises(InvalidInputs, match="input 'password': expected text, given something else"):
                engine.resume("a", inputs={"password": 7})
            with pytest.raises(InvalidInputs, match="input 'n' stays as it is recorded"):
                engine.resume("a", inputs={"password": SECRET, "n": 2})
            assert engine.recover() == []
            assert "cannot recover execution a: the input 'password' was not recorded" in caplog.text
            assert engine.resume("a", inputs={"password": SECRET}).success
        assert seen == [SECRET, SECRET]
        assert_unseen(everything_in(killed), caplog.text)

    @pytest.mark.parametrize("source", ["function", "environment", "the same id"])
    def test_it_is_had_from_where_secrets_are(self, killed, new_engine, monkeypatch, source):
        config = {"secrets": {"password": SECRET}.get} if source == "function" else {}
        if source == "environment":
            monkeypatch.setenv("SZAL_SECRET_PASSWORD", SECRET)
        with new_engine(lambda ctx: ctx.inputs["password"], **config) as engine:
            if source == "the same id":
                with open_store(killed) as store:
                    flow = engine.look("a").flow
                    assert store.get("a").secret_inputs == ("password",)
                result = engine.run(flow, {"password": SECRET}, execution_id="a")
            else:
                (result,) = engine.recover()
        assert (result.success, result["end"].output) == (True, "***")
        assert_unseen(everything_in(killed))

    def test_what_was_recorded_masked_is_no_value(self, killed, new_engine):
        def handler(ctx):
            return ctx.outputs["login"]["url"] if ctx.step.name == "end" else ctx.outputs["free"]

        with new_engine(handler) as engine:
            result = engine.resume("a", inputs={"password": SECRET})
            told = "the output of step 'login' held a secret, and is recorded masked: run it again"
            assert result["wire"].output == "ok"
            assert result["end"].error == f"{told} (szal rerun a --from login)"
            assert isinstance(result["end"].exception, OutputMasked)

        def again(ctx):
            return {"url": "u:" + ctx.inputs["password"]} if ctx.step.name == "login" else ctx.outputs["login"]["url"]

        with new_engine(again) as engine:
            with pytest.raises(SecretMissing):
                engine.rerun("a", "login")
            rerun = engine.rerun("a", "login", {"password": SECRET})
            assert (rerun.success, rerun["end"].output) == (True, "u:***")
        assert_unseen(everything_in(killed))


@pytest.fixture
def masked(new_engine):
    """A function that runs a flow up to a wait after its first step, and the steps after it in another engine."""

    def run(*steps, first=None, then=None, **config):
        first_step = first or StepDef("login")
        flow = FlowDef("shop", inputs=INPUTS, steps=[first_step, ASK, *steps])

        def login(ctx):
            ctx.once("token", lambda: ctx.inputs["password"])
            return {"url": f"u:{ctx.inputs['password']}", "list": [ctx.inputs["password"]], "n": 3}

        with new_engine(login) as engine:
            assert engine.run(flow, {"password": SECRET}, execution_id="a").state is WorkflowState.PAUSED
            engine.signal("a", "go")
        with new_engine(then or (lambda ctx: "ok"), **config) as engine:
            return engine.resume("a", inputs={"password": SECRET})

    return run


class TestAnOutputThatWasRecordedMasked:
    @pytest.mark.parametrize(
        "step",
        [
            StepDef("b", condition="steps.login.output.n == 3"),
            StepDef("b", foreach="steps.login.output.list"),
            StepDef("b", step_type="shell", config={"run": "echo {{steps.login.output.url}}"}),
            StepDef("b", step_type="shell", config={"run": "echo $SZAL_OUTPUT_LOGIN"}),
            StepDef("b", config={"url": "{{steps.login.output.url}}"}),
            StepDef("b", max_retries=3),
        ],
        ids=["condition", "foreach", "template", "variable", "config", "outputs"],
    )
    @pytest.mark.parametrize("kind", ["sqlite"])
    def test_fails_the_step_that_asks_for_it(self, masked, step):
        does = Handlers(lambda ctx: ctx.config or ctx.outputs["login"])
        result = masked(step, then=does)
        assert "output of step 'login' held a secret, and is recorded masked" in result["b"].error
        assert result["b"].attempts < 2
        assert_unseen(result)

    def test_is_not_in_the_way_of_others(self, masked):
        run = 'printf %s "$SZAL_INPUT_PASSWORD"; echo {{steps.login.status}}'
        quiet = StepDef("b", step_type="shell", config={"run": run})

        def handler(ctx):
            return [ctx.steps["b"].output["stdout"], [*ctx.outputs], ctx.inputs["n"]]

        result = masked(quiet, StepDef("c"), then=Handlers(handler))
        assert result["c"].output == ["***completed", ["login", "ask", "b"], 1]

    def test_is_not_taken_for_a_result(self, masked):
        result = masked(StepDef("b"), then=lambda ctx: ctx.steps["login"].output)
        assert "recorded masked" in result["b"].error

    def test_is_not_undone_by_what_needs_it(self, new_engine):
        steps = [
            StepDef("login", rollbackable=True),
            ASK,
            StepDef("fail"),
        ]
        flow = FlowDef("shop", inputs=INPUTS, steps=steps, rollback_on_failure=True)
        does = Handlers(lambda ctx: ctx.inputs["password"] if ctx.step.name == "login" else 1 / 0)
        does.rollback("login")(lambda ctx: ctx.output)
        with new_engine(does) as engine:
            engine.run(flow, {"password": SECRET}, execution_id="a")
            engine.signal("a", "go")
        with new_engine(does) as engine:
            result = engine.resume("a", inputs={"password": SECRET})
        assert result.state is WorkflowState.FAILED
        assert "not rolled back: login (the output of step 'login' held a secret" in result.error

    def test_an_item_of_a_list_too(self, new_engine):
        steps = [
            StepDef("each", foreach="inputs.list"),
            ASK,
            StepDef("b"),
        ]
        flow = FlowDef("shop", inputs={**INPUTS, "list": [1, 2]}, steps=steps)

        def handler(ctx):
            if ctx.step.name == "b":
                return ctx.outputs["each"]
            return ctx.inputs["password"] if ctx.item == 2 else ctx.item

        with new_engine(handler) as engine:
            assert engine.run(flow, {"password": SECRET}, execution_id="a")["each"].output == [1, "***"]
            engine.signal("a", "go")
        with new_engine(handler) as engine:
            assert "recorded masked" in engine.resume("a", inputs={"password": SECRET})["b"].error

    def test_is_a_memo_of_ctx_once(self, new_engine):
        flow = FlowDef("memo", inputs=INPUTS, steps=[StepDef("a")])
        calls = []

        def handler(ctx):
            calls.append(ctx.once("token", lambda: ctx.inputs["password"]))
            raise ValueError("no")

        with new_engine(handler) as engine:
            engine.run(flow, {"password": SECRET}, execution_id="memo")
            result = engine.run(flow, {"password": SECRET}, execution_id="memo", retry_failed=True)
        assert result["a"].error == (
            "what ctx.once keeps under 'token' of step 'a' held a secret, and is recorded masked:"
            " run it again (szal rerun memo --from a)"
        )
        assert calls == [SECRET]


def test_a_name_that_a_flow_puts_together_of_one_is_refused(store_url, new_engine):
    """It would be recorded as it is: others find by it what it names."""
    wait = StepDef("wait", step_type="wait", config={"signal": "for-{{inputs.password}}"})
    flow = FlowDef("names", FlowMode.PARALLEL, inputs=INPUTS, steps=[StepDef("memo"), wait])
    with new_engine(lambda ctx: ctx.once(f"key {ctx.inputs['password']}", lambda: 1)) as engine:
        result = engine.run(flow, {"password": SECRET})
    assert result["memo"].error == ("ValueError: the key of ctx.once would be recorded with a secret in it: 'key ***'")
    assert result["wait"].error == "the signal of a wait step would be recorded with a secret in it: 'for-***'"
    assert SECRET not in everything_in(store_url)


IN_MEMORY = pytest.mark.parametrize("kind", ["memory"])
"""For what is the same with every store."""


@IN_MEMORY
class TestGiving:
    FLOW = FlowDef("shop", inputs={"pin": {"type": "integer", "secret": True}}, steps=[StepDef("a")])

    def test_one_that_is_not_given_is_had_from_the_function_or_the_environment(self, new_engine, monkeypatch):
        seen = []
        with new_engine(lambda ctx: seen.append(ctx.inputs["pin"]), secrets={"pin": 12345}.get) as engine:
            engine.run(self.FLOW)
            engine.run(self.FLOW, {"pin": 99999})
        monkeypatch.setenv("SZAL_SECRET_PIN", "54321")
        with new_engine(lambda ctx: seen.append(ctx.inputs["pin"])) as engine:
            engine.run(self.FLOW)
            monkeypatch.setenv("SZAL_SECRET_PIN", "sesame")
            with pytest.raises(InvalidInputs, match="expected a whole number, given something else") as caught:
                engine.run(self.FLOW)
            monkeypatch.delenv("SZAL_SECRET_PIN")
            engine.run(self.FLOW)
        assert "sesame" not in str(caught.value)
        assert seen == [12345, 99999, 54321, None]

    def test_what_is_wrong_with_it_is_told_without_it(self, new_engine):
        with new_engine() as engine, pytest.raises(InvalidInputs) as caught:
            engine.run(self.FLOW, {"pin": "12345x"})
        assert caught.value.problems == ("input 'pin': expected a whole number, given something else (it is secret)",)

    def test_a_short_one_is_masked_where_it_is_given_and_nowhere_else(self, new_engine):
        with new_engine(lambda ctx: [ctx.inputs["pin"], "1", 1]) as engine:
            assert engine.run(self.FLOW, {"pin": 1}, execution_id="a")["a"].output == [1, "1", 1]
            assert engine.look("a").inputs == {"pin": "***"}

    def test_the_stored_result_of_an_id_needs_none(self, new_engine):
        with new_engine() as engine:
            engine.run(self.FLOW, {"pin": 12345}, execution_id="a")
            assert engine.run(self.FLOW, {}, execution_id="a").success
            assert engine.run(self.FLOW, {"pin": 54321}, execution_id="a").success
            assert engine.resume("a").success


class TestRedact:
    """`EngineConfig.redact`: for all flows of an engine, whatever they declare."""

    FLOW = FlowDef("shop", steps=[StepDef("a"), ASK, StepDef("b")])
    RULES = ("api_*", re.compile(r"sk-\w+"), lambda text: text.replace("Anna", "A."))

    def test_names_patterns_and_functions(self, store_url, new_engine, caplog):
        told = Told()

        def handler(ctx):
            ctx.log.warning("Anna has sk-abcdef, %s", ctx.inputs["API_key"])
            ctx.report({"api_x": 1})
            return {"api_token": "whatever-it-is", "text": "sk-abcdef of Anna", "key": ctx.inputs["API_key"]}

        with new_engine(handler, redact=self.RULES, **told.config()) as engine:
            result = engine.run(self.FLOW, {"API_key": "sesame-open", "who": "Anna"}, execution_id="a")
            assert result["a"].output == {"api_token": "***", "text": "*** of A.", "key": "***"}
            for problem in ({"api_key": 1}, ["sk-abcdef"]):
                with pytest.raises(ValueError, match="the value of signal 'go' holds what must not be recorded"):
                    engine.signal("a", "go", problem)
            engine.signal("a", "go")
        with new_engine(lambda ctx: ctx.inputs, redact=self.RULES) as engine:
            with pytest.raises(
                SecretMissing, match="the inputs 'API_key', 'who' were not recorded, as they are secret"
            ):
                engine.resume("a")
            seen = engine.resume("a", inputs={"API_key": "sesame-open", "who": "Anna"})
        assert seen["b"].output == {"API_key": "***", "who": "A."}
        found = everything_in(store_url) + caplog.text + repr((told.events, told.progress))
        assert not [word for word in ("Anna", "sk-", "sesame", "whatever") if word in found]
        assert told.progress[0].data == {"api_x": "***"}

    @IN_MEMORY
    def test_a_name_inside_an_input_makes_what_it_names_a_secret_and_all_of_the_input_is_given_again(self, new_engine):
        def handler(ctx):
            return f"u:{ctx.inputs['database']['api_key']}"

        given = {"database": {"api_key": "sesame-open", "host": "h"}}
        with new_engine(handler, redact=self.RULES) as engine:
            assert engine.run(self.FLOW, given, execution_id="a")["a"].output == "u:***"
            assert engine.look("a").inputs == {"database": {"api_key": "***", "host": "h"}}
            engine.signal("a", "go")
        with new_engine(handler, redact=self.RULES) as engine:
            with pytest.raises(SecretMissing, match="'database'"):
                engine.resume("a")
            assert engine.resume("a", inputs=given)["b"].output == "u:***"

    def test_what_is_wrong_with_an_input_that_is_named_is_told_without_it(self):
        flow = FlowDef("shop", inputs={"api_key": {"type": "integer"}}, steps=[StepDef("a")])
        with Engine(print, EngineConfig(redact=("api_*",))) as engine, pytest.raises(InvalidInputs) as caught:
            engine.run(flow, {"api_key": "sesame-open"})
        assert caught.value.problems == ("input 'api_key': expected a whole number, given '***'",)

    @IN_MEMORY
    def test_an_engine_without_the_rules_is_refused_what_it_would_take_for_values(self, new_engine):
        with new_engine(redact=self.RULES) as engine:
            engine.run(self.FLOW, {"api_key": "sesame-open"}, execution_id="a")
        with new_engine() as engine, pytest.raises(SecretMissing):
            engine.resume("a")

    @IN_MEMORY
    def test_outputs_that_are_given_are_refused(self, new_engine):
        with new_engine(redact=self.RULES) as engine:
            engine.run(self.FLOW, {}, execution_id="a")
            with pytest.raises(ValueError, match="outputs holds what must not be recorded"):
                engine.rerun("a", outputs={"a": "sk-abcdef"})


class TestSubFlows:
    def flow(self, *steps):
        config = {"flow_name": "inner", "inputs": {"key": "{{steps.make.output}}"}}
        inner = FlowDef("inner", inputs={"key": {"secret": True}}, steps=[StepDef("leaf"), *steps])
        call = StepDef("call", step_type="sub_flow", config=config)
        return FlowDef("outer", steps=[StepDef("make"), call, StepDef("end")], sub_flows=[inner])

    def test_what_only_the_sub_flow_declares_is_masked_from_then_on(self, new_engine):
        def handler(ctx):
            if ctx.step.name == "end":
                return ctx.outputs["call"]["leaf"]
            return ctx.inputs["key"] if ctx.step.name == "leaf" else "sesame-open"

        with new_engine(handler) as engine:
            result = engine.run(self.flow(), execution_id="a")
        assert (result["call"].output, result["end"].output) == ({"leaf": "***"}, "***")

    def test_one_that_goes_on_has_it_again_from_what_it_belongs_to(self, new_engine, store):
        seen = []

        def handler(ctx):
            seen.append(ctx.inputs.get("key"))
            return "sesame-open"

        flow = self.flow(ASK, StepDef("last"))
        with new_engine(handler) as engine:
            result = engine.run(flow, execution_id="a")
            (wait,) = engine.look("a").waits
        assert result.state is WorkflowState.PAUSED
        assert store.get(wait.execution_id).inputs == {"key": "***"}
        with new_engine(handler) as engine:
            engine.signal(wait.execution_id, "go")
            assert engine.resume("a").success
        assert seen == [None, "sesame-open", "sesame-open", None]

    @IN_MEMORY
    def test_one_that_only_rules_have_masked_is_had_again_without_them(self, new_engine):
        config = {"flow_name": "inner", "inputs": {"text": "with {{inputs.key}}"}}
        inner = FlowDef("inner", inputs={"text": ""}, steps=[ASK, StepDef("leaf")])
        call = StepDef("call", step_type="sub_flow", config=config)
        flow = FlowDef("outer", inputs={"key": ""}, steps=[call], sub_flows=[inner])
        with new_engine(redact=(re.compile(r"sk-\w+"),)) as engine:
            engine.run(flow, {"key": "id sk-abcdef"}, execution_id="a")
            (wait,) = engine.look("a").waits
            assert engine.look(wait.execution_id).inputs == {"text": "with id ***"}
        with new_engine(lambda ctx: ctx.inputs["text"]) as engine:
            engine.signal(wait.execution_id, "go")
            result = engine.resume("a", inputs={"key": "id sk-abcdef"})
        assert result["call"].output == {"ask": None, "leaf": "with id sk-abcdef"}


@IN_MEMORY
def test_an_error_that_is_long_is_masked_before_it_is_cut(new_engine):
    place = 16_384 - 16_384 // 4 - 60

    def handler(ctx):
        raise GiveUp("x" * place + ctx.inputs["password"] * 10 + "x" * 60_000)

    flow = FlowDef("shop", inputs=INPUTS, steps=[StepDef("a")])
    with new_engine(handler) as engine:
        error = engine.run(flow, {"password": SECRET})["a"].error
    assert_unseen(error)
    assert "***" in error


def test_the_definition_says_that_it_is_secret_and_has_no_default(new_engine, store):
    flow = FlowDef("shop", inputs=INPUTS, steps=[StepDef("a")])
    with new_engine() as engine:
        engine.run(flow, {"password": SECRET}, execution_id="a")
        assert engine.look("a").flow.inputs == INPUTS
        assert engine.look("a").steps["a"].status is StepStatus.COMPLETED
        with pytest.raises(szal.InvalidFlow, match="default: it is secret, and this would be recorded with the flow"):
            engine.run(FlowDef("x", inputs={"p": {"secret": True, "default": "sesame"}}))


def test_flows_under_test_have_theirs_through_waits_and_crashes():
    seen = []
    steps = [StepDef("a"), StepDef("nap", step_type="sleep", config={"seconds": 3600}), StepDef("b")]
    flow = FlowDef("shop", inputs=INPUTS, steps=steps)
    handler = Handlers(lambda ctx: seen.append(ctx.inputs["password"]))
    assert run_flow(flow, {"password": SECRET}, handler=handler, crash=crash_after("a")).success
    assert seen == [SECRET, SECRET]


def test_a_command_has_it_in_no_file_that_a_crash_would_leave():
    run = """
        folder="$(dirname "$SZAL_RESULT")"
        cat "$folder"/* >&2
        test {{inputs.password}} = "$SZAL_INPUT_PASSWORD" && echo {{inputs.n}} "$folder"
    """
    flow = FlowDef("shop", inputs={**INPUTS, "n": "one"}, steps=[StepDef("a", step_type="shell", config={"run": run})])
    with Engine(Handlers()) as engine:
        output = engine.run(flow, {"password": SECRET})["a"].output
    assert output["stdout"].startswith("one /")
    assert "one" in output["stderr"]
    assert "***" not in output["stderr"]


class TestSubmitted:
    FLOW = FlowDef("shop", inputs=INPUTS, steps=[StepDef("a")])

    def test_a_schedule_holds_none(self, store_url, new_engine):
        with new_engine(Handlers()) as shop:
            shop.schedule(self.FLOW, "0 2 * * *", inputs={"password": SECRET})
            shop.schedule(self.FLOW, "0 3 * * *", name="without")
        assert "0 3 * * *" in everything_in(store_url)
        assert_unseen(everything_in(store_url))

    @pytest.mark.parametrize("given", [{"password": SECRET}, {}], ids=["given", "not given"])
    def test_who_works_has_the_secret_from_elsewhere(self, new_engine, store, caplog, given):
        with new_engine(Handlers()) as shop:
            execution_id = shop.submit(self.FLOW, given)
        assert store.get(execution_id).inputs == {"password": "***", "n": 1}
        with new_engine() as engine:
            assert engine.work(until_idle=True) == 0
        assert f"cannot run execution {execution_id}: the input 'password' was not recorded" in caplog.text
        with new_engine(lambda ctx: ctx.inputs["password"] == SECRET, secrets={"password": SECRET}.get) as engine:
            assert engine.work(until_idle=True) == 1
            assert engine.result(execution_id).outputs == {"a": True}


def test_what_is_committed_with_the_work_of_a_handler_holds_none(store_url, new_engine):
    def handler(ctx):
        with ctx.transaction():
            memo = ctx.once("token", lambda: f"token {ctx.inputs['password']}")
        return {"url": ctx.inputs["password"], "memo": memo} if ctx.step.name == "a" else ctx.outputs["a"]

    flow = FlowDef("shop", inputs=INPUTS, steps=[StepDef("a"), StepDef("b")])
    with new_engine(handler) as engine:
        result = engine.run(flow, {"password": SECRET})
    assert result["a"].output == result["b"].output == {"url": "***", "memo": "token ***"}
    assert_unseen(everything_in(store_url))


@IN_MEMORY
def test_what_a_sink_raises_in_the_middle_of_it_is_logged_without_it(new_engine, caplog):
    def handler(ctx):
        try:
            raise KeyError(ctx.inputs["password"])
        except KeyError:
            ctx.log.exception("failed with %(password)s", ctx.inputs)
            ctx.report("failed")

    def sink(progress):
        raise OSError("no screen")

    flow = FlowDef("shop", inputs=INPUTS, steps=[StepDef("a")])
    with new_engine(handler, progress_sink=sink) as engine:
        assert engine.run(flow, {"password": SECRET}).success
    assert "failed with ***" in caplog.text
    assert "KeyError: '***'" in caplog.text
    assert "progress sink failed: step a" in caplog.text
    assert_unseen(caplog.text)
