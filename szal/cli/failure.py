"""How what cannot be done is told: one message for people on stderr and, with ``--json``, one object on stdout."""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from szal.cli.console import stderr, stdout, write
from szal.cli.help import Command
from szal.cli.inputs import as_input, how_to_give
from szal.cli.lost import ExecutorGone, RecordLost
from szal.cli.text import clean
from szal.errors import InvalidFlow, InvalidInputs, LoadError, SzalError
from szal.expressions.path import Json

__all__ = ["Commands", "Telling", "error_json", "fails_with"]

_PLACE: Final = re.compile(r":(\d+):(\d+): ")
_ANSWER: Final = "szal.answer"


class _Failure(click.ClickException):
    """What a person did wrong, or can do something about. Its cause is the error; *answer* belongs into the object."""

    def __init__(self, message: str, status: int, answer: Mapping[str, Json]) -> None:
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc] # which click reads here
        self.answer = answer

    def show(self, file: Any = None) -> None:  # noqa: ARG002 (click's signature)
        """Print the message to stderr."""
        write(stderr(), clean(self.message))


class Telling(Command):
    """A command whose errors are told in one message, never as a traceback."""

    def form_of_input(self, name: str) -> str:
        """Return how an input is given to it."""
        return as_input(name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (SzalError, OSError) as error:
            status = 1 if isinstance(error, RecordLost | ExecutorGone) else 2
            raise _Failure(_message(error, self.form_of_input), status, ctx.meta.get(_ANSWER, {})) from error

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Do what the command line says, and return its exit status; or end the process with it."""
        words = list(sys.argv[1:] if args is None else args)
        try:
            status = super().main(words, prog_name, complete_var, standalone_mode=False, **extra) or 0
        except click.ClickException as error:
            if _asks_for_json(words):
                write(stdout(), _document_of(error))
            error.show(file=stderr())  # type: ignore[arg-type] # all that it writes with is there
            status = error.exit_code
        except click.exceptions.Exit as leaving:
            status = leaving.exit_code
        if standalone_mode:
            sys.exit(status)
        return status


class Commands(Telling, click.Group):
    """Several of these; in help they stand in order of use."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Return their names."""
        return list(self.commands)


def fails_with(answer: Mapping[str, Json]) -> None:
    """Have *answer* in the object that ``--json`` prints, should the command that is being executed fail."""
    click.get_current_context().meta[_ANSWER] = answer


def _document_of(error: click.ClickException) -> str:
    answer = error.answer if isinstance(error, _Failure) else {}
    cause = error.__cause__
    return error_json(error, error.format_message()) if cause is None else error_json(cause, str(cause), answer)


def error_json(error: BaseException, message: str, answer: Mapping[str, Json] | None = None) -> str:
    """Return what ``--json`` prints instead of an answer: the message, its type, and each problem with its place."""
    told: dict[str, Json] = {
        **(answer or {}),
        "error": clean(message),
        "error_type": type(error).__name__,
        "problems": _problems(error),
    }
    execution_id = getattr(error, "execution_id", None)
    if isinstance(execution_id, str):
        told["execution_id"] = execution_id
    return json.dumps(told, ensure_ascii=False)


def _problems(error: BaseException) -> list[Json]:
    if isinstance(error, LoadError):
        return [_placed(error.file, problem) for problem in error.problems]
    if isinstance(error, InvalidFlow | InvalidInputs):
        return [{"message": problem} for problem in error.problems]
    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
    return [{"message": clean(message)}]


def _placed(file: str, problem: str) -> Json:
    """Return a problem of a file, which begins with its place there."""
    place = _PLACE.match(problem)
    if place is None:
        return {"message": problem.removeprefix(": "), "file": file}
    return {"message": problem[place.end() :], "file": file, "line": int(place[1]), "column": int(place[2])}


def _message(error: SzalError | OSError, form: Callable[[str], str]) -> str:
    if isinstance(error, LoadError):  # begins with the place in the file, as editors like to find it
        return str(error)
    return f"szal: {error}{how_to_give(error, form) if isinstance(error, InvalidInputs) else ''}"


def _asks_for_json(words: Sequence[str]) -> bool:
    """Whether the object is wanted. The words are not parsed: that may be what went wrong."""
    end = words.index("--") if "--" in words else len(words)
    return "--json" in words[:end]
