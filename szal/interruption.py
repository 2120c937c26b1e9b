"""What interrupts the program, told from what fails.

Signal handlers run on the main thread, between any two lines of it: of the engine, of a store, of a step's handler
that is called inline. What one of them raises (KeyboardInterrupt, the SystemExit of a server's time-out, an exception
of the program's own) is not the failure of what it came up in. Neither its class nor its message tells, as anybody may
raise any class; its traceback does: it passed through a function that is installed as a signal handler. A function
that limits its own time by a signal puts the old signal handler back before its exception leaves it, so that exception
stays its own failure.

Ask on the thread, and soon after the exception came up: a handler that has been replaced since is not known any more.
"""

import functools
import signal
import threading
from collections.abc import Callable, Sequence
from types import CodeType, FunctionType, MethodType
from typing import TypeVar

from szal.raised import context_of, in_short, is_a, trace_of

__all__ = ["call_each", "interruption_in", "is_interruption", "run_to_end"]

F = TypeVar("F", bound=Callable[[], object])

_WRAPPED_AT_MOST = 16
"""How many partials and bound methods around each other are looked into."""


def is_interruption(error: BaseException) -> bool:
    """Return whether *error* was raised by a signal handler of the program; KeyboardInterrupt always was.

    Always false on other threads than the main one, where no signal handler ever runs. Only the error's own traceback
    counts: an exception that was raised from an interruption is whatever the code that raised it made of it.

    >>> is_interruption(KeyboardInterrupt())
    True
    >>> is_interruption(SystemExit(1))
    False
    """
    if threading.get_ident() != threading.main_thread().ident:
        return False
    if is_a(error, KeyboardInterrupt):  # its handler may be written in C, and leave no trace
        return True
    passed = set()
    trace = trace_of(error)
    while trace is not None:
        passed.add(trace.tb_frame.f_code)
        trace = trace.tb_next
    # All numbers that there may be: signal.valid_signals() takes longer than all the rest.
    return any(_code(signal.getsignal(number)) in passed for number in range(1, signal.NSIG))


def interruption_in(error: BaseException, before: BaseException | None) -> BaseException | None:
    """Return the interruption that *error* is, or in the handling of which it came up; None where there was none.

    Libraries do that: `threading.Condition` finds that it lost its lock, a pipeline of psycopg that it cannot end.
    *before* is `sys.exception()` at the beginning: what the caller was handling is not meant.

    >>> try:
    ...     try:
    ...         raise KeyboardInterrupt
    ...     finally:
    ...         raise RuntimeError("cannot release un-acquired lock")
    ... except RuntimeError as error:
    ...     interruption_in(error, None)
    KeyboardInterrupt()
    """
    each: BaseException | None = error
    while each is not None and each is not before:
        if is_interruption(each):
            return each
        each = context_of(each)
    return None


def run_to_end(function: Callable[[], object]) -> None:
    """Call *function* until no interruption keeps it from its end; raise the first one then.

    So what it does must be safe to do again. Anything else that it raises is its end too.

    >>> todo = iter(["first", KeyboardInterrupt(), "last"])
    >>> def work():
    ...     for piece in todo:
    ...         if isinstance(piece, KeyboardInterrupt):
    ...             raise piece
    ...         print(piece)
    >>> try:
    ...     run_to_end(work)
    ... except KeyboardInterrupt:
    ...     print("interrupted")
    first
    last
    interrupted
    """
    first: BaseException | None = None
    while True:
        try:
            function()
            break
        except BaseException as error:  # noqa: BLE001 - the first one is raised
            if first is None:
                first = error
            elif first is not error:
                BaseException.add_note(first, f"and then, before this could be raised: {in_short(error)}")
            if not is_interruption(error):
                break
    if first is not None:
        try:
            raise first
        finally:
            first = None  # its traceback holds this frame


def call_each(functions: Sequence[F], failed: Callable[[F, BaseException], object]) -> None:
    """Call every one of *functions*; what one of them raises is passed to *failed* with it.

    An interruption is not: whether it came up in one of them or in between, it is raised when all have been called.
    """
    remaining = iter(functions)

    def call_remaining() -> None:
        for function in remaining:
            try:
                function()
            except BaseException as error:
                if is_interruption(error):
                    raise
                failed(function, error)

    run_to_end(call_remaining)


def _code(handler: object) -> CodeType | None:
    """Return the code that runs when *handler* is called; None if that is not written in Python.

    Its type is looked at, and nothing that is its own is asked for: that could run any code.
    """
    for _ in range(_WRAPPED_AT_MOST):
        kind = type(handler)
        if handler is None or isinstance(handler, int):  # installed by C code; the system's own
            return None
        if kind is FunctionType:
            return handler.__code__  # type: ignore[attr-defined, no-any-return]
        if kind is MethodType:
            handler = handler.__func__  # type: ignore[attr-defined]
        elif issubclass(kind, functools.partial):
            handler = handler.func  # type: ignore[attr-defined]
        else:
            handler = next((vars(base)["__call__"] for base in kind.__mro__ if "__call__" in vars(base)), None)
    return None
