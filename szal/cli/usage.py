"""The help of commands that run a flow, with the inputs of the flow that is named."""

from collections.abc import Iterator
from typing import Any, Final

import click

from szal.cli.console import diverted_stdout, stdout, write
from szal.cli.help import Command
from szal.cli.inputs import type_of
from szal.cli.target import find_target
from szal.cli.text import one_line
from szal.errors import SzalError, secret_variable
from szal.model.inputs import Input, Inputs, written
from szal.scheduler.plan import Plan

__all__ = ["FlowCommand", "form_of", "said_of"]

_ARGUMENTS: Final = "szal.arguments"
_LONGEST: Final = 60  # characters of a value


class FlowCommand(Command):
    """A command on a target: where one stands beside ``--help``, its inputs are listed, too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line, and remember it for the help."""
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def get_help(self, ctx: click.Context) -> str:
        """Return the help; raise what is wrong with the target, once the rest has been shown."""
        text = super().get_help(ctx)
        name = self._target(ctx)
        if name is None:
            return text
        try:
            with diverted_stdout():
                inputs = Plan.of(find_target(name).flow).inputs
        except SzalError:
            write(stdout(), text)
            raise
        return f"{text}\n\n{_table(ctx, name, inputs)}"

    def _target(self, ctx: click.Context) -> str | None:
        """Return the target on the command line, if there is one."""
        with click.Context(self, resilient_parsing=True) as own:  # missing arguments are no errors there
            try:
                values: dict[str, Any] = self.make_parser(own).parse_args(list(ctx.meta.get(_ARGUMENTS, ())))[0]
            except click.UsageError:
                return None
        found = values.get("target")
        return found if isinstance(found, str) else None


def _table(ctx: click.Context, name: str, inputs: Inputs) -> str:
    """Return how each of the *inputs* of the target is given, and what is said of it."""
    formatter = ctx.make_formatter()
    rows = [(_given(each), "; ".join(said_of(each))) for each in inputs.by_name.values()]
    with formatter.section(f"Inputs of {one_line(name)}"):
        if rows:
            formatter.write_dl(rows, col_max=40)
        else:
            formatter.write_text("It declares none, and takes any -i KEY=VALUE.")
    return formatter.getvalue().rstrip("\n")


def _given(declared: Input) -> str:
    return one_line(f"-i {declared.name}={form_of(declared)}")


def form_of(declared: Input) -> str:
    """Return what stands for the value of an input in help: its type, or which values it may have."""
    if declared.enum is not None:
        value = "|".join(each if isinstance(each, str) else written(each) for each in declared.enum)
    else:
        type_ = type_of(declared)
        value = "true|false" if type_ == "boolean" else (type_ or "value").upper()
    return one_line(value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…")


def said_of(declared: Input) -> Iterator[str]:
    """Yield what help says of an input."""
    if declared.help:
        yield one_line(declared.help)
    if declared.type is not None and declared.enum is not None:
        yield declared.type
    if declared.required:
        yield "required"
    elif declared.default is not None:
        yield one_line(f"default {written(declared.default)}")
    elif declared.standing_in:
        yield one_line(f"default {declared.standing_in}")
    if declared.secret:
        yield one_line(f"secret: {secret_variable(declared.name)} may hold it")
