"""A flow as a program of its own."""

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

__all__ = ["run_as_program"]


def run_as_program(flow: Any, arguments: Sequence[str] | None) -> NoReturn:
    """Run *flow*, a `szal.Flow`, as the command line says, and end the process."""
    from szal.cli import run_program  # which needs the extra "cli"

    sys.exit(run_program(flow, arguments))
