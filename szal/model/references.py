"""What conditions and templates of a flow may name, and what was meant by what they may not."""

from collections.abc import Callable, Collection
from itertools import islice
from typing import Final

import attrs

from szal.errors import closest
from szal.expressions.path import Path, spelled
from szal.model.shapes import Steps, nothing_at, writes_outputs

__all__ = ["Scope", "problem_of_reference"]


@attrs.frozen
class Scope:
    """Where a text stands: what there is for it to name."""

    steps: Steps
    inputs: Collection[str] | None = None
    """The inputs that the flow declares; None: it declares none, and any may be given."""
    is_condition: bool = False
    may_guess: Callable[[], bool] = lambda: True
    """Whether to look for the input that was meant: that takes long where there are many."""
    has_item: bool = False
    """Whether the text is filled in once for each element of a list."""

    @property
    def has_output(self) -> bool:
        """Whether the text is of what its own step has returned."""
        return self.steps.own is not None


def problem_of_reference(path: Path, scope: Scope) -> str | None:
    """Return what is wrong with *path*, and what to write; None: nothing. Whether steps come first is not asked.

    >>> problem_of_reference(Path.parse("input.env"), Scope(Steps()))
    "there is no 'input' here: did you mean inputs.env?"
    """
    root = path.segments[0]
    check = _ROOTS.get(root) if isinstance(root, str) else None
    if check is None and scope.has_item and root in _OF_AN_ITEM:
        inside = len(path.segments) > 1 and root == "index"
        return "index is a number, and has nothing in it" if inside else None
    if check is not None:
        return check(path, scope)
    if scope.has_output and root == "output":
        return nothing_at(path, scope.steps)
    if len(path.segments) == 1:
        return _bare(str(root), scope)
    meant = _meant(path, scope)
    rest = _ALLOWED if meant is None else f"did you mean {spelled(meant)}?"
    return f"there is no {root!r} here: {rest}"


_SHOWN: Final = 20  # inputs
_ALLOWED: Final = "a text names inputs.NAME, and steps.NAME.output, .status or .error"
_ATTRIBUTES: Final = ("status", "output", "error")


def _input(path: Path, scope: Scope) -> str | None:
    match path.segments:
        case ("inputs",):
            return None
        case (_, str(name), *_):
            if scope.inputs is None or name in scope.inputs:
                return None
            close = _input_like(name, scope)
            return f"there is no input {name!r}: {f'did you mean {close!r}?' if close else _declared(scope.inputs)}"
    return f"{path} is nothing: inputs have names"


def _step(path: Path, scope: Scope) -> str | None:
    match path.segments:
        case (_, str(), str(attribute), *rest):
            if attribute not in _ATTRIBUTES:
                return f"a step has no {attribute!r}: did you mean {spelled(_outcome(path.segments[1:], scope))}?"
            if attribute != "output" and rest:
                return f"{spelled(path.segments[:3])} is text, and has nothing in it"
            return nothing_at(path, scope.steps)
        case (_, str(), *_):
            return f"{path} is no value: name its output, status or error, as in {path}.output"
    return f"{path} is no value: name a step, as in steps.NAME.output"


_ROOTS: Final[dict[str, Callable[[Path, Scope], str | None]]] = {
    "inputs": _input,
    "steps": _step,
}
"""What a path may begin with, and what is wrong with the rest of it."""

_OF_AN_ITEM: Final = ("item", "index")
"""What a path may begin with besides, where a step runs once for each element of a list."""


# -- what was meant ----------------------------------------------------------------------------------

_Segments = tuple[str | int, ...]
_WORDS: Final = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false", "None": "null", "nil": "null"}
_YES_AND_NO: Final = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
_LIKE_INPUTS: Final = ("input", "param", "params", "parameter", "parameters", "arg", "args", "arguments", "var", "vars")
_LIKE_STEPS: Final = ("step", "task", "tasks", "job", "jobs", "needs", "result", "results")
_LIKE_OUTPUTS: Final = ("output", "outputs")
_OF_THE_STEP: Final = ("outputs", "result", "results", "value")
_LIKE_ATTRIBUTES: Final = {
    **dict.fromkeys(("state", "conclusion", "outcome", "result_status"), ("status",)),
    **dict.fromkeys(("outputs", "result", "results", "value", "return_value", "returned"), ("output",)),
    **dict.fromkeys(("exception", "errors", "reason", "message"), ("error",)),
    **dict.fromkeys(("exitcode", "returncode", "rc", "exit_status"), ("output", "exit_code")),
}


