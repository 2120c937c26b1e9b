"""``szal schedules`` and ``szal next``: what is begun at its times, and when there is something to do."""

import json

import click
from rich.table import Table
from rich.text import Text

from szal.cli.console import console_for, printed, stderr, stdout, write
from szal.cli.help import Command
from szal.cli.history import reading
from szal.cli.options import json_option, needed, queues_option, store_option
from szal.cli.rows import DIM
from szal.cli.text import moment, one_line
from szal.engine.config import EngineConfig
from szal.engine.engine import Engine

__all__ = ["next_", "schedules"]


@click.command(cls=Command, short_help="List what is begun at its times.")
@store_option
@json_option
def schedules(*, store: str | None, as_json: bool) -> None:
    """List the schedules of a store (engine.schedule), the one that is due next first.

    Workers begin what is due: szal worker, or engine.work in a program.
    """
    with reading(needed(store)) as opened:
        found = Engine([], EngineConfig(execution_store=opened)).schedules()
    out = stdout()
    if as_json:
        told = [
            {
                "name": each.name,
                "flow_name": each.flow_name,
                "cron": each.cron,
                "timezone": each.timezone,
                "next_at": None if each.next_at is None else each.next_at.isoformat(),
                "catch_up": each.catch_up,
                "overlap": each.overlap,
                "queue": each.queue,
                "last_id": each.last_id,
            }
            for each in found
        ]
        write(out, json.dumps(told, ensure_ascii=False))
    elif found:
        table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
        for name in ("schedule", "flow", "queue", "cron", "time zone", "next", "last"):
            table.add_column(name, overflow="fold", header_style=DIM)
        for each in found:
            due = "" if each.next_at is None else moment(each.next_at)
            words = (each.name, each.flow_name, each.queue, each.cron, each.timezone, due, each.last_id or "")
            table.add_row(*(Text(one_line(word)) for word in words))
        console_for(out).print(table)
    else:
        write(stderr(), "There is no schedule.")
    printed(out)


@click.command("next", cls=Command, short_help="Say when there is something to do.")
@queues_option
@store_option
def next_(*, queues: tuple[str, ...], store: str | None) -> None:
    """Print when there is something to do for a worker, as an ISO time in UTC: at once where that is past.

    That is what was submitted, a schedule, a sleep or a time-out. So a job of cron, or a timer of systemd, that runs
    "szal worker --until-idle" knows when to come back. It prints nothing where nobody knows of anything.
    """
    with reading(needed(store)) as opened:
        found = Engine([], EngineConfig(execution_store=opened)).next_due(queues)
    out = stdout()
    if found is not None:
        write(out, found.isoformat())
    printed(out)
