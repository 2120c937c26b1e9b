"""Where in a user's own files something went wrong."""

import os
import sysconfig
from pathlib import Path
from traceback import extract_tb
from typing import Final

import szal
from szal.cli.text import one_line
from szal.model.results import StepResult

__all__ = ["place_of", "place_of_failure"]

_OWN: Final = (f"{Path(szal.__file__).parent}{os.sep}", "<")
_LIBRARIES: Final = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_DEEPEST: Final = 10  # exceptions that were raised for one another


def place_of(error: BaseException) -> str | None:
    """Return the innermost line of the user's own that *error* came through; of a library, where there is none.

    Where it came through neither, that of what it was raised for.
    """
    raised: BaseException | None = error
    for _ in range(_DEEPEST):
        if raised is None:
            return None
        frames = [frame for frame in extract_tb(raised.__traceback__) if not frame.filename.startswith(_OWN)]
        if frames:
            own = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)] or frames
            return one_line(f"{own[-1].filename}, line {own[-1].lineno}")
        raised = raised.__cause__
    return None


def place_of_failure(step: StepResult) -> str | None:
    """Return that of what a step failed with, or an item of it, in this process."""
    for failed in (step, *(step.items or ())):
        error = failed.exception
        place = None if error is None else place_of(error)
        if place is not None:
            return place
    return None
