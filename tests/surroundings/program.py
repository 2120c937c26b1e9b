"""Handlers and flows that run the same wherever they run: a program of its own, given the stores, that checks them.

It prints the name of each thing that it begins to do, so that the last one is what failed, or hangs.
"""

import logging
import signal
import sys
import threading

from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    ExecutionOwned,
    ExecutionRecord,
    FlowDef,
    FlowMode,
    HandlerNotFound,
    Handlers,
    InMemoryStorage,
    StepDef,
    StepStatus,
    WorkflowState,
    open_store,
)
from szal.model.definition import Definition
from szal.stores.ledger import NewExecution

REALLY = float(sys.argv[1])  # Unix time, as whoever started this has it
begun, go_on = threading.Event(), threading.Event()
ran: list[str] = []


def handler(ctx):
    ran.append(ctx.step.name)
    match ctx.step.name:
        case "flaky" if ctx.attempt < 3:
            raise ValueError("not yet")
        case "fails":
            raise ValueError("no")
        case "interrupted" if ran.count("interrupted") == 1:
            signal.raise_signal(signal.SIGINT)
        case "holds":
            begun.set()
            go_on.wait(30)
        case "sleeps":
            begun.set()
            assert not ctx.sleep(20)
        case "naps":
            assert ctx.sleep(0.01)
    ctx.report(ctx.attempt)
    return ctx.step.name


def chain(*names, **options):
    return FlowDef("chain", steps=[StepDef(name) for name in names], **options)


