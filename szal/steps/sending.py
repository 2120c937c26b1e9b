"""Attempts that are made elsewhere: on an executor, or in a child process.

An attempt has a thread here too, which waits for what comes back. So time-outs, cancellations and what becomes of what
is left behind are as ever: that thread is woken for them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol, runtime_checkable

import attrs

from szal.expressions.path import Json
from szal.model.config import undo_of
from szal.model.step import Inline, StepDef
from szal.scheduler.context import Handler, StepContext
from szal.steps.around import Surrounding, within
from szal.steps.errand import Errand, Hole
from szal.steps.handlers import call_named, call_python, do_shell, named_call, undo_as_configured
from szal.steps.pickling import Apart, Packed, problem_of_pickling
from szal.steps.preparing import MAIN, main_is_found
from szal.steps.remote import Parcel, packed, unpacked
from szal.steps.remote_context import RemoteContext
from szal.steps.sharing import Keep, Shared
from szal.steps.up_to_date import Unless, is_up_to_date

__all__ = [
    "IN_PROCESS",
    "ON_EXECUTOR",
    "Place",
    "Words",
    "is_sent",
    "problems_of_around",
    "problems_of_sending",
    "sent",
]


class Words(NamedTuple):
    """What is said of a place where attempts are made that are not made on a thread of the engine's."""

    where: str
    called: str
    at_home: str
    """The field that keeps a step out of it."""


ON_EXECUTOR: Final = Words("on the executor", "the executor", "inline='always'")
IN_PROCESS: Final = Words("in a child process", "a child process", "isolation='thread'")


class Place(Protocol):
    """Where attempts are made that are not made on a thread of the engine's."""

    @property
    def words(self) -> Words:
        """What is said of it."""

    @property
    def keep(self) -> Keep | None:
        """What has it keep large values, which several attempts have in common, if it can."""

    def make(self, sent: Apart, ctx: StepContext) -> Packed:
        """Have `perform` do what is *sent* there, and return what that returned. Blocks, until it has or is to end."""


@runtime_checkable
class RunsErrands(Protocol):
    """A handler that is a function of something else than the context."""

    def errand(self, ctx: StepContext) -> Errand: ...
    @property
    def function(self) -> Callable[..., object]: ...


def is_sent(handler: Handler | None, step: StepDef, inline: Inline) -> bool:
    """Whether *handler*, which does *step* or undoes it, can be called elsewhere; *inline* is the engine's."""
    if handler is None or (step.inline or inline) == "always":
        return False
    inner = handler.handler if isinstance(handler, Unless) else handler
    if inner is undo_as_configured:
        return undo_of(step.config)[0] == "python"
    return inner is not do_shell and getattr(inner, "__module__", None) != "szal.steps.shell"


def sent(
    places: Sequence[Place | None], around: Sequence[Surrounding], handlers: Sequence[Handler | None]
) -> list[Handler | None]:
    """Return what does each step, each within *around*: in its place, or here where it has none."""
    here = within(around, handlers)
    shared = {id(place): Shared(place.keep) for place in places if place is not None}
    return [
        at_home if handler is None or place is None else Sends(place, around, handler, shared[id(place)])
        for place, handler, at_home in zip(places, handlers, here, strict=True)
    ]


def problems_of_sending(
    places: Sequence[Words | None], handlers: Sequence[Handler | None], steps: Sequence[StepDef]
) -> Iterator[str]:
    """Yield what cannot be sent: a function that is not found by import, of which step."""
    for place, handler, step in zip(places, handlers, steps, strict=False):
        if place is None or handler is None:
            continue
        for function in _functions_of(handler):
            if (problem := _problem_of(function, place)) is not None:
                name = getattr(function, "__qualname__", type(function).__name__)
                yield (
                    f"step {step.name!r}: {name} cannot be sent to {place.called} ({problem}): "
                    f"put it at the top level of a module, or give the step {place.at_home}"
                )


def problems_of_around(around: Sequence[Surrounding], where: str) -> Iterator[str]:
    """Yield which functions cannot be sent to *where* they are entered."""
    for place, function in enumerate(around):
        if (problem := problem_of_pickling(function)) is not None:
            told = f"around[{place}] is entered {where}, and cannot be sent there ({problem})"
            yield f"{told}: put it at the top level of a module"


def _problem_of(function: object, place: Words) -> str | None:
    if place is IN_PROCESS and getattr(function, "__module__", None) == MAIN and not main_is_found():
        return "its program has no file that could be imported, as in a notebook or a REPL"
    return problem_of_pickling(function)


def _functions_of(handler: Handler) -> Iterator[object]:
    if isinstance(handler, Unless):
        yield handler.is_done
        yield from _functions_of(handler.handler)
    else:
        errands = _as_errands(handler)
        yield handler if errands is None else errands.function


def _as_errands(handler: object) -> RunsErrands | None:
    return handler if isinstance(handler, RunsErrands) else None


@attrs.frozen(eq=False, repr=False)
class Sends:
    """What has a step done elsewhere."""

    place: Place
    around: Sequence[Surrounding]
    handler: Handler
    shared: Shared

    def __call__(self, ctx: StepContext) -> Json:
        """Send it, wait for what comes back, and return or raise that."""
        handler, is_done = self.handler, None
        if isinstance(self.handler, Unless):
            handler, is_done = self.handler.handler, self.handler.is_done
            if is_done is is_up_to_date:  # it looks at files of this machine, as commands do
                return Unless(is_done, attrs.evolve(self, handler=handler))(ctx)
        ctx.hand_out_originals()  # the pickles are copies
        errand = _errand(handler, ctx)
        needs_context = self.around or is_done is not None or errand.takes_context
        context = RemoteContext.of(ctx) if needs_context else None
        name, where = ctx.step.name, self.place.words.where
        around = [_as_sent(each, ctx) for each in self.around]
        parcel = Parcel(errand, context, is_done, around=around)
        sent = packed(parcel, name, where, ctx.looked_at(), self.shared)
        return unpacked(self.place.make(sent, ctx), name, where).outcome(name, where)


def _as_sent(around: Surrounding, ctx: StepContext) -> Surrounding:
    """Return what goes in the place of *around*, which may have something to say of the attempt: `as_sent`."""
    as_sent = getattr(around, "as_sent", None)
    return around if as_sent is None else as_sent(ctx)


def _errand(handler: Handler, ctx: StepContext) -> Errand:
    """Return what is to be called elsewhere in the place of *handler*: with arguments, where these are known here."""
    errands = _as_errands(handler)
    if errands is not None:
        return errands.errand(ctx)
    if handler is call_python or handler is undo_as_configured:
        config = ctx.step.config if handler is call_python else undo_of(ctx.step.config)[1]
        name, positional, named = named_call(ctx, config)
        return Errand(call_named, (ctx.step.name, name, Hole.CONTEXT, positional, named))
    return Errand(handler, (Hole.CONTEXT,))
