"""Drawing flows and executions, and writing pages of them."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import attrs
import click

from szal.cli import completion
from szal.cli.advice import Advice
from szal.cli.console import diverted_stdout, printed, stderr, stdout, write
from szal.cli.help import Command
from szal.cli.history import find_by_prefix, reading
from szal.cli.options import needed, not_empty, store_option
from szal.cli.show import how_to_go_on
from szal.cli.standing import explained
from szal.cli.target import find_target
from szal.cli.text import one_line
from szal.clock import utc_now
from szal.engine.inspection import checkpoints_of
from szal.engine.status import ExecutionStatus
from szal.engine.view import status_of
from szal.errors import SzalError
from szal.pictures.dot import to_dot
from szal.pictures.graph import graph_svg
from szal.pictures.mermaid import to_mermaid
from szal.pictures.page import execution_html
from szal.stores import Store

__all__ = ["graph", "write_page"]

_LANGUAGES = {"mermaid": to_mermaid, "dot": to_dot, "svg": graph_svg}


@attrs.define
class NothingToDraw(SzalError):
    """An execution of which no definition is kept."""

    execution_id: str

    def __str__(self) -> str:
        return f"of execution {one_line(self.execution_id)} no definition is kept: szal's engine did not run it"


@click.command(cls=Command, short_help="Draw a flow or an execution: for Mermaid or Graphviz, or as SVG.")
@click.argument("target", metavar="[FILE|MODULE:ATTRIBUTE]", required=False, shell_complete=completion.targets)
@click.option(
    "--id",
    "execution_id",
    metavar="ID",
    callback=not_empty,
    shell_complete=completion.ids,
    help="Draw this execution, as SVG: how each of its steps stands. The beginning of its ID is enough.",
)
@store_option
@click.option(
    "--format",
    "language",
    type=click.Choice([*_LANGUAGES]),
    help="What to write: Mermaid, DOT for Graphviz, or SVG, a picture (needs szal[graph]).  [default: mermaid; with"
    " --id svg]",
)
def graph(*, target: str | None, execution_id: str | None, store: str | None, language: str | None) -> None:
    """Draw a flow, or with --id an execution, to stdout."""
    if (target is None) is (execution_id is None):
        raise click.UsageError("what is to be drawn? Give a flow, or with --id an execution.")
    if execution_id is None:
        assert target is not None
        with diverted_stdout():
            flow = find_target(target).flow
        text = _LANGUAGES[language or "mermaid"](flow)
    else:
        if language not in (None, "svg"):
            raise click.UsageError("an execution is drawn as SVG: leave out --format.")
        with reading(needed(store)) as opened:
            status = status_of(opened, find_by_prefix(opened, execution_id))
        if status.flow is None:
            raise NothingToDraw(status.execution_id)
        text = graph_svg(status.flow, status)
    out = stdout()
    write(out, text)
    printed(out)


def write_page(store: Store, status: ExecutionStatus, advice: Advice, file: str) -> None:
    """Write all that is known of an execution as a page to *file*; "-" is stdout. Raises OSError."""
    status = attrs.evolve(status, results=explained(status.flow, status.results))
    commands = list(how_to_go_on(status, advice))
    now = utc_now() if status.is_running else None
    text = execution_html(status, checkpoints_of(store, status.execution_id), next_commands=commands, now=now)
    if file == "-":
        out = stdout()
        write(out, text)
        printed(out)
        return
    with _replacing(Path(file)) as new:
        new.write_text(text, encoding="utf-8")
    write(stderr(), f"written: {file}")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a file that takes the place of the one at *path*, but not of a pipe or a device, once it is whole."""
    if path.exists() and not path.is_file():
        yield path
        return
    new = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}")
    try:
        yield new
        new.replace(path.resolve())
    except OSError as error:  # of a file that nobody has named
        raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        new.unlink(missing_ok=True)
