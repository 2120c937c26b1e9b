"""What handlers may raise, or see raised."""

import attrs

from szal.errors.root import SzalError
from szal.number import check

__all__ = [
    "Cancelled",
    "GiveUp",
    "NotAHandler",
    "NotSupportedHere",
    "RetryAfter",
    "SkipStep",
    "TransactionFailed",
    "UnknownOutcome",
]


@attrs.define(repr=False, slots=False)
class GiveUp(SzalError):
    """Raised by a handler: fail now, whatever retries are left.

    Cause: the handler has decided that trying again is of no use.
    Next: mend what its text names, then `szal rerun ID`.

    >>> raise GiveUp("the licence has expired")
    Traceback (most recent call last):
    szal.errors.GiveUp: the licence has expired
    """

    reason: str = "gave up"

    def __str__(self) -> str:
        return str(self.reason)


@attrs.define(repr=False, slots=False)
class UnknownOutcome(SzalError):
    """Raised by a handler: it may have been done or not, as after a time-out at a payment gateway. Somebody decides.

    The step is neither tried again nor failed: the execution becomes PAUSED, "needs a decision", as after a crash with
    `idempotent=False`. Where nobody could decide, without one of szal's stores, or of a flow that was stopped, the
    step fails, and is not tried again. So do an undo and a finally step.

    Cause: the handler could not find out whether its work was done, and nobody could be asked.
    Next: see for yourself whether it was done; then `szal rerun ID`, or undo it by hand.

    >>> raise UnknownOutcome("the gateway did not answer")
    Traceback (most recent call last):
    szal.errors.UnknownOutcome: the gateway did not answer
    """

    reason: str = "nobody knows whether it was done"

    def __str__(self) -> str:
        return str(self.reason)


@attrs.define(repr=False, slots=False)
class RetryAfter(SzalError):
    """Raised by a handler: this attempt failed, try again in `seconds` (if attempts are left).

    Takes the place of the step's own backoff, and is not capped by ``max_retry_delay``. A time that is past, a negative
    number, is at once. Raises TypeError or ValueError for what is no number of seconds.

    Cause: the handler has asked for another attempt, and none is left.
    Next: allow more (`max_retries`), or run it again later: `szal rerun ID`.

    >>> raise RetryAfter(30)
    Traceback (most recent call last):
    szal.errors.RetryAfter: retry after 30s
    """

    seconds: float = attrs.field()

    @seconds.validator
    def _is_number(self, attribute: "attrs.Attribute[float]", value: float) -> None:
        check(f"{attribute.name} of RetryAfter", value)

    def __str__(self) -> str:
        return f"retry after {self.seconds:g}s"


@attrs.define(repr=False, slots=False)
class SkipStep(SzalError):
    """Raised by a handler: there is nothing to do. The step is skipped with this reason, not failed.

    Cause: the handler has found nothing to do; the step counts as skipped.
    Next: nothing. Steps that need it are skipped too, unless their trigger says otherwise.

    >>> raise SkipStep("nothing has changed")
    Traceback (most recent call last):
    szal.errors.SkipStep: nothing has changed
    """

    reason: str = attrs.field(default="skipped by its handler")

    @reason.validator
    def _is_text(self, attribute: "attrs.Attribute[str]", value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"{attribute.name} of SkipStep is not a string ({value!r})")

    def __str__(self) -> str:
        return self.reason


@attrs.define(repr=False, slots=False)
class Cancelled(SzalError):
    """Raised by `StepContext.check` in a handler that is to end: its run is stopped, or nobody waits for it any more.

    Cause: the run was cancelled or interrupted, or nobody waits for this handler any more.
    Next: let it pass: a handler that catches it keeps the run from ending. `szal show ID` tells who stopped it.

    >>> print(Cancelled("flow timeout exceeded"))
    flow timeout exceeded
    """

    reason: str = "cancelled"

    def __str__(self) -> str:
        return self.reason


@attrs.define(repr=False, slots=False)
class NotAHandler(SzalError, TypeError):
    """What is to do a step cannot: it is no function, or one that has done nothing yet when it returns.

    Cause: a class, a dict, an async function or a generator function was given as a handler; or a function has
        parameters that nothing can be bound to.
    Next: give a plain function, or an object that can be called; what the text names says more.

    >>> print(NotAHandler("the handler of step 'build'", "is no function, but of type dict"))
    the handler of step 'build' is no function, but of type dict
    """

    what: str
    problem: str

    def __str__(self) -> str:
        return f"{self.what} {self.problem}"


@attrs.define(repr=False, slots=False)
class NotSupportedHere(SzalError):
    """A handler asked for what there is elsewhere, but not where it runs: in this store, or in this process.

    Cause: `ctx.transaction()` without a database to have one in; or an executor calls the handler
        (`EngineConfig.executor`), where what needs the engine is out of reach.
    Next: what the text names says what is needed: for `ctx.transaction()` a store in an SQLite file or in PostgreSQL;
        on an executor, `inline="always"` for the step.

    >>> print(NotSupportedHere("ctx.transaction()", "nothing is recorded"))
    ctx.transaction() is not supported here: nothing is recorded
    """

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what} is not supported here: {self.why}"


@attrs.define(repr=False, slots=False)
class TransactionFailed(SzalError):
    """What a handler wrote in `ctx.transaction()` is not committed, for a reason that is not the database's.

    Cause: it took too long (SQLite: half of `lease_ttl`), was ended by a statement of the handler's, went on after an
        error that was caught, or its owner rolled it back.
    Next: do less in it, begin it later, and leave COMMIT and ROLLBACK to szal, or to the connection's owner. An error
        that the handler is to survive belongs in a savepoint: `with connection.transaction()` for PostgreSQL, `with
        connection` for SQLite.

    >>> print(TransactionFailed("it was open for more than 15 s, and is rolled back"))
    ctx.transaction(): it was open for more than 15 s, and is rolled back
    """

    problem: str

    def __str__(self) -> str:
        return f"ctx.transaction(): {self.problem}"
