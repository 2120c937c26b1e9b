"""What a signal handler raises in the middle of a store or sink: told from errors, and found where one hides it."""

import threading

__all__ = ["interruption_in", "is_interruption"]


def is_interruption(error: BaseException) -> bool:
    """Whether *error* is what a signal handler raised: only the main thread hears signals. It goes on to the caller."""
    return not isinstance(error, Exception) and threading.current_thread() is threading.main_thread()


def interruption_in(error: BaseException, before: BaseException | None) -> BaseException | None:
    """Return the interruption that *error* is, or in the handling of which it came up; None where there was none.

    Libraries do that: `threading.Condition` finds that it lost its lock, a pipeline of psycopg that it cannot end.
    *before* is `sys.exception()` at the beginning: what the caller was handling is not meant.
    """
    each: BaseException | None = error
    while each is not None and each is not before:
        if is_interruption(each):
            return each
        each = each.__context__
    return None
