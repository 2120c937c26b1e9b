"""A program that runs one flow: the command line of ``flow.main()``, with an option for each of its inputs."""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from szal.authoring.flow import Flow
from szal.cli.execute import Settings
from szal.cli.failure import Telling
from szal.cli.inputs import as_input, type_of
from szal.cli.options import id_option, inputs_option, labels_option, needed
from szal.cli.parts import Selection
from szal.cli.run import run_target
from szal.cli.session import get_ready, run_options
from szal.cli.target import Target
from szal.cli.usage import form_of, said_of
from szal.errors import InvalidFlow
from szal.model.inputs import Input
from szal.scheduler.plan import Plan

__all__ = ["program"]

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*", re.ASCII)
_UNKNOWN: Final = "MODULE:ATTRIBUTE"


class Program(Telling):
    """A command with an option for each input of its flow."""

    def form_of_input(self, name: str) -> str:
        """Return how an input is given to it."""
        word = _word(name)
        return f"{word} …" if any(word in param.opts for param in self.params) else as_input(name)


def program(flow: Flow) -> click.Command:
    """Return the command that runs *flow*; of one that cannot be run, that which says why."""
    try:
        _ = flow.definition
    except InvalidFlow as error:
        return _refusing(error)

    @click.command(cls=Program, help=_help(flow), context_settings={"help_option_names": ["-h", "--help"]})
    @inputs_option
    @labels_option
    @id_option
    @run_options
    def command(
        *,
        inputs: Mapping[str, str],
        labels: Mapping[str, str],
        execution_id: str | None,
        settings: Settings,
        **given: str | bool | None,
    ) -> None:
        get_ready()
        if execution_id is not None:
            needed(settings.store)
        texts = {names[key]: _text(value) for key, value in given.items() if value is not None}
        run_target(
            _named(flow),
            {**texts, **inputs},
            settings,
            Selection(),
            execution_id=execution_id,
            labels=labels,
            known=Target.of(flow),
        )

    names: dict[str, str] = {}
    taken = {word for param in command.params for word in param.opts} | {"-h", "--help"}
    own = []
    for number, declared in enumerate(Plan.of(flow.definition).inputs.by_name.values()):
        option = _option(f"input_{number}", declared, taken)
        if option is not None:
            names[f"input_{number}"] = declared.name
            own.append(option)
    command.params[:0] = own
    return command


def _refusing(error: InvalidFlow) -> click.Command:
    anything = {"ignore_unknown_options": True, "allow_extra_args": True}

    @click.command(cls=Program, add_help_option=False, context_settings=anything)
    def command() -> None:
        raise error

    return command


def _help(flow: Flow) -> str:
    about = flow.definition.description or f"Run the flow {flow.name}."
    ends = "Exit status: 0 success, 1 the flow failed, 2 it could not be run, 3 it waits, 130 Ctrl-C, 143 SIGTERM."
    return f"{about}\n\n{ends}"


def _option(key: str, declared: Input, taken: set[str]) -> click.Option | None:
    """Return the option for an input; None for one whose name is no word for an option, or is that of another."""
    word = _word(declared.name)
    if not _NAME.fullmatch(declared.name) or word in taken:
        return None
    about = "; ".join(said_of(declared))
    if declared.enum is None and type_of(declared) == "boolean":
        return click.Option([f"{word}/--no-{word[2:]}", key], default=None, help=about)
    words = dict.fromkeys((word, f"--{declared.name}"))
    return click.Option([*words, key], metavar=form_of(declared), help=about)


def _word(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _text(value: str | bool) -> str:
    return value if isinstance(value, str) else "true" if value else "false"


def _named(flow: Flow) -> str:
    """Return how other commands name *flow*: by the module that it stands in, which may be the script itself."""
    for name, module in _modules():
        for attribute, value in vars(module).items():
            if value is flow:
                return f"{name}:{attribute}"
    return _UNKNOWN


def _modules() -> Iterator[tuple[str, Any]]:
    script = sys.modules.get("__main__")
    if script is not None:
        spec = getattr(script, "__spec__", None)  # there is one where it was run with -m
        path = Path(sys.argv[0])
        elsewhere = path.suffix == ".py" and path.parent.absolute() != Path.cwd()
        yield spec.name if spec is not None else str(path) if elsewhere else path.stem, script
    yield from ((name, module) for name, module in list(sys.modules.items()) if hasattr(module, "__dict__"))
