"""One attempt as it is sent elsewhere, what is done with it there, and what comes back: pickles, all of it."""

import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs

from szal.errors import FailedElsewhere, NotSendable, describe
from szal.expressions.path import Json
from szal.interruption import is_interruption
from szal.model.luggage import Luggage
from szal.steps.around import Surrounding, within
from szal.steps.errand import Errand
from szal.steps.link import Link
from szal.steps.pickling import Apart, Packed, pickled, pickled_apart, problem_of_pickling, unpickled
from szal.steps.remote_context import RemoteContext
from szal.steps.sharing import NOTHING_SHARED, Shared
from szal.steps.up_to_date import IsDone, Unless

__all__ = ["Answer", "Parcel", "packed", "perform", "unpacked"]


@attrs.frozen(eq=False)
class Parcel:
    """What is sent of one attempt: what to call, within what, unless the work is there; and the context, if asked for.

    `around` is entered there, and `is_done` asked there. The pickle has `around` first: where that is loaded, a
    framework may have to be made ready before the modules of handlers can be imported.
    """

    around: Sequence[Surrounding] = attrs.field(default=(), kw_only=True)
    errand: Errand
    context: RemoteContext | None
    is_done: IsDone | None = None

    def call(self, link: Link | None) -> Json:
        """Do it. *link* leads back to the engine, where there is a way."""
        handler: Any = self.errand
        if self.is_done is not None:
            handler = Unless(self.is_done, handler)
        handler = within(self.around, [handler])[0]
        if self.context is not None:
            self.context.begin(link)
        if link is not None:
            link.begin()
        output: Json = handler(self.context)
        return output

    def common(self) -> Iterator[Json]:
        """Yield what it may have in common with others, of what its context has."""
        if self.context is not None:
            yield from self.context.inputs.values()
            yield from (result.output for result in self.context.results.values())

    def parts(self) -> Iterator[tuple[str, Any]]:
        """Yield what it is made of, each with a name, for who looks for what cannot be pickled."""
        yield f"its function {_name_of(self.errand.function)}", self.errand.function
        yield from ((f"its argument number {place}", value) for place, value in enumerate(self.errand.positional, 1))
        yield from ((f"its argument {name!r}", value) for name, value in self.errand.named.items())
        yield from ((f"around[{place}] ({_name_of(each)})", each) for place, each in enumerate(self.around))
        yield "its done_when", self.is_done
        if self.context is not None:
            yield from _parts_of(self.context)


def _parts_of(context: RemoteContext) -> Iterator[tuple[str, Any]]:
    yield from ((f"input {name!r}", value) for name, value in context.inputs.items())
    yield from ((f"the output of step {name!r}", result) for name, result in context.results.items())
    yield "its item", context.item
    yield "its config", context.found_config
    yield "the output that is undone", context.found_output
    yield "EngineConfig.redact", context.redaction
    yield "its definition", context.step


def _name_of(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))


@attrs.frozen(eq=False)
class Answer:
    """What comes back: the output, or how it failed. `trace` is the traceback there, as text."""

    output: Json = None
    failure: Luggage | None = None
    told: str = ""
    """The exception as text."""
    trace: str = ""
    lost: tuple[str, str] | None = None
    """What could not be loaded there, or could not be sent back, and why."""

    def outcome(self, step: str, where: str) -> Json:
        """Return the output; raise what the handler raised, or `FailedElsewhere`, `NotSendable`."""
        if self.lost is not None:
            raise NotSendable(step, *self.lost, where)
        if self.failure is None:
            return self.output
        error = self.failure.exception or FailedElsewhere(self.told)
        if self.trace:
            with suppress(TypeError):  # its notes are something of its own
                error.add_note(f"{where.capitalize()}:\n{self.trace}")
        raise error


def packed(
    parcel: Parcel, step: str, where: str, common: Iterable[Json] = (), shared: Shared = NOTHING_SHARED
) -> Apart:
    """Return *parcel* as it is sent; large values that are *shared* are sent apart.

    *common* is what its arguments may have in common with others. Raises `NotSendable`, which names what cannot be
    pickled.
    """
    try:
        return pickled_apart(parcel, shared.among((*common, *parcel.common())))
    except Exception as error:
        for what, value in parcel.parts():
            if (problem := problem_of_pickling(value)) is not None:
                raise NotSendable(step, what, problem, where) from None
        raise NotSendable(step, "something of it", describe(error), where) from error


def unpacked(data: Packed, step: str, where: str) -> Answer:
    """Return what has come back; raise `NotSendable` for what this process cannot load."""
    try:
        answer = unpickled(data)
    except Exception as error:
        raise NotSendable(step, "what it has come to cannot be loaded here", describe(error), where) from error
    assert isinstance(answer, Answer)
    return answer


_THERE: Final = "what was sent cannot be loaded there"
_BACK: Final = "its output cannot be sent back"


def perform(data: Packed, link: Link | None = None, *kept: Packed) -> Packed:
    """Do what was sent, and return what came of it: whatever comes up goes back. Where it was sent to."""
    try:
        parcel = unpickled(data, kept)
    except BaseException as error:  # noqa: BLE001 (modules that are imported may do anything)
        return pickled(Answer(lost=(_THERE, describe(error))))
    try:
        output = parcel.call(link)
    except BaseException as error:  # noqa: BLE001 (whatever a handler raises is its step's failure)
        return pickled(_failure(error))
    try:
        return pickled(Answer(output))
    except Exception as error:  # noqa: BLE001 (whatever its own code makes of it)
        return pickled(Answer(lost=(_BACK, describe(error))))


def _failure(error: BaseException) -> Answer:
    try:
        trace = "".join(traceback.format_exception(error)).rstrip()
    except BaseException as problem:  # whatever the exception's own code makes of it
        if is_interruption(problem):
            raise
        trace = ""
    return Answer(failure=Luggage(error), told=describe(error), trace=trace)
