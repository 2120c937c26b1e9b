"""What a handler logs, with its flow and its step before each line."""

import logging
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from szal.interruption import is_interruption
from szal.logs import SafeLogger
from szal.model.key import item_key
from szal.model.redaction import Redaction
from szal.model.secret_forms import MASK

__all__ = ["StepLogger"]


class StepLogger(SafeLogger):
    """A logger for one attempt. What *redaction* masks is masked in its lines."""

    def __init__(self, logger: logging.Logger, extra: Mapping[str, object], redaction: Redaction) -> None:
        super().__init__(logger, extra)
        self._redaction = redaction

    @classmethod
    def of(
        cls, flow_name: str, step_name: str, index: int | None, execution_id: str, redaction: Redaction
    ) -> "StepLogger":
        """Return the logger (``szal.step``) for an attempt of that step, or of its item number *index*."""
        step = step_name if index is None else item_key(step_name, index)
        extra = {"flow": flow_name, "step": step, "execution_id": execution_id}
        return cls(logging.getLogger("szal.step"), extra, redaction)

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        extra = self.extra or {}
        kwargs["extra"] = {**extra, **(kwargs.get("extra") or {})}
        prefix = f"[{extra.get('flow')}/{extra.get('step')}]"
        if self._redaction.is_active and self.isEnabledFor(level):
            msg, args = self._masked(msg, args, kwargs), ()
        if args:  # only then does logging look for % in the message
            prefix = prefix.replace("%", "%%")
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        super().log(level, f"{prefix} {msg}", *args, **kwargs)

    def _masked(self, msg: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return a line as it may be seen, with the traceback that goes with it, where that has to be masked, in it."""
        told = kwargs.get("exc_info")
        error = told if isinstance(told, BaseException) else sys.exception() if told else None
        try:
            named = args[0] if len(args) == 1 and isinstance(args[0], Mapping) and args[0] else args
            text = str(msg) % named if args else str(msg)
            if error is not None and self._redaction.exception(error) is not error:
                text += "\n" + "".join(traceback.format_exception(error)).rstrip()
                kwargs["exc_info"] = None
        except BaseException as broken:  # arguments that do not fit, or that cannot be printed
            if is_interruption(broken):
                raise
            text, kwargs["exc_info"] = f"{msg} [{MASK}: {type(broken).__name__} in what was to be logged]", None
        return self._redaction.text(text)
