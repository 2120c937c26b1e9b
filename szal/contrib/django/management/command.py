"""A management command that is one of szal's: with the project's store, its flows and its settings."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from szal.cli import run_in_project
from szal.cli.project import Project
from szal.contrib.django.settings import settings_of, store_of

__all__ = ["SzalCommand"]

_OF_DJANGO = ("--settings=", "--pythonpath=")
"""What the management utility has taken note of already."""


class SzalCommand(BaseCommand):
    """Hands what is typed to szal's own commands, which print, and end, as ``szal`` does."""

    begins_with: tuple[str, ...] = ()
    """The words of szal's that the name of this command stands for."""

    def run_from_argv(self, argv: list[str]) -> None:
        """Do what the command line says, and end the process with its status."""
        utility = f"python {shlex.quote(argv[0])}" if argv[0].endswith(".py") else Path(argv[0]).name
        told = [word for word in argv[2:] if word.startswith(_OF_DJANGO)]
        words = [word for word in argv[2:] if word not in told]
        sys.exit(self._run(words, f"{utility} szal", (sys.executable, argv[0], "szal", *told)))

    def add_arguments(self, parser: Any) -> None:
        """Take whatever there is, for `call_command`: ``call_command("szal", "list", "--json")``."""
        parser.prefix_chars = "\0"  # options are szal's to read, also where one comes first
        parser.add_argument("words", nargs=argparse.REMAINDER)

    def handle(self, *, words: Sequence[str], **_: Any) -> None:
        """Do what the words say; raise `CommandError` where ``szal`` would exit with another status than 0."""
        status = self._run(words, "python manage.py szal", (sys.executable, "-m", "django", "szal"))
        if status:
            typed = " ".join([*self.begins_with, *words])
            raise CommandError(f"szal {typed}: exit status {status}", returncode=status)

    def _run(self, words: Sequence[str], program: str, command: Sequence[str]) -> int:
        settings = settings_of()
        project = Project(
            program=program, command=command, store=store_of(), flows=settings.flows, config=settings.config
        )
        try:
            return run_in_project(project, [*self.begins_with, *words])
        finally:
            connections.close_all()
