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
    own: StepDef | None = None
    """The step whose call has just returned, where the text is of what it has returned: `output`."""

    def after_a_call_of(self, step: StepDef) -> "Steps":
        """Return them as the condition sees them until which *step* is called: of a list, each item is."""
        return attrs.evolve(self, own=attrs.evolve(step, foreach=None))

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
_WRITTEN_AS: Final = {"text": Kind.STRING, "lines": Kind.LIST}


def kind_at(path: Path, steps: Steps) -> Kind | None:
    """Return the type that what *path* finds always has, null aside; None: that is not known.

    >>> count = StepDef("count", step_type="shell", config={"run": "wc -l log"})
    >>> kind_at(Path.parse("steps.count.output.stdout"), Steps({"count": count}))
    <Kind.STRING: 'text'>
    >>> kind_at(Path.parse("output.exit_code"), Steps(own=count))
    <Kind.NUMBER: 'a number'>
    """
    match path.segments:
        case ("steps", str(), "status" | "error"):
            return Kind.STRING
    found = _output_named(path, steps)
    if found is None:
        return None
    inner = found.inner
    if found.step.foreach is not None:
        return None if inner else Kind.LIST
    match _command_output(found.step), inner:
        case None, _:
            return None
        case "", ():
            return Kind.OBJECT
        case "", (str(key),):
            return _COMMAND.get(key)
        case _ if found.may_have_failed:  # then it is what the command came to, whatever is made of it else
            return None
        case "lines", (int(),):
            return Kind.STRING
        case output, ():
            return _WRITTEN_AS.get(output)
    return None


def nothing_at(path: Path, steps: Steps) -> str | None:
    """Return why *path*, which is of a step's output, never leads anywhere, where that is so."""
    found = _output_named(path, steps)
    if found is None:
        return None
    whole = len(path.segments) - len(found.inner)
    for length in range(whole, len(path.segments)):
        outer = Path("", path.segments[:length])
        kind = kind_at(outer, steps)
        segment, where = path.segments[length], spelled(outer.segments)
        if kind is Kind.OBJECT and length > whole:
            return f"{where} has names, and no numbers" if isinstance(segment, int) else None
        if kind is Kind.OBJECT and segment not in _COMMAND:
            hint = did_you_mean(segment, list(_COMMAND))
            return f"{where} is what a command came to, and has {', '.join(_COMMAND)}{hint}{remedy(path, steps)}"
        if kind is Kind.LIST and isinstance(segment, str):
            one = f": name an element, as in {where}[0]" if length == whole else ""
            return f"{where} is a list, and has no {segment!r}{one}"
        if kind is Kind.STRING or kind is Kind.NUMBER:
            return f"{where} is {kind.value}, and has nothing in it{remedy(path, steps)}"
    return None


def remedy(path: Path, steps: Steps) -> str:
    """Return what to write so that what a command prints is more than text, as the end of a sentence."""
    found = _output_named(path, steps)
    output = None if found is None else _command_output(found.step)
    if found is None or output is None:
        return ""
    name, inner = found.step.name, found.inner
    if inner[:1] == ("outputs",) and output:
        return f": leave out 'output' of step {name!r} to have what it writes to $SZAL_RESULT here"
    if output not in ("", "text", "lines"):
        return ""
    whole = path.segments[: len(path.segments) - len(inner)]
    as_json = whole + (inner[1:] if inner[:1] == ("stdout",) else inner)
    return f": write output: json on step {name!r}, and name {spelled(as_json)}"


def writes_outputs(name: object, steps: Steps) -> bool:
    """Whether the step called *name* is a command that may write outputs to ``$SZAL_RESULT``."""
    step = steps.named.get(name) if isinstance(name, str) else None
    return step is not None and _command_output(step) == ""


@attrs.frozen
class _Output:
    """What a path names of the output of a step."""

    step: StepDef
    inner: tuple[str | int, ...]
    """The rest of the path, which leads into it."""
    may_have_failed: bool


def _output_named(path: Path, steps: Steps) -> _Output | None:
    """Return what *path* names of the output of a step that is known; None: nothing."""
    match path.segments:
        case ("steps", str(name), "output", *inner) if name in steps.named:
            return _Output(steps.named[name], tuple(inner), steps.may_have_failed)
        case ("output", *inner) if steps.own is not None:
            return _Output(steps.own, tuple(inner), may_have_failed=False)
    return None


def _command_output(step: StepDef) -> str | None:
    """Return what the output of *step* is made into, "" for all that is known; None: it is no command."""
    if step.foreach is not None or step.step_type != "shell" or not isinstance(step.config, Mapping):
        return None
    output = step.config.get("output")
    if output is None:
        return ""
    return output if isinstance(output, str) else None