def _bare(word: str, scope: Scope) -> str:
    """Return what is wrong with a word that stands alone."""
    if word in _WORDS:
        return f"{word} is written {_WORDS[word]}"
    if scope.has_output and word in _OF_THE_STEP:
        return f"{word!r} is no value: did you mean output?"
    if word in scope.steps.named:
        return f"{word!r} is no value: did you mean {spelled(('steps', word, 'output'))}?"
    if scope.inputs is not None and word in scope.inputs:
        return f"{word!r} is no value: did you mean {spelled(('inputs', word))}?"
    if not scope.is_condition:
        close = _input_like(word, scope)
        return f"there is no {word!r} here: did you mean {spelled(('inputs', close or word))}?"
    if word.lower() in _YES_AND_NO:
        return f"{word} is no value: write {_YES_AND_NO[word.lower()]}, or '{word}' in quotes"
    if scope.inputs is not None:
        return f"{word!r} is no value: write '{word}' in quotes"
    return f"{word!r} is no value: write '{word}' in quotes, or {spelled(('inputs', word))}"


def _meant(path: Path, scope: Scope) -> _Segments | None:
    """Return the path that *path* was meant to be, as far as one can tell."""
    root, *rest = path.segments
    if root == "ctx" and rest:
        inner = Path("", tuple(rest))
        is_root = rest[0] in _ROOTS or (scope.has_item and rest[0] in _OF_AN_ITEM)
        return inner.segments if is_root else _meant(inner, scope) if len(rest) > 1 else ("inputs", *rest)
    if root in _LIKE_INPUTS:
        return ("inputs", *rest)
    if scope.has_output and root in _OF_THE_STEP:
        return ("output", *rest)
    if root in _LIKE_OUTPUTS:
        return ("steps", rest[0], "output", *rest[1:])
    if root in _LIKE_STEPS:
        return _outcome(tuple(rest), scope)
    if root in scope.steps.named:
        return _outcome(path.segments, scope)
    if scope.inputs is not None and root in scope.inputs:
        return ("inputs", *path.segments)
    close = closest(str(root), list(_ROOTS))
    if close is not None:
        return (close, *rest) if close == "inputs" else _outcome(tuple(rest), scope)
    return None if root in ("env", "github", "secrets", "matrix") else ("inputs", *path.segments)


def _outcome(segments: _Segments, scope: Scope) -> _Segments:
    """Return the path of how a step ended: its name, and what may be called otherwise here."""
    name, *rest = segments
    if not rest:
        return ("steps", name, "output")
    attribute, *inner = rest
    if not isinstance(attribute, str):
        return ("steps", name, "output", attribute, *inner)
    if attribute == "outputs" and inner and writes_outputs(name, scope.steps):
        return ("steps", name, "output", "outputs", *inner)
    known = attribute if attribute in _ATTRIBUTES else None
    found = (known,) if known else _LIKE_ATTRIBUTES.get(attribute)
    if found is None:
        close = closest(attribute, _ATTRIBUTES)
        found = ("output", attribute) if close is None else (close,)
    return ("steps", name, *found, *inner)


def _declared(inputs: Collection[str]) -> str:
    more = f" and {len(inputs) - _SHOWN} more" if len(inputs) > _SHOWN else ""
    return f"declared are {', '.join(map(repr, islice(inputs, _SHOWN)))}{more}"


def _input_like(word: str, scope: Scope) -> str | None:
    if scope.inputs is None or not scope.may_guess():
        return None
    return closest(word, [str(name) for name in islice(scope.inputs, 1000)])
