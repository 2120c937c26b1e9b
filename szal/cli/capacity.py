"""``szal capacity``: how much there is of what steps share in all engines of a store."""

import json

import click
from rich.table import Table
from rich.text import Text

from szal.cli.console import console_for, printed, stderr, stdout, write
from szal.cli.help import Command
from szal.cli.history import reading
from szal.cli.options import json_option, needed, not_empty, store_option
from szal.cli.rows import DIM
from szal.cli.text import one_line
from szal.engine.inspection import resource_uses
from szal.stores.limits import ResourceUse, check_capacity

__all__ = ["capacity"]


def _capacity_of(_ctx: click.Context, _param: click.Parameter, text: str | None) -> int | None:
    """Return a number; 0 for none, which removes it."""
    if text is None or text == "none":
        return None if text is None else 0
    try:
        check_capacity("any", int(text))
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a number from 1 on nor 'none'") from None
    return int(text)


@click.command(cls=Command, short_help="Show, or set, how much there is of what steps share.")
@click.argument("name", required=False, callback=not_empty)
@click.argument("number", required=False, callback=_capacity_of, metavar="[NUMBER|none]")
@store_option
@json_option
def capacity(*, name: str | None, number: int | None, store: str | None, as_json: bool) -> None:
    """Show how much there is of what steps share in all engines of a store, how much is used, and how many wait.

    Of each engine as many are counted as could have it at a time: more may wait in it (szal top).

    With NAME and NUMBER, set it first (store.set_capacity); "none" removes it, so that each engine has what it says
    itself. Engines that run see it within five seconds. What is in use stays so.
    """
    with reading(needed(store)) as opened:
        if name is not None and number is not None:
            opened.set_capacity(name, number or None)
        found = [each for each in resource_uses(opened) if name in (None, each.name)]
    out = stdout()
    if as_json:
        write(out, json.dumps([_as_json(each) for each in found], ensure_ascii=False))
    elif found:
        table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
        for column in ("resource", "capacity", "in use", "waiting"):
            table.add_column(column, overflow="fold", header_style=DIM)
        for each in found:
            words = (one_line(each.name), str(each.capacity), str(each.used), str(each.waiting))
            table.add_row(*(Text(word) for word in words))
        console_for(out).print(table)
    else:
        write(stderr(), "No capacity is set." if name is None else f"No capacity of {one_line(name)} is set.")
    printed(out)


def _as_json(use: ResourceUse) -> dict[str, str | int]:
    return {"name": use.name, "capacity": use.capacity, "used": use.used, "waiting": use.waiting}