class Surroundings:
    """What is done with one store."""

    def __init__(self, store):
        self.events = []
        self.store = store
        self.sink = store.engine_sink()
        self.children = InMemoryStorage([chain("a", "naps")])

    def engine(self, handler=handler, **config):
        """Make an engine with a sink of its own, as another process has."""
        sink = config.pop("sink", None) or self.sink
        config = EngineConfig(execution_store=sink, storage=self.children, event_sink=self.events.append, **config)
        return Engine(handler, config)

    def retries(self, engine):
        step = StepDef("flaky", max_retries=3, retry_delay=0.01)
        result = engine.run(FlowDef("f", steps=[StepDef("a"), step, StepDef("b")]))
        assert result.raise_for_failure()["flaky"].attempts == 3
        assert [event.event_type for event in self.events].count("step_retry") == 2
        record = self.store.get(result.execution_id)
        assert record.started_at <= result["a"].started_at <= record.finished_at
        assert abs(record.finished_at.timestamp() - REALLY) < 300
        assert abs(self.events[-1].timestamp.timestamp() - REALLY) < 300

    def parallel_stages(self, engine):
        naps = [StepDef(f"{name}", depends_on=[]) for name in ("naps", "a", "b", "c")]
        last = StepDef("d", depends_on=naps, timeout=30)
        result = engine.run(FlowDef("f", FlowMode.DAG, steps=[*naps, last], timeout=30))
        assert result.raise_for_failure().completed_count == 5

    def time_limits(self, engine):
        result = engine.run(FlowDef("f", steps=[StepDef("sleeps", timeout=0.02)]))
        assert result["sleeps"].error == "step timeout: sleeps after 20ms"
        result = engine.run(chain("a", "sleeps", "b", timeout=0.05))
        assert result.state is WorkflowState.FAILED
        assert result["b"].error == "flow timeout exceeded"

    def cancellation(self, engine):
        token = CancellationToken()
        begun.clear()
        canceller = threading.Thread(target=lambda: begun.wait(30) and token.cancel())
        canceller.start()
        assert engine.run(chain("sleeps"), cancel=token).state is WorkflowState.CANCELLED
        canceller.join()
        begun.clear()
        execution = engine.start(chain("sleeps"))
        assert begun.wait(30)
        assert engine.cancel(execution.execution_id)
        assert execution.result(30).state is WorkflowState.CANCELLED

    def undoing(self, engine):
        undone = []
        engine = self.engine(rollback_handler=lambda ctx: undone.append(ctx.output))
        steps = [StepDef("a", rollbackable=True), StepDef("fails", max_retries=1, retry_delay=0.01)]
        result = engine.run(FlowDef("f", steps=steps, rollback_on_failure=True))
        assert (result.state, undone) == (WorkflowState.ROLLED_BACK, ["a"])

    def sub_flows(self, engine):
        result = engine.run(FlowDef("f", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": "chain"})]))
        assert result["in"].output == {"a": "a", "naps": "naps"}

    def waiting(self, engine):
        wait = StepDef("ask", step_type="wait", config={"signal": "approve"})
        nap = StepDef("nap", step_type="sleep", config={"seconds": 0.02})
        flow = FlowDef("f", steps=[nap, wait])
        assert engine.run(flow, execution_id="waits").state is WorkflowState.PAUSED
        engine.signal("waits", "approve", 7)
        assert engine.resume("waits")["ask"].output == 7
        assert engine.run(flow, execution_id="waits")["ask"].output == 7

    def one_owner(self, engine):
        begun.clear(), go_on.clear()
        execution = engine.start(chain("holds"), execution_id="mine")
        assert begun.wait(30)
        with self.store.engine_sink() as sink, self.engine(sink=sink) as other:
            try:
                other.resume("mine")
            except ExecutionOwned:
                go_on.set()
        assert execution.result(30).success

    def going_on(self, engine):
        flow = chain("a", "b")
        record = ExecutionRecord("left", "chain", WorkflowState.RUNNING, flow_id=flow.id)
        definition = Definition.of(flow)
        self.store.ledger.create(
            NewExecution(
                record=record,
                content_id=definition.content_id,
                flow=definition.text,
                owner="elsewhere/boot/1/2/x",
                ttl=-1.0,
            )
        )
        [result] = engine.recover()
        assert (result.execution_id, result.success) == ("left", True)

    def running_again(self, engine):
        failed = engine.run(chain("a", "fails", "b"))
        again = self.engine(lambda ctx: "mended").rerun(failed.execution_id)
        assert (again["a"].output, again["fails"].output, again.success) == ("a", "mended", True)

    def sharing(self, engine):
        at_work, most, here = [], [], threading.get_ident()

        def shares(ctx):
            at_work.append(1)
            most.append(len(at_work))
            ctx.sleep(0.01)
            at_work.pop()
            return threading.get_ident() == here

        steps = [StepDef(f"{n}", resources={"db": 1}, inline="always" if n % 2 else "never") for n in range(6)]
        result = self.engine(shares).run(FlowDef("f", FlowMode.PARALLEL, steps=steps))
        assert max(most) == 1
        assert result.outputs == {f"{n}": n % 2 == 1 for n in range(6)}

    def interruption(self, engine):
        ran.clear()
        try:
            engine.run(chain("a", "interrupted"), execution_id="interrupted")
        except KeyboardInterrupt:
            self.sink.flush(10)
        assert self.store.get("interrupted").state is WorkflowState.PAUSED
        assert engine.run(chain("a", "interrupted"), execution_id="interrupted").success
        assert ran == ["a", "interrupted", "interrupted"]

    def run(self):
        """Do it all."""
        with self.sink, self.engine() as engine:
            for doing in (
                self.retries,
                self.parallel_stages,
                self.time_limits,
                self.cancellation,
                self.undoing,
                self.sub_flows,
                self.waiting,
                self.one_owner,
                self.going_on,
                self.running_again,
                self.sharing,
                self.interruption,
            ):
                say(f"  {doing.__name__}")
                doing(engine)
            self.sink.flush(10)


def shell_steps():
    """Run commands: to their end, past their time, and several at once. Or have them refused."""
    say("shell steps")
    steps = [StepDef(f"c{n}", step_type="shell", config={"run": f"echo {n}; exit {n}"}) for n in range(3)]
    steps.append(StepDef("late", step_type="shell", timeout=0.1, config={"run": "sleep 20", "stop": {"grace": 0.1}}))
    with Engine(Handlers()) as engine:
        try:
            result = engine.run(FlowDef("f", FlowMode.PARALLEL, steps=steps))
        except HandlerNotFound as error:
            print(error, flush=True)
            return
    assert result["c0"].output["stdout"] == "0"
    assert [step.error for step in result.steps[1:]] == [
        "command failed with exit status 1: 1",
        "command failed with exit status 2: 2",
        "step timeout: late after 100ms",
    ]
    assert result.failed_count == 3
    assert result["c0"].status is StepStatus.COMPLETED


def say(what):
    print(what, flush=True)


def main():
    logging.disable()  # time-outs are told of
    for url in sys.argv[2:]:
        say(url.partition(":")[0])
        with open_store(url) as store:
            Surroundings(store).run()
    shell_steps()
    say("done")


if __name__ == "__main__":
    main()
