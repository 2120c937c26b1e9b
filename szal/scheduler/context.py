"""What a handler is given: its step, its inputs, the outputs before it, and word of what is going on."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from szal.clock import monotonic
from szal.errors import Cancelled
from szal.events.progress import Hearing, InBulk, StepProgress
from szal.expressions.comparison import Kind, kind_of
from szal.expressions.copies import own_copy
from szal.expressions.missing import there_is
from szal.expressions.path import Json, Path, outcome_values
from szal.expressions.template import CompiledTemplate
from szal.interruption import is_interruption
from szal.logs import SafeLogger
from szal.model.key import ROLLBACK, key_of
from szal.model.results import StepResult
from szal.model.state import StepStatus, Stop
from szal.model.step import StepDef
from szal.scheduler.call import UNLIMITED, Call
from szal.scheduler.plan import Item, Node
from szal.scheduler.run_info import RunInfo
from szal.scheduler.seen import Seen
from szal.scheduler.step_logger import StepLogger
from szal.waiters import wait_for, waitable

__all__ = ["Handler", "Outputs", "StepContext"]

logger = SafeLogger(logging.getLogger(__name__))


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
    output: Json = None
    """In a rollback handler: what the step recorded when it completed."""
    is_hurried: bool = False
    """Whether the grace is over, too: what this attempt still waits for is to be ended by force."""
    _call: Call = UNLIMITED
    _item: Item | None = None
    _is_undo = False
    _is_told = False
    _inputs: dict[str, Json] | None = None  # its own copies, of what it has looked at
    _outputs: dict[str, Json] | None = None
    _before: frozenset[int] | None = None  # the places of the ancestors, once all of them were asked for

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
        cls, run: RunInfo, node: Node, attempt: int, call: Call | None, output: Json, *, item: Item | None = None
    ) -> "StepContext":
        """Return the context of a rollback handler, for the step *node*, or its *item*: what recorded *output*."""
        context = cls(run, node, attempt, call)
        context._item = item
        context._is_undo = True
        context.output = own_copy(output)
        return context

    @classmethod
    def of_item(cls, run: RunInfo, node: Node, attempt: int, call: Call | None, item: Item) -> "StepContext":
        """Return the context of a call for one *item* of the step *node*, which runs over a list."""
        context = cls(run, node, attempt, call)
        context._item = item
        return context

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
    def outputs(self) -> "Outputs":
        """The outputs of the completed ancestors of this step, by step name: a read-only mapping.

        Lists and dicts in it are this attempt's own, as in `inputs`, each made when it is first looked at. A step
        triggered by ANY sees those of its dependencies that had completed when it started.
        """
        return Outputs(self)

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
    def idempotency_key(self) -> str:
        """The same for every attempt and every resume of this step of this execution; its undo has another.

        So has each item of a step that runs over a list.
        """
        item = () if self._item is None else (str(self._item.index),)
        parts = (self.execution_id, self.step.name, *item)
        return key_of(*parts, ROLLBACK) if self._is_undo else key_of(*parts)

    @property
    def cancelled(self) -> bool:
        """Whether this attempt should end: its run was stopped, or nobody waits for it any more.

        An undo is not told of what stopped the run that it undoes.
        """
        if self._is_told or self._call.abandoned:
            return True
        if self._is_undo:
            return False
        run = self._run
        return run.stop is not None or (run.token is not None and run.token.cancelled)

    def remaining(self) -> float | None:
        """Return the seconds left to this attempt (0.0 when it is over), or None where it has no limit."""
        deadline = self._call.deadline
        return None if deadline is None else max(0.0, deadline - monotonic())

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
        end, deadline = monotonic() + waitable(seconds), self._call.deadline
        cut = deadline is not None and deadline < end
        until = deadline if deadline is not None and cut else end
        waiter = threading.Lock()
        waiter.acquire()
        sleeper = (self._call, waiter)
        self._run.sleepers.add(sleeper)
        try:
            while not self.cancelled:  # asked after it can be woken: whoever cancels later will find it
                left = until - monotonic()
                if left <= 0:
                    return not cut
                wait_for(waiter, left)
        finally:
            self._run.sleepers.discard(sleeper)
        return False

    def report(self, data: Json) -> None:
        """Hand *data* to the engine's progress sink, on this thread. A sink that raises is logged.

        What an attempt says that nobody waits for any more is dropped.
        """
        sink = self._run.progress
        if sink is None or self._call.abandoned:
            return
        step = self._node.step
        try:
            sink(StepProgress(step.name, step.id, self._run.execution_id, data))
        except BaseException as error:
            if is_interruption(error):
                raise
            logger.exception("progress sink failed: step %s of %s", step.name, self.execution_id)

    @property
    def hearing(self) -> Hearing:
        """What the progress sink is to hear of what a command prints."""
        sink = self._run.progress
        return Hearing.NOTHING if sink is None else Hearing.PRINTED if isinstance(sink, InBulk) else Hearing.LINES

    @property
    def log(self) -> "logging.LoggerAdapter[logging.Logger]":
        """A logger (``szal.step``) whose lines begin with the flow and the step. What logging raises fails no step."""
        extra = {"flow": self.flow_name, "step": self.step.name, "execution_id": self.execution_id}
        return StepLogger(logging.getLogger("szal.step"), extra)

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
        seen = self._run.seen
        values = {"inputs": seen.inputs, "steps": _Outcomes(self)}
        return values if self._item is None else _ValuesOfItem(values, seen, self._item)

    def look_up(self, path: Path) -> tuple[Json, str]:
        """Return what *path* finds, as handlers see it; where that is no list, what there is instead. The engine's own.

        A step that did not complete has handed on nothing.
        """
        run, steps = self._run, {}
        if path.step is not None and (result := self._visible(path.step)) is not None:
            if result.status is not StepStatus.COMPLETED:
                return None, f"step {path.step!r} {_ENDED[result.status]}"
            steps[path.step] = outcome_values(result)
        context = {"inputs": run.inputs, "steps": steps}
        found = path.resolve(context, _NOTHING)
        if found is _NOTHING:
            return None, there_is(path, context)
        return found, f"it is {_called(found)}"

    @property
    def kept(self) -> dict[str, Any]:
        """What szal's own handlers keep from one step of a run for the next. From any thread."""
        return self._run.kept

    def before(self) -> Iterator[StepResult]:
        """Yield the results of the ancestors that had ended when this step started, in the flow's own order."""
        run = self._run
        places = run.plan.all_before(self._node.place)
        if not run.plan.linear:
            self._before = frozenset(places)
        return (result for place in places if (result := self._ended_before(place)) is not None)

    def _output_of(self, name: str) -> Json:
        """Return the output of the ancestor called *name*, as this attempt may have changed it; or raise KeyError."""
        result = self._visible(name)
        if result is None or result.status is not StepStatus.COMPLETED:
            raise KeyError(name)
        value = result.output
        if not isinstance(value, list | dict):
            return value
        own = self._outputs
        if own is None:
            own = self._outputs = self.__dict__.setdefault("_outputs", {})
        return own[name] if name in own else own.setdefault(name, own_copy(value))

    def _visible(self, name: str) -> StepResult | None:
        """Return the result of the ancestor called *name*, if it had ended when this step started."""
        plan = self._run.plan
        place = plan.places.get(name)
        if place is None:
            return None
        if place == self._node.place:
            return self._run.results[place] if self._is_undo else None
        known = self._before
        is_before = plan.is_before(place, self._node.place) if known is None else place in known
        return self._ended_before(place) if is_before else None

    def _ended_before(self, place: int) -> StepResult | None:
        run = self._run
        if run.plan.starts_early and run.settled_as[place] >= self._call.settled_before:
            return None  # settled since: what a step sees does not change under its hands
        return run.results[place]


