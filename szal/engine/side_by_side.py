"""Work on many executions: several at a time, each on a thread of its own, so that a slow one holds up no other."""

import contextvars
import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeAlias, TypeVar

from szal.scheduler.call import take_claim
from szal.waiters import Mailbox

__all__ = ["Stopper", "each_on_a_thread", "start_thread"]

Made = TypeVar("Made")
Work: TypeAlias = Callable[[str, Callable[[], bool]], Made]
Stopper: TypeAlias = Callable[[Iterable[str], BaseException], object]


def each_on_a_thread(
    execution_ids: Iterable[str],
    work: Work[Made],
    *,
    room: Callable[[], int],
    on_end: Callable[[int, str, Made | None], object],
    stop: Stopper,
    is_waited_for: bool = False,
) -> None:
    """Call ``work(execution_id, is_wanted)`` for each, with as many under way as there is *room* for, until all ended.

    *on_end* is called on this thread as each ends, with its place, its id, and what *work* returned: None where it
    raised. The ids are taken as they are needed.

    Where this thread is interrupted meanwhile, it calls *stop* with those that are under way and with what came up,
    and waits all the same. With *is_waited_for* the interpreter does not end before these threads, and what they start.
    From then on *is_wanted* tells that nothing is to be begun any more.
    """
    pending = enumerate(execution_ids)
    under_way: set[_Task[Made]] = set()
    done: Mailbox[_Task[Made]] = Mailbox()
    interruption: BaseException | None = None
    following = next(pending, None)

    def is_wanted() -> bool:
        return interruption is None

    while True:
        try:
            if following is not None and len(under_way) < room():
                task = _Task(following, work, is_wanted, done)
                under_way.add(task)
                following = next(pending, None)
                if not start_thread(task.run, name=task.execution_id, is_waited_for=is_waited_for):
                    task.run()  # no thread to be had: this one does it
            elif under_way:
                task = done.next()
                under_way.discard(task)
                on_end(task.place, task.execution_id, task.made)
            else:
                break
        except BaseException as error:
            if interruption is not None:
                raise
            interruption = error
            following = None
            for task in under_way:
                task.revoke()
            under_way = {task for task in under_way if not task.is_done}
            stop([task.execution_id for task in under_way], error)
    if interruption is not None:
        raise interruption


class _Task(Generic[Made]):
    """One execution to be worked on, by a thread that may have been started or not when an interruption came up."""

    def __init__(
        self, given: tuple[int, str], work: Work[Made], is_wanted: Callable[[], bool], done: "Mailbox[_Task[Made]]"
    ) -> None:
        self.place, self.execution_id = given
        self.made: Made | None = None
        self.is_done = False
        self._work = work
        self._is_wanted = is_wanted
        self._done = done
        self._claim: list[None] = [None]  # whoever takes it decides whether it is run

    def run(self) -> None:
        """Do it, unless it was revoked."""
        if take_claim(self._claim):
            try:
                self.made = self._work(self.execution_id, self._is_wanted)
            finally:
                self.is_done = True
                self._done.put(self)

    def revoke(self) -> None:
        """Have it not run, if it has not begun."""
        if take_claim(self._claim):
            self.is_done = True


def start_thread(work: Callable[[], None], *, name: str, is_waited_for: bool = False) -> bool:
    """Have a run thread do some work, with a copy of this one's context; False where there is none to be had."""
    context = contextvars.copy_context()
    try:
        thread = threading.Thread(target=context.run, args=(work,), name=f"szal-run-{name}", daemon=not is_waited_for)
        thread.start()
    except RuntimeError:
        return False
    return True
