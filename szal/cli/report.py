"""What is said of many executions: how many there are, what became of each, and what it came to."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Final

import attrs
from rich.console import Console
from rich.text import Text

from szal.cli.advice import Advice
from szal.cli.console import Stream, console_for, stderr, write
from szal.cli.fate import Done, Fate
from szal.cli.style import look_of
from szal.cli.text import elapsed, one_line
from szal.cli.which import said_of
from szal.engine.chosen import Action, Chosen
from szal.engine.which import INTERRUPTED, Which
from szal.expressions.path import Json

__all__ = ["Report", "number_of"]

_MOST_PROBLEMS: Final = 5
_MOST_LISTED: Final = 20
_UNDER_WAY: Final = Which(states=(INTERRUPTED,))


def number_of(count: int) -> str:
    """Return so many executions, in words."""
    return f"{count} execution{'s' * (count != 1)}"


class Report:
    """What is said of many executions: how many, what became of each, and a summary. For one thread."""

    def __init__(
        self, document: Stream, chosen: Chosen, *, action: Action, which: Which, advice: Advice, as_json: bool
    ) -> None:
        self._document = document
        self._console: Console = console_for(stderr() if as_json else document)
        self._chosen = chosen
        self._action = action
        self._which = which
        self._advice = advice
        self._as_json = as_json
        self._fates: Counter[Fate] = Counter()
        self._problems: Counter[str] = Counter()

    def begin(self) -> None:
        """Say how many there are, and which are left out."""
        chosen = self._chosen
        what = f"{number_of(len(chosen.execution_ids))} to {self._action.verb}"
        counts = ", ".join(f"{count} {state}" for state, count in chosen.states.items())
        asked = said_of(self._which)
        self._say(f"{what}{f' ({counts})' if counts else ''}: {asked}")
        for reason, count in chosen.left_out.items():
            self._say(f"  left out: {count} {reason}")

    def listed(self) -> None:
        """Say which they are, and that nothing was done."""
        ids = self._chosen.execution_ids
        if self._as_json:
            for execution_id in ids:
                self._write({"execution_id": execution_id, "outcome": None})
            self._summarise(is_stopped=False)
            return
        for execution_id in ids[:_MOST_LISTED]:
            self._say(f"  {one_line(execution_id)}")
        if len(ids) > _MOST_LISTED:
            self._say(f"  … and {len(ids) - _MOST_LISTED} more (--json lists all)")
        self._say("Nothing was done: this was a dry run." if ids else "There is nothing to do.")

    def tell(self, execution_id: str, done: Done) -> None:
        """Say what became of one."""
        fate = done.fate
        self._fates[fate] += 1
        if fate is Fate.CANNOT:
            self._problems[done.detail] += 1
        if self._as_json:
            self._write(
                {
                    "execution_id": execution_id,
                    "outcome": fate.name.lower(),
                    "became": done.became,
                    "seconds": round(done.seconds, 3),
                    "detail": done.detail or None,
                }
            )
        count, total = self._fates.total(), len(self._chosen.execution_ids)
        sign, colour = look_of(self._console, _LOOKS.get(fate, fate.value))
        became = "" if done.became in (None, execution_id) else f" as {one_line(done.became or '')}"
        self._console.print(
            Text.assemble(
                (f"{count:>{len(str(total))}}/{total} ", "dim"),
                (f"{sign} ", colour),
                one_line(execution_id),
                became,
                " ",
                (fate.value, colour),
                f" in {elapsed(done.seconds)}" if done.became is not None else "",
                f": {done.detail}" if done.detail else "",
            ),
            soft_wrap=True,
        )

    def end(self, *, is_stopped: bool) -> None:
        """Say what it came to, and what to do next."""
        if self._as_json:
            self._summarise(is_stopped=is_stopped)
        told = ", ".join(f"{count} {fate.value}" for fate, count in self._fates.items())
        left = len(self._chosen.execution_ids) - self._fates.total()
        self._say(f"{number_of(len(self._chosen.execution_ids))}: {told}{f', {left} not begun' if left else ''}")
        for problem, count in self._problems.most_common(_MOST_PROBLEMS):
            self._say(f"  {count}: {problem}")
        for line in self._next(is_stopped=is_stopped):
            self._console.print(Text(line, style="dim"), soft_wrap=True)

    def _next(self, *, is_stopped: bool) -> Iterator[str]:
        action, which, advice = self._action, self._which, self._advice
        same = which if action is not Action.RERUN else attrs.evolve(which, states=()) or _UNDER_WAY
        if action is Action.CANCEL and self._fates[Fate.ASKED]:
            yield f"what nobody runs is cancelled when it is taken up: {advice.on_many('resume', same)}"
        if is_stopped and action is Action.RERUN:
            yield f"what was begun goes on with: {advice.on_many('resume', same)}"
        if is_stopped:
            yield f"the rest: {advice.on_many(action.verb, which)}"
        if self._fates[Fate.FAILED] or self._fates[Fate.ROLLED_BACK]:
            yield f"why one failed: {advice.command('show', 'ID')}"

    def _summarise(self, *, is_stopped: bool) -> None:
        counts: dict[str, Json] = {fate.name.lower(): count for fate, count in self._fates.items()}
        total = len(self._chosen.execution_ids)
        self._write(
            {
                "summary": counts,
                "action": self._action.verb,
                "total": total,
                "not_begun": total - self._fates.total(),
                "left_out": dict(self._chosen.left_out),
                "interrupted": is_stopped,
            }
        )

    def _write(self, told: dict[str, Json]) -> None:
        write(self._document, json.dumps(told, ensure_ascii=False))

    def _say(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


_LOOKS: Final = {
    Fate.ASKED: "completed",
    Fate.TAKEN: "skipped",
    Fate.ALREADY: "skipped",
    Fate.CANNOT: "failed",
    Fate.STOPPED: "interrupted",
}
