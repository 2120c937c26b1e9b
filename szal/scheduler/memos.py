"""What handlers have found out once and for all (`StepContext.once`): of one execution, by step and key.

Handlers call this on their own threads. There is no lock: who calls a function is decided by one atomic operation on a
dict, and who may speak for a call by one on a list, as with attempts (`call`).
"""

import threading
from collections.abc import Callable
from typing import Final, Protocol

from szal.errors import Cancelled, EncodeError, OutputMasked, OutputNotSerializable
from szal.expressions.copies import own_copy
from szal.expressions.path import Json
from szal.model.fields import problem_of_text
from szal.model.json.text import as_recorded, loads_own
from szal.model.key import memo_key
from szal.model.redaction import Redaction
from szal.scheduler.call import take_claim
from szal.waiters import Waiters, wait_unless, wake_all

__all__ = ["Asker", "Memos"]

_MOST: Final = 200
"""Characters of a key: it is part of a row's, and databases make an index of that."""


_MASKED: Final = '{"szal":"what was kept here held a secret, and is not recorded"}'
"""What is recorded of a memo that must not be seen: the process that made it has the whole, and no other."""


class Place(Protocol):
    """A transaction of a handler's: what is found out in it is kept if it is committed."""

    takes_memos: bool
    memos: dict[str, str]

    def remember(self, name: str, text: str, written: str) -> None:
        """Have *written* be the row of a memo in it, and keep *text* in `memos`."""


class Asker(Protocol):
    """The attempt that a memo is made in."""

    @property
    def work(self) -> "Place | None":
        """Its transaction."""

    @property
    def is_left_behind(self) -> bool:
        """Whether nobody waits for it any more: what it finds out is not kept."""

    @property
    def execution_id(self) -> str:
        """The id of its execution."""


class _Making:
    """One call of a function whose result is to be kept."""

    def __init__(self, asker: Asker) -> None:
        self.asker = asker
        self.thread = threading.get_ident()
        self.claim: list[None] = [None]  # who takes it decides: that it is kept, or that another call takes its place
        self.is_over = False

    @property
    def can_be_replaced(self) -> bool:
        """Whether another call may take its place: what it finds out will not be kept."""
        return self.asker.is_left_behind and bool(self.claim)


class Memos:
    """The memos of one execution. *write* records one, and returns once it is committed; None: nothing is recorded.

    One in which *redaction* masks anything is not recorded: only that there was one.
    """

    def __init__(self, write: Callable[[str, str], None] | None = None, redaction: Redaction | None = None) -> None:
        self._write = write
        self._redaction = redaction or Redaction()
        self._texts: dict[str, str] = {}  # as JSON: each who asks gets a value of its own
        self._values: dict[str, Json] = {}  # where nothing is recorded: lists and dicts are copied for each who asks
        self._making: dict[str, _Making] = {}
        self._waiters: Waiters = set()

    def put_back(self, name: str, text: str) -> None:
        """Take note of a memo that is recorded, under its `memo_key`."""
        self._texts[name] = text

    def keep(self, texts: dict[str, str]) -> None:
        """Take note of memos that are committed, by their `memo_key`."""
        self._texts.update(texts)

    def look_again(self) -> None:
        """Have who waits here see whether it still has to: nobody waits for some attempt any more. From any thread."""
        wake_all(self._waiters)

    def once(self, asker: Asker, step: str, key: object, function: Callable[[], Json]) -> Json:
        """Return what is kept under *key* of *step*; else what *function* returns, kept from then on.

        Blocks while another thread calls one under that key. Raises what *function* raises, which keeps nothing,
        `Cancelled` in an attempt that nobody waits for any more, and what the store raises.
        """
        if not isinstance(key, str) or not key:
            raise TypeError(f"the key of ctx.once must be a text that is not empty, not {key!r}")
        problem = f"is longer than {_MOST} characters" if len(key) > _MOST else problem_of_text(key)
        if problem is not None:
            raise ValueError(f"the key of ctx.once {problem}")
        self._redaction.check_name("the key of ctx.once", key)
        name = memo_key(step, key)
        making = _Making(asker)
        while True:
            if asker.is_left_behind:
                raise Cancelled("nobody waits for this attempt any more")
            other = self._making.setdefault(name, making)
            own = self._texts if asker.work is None or name in self._texts else asker.work.memos
            if name in own or name in self._values:  # after that: whoever kept it was in that dict until then
                if other is making:
                    self._making.pop(name, None)
                if name not in own:
                    return own_copy(self._values[name])
                if own[name] == _MASKED:
                    raise OutputMasked(step, asker.execution_id, f"what ctx.once keeps under {key!r}")
                return loads_own(own[name])
            if other is making:
                break
            if other.thread == making.thread and not other.asker.is_left_behind:
                raise RuntimeError(f"ctx.once({key!r}) is called within itself")
            if other.can_be_replaced and take_claim(other.claim):
                self._making[name] = making
                break
            self._await(other, asker)
        return self._make(making, name, key, function)

    def _await(self, other: _Making, asker: Asker) -> None:
        """Sleep until *other* is over or can be replaced, or nobody waits for *asker*; or a little less."""
        wait_unless(self._waiters, lambda: other.is_over or other.can_be_replaced or asker.is_left_behind, None)

    def _make(self, making: _Making, name: str, key: str, function: Callable[[], Json]) -> Json:
        is_ours = False
        try:
            value = function()
            text, value = self._encoded(key, value)
            is_ours = not making.asker.is_left_behind and take_claim(making.claim)
            if not is_ours:
                raise Cancelled("nobody waits for this attempt any more")
            written = text if self._redaction.value(value) is value else _MASKED
            if self._write is None:
                self._values[name] = own_copy(value)
            elif (place := making.asker.work) is not None and place.takes_memos:
                place.remember(name, text, written)
            else:
                self._write(name, written)
                self._texts[name] = text
            return value
        finally:
            if is_ours or take_claim(making.claim):  # else another call has taken its place
                self._making.pop(name, None)
            making.is_over = True
            self.look_again()

    def _encoded(self, key: str, value: Json) -> tuple[str, Json]:
        if self._write is None:
            return "", value
        try:
            return as_recorded(value, f"once({key!r})")
        except EncodeError as error:
            raise OutputNotSerializable(error.path, error.problem) from None
