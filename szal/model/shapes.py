"""What is known of how a step ends before it runs: which types its parts have, and what is never there."""

from collections import ChainMap
from collections.abc import Mapping
from typing import Final

import attrs

from szal.errors import did_you_mean
from szal.expressions.comparison import Kind
from szal.expressions.path import Path, spelled
from szal.model.step import StepDef

__all__ = ["COMMAND_OUTPUTS", "Steps", "kind_at", "nothing_at", "remedy", "writes_outputs"]


@attrs.frozen
class Steps:
    """The steps of a flow, by name. `may_have_failed`: whether a text can see one that has."""

    named: Mapping[str, StepDef] = attrs.field(factory=dict)
    may_have_failed: bool = False

    def in_undo_of(self, step: StepDef) -> "Steps":
        """Return them as what undoes *step* sees them: of one that runs over a list, the item that is undone."""
        if step.foreach is None:
            return self
        return attrs.evolve(self, named=ChainMap({step.name: attrs.evolve(step, foreach=None)}, self.named))  # type: ignore[arg-type]


COMMAND_OUTPUTS: Final = ("text", "lines", "json")
"""What ``config["output"]`` of a "shell" step may be: what its stdout is made into, which alone is its output then."""

_COMMAND: Final = {
    "exit_code": Kind.NUMBER,
    "stdout": Kind.STRING,
    "stderr": Kind.STRING,
    "truncated": Kind.LIST,
    "signal": Kind.STRING,
    "outputs": Kind.OBJECT,
}
_OUTPUT: Final = len(("steps", "NAME", "output"))
_WRITTEN_AS: Final = {"text": Kind.STRING, "lines": Kind.LIST}


def kind_at(path: Path, steps: Steps) -> Kind | None:
    """Return the type that what *path* finds always has, null aside; None: that is not known.

    >>> count = StepDef("count", step_type="shell", config={"run": "wc -l log"})
    >>> kind_at(Path.parse("steps.count.output.stdout"), Steps({"count": count}))
    <Kind.STRING: 'text'>
    """
    match path.segments:
        case ("steps", str(), "status" | "error"):
            return Kind.STRING
        case ("steps", str(name), "output", *rest) if _runs_over_a_list(name, steps):
            return None if rest else Kind.LIST
        case ("steps", str(name), "output", *rest) if (output := _command_output(name, steps)) is not None:
            match output, rest:
                case "", []:
                    return Kind.OBJECT
                case "", [str(key)]:
                    return _COMMAND.get(key)
                case _ if steps.may_have_failed:  # then it is what the command came to, whatever is made of it else
                    return None
                case "lines", [int()]:
                    return Kind.STRING
                case _, []:
                    return _WRITTEN_AS.get(output)
    return None


def nothing_at(path: Path, steps: Steps) -> str | None:
    """Return why *path* never leads anywhere, where that is so."""
    kind = None
    for length in range(3, len(path.segments)):
        outer = Path("", path.segments[:length])
        kind = kind_at(outer, steps)
        segment, where = path.segments[length], spelled(outer.segments)
        if kind is Kind.OBJECT and length > 3:
            return f"{where} has names, and no numbers" if isinstance(segment, int) else None
        if kind is Kind.OBJECT and segment not in _COMMAND:
            hint = did_you_mean(segment, list(_COMMAND)) if isinstance(segment, str) else ""
            return f"{where} is what a command came to, and has {', '.join(_COMMAND)}{hint}{remedy(path, steps)}"
        if kind is Kind.LIST and isinstance(segment, str):
            one = f": name an element, as in {where}[0]" if length == _OUTPUT and outer.step is not None else ""
            return f"{where} is a list, and has no {segment!r}{one}"
        if kind is Kind.STRING or kind is Kind.NUMBER:
            return f"{where} is {kind.value}, and has nothing in it{remedy(path, steps)}"
    return None


def remedy(path: Path, steps: Steps) -> str:
    """Return what to write so that what a command prints is more than text, as the end of a sentence."""
    match path.segments:
        case ("steps", str(name), "output", "outputs", *_):
            if _command_output(name, steps):
                return f": leave out 'output' of step {name!r} to have what it writes to $SZAL_RESULT here"
        case ("steps", str(name), "output", *rest) if _command_output(name, steps) in ("", "text", "lines"):
            inner = rest[1:] if rest[:1] == ["stdout"] else rest
            return f": write output: json on step {name!r}, and name {spelled(('steps', name, 'output', *inner))}"
    return ""


def writes_outputs(name: object, steps: Steps) -> bool:
    """Whether the step called *name* is a command that may write outputs to ``$SZAL_RESULT``."""
    return isinstance(name, str) and _command_output(name, steps) == ""


def _runs_over_a_list(name: str, steps: Steps) -> bool:
    step = steps.named.get(name)
    return step is not None and step.foreach is not None


def _command_output(name: str, steps: Steps) -> str | None:
    """Return what the output of the step called *name* is made into, "" for all that is known; None: no command."""
    step = steps.named.get(name)
    if step is None or step.foreach is not None or step.step_type != "shell" or not isinstance(step.config, Mapping):
        return None
    output = step.config.get("output")
    if output is None:
        return ""
    return output if isinstance(output, str) else None
