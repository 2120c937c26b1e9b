"""Flows that tell what they find."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from django.db import OperationalError, connection

import szal
from szal.contrib.django import transaction

PLACE = Path(os.environ["PLACE"])
"""Where the first step of a walk makes the file NAME.busy, and then waits for the file NAME.go."""

walk = szal.Flow("walk")


@walk.step
def first(name: str) -> dict[str, Any]:
    (PLACE / f"{name}.busy").touch()
    while not (PLACE / f"{name}.go").exists():
        time.sleep(0.005)
    return {"pid": os.getpid()}


walk.add_step(szal.StepDef("ask", step_type="wait", config={"signal": "answer"}), needs=first)


@walk.step
def second(ask: str) -> dict[str, Any]:
    return {"pid": os.getpid(), "answer": ask}


count = szal.Flow("count")


@count.step
def counted(text: str) -> int:
    """Tell how many such notes there are, and write another."""
    from django_site.models import Note

    found = Note.objects.filter(text=text).count()
    Note.objects.create(text=text)
    return found


broken = szal.Flow("broken")


@broken.step(max_retries=1, retry_delay=0, retry_on=OperationalError)
def ends_its_connection(ctx: szal.StepContext) -> int:
    with connection.cursor() as cursor:
        if ctx.attempt == 1:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        cursor.execute("SELECT 42")
        return int(cursor.fetchone()[0])


pay = szal.Flow("pay")


@pay.step(max_retries=1, retry_delay=0)
def pays(ctx: szal.StepContext, text: str, how: str) -> str:
    """Write a note together with the outcome; fail, or die, before the commit or after it, in the first attempt."""
    from django_site.models import Note

    again = (PLACE / f"{text}.again").exists()
    (PLACE / f"{text}.again").touch()
    with transaction(ctx, output="paid"):
        Note.objects.create(text=text)
        if how == "fails" and not again:
            raise OSError("no answer")
        if how == "dies before" and not again:
            os.kill(os.getpid(), signal.SIGKILL)
    if how == "dies after":
        os.kill(os.getpid(), signal.SIGKILL)
    return "paid"
