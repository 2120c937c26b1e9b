"""The command line: ``szal``, and ``python -m szal``. It needs the extra ``szal[cli]``.

Nothing here is imported by the rest of szal, and importing this module imports nothing.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

    from szal.authoring.flow import Flow
    from szal.cli.project import Project

__all__ = ["main", "run_in_project", "run_program"]

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says, and return its exit status. Does not return where a step's thread hangs.

    0: success. 1: the flow failed, or its record could not be kept. 2: a wrong command, an invalid flow, a store
    that cannot be read, an execution that is not there or is being run already. 3: the execution waits. 128 and the
    signal's number (130 for Ctrl-C): it was interrupted by that.
    """
    return _ended(_szal, arguments, "szal")


def run_program(flow: "Flow", arguments: Sequence[str] | None = None) -> int:
    """Run *flow* as the command line of a program says, with an option for each of its inputs; else as `main`."""

    def command() -> "click.Command":
        from szal.cli.program import program

        return program(flow)

    return _ended(command, arguments, None)


def run_in_project(project: "Project", arguments: Sequence[str]) -> int:
    """Do what `main` does, with the store, the flows and the settings of *project* where a command names no others."""
    from szal.cli.project import within

    with within(project):
        return _ended(_szal, arguments, project.program)


def _szal() -> "click.Command":
    from szal.cli.commands import szal

    return szal


def _ended(command: "Callable[[], click.Command]", arguments: Sequence[str] | None, name: str | None) -> int:
    try:
        return _main(command, arguments, name)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _main(command: "Callable[[], click.Command]", arguments: Sequence[str] | None, name: str | None) -> int:
    from szal.errors import MissingExtra
    from szal.extra import optional

    try:
        with optional("click", "rich", extra="cli", feature="the command line"):
            import click

            from szal.cli.console import flush_standard_files, open_standard_files
            from szal.cli.execute import await_end, in_a_program, leave

            made = command()
    except MissingExtra as error:
        sys.stderr.write(f"szal: {error}\n")
        return 2
    open_standard_files()
    with in_a_program():
        try:
            return int(made.main(arguments, prog_name=name, standalone_mode=False))
        except click.Abort:  # what click makes of KeyboardInterrupt; a flow that runs has dealt with it before
            leave(_INTERRUPTED)
        finally:
            await_end()
            flush_standard_files()
