"""What a signal handler raises, at every moment at which it can come up: the first, then the second, and so on."""

import dis
import functools
import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import szal

STORES = str(Path(szal.__file__).parent / "stores")
LIBRARIES = ("threading.py", "queue.py", "contextlib.py", "/tenacity/", "/psycopg/", "/psycopg_pool/", "/sqlite_utils/")
# Where the interpreter looks for signals: as a function begins, after a call, and as a loop goes round.
LOOKS = {
    code
    for name, code in dis.opmap.items()
    if name in ("RESUME", "CALL", "CALL_FUNCTION_EX", "CALL_KW")
    or ("JUMP_BACKWARD" in name and "NO_INTERRUPT" not in name)
}


class Interruption:
    """Raises *error* in this thread at the *moment*-th moment of a block at which a signal handler could."""

    def __init__(self, moment: int, error: type[BaseException]) -> None:
        self.where: str | None = None
        """Where it was raised; None: the block had ended before."""
        self._left = moment
        self.error = error
        self._last: dict[FrameType, int] = {}

    def __enter__(self) -> "Interruption":
        gc.disable()  # what comes up in a finalizer goes nowhere: that is the interpreter's
        sys.settrace(self._enter)
        sys.setprofile(self._returned)
        return self

    def __exit__(self, *problem: object) -> None:
        sys.setprofile(None)
        sys.settrace(None)
        gc.enable()
        self._last.clear()

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        if not _is_watched(frame.f_code):
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        """After an instruction that looks for signals, unless an exception of it would go elsewhere."""
        if event == "opcode":
            last, now, code = self._last.get(frame), frame.f_lasti, frame.f_code
            if last is not None and code.co_code[last] in LOOKS and _handler(code, last) == _handler(code, now):
                self._moment(frame)
            self._last[frame] = now
        return self._step

    def _returned(self, frame: FrameType, event: str, argument: object) -> None:
        """As a function that is written in C returns: where it is the last in a block, that is still of the block."""
        if event == "c_return" and _is_watched(frame.f_code):
            self._moment(frame)

    def _moment(self, frame: FrameType) -> None:
        self._left -= 1
        if self._left == 0:
            sys.setprofile(None)
            sys.settrace(None)
            self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
            raise self.error


@functools.cache
def _is_watched(code: CodeType) -> bool:
    return code.co_filename.startswith(STORES) or any(part in code.co_filename for part in LIBRARIES)


@functools.cache
def _handlers(code: CodeType) -> list[tuple[int, int, int]]:
    return [(each.start, each.end, each.target) for each in dis._parse_exception_table(code)]  # type: ignore[attr-defined]


def _handler(code: CodeType, offset: int) -> int | None:
    """Return where an exception of the instruction at *offset* goes."""
    return next((target for start, end, target in _handlers(code) if start <= offset < end), None)


def interruptions(
    error: type[BaseException] = KeyboardInterrupt, *, every: int = 1, first: int = 1
) -> Iterator[Interruption]:
    """Yield one interruption after the other, one for every moment (or of *every* so many), until one has not come."""
    moment = first
    while True:
        interruption = Interruption(moment, error)
        yield interruption
        if interruption.where is None:
            return
        moment += every


def interrupted(
    interruption: Interruption, function: Callable[..., object], *arguments: object
) -> BaseException | None:
    """Call *function*, with that interruption; return what it raised, which is the interruption, if it came up."""
    raised: BaseException | None = None
    try:
        with interruption:
            function(*arguments)
    except BaseException as error:
        raised = error
    if interruption.where is not None:
        assert type(raised) is interruption.error, f"swallowed: {interruption.where}"
    return raised
