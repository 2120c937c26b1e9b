"""What a handler is given: its step, its inputs, the outputs before it, and word of what is going on."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, TypeVar

from szal.errors import Cancelled, NotAHandler, OutputMasked
from szal.events.progress import Hearing, InBulk, Printed, StepProgress
from szal.expressions.copies import own_copy
from szal.expressions.path import Json
from szal.expressions.template import CompiledTemplate
from szal.function import does_nothing_yet
from szal.interruption import is_interruption
from szal.logs import SafeLogger
from szal.model.key import ROLLBACK, item_key, key_of
from szal.model.redaction import Redaction
from szal.model.results import FlowEnd, StepResult
from szal.model.state import Stop
from szal.model.step import StepDef
from szal.scheduler.ancestors import Ancestors, Outcomes, Outputs, Results
from szal.scheduler.call import UNLIMITED, Call
from szal.scheduler.observers import StepLog
from szal.scheduler.plan import Item, Node
from szal.scheduler.run_info import RunInfo
from szal.scheduler.seen import ValuesOfItem
from szal.scheduler.step_logger import StepLogger
from szal.scheduler.transaction import Asked, JoinedWork, OwnWork, Work
from szal.waiters import LONGEST_WAIT, Wakes, waitable

__all__ = ["Handler", "StepContext"]

logger = SafeLogger(logging.getLogger(__name__))

T = TypeVar("T")


class StepContext:
    """The one argument of a handler. Its members may be used from any thread that the handler starts.

    >>> from szal import Engine, FlowDef, StepDef
    >>> def handler(ctx):
    ...     return f"{ctx.step.name} {ctx.attempt} {ctx.inputs['n']} {dict(ctx.outputs)}"
    >>> flow = FlowDef("demo", steps=[StepDef("a"), StepDef("b")])
    >>> with Engine(handler) as engine:
    ...     engine.run(flow, {"n": 7})["b"].output
    "b 1 7 {'a': 'a 1 7 {}'}"
    """

    # Class attributes are the defaults, so that the thousands of contexts that never need them cost nothing.
    is_hurried: bool = False
    """Whether the grace is over, too: what this attempt still waits for is to be ended by force. The engine's own."""
    reason: str | None = None
    """In a rollback handler: why it is undone: how the step failed, where it did, else what ended the flow."""
    _call: Call = UNLIMITED
    _item: Item | None = None
    _undoes: StepResult | None = None  # in an undo: what is undone
    _undo_log: StepLog | None = None
    _logged_as: Node | None = None  # where that is not its node
    work: Work | None = None
    """What it does in a transaction. The engine's own."""
    _is_told = False
    _inputs: dict[str, Json] | None = None  # its own copies, of what it has looked at
    _ancestors: Ancestors | None = None  # once it has looked at them

    def __init__(self, run: RunInfo, node: Node, attempt: int, call: Call | None = None) -> None:
        """Made by the engine; *call* is there where it may stop waiting for the handler."""
        self._run = run
        self._node = node
        self.attempt = attempt
        """The number of this call, from 1."""
        if call is not None:
            self._call = call

    @classmethod
    def of_undo(
        cls,
        run: RunInfo,
        node: Node,
        attempt: int,
        call: Call | None,
        done: StepResult,
        *,
        link: Node,
        log: StepLog | None,
        reason: str | None = None,
    ) -> "StepContext":
        """Return the context of a rollback handler, for the step *node*, or its item: what has come to *done*.

        *link* is what *log* knows it as. The engine's own.
        """
        context = cls(run, node, attempt, call)
        context._item = link.item
        context._logged_as = link
        context._undo_log = log
        context._undoes = done
        context.reason = reason
        return context

    @classmethod
    def of_item(cls, run: RunInfo, node: Node, attempt: int, call: Call | None, of_item: Node) -> "StepContext":
        """Return the context of a call for one item of the step *node*, which runs over a list. The engine's own."""
        context = cls(run, node, attempt, call)
        context._item = of_item.item
        context._logged_as = of_item
        return context

    @property
    def poll(self) -> int:
        """Which call this is of a step that polls (`StepDef.until`), from 1, over crashes too; of any other step 1.

        A call that failed, and is tried again, is the same poll.
        """
        return self._call.poll

    @property
    def step(self) -> StepDef:
        """The definition of the step."""
        return self._node.step

    @property
    def flow_name(self) -> str:
        """The name of the flow."""
        return self._run.flow_name

    @property
    def execution_id(self) -> str:
        """The id of this run of the flow."""
        return self._run.execution_id

    @property
    def cwd(self) -> str | None:
        """The directory that commands of this execution run in; None: the process's own."""
        return self._run.cwd

    @property
    def orphan_grace(self) -> float:
        """How many seconds what this attempt has started may live on if this process dies, as another may go on then.

        Infinite where nobody can. The engine's own.
        """
        return self._run.orphan_grace

    @property
    def inputs(self) -> dict[str, Json]:
        """The inputs of the run. Lists and dicts in it are this attempt's own: what it changes, nobody else sees."""
        if self._inputs is None:
            own: dict[str, Json] = own_copy(self._run.inputs)
            self._inputs = self.__dict__.setdefault("_inputs", own)  # another thread may have been faster
        return self._inputs

    @property
    def outputs(self) -> Outputs:
        """The outputs of the completed ancestors of this step, by step name: a read-only mapping.

        Lists and dicts in it are this attempt's own, as in `inputs`, each made when it is first looked at. A step
        triggered by ANY sees those of its dependencies that had completed when it started.
        """
        return Outputs(self._before)

    @property
    def steps(self) -> Results:
        """The results of the ancestors of this step that had ended when it started, by step name, whatever they were.

        A read-only mapping of copies, which are this attempt's own. In an undo the step itself is among them.

        >>> from szal import Engine, FlowDef, StepDef
        >>> def handler(ctx):
        ...     if ctx.step.name == "load":
        ...         raise OSError("no such file")
        ...     return f"load {ctx.steps['load'].status}: {ctx.steps['load'].error}"
        >>> flow = FlowDef("demo", steps=[StepDef("load", continue_on_error=True), StepDef("report")])
        >>> with Engine(handler) as engine:
        ...     engine.run(flow)["report"].output
        'load failed: OSError: no such file'
        """
        return Results(self._before)

    @property
    def flow(self) -> FlowEnd:
        """In a finally step: what the flow has come to. Raises AttributeError in any other.

        >>> from szal import Engine, FlowDef, StepDef
        >>> def handler(ctx):
        ...     if ctx.step.name == "load":
        ...         raise OSError("no such file")
        ...     print(f"{ctx.flow_name} {ctx.flow.state}: {ctx.flow.error}")
        >>> flow = FlowDef("etl", steps=[StepDef("load"), StepDef("tell", finally_=True)])
        >>> with Engine(handler) as engine:
        ...     str(engine.run(flow).state)
        etl failed: step 'load' failed: OSError: no such file
        'failed'
        """
        end = self._run.end
        if end is None:
            raise AttributeError("ctx.flow is there in finally steps only: before, nobody knows how the flow ends")
        return end

    @property
    def _before(self) -> Ancestors:
        if self._ancestors is None:
            made = self._made_ancestors(is_copied=True)
            self._ancestors = self.__dict__.setdefault("_ancestors", made)  # another thread may have been faster
        return self._ancestors

    def _made_ancestors(self, *, is_copied: bool) -> Ancestors:
        place, settled_before = self._node.place, self._call.settled_before
        return Ancestors(self._run, place, settled_before, self._undoes, self.index, is_copied)

    @property
    def item(self) -> Json:
        """The element that this call is for, where the step runs over a list; this attempt's own, as `inputs` are."""
        if self._item is None:
            return None
        if "_element" not in self.__dict__:
            self.__dict__.setdefault("_element", own_copy(self._item.value))  # another thread may have been faster
        return self.__dict__["_element"]

    @property
    def index(self) -> int | None:
        """The place of that element in the list, from 0; None where the step does not run over one."""
        return None if self._item is None else self._item.index

    @property
    def config(self) -> Json:
        """The step's `config` with its templates rendered; this attempt's own, as `inputs` are.

        Raises `MissingValue` where a template finds nothing. What undoes the step (``rollback``) is left as it is: that
        is rendered when it is undone, and may name what the step has come to.
        """
        if "_config" not in self.__dict__:
            template = self._node.template
            value = self._node.step.config if template is None else template.render(self.values)
            self.__dict__.setdefault("_config", own_copy(value))  # another thread may have been faster
        return self.__dict__["_config"]

    def render(self, text: Json, quote: Callable[[str], str] | None = None) -> Json:
        """Return *text* with its templates rendered as in `config`, each value passed through *quote*.

        What it returns is the caller's own. Raises `ConditionError` where a template does not parse, and `MissingValue`
        where it finds nothing.
        """
        return own_copy(CompiledTemplate.compile(text, strict=True).render(self.values, quote))

    @property
    def output(self) -> Json:
        """In a rollback handler: what the step came to when it completed; this attempt's own, as `inputs` are.

        Raises `OutputMasked` where that held a secret, and another process has recorded it.
        """
        done = self._undoes
        if done is None:
            return None
        if done.is_masked:
            raise OutputMasked(done.step_name, self.execution_id)
        if "_output" not in self.__dict__:
            self.__dict__.setdefault("_output", own_copy(done.output))  # another thread may have been faster
        return self.__dict__["_output"]

    @property
    def has_output(self) -> bool:
        """Whether there is an `output`. The engine's own."""
        return self._undoes is not None and self._undoes.output is not None

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt and every resume of this step of this execution; its undo has another.

        So has each item of a step that runs over a list.
        """
        item = () if self._item is None else (str(self._item.index),)
        parts = (self.execution_id, self.step.name, *item)
        return key_of(*parts, ROLLBACK) if self._undoes is not None else key_of(*parts)

    @property
    def cancelled(self) -> bool:
        """Whether this attempt should end: its run was stopped, its time is over, or nobody waits for it any more.

        An undo is not told of what stopped the run that it undoes.
        """
        call = self._call
        if self._is_told or call.abandoned:
            return True
        if call.deadline is not None and call.begun and self._run.clock.monotonic() >= call.deadline:
            return True
        if self._undoes is not None:
            return False
        run = self._run
        return run.stop is not None or (run.token is not None and run.token.cancelled)

    def remaining(self) -> float | None:
        """Return the seconds left to this attempt (0.0 when it is over), or None where it has no limit."""
        deadline = self._call.deadline
        return None if deadline is None else max(0.0, deadline - self._run.clock.monotonic())

    def check(self) -> None:
        """Raise `StepTimeout` past this attempt's deadline, `Cancelled` where it is `cancelled`; else do nothing."""
        if self.remaining() == 0.0:
            raise self._call.timed_out()
        if self.cancelled:
            stop = self._run.stop
            raise Cancelled("cancelled" if stop is None else stop.reason)

    @contextmanager
    def ends_within(self, seconds: float) -> Iterator[None]:
        """Promise, for a block, that this attempt ends at most *seconds* after it is `cancelled` or out of time.

        The engine relies on that: it waits so long before it goes on, be it with another attempt, an undo, or to the
        end of the run, and leaves nothing behind. `run_shell` does so for its command. Raises as `check` does.

        >>> from szal import Engine, FlowDef, StepDef
        >>> def upload(ctx):
        ...     with ctx.ends_within(1.0):
        ...         while ctx.sleep(0.01):
        ...             pass
        ...         print("the lock is given back")
        >>> flow = FlowDef("demo", steps=[StepDef("upload", timeout=0.05, max_retries=1, retry_delay=0)])
        >>> with Engine(upload) as engine:
        ...     engine.run(flow)["upload"].error
        the lock is given back
        the lock is given back
        'retry exhausted: upload after 2 attempts: step timeout: upload after 50ms'
        """
        promises: list[float] = self.__dict__.setdefault("_promises", [])
        promises.append(seconds)  # first: who tells it to end later looks for it
        try:
            self.check()
            yield
        finally:
            promises.remove(seconds)

    def sleep(self, seconds: float) -> bool:
        """Block for *seconds*, or until the attempt is cancelled or its deadline passes: then return False.

        Several threads of one handler may sleep at a time.
        """
        clock, deadline = self._run.clock, self._call.deadline
        end = clock.monotonic() + waitable(seconds)
        cut = deadline is not None and deadline < end
        until = deadline if deadline is not None and cut else end
        with self.woken() as waiter:
            while not self.cancelled:  # asked after it can be woken: whoever cancels later will find it
                if until <= clock.monotonic():
                    return not cut
                clock.sleep(self, waiter, until)
        return False

    @contextmanager
    def woken(self) -> Iterator[threading.Lock]:
        """Enter what waits for a lock, which is released when this attempt is told something. The engine's own."""
        waiter = threading.Lock()
        waiter.acquire()
        with self.wakes(waiter):
            yield waiter

    @contextmanager
    def wakes(self, waiter: Wakes) -> Iterator[None]:
        """Have *waiter* released, for a block, when this attempt is told something. The engine's own."""
        sleeper = (self._call, waiter)
        self._run.sleepers.add(sleeper)
        try:
            yield
        finally:
            self._run.sleepers.discard(sleeper)

    @property
    def call(self) -> Call:
        """What the engine keeps of this call, where it may stop waiting for it. The engine's own."""
        return self._call

    def once(self, key: str, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Return what is kept under *key* of this step; else call *function*, and keep what it returns from then on.

        A durable memo, for loops whose length nobody knows: pages, batches, a conversation. Where the step runs again,
        in another attempt or another process, what was done is not done again. With one of szal's stores the result is
        committed before this returns, as it is recorded: it obeys the rules of outputs (`OutputNotSerializable`).
        Without one it may be any object, kept for the other attempts; lists and dicts in it are the caller's own.
        An item of a list has memos of its own, and an undo has those of its step.

        Blocks while another thread of the handler calls a function under the same key, and while the store works.
        Raises `NotAHandler` for what is no function, what *function* raises, which keeps nothing, `Cancelled` where
        nobody waits for this attempt any more, RuntimeError within itself, and what the store raises.

        >>> from szal import Engine, FlowDef, StepDef
        >>> def crawl(ctx):
        ...     pages = [ctx.once(f"page {number}", lambda: print("fetch") or number) for number in range(2)]
        ...     if ctx.attempt == 1:
        ...         raise ConnectionError("on the way to page 3")
        ...     return pages
        >>> with Engine(crawl) as engine:
        ...     engine.run(FlowDef("demo", steps=[StepDef("crawl", max_retries=1, retry_delay=0)])).outputs
        fetch
        fetch
        {'crawl': [0, 1]}
        """
        if (problem := does_nothing_yet(function)) is not None:
            raise NotAHandler(f"what ctx.once({key!r}, …) is to call", problem)
        owner = self.step.name if self._item is None else item_key(self.step.name, self._item.index)
        found: T = self._run.memos.once(self, owner, key, partial(function, *args, **kwargs))
        return found

    def transaction(self, connection: object = None, *, output: object = ...) -> AbstractContextManager[Any]:
        """Return a block, one in each attempt, whose statements are committed with the step's outcome, or not at all.

        Its connection is one of psycopg's or sqlite3's to the store's database, in a transaction. Leaving the block
        commits nothing: that is done with the outcome, once the handler has returned. A handler that raises has it
        rolled back; so has leaving the block by an exception. Entering waits until what this execution has queued is
        committed, and until a connection is free; in SQLite until nobody else writes, and nobody can meanwhile: it
        lasts for half of `lease_ttl` at most. What `once` finds out in it is committed, or rolled back, with it.

        With *connection*, psycopg's or sqlite3's to the same database and in a transaction, the outcome is recorded in
        that on leaving the block; the call waits until what is queued is committed. Whoever owns it commits it before
        the handler returns, or rolls it back and raises. The outcome has *output*, a value or what a function returns
        then; else, from when the handler has returned, what that returns. See docs/transactions.md.

        Raises `NotSupportedHere` without a store in an SQLite file or in PostgreSQL, `TransactionFailed` for a second
        one, `Cancelled`, `StepTimeout` where the attempt is to end, TypeError and ValueError for another connection.

        >>> import sqlite3, tempfile
        >>> from szal import Engine, Flow
        >>> path = tempfile.mkdtemp() + "/app.db"
        >>> sqlite3.connect(path).execute("CREATE TABLE payments (amount INTEGER)").connection.close()
        >>> pay = Flow("pay")
        >>> @pay.step
        ... def charge(ctx, amount):
        ...     with ctx.transaction() as connection:
        ...         return connection.execute("INSERT INTO payments VALUES (?)", [amount]).lastrowid
        >>> with Engine.open(path, pay) as engine:
        ...     engine.run(pay, {"amount": 7}).outputs
        {'charge': 1}
        """
        asked = Asked(
            log=self._run.log if self._undoes is None else self._undo_log,
            node=self._logged_as or self._node,
            memos=self._run.memos,
            number=self.attempt,
            clock=self._run.clock,
            check=self.check,
            is_given_up=lambda: self.is_given_up,
            promise=self.promise_to_end,
        )
        if connection is None and output is not ...:
            raise TypeError("ctx.transaction(output=…) is for a connection of one's own: return it from the handler")
        made = OwnWork(asked) if connection is None else JoinedWork(asked, connection, output)
        if self.__dict__.setdefault("work", made) is not made:  # atomic
            made.refuse_another()
        return made

    @property
    def is_given_up(self) -> bool:
        """Whether it was told to end for good, or nobody waits for it any more. The engine's own."""
        return self._is_told or self._call.abandoned

    def promise_to_end(self) -> None:
        """Have nobody give up on this attempt from now on, but in a hurry. The engine's own."""
        self.__dict__.setdefault("_promises", []).append(LONGEST_WAIT)

    @property
    def is_left_behind(self) -> bool:
        """Whether nobody waits for this attempt any more: what it still does counts for nothing. The engine's own."""
        return self._call.abandoned

    def report(self, data: Json) -> None:
        """Hand *data* to the engine's progress sink, on this thread. A sink that raises is logged.

        What an attempt says that nobody waits for any more is dropped; what must not be seen is masked.
        """
        sink = self._run.progress
        if sink is None or self._call.abandoned:
            return
        step, redaction = self._node.step, self._run.redaction
        if redaction.is_active:
            data = data.masked(redaction.text) if isinstance(data, Printed) else redaction.value(data)
        try:
            sink(StepProgress(step.name, step.id, self._run.execution_id, data, self.index))
        except BaseException as error:
            if is_interruption(error):
                raise
            shown = redaction.exception(error)
            logger.error("progress sink failed: step %s of %s", step.name, self.execution_id, exc_info=shown)

    @property
    def redaction(self) -> Redaction:
        """What must not be seen of this run. The engine's own."""
        return self._run.redaction

    @property
    def hearing(self) -> Hearing:
        """What the progress sink is to hear of what a command prints. The engine's own."""
        sink = self._run.progress
        return Hearing.NOTHING if sink is None else Hearing.PRINTED if isinstance(sink, InBulk) else Hearing.LINES

    @property
    def log(self) -> "logging.LoggerAdapter[logging.Logger]":
        """A logger (``szal.step``) whose lines begin with the flow and the step. What logging raises fails no step.

        What must not be seen is masked in them.
        """
        return StepLogger.of(self.flow_name, self.step.name, self.index, self.execution_id, self._run.redaction)

    def hear_of(self, stop: Stop) -> None:
        """Have what sleeps in this attempt see whether *stop* cancels it; one may hurry. The engine's own."""
        if stop.hurries:
            self.tell_to_end(hurry=True)
        else:
            self._run.wake(self._call)

    def tell_to_end(self, *, hurry: bool = False) -> float | None:
        """Have this attempt be `cancelled`; return in how many seconds it ends, if it has promised that.

        The engine's own. With *hurry* its grace is over, too.
        """
        self._is_told = True  # first: who promises something later sees it
        self.is_hurried = self.is_hurried or hurry
        self._run.wake(self._call)
        return max(self.__dict__.get("_promises", ()), default=None)

    def give_up(self, call: Call) -> None:
        """Have this attempt be that call, which is abandoned. The engine's own."""
        before, self._call = self._call, call
        self._run.wake(before)

    @property
    def values(self) -> Mapping[str, Mapping[str, Json]]:
        """What templates see: ``inputs``, and ``steps`` with how each ancestor has ended. Not to be changed.

        Where the step runs over a list, ``item`` and ``index`` too. Without a store it is made JSON where somebody
        looks at it, which raises `ValueNotJson` for what has none.
        """
        values = {"inputs": self._run.seen.inputs, "steps": Outcomes(self._before)}
        return values if self._item is None else ValuesOfItem(values, self._run.seen, self._item)

    @property
    def kept(self) -> dict[str, Any]:
        """What szal's own handlers keep from one step of a run for the next. From any thread. The engine's own."""
        return self._run.kept

    def hand_out_originals(self) -> None:
        """Have `inputs` and `outputs` be the run's own, for who changes nothing: before they are looked at.

        The engine's own.
        """
        self._inputs = self._run.inputs
        self._ancestors = self._made_ancestors(is_copied=False)

    def looked_at(self) -> Iterator[Json]:
        """Yield the inputs and, of outputs that are originals, those that were looked at. The engine's own."""
        yield from self.inputs.values()
        yield from self._before.looked_at()

    @property
    def end(self) -> FlowEnd | None:
        """What the flow has come to, where that is known. The engine's own."""
        return self._run.end

    def results(self) -> Iterator[StepResult]:
        """Yield what is found in `steps`. The engine's own."""
        yield from self._before.all()
        if self._undoes is not None:
            yield self._undoes

    def before(self) -> Iterator[StepResult]:
        """Yield the results of the ancestors that had ended when this step started, in the flow's own order.

        The engine's own.
        """
        return self._before.all()


Handler = Callable[[StepContext], Json]
