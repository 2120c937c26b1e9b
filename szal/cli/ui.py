"""``szal ui``: a page to look at executions with, for those whose application has none."""

import os
import secrets
import signal
from pathlib import Path
from types import FrameType
from typing import Final

import click

from szal.cli import completion
from szal.cli.console import stderr, write
from szal.cli.execute import leave
from szal.cli.help import Command
from szal.cli.history import check_exists, sink_at
from szal.cli.options import needed, not_empty, store_option
from szal.cli.target import find_target
from szal.cli.worker import together
from szal.engine.engine import Engine
from szal.extra import optional

__all__ = ["ui"]

_TOKEN: Final = "SZAL_UI_TOKEN"  # noqa: S105 (a variable's name)


@click.command(cls=Command, short_help="Serve a page to look at executions with.")
@click.argument("targets", metavar="[FILE|MODULE:ATTRIBUTE]...", nargs=-1, shell_complete=completion.targets)
@store_option
@click.option("--host", default="127.0.0.1", show_default=True, callback=not_empty, help="The address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8787, show_default=True, help="The port; 0: any that is free."
)
@click.option("--actions", is_flag=True, help="Let pages cancel, signal, resolve, resume and rerun executions.")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"A file with a token, which browsers ask for as a password. Taken from {_TOKEN} too.",
)
def ui(
    *, targets: tuple[str, ...], store: str | None, host: str, port: int, actions: bool, token_file: Path | None
) -> None:
    """Serve a page to look at executions with: lists, graphs, timelines, errors, and what waits for an answer.

    It is for this machine alone, unless --host says otherwise: that is refused without a token, since whoever reaches
    the page sees what steps return. Pages only look, but with --actions. What is resumed or run again then runs in this
    process; FILE or MODULE:ATTRIBUTE (as for run) brings what does the steps, where that is not shell commands alone.

    It ends with Ctrl-C; what runs in it then is left to others.
    """
    with optional("flask", "flask_wtf", "waitress", extra="web", feature="the dashboard"):
        from szal.contrib.web import server
    token = _token(token_file)
    if token is None and not server.is_loopback(host):
        raise click.UsageError(
            f"--host {host} lets others in: set {_TOKEN}, or give --token-file, with a token that they are asked for"
        )
    url = needed(store)
    check_exists(url)
    target = together([find_target(name, is_recorded=True) for name in targets])
    signal.signal(signal.SIGTERM, _interrupt)
    with sink_at(url) as sink:
        engine = Engine(target.handler, target.config(execution_store=sink, daemon=True))
        app = server.wsgi(engine, actions, secret_key=secrets.token_bytes(32), threads=server.THREADS)
        server.protect(app, token)
        try:
            server.serve(app, host, port, lambda address: write(stderr(), f"szal: {address} (Ctrl-C ends it)"))
        except OSError as error:
            raise click.UsageError(f"nothing can be served at {host}:{port}: {error.strerror or error}") from error
        finally:
            engine.close(drain=engine.config.cancel_grace)
    leave(0)


def _token(file: Path | None) -> str | None:
    token = os.environ.get(_TOKEN) if file is None else file.read_text(encoding="utf-8")
    if token is not None and not token.strip():
        raise click.UsageError("the token is empty")
    return None if token is None else token.strip()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
