"""What a handler logs, with its flow and its step before each line."""

from typing import Any

from szal.logs import SafeLogger

__all__ = ["StepLogger"]


class StepLogger(SafeLogger):
    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        extra = self.extra or {}
        kwargs["extra"] = {**extra, **(kwargs.get("extra") or {})}
        prefix = f"[{extra.get('flow')}/{extra.get('step')}]"
        if args:  # only then does logging look for % in the message
            prefix = prefix.replace("%", "%%")
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        super().log(level, f"{prefix} {msg}", *args, **kwargs)
