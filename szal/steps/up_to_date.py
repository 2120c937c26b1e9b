"""Steps whose work is there already: asked before their first attempt."""

import os
from collections.abc import Callable, Iterable
from glob import glob, has_magic
from pathlib import Path
from typing import Final

import attrs

from szal.errors import SkipStep
from szal.expressions.path import Json
from szal.model.config import UP_TO_DATE
from szal.scheduler.context import Handler, StepContext

__all__ = ["REASON", "IsDone", "Unless", "has_files", "is_up_to_date"]

IsDone = Callable[[StepContext], object]

REASON: Final = "up to date"
"""Why such a step is skipped."""


@attrs.frozen(eq=False)
class Unless:
    """What does a step unless its work is there."""

    is_done: IsDone
    handler: Handler

    def __call__(self, ctx: StepContext) -> Json:
        """Do it, or raise `SkipStep`."""
        if ctx.attempt == 1 and ctx.poll == 1 and self.is_done(ctx):
            raise SkipStep(REASON)
        return self.handler(ctx)


def has_files(config: Json) -> bool:
    """Whether the *config* of a step says by which files its work is there."""
    return isinstance(config, dict) and isinstance(config.get(UP_TO_DATE), dict)


def is_up_to_date(ctx: StepContext) -> bool:
    """Whether each of the step's ``outputs`` is there, and none is older than one of its ``sources``, as Make has it.

    Both are paths, or patterns (``*``, ``**``), seen from the flow's directory. Raises FileNotFoundError for a source
    that is not there.
    """
    wanted = ctx.render(ctx.step.config[UP_TO_DATE])
    base = Path(ctx.cwd or os.curdir)
    sources = [path for pattern in wanted.get("sources") or () for path in _found(base, pattern, "source")]
    try:
        outputs = [path for pattern in wanted.get("outputs") or () for path in _found(base, pattern, "output")]
        oldest = min(map(_changed, outputs), default=None)
    except FileNotFoundError:
        return False
    return oldest is not None and all(_changed(source) <= oldest for source in sources)


def _found(base: Path, pattern: str, kind: str) -> Iterable[Path]:
    path = base / pattern
    found = [Path(each) for each in glob(str(path), recursive=True)] if has_magic(pattern) else [path]  # noqa: PTH207 (a pattern may be absolute)
    if not found or not all(each.exists() for each in found):
        raise FileNotFoundError(f"{UP_TO_DATE}: there is no {kind} {pattern!r} in {base.resolve()}")
    return found


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns
