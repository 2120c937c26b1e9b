"""Help that is printed as all else is: where it cannot be written, that is one message."""

import click

from szal.cli.console import Stream, printed, stdout, write

__all__ = ["Command", "print_and_end"]


def print_and_end(context: click.Context, text: str) -> None:
    """Print *text*, and end: with status 1 where it could not be written."""
    out: Stream = stdout()
    write(out, text)
    printed(out)
    context.exit()


def _show(context: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if is_asked and not context.resilient_parsing:
        print_and_end(context, context.get_help())


class Command(click.Command):
    """A command that prints its help so, and not by click, which fails where it cannot."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return what stands for ``--help``."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show
        return option