class Outputs(Mapping[str, Json]):
    """The outputs that a step may see; a look-up finds its step without copying any other."""

    __slots__ = ("_context",)

    def __init__(self, context: StepContext) -> None:
        self._context = context

    def __getitem__(self, name: str) -> Json:
        return self._context._output_of(name)

    def __iter__(self) -> Iterator[str]:
        return (result.step_name for result in self._context.before() if result.status is StepStatus.COMPLETED)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


class _Outcomes(Mapping[str, Json]):
    """What templates see under ``steps``: every ancestor that has ended."""

    __slots__ = ("_context",)

    def __init__(self, context: StepContext) -> None:
        self._context = context

    def __getitem__(self, name: str) -> Json:
        result = self._context._visible(name)
        if result is None:
            raise KeyError(name)
        run = self._context._run
        return run.seen.outcome(run.plan.places[name], result)

    def __iter__(self) -> Iterator[str]:
        return (result.step_name for result in self._context.before())

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _ValuesOfItem(Mapping[str, Json]):
    """What templates see of a call for one element of a list."""

    __slots__ = ("_item", "_seen", "_values")

    def __init__(self, values: Mapping[str, Json], seen: Seen, item: Item) -> None:
        self._values = values
        self._seen = seen
        self._item = item

    def __getitem__(self, name: str) -> Json:
        if name == "item":
            return self._seen.element(self._item.value)
        return self._item.index if name == "index" else self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._values, "item", "index"))

    def __len__(self) -> int:
        return len(self._values) + 2


_NOTHING: Final = object()
_ENDED: Final = {
    StepStatus.FAILED: "failed",
    StepStatus.SKIPPED: "was skipped",
    StepStatus.ROLLED_BACK: "was undone",
}


def _called(value: Json) -> str:
    kind = kind_of(value)
    return f"a {type(value).__name__}" if kind is Kind.OTHER else kind.value


Handler = Callable[[StepContext], Json]
