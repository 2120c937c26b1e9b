"""Something that happens in the middle of a call: at each of its instructions in turn, as a signal would."""

import sys
from collections.abc import Callable, Iterable
from types import FrameType, ModuleType
from typing import Any


class Injection:
    """Calls *act* once, before the given line or instruction of the functions of *modules*, but for one of them.

    Used as a context manager around the call. `happened` tells whether there was such a moment.
    """

    def __init__(
        self,
        moment: int,
        modules: Iterable[ModuleType],
        act: Callable[[], object],
        *,
        opcodes: bool,
        without: str | None = None,
    ) -> None:
        self.happened = False
        self._left = moment
        self._files = {module.__file__ for module in modules}
        self._act = act
        self._opcodes = opcodes
        self._without = without

    def __enter__(self) -> "Injection":
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in self._files or frame.f_code.co_name == self._without:
            return None
        frame.f_trace_opcodes = self._opcodes
        if event == ("opcode" if self._opcodes else "line") and not self.happened:
            if self._left == 0:
                self.happened = True
                self._act()
            self._left -= 1
        return self._trace
