"""What steps returned and commands printed: in a line, folded to a few, or whole."""

import json
from collections.abc import Iterator, Sequence

from szal.cli.text import brief, clean
from szal.expressions.path import Json

__all__ = ["folded", "last_line", "tails", "whole"]

_FEW = 3  # lines of an output, folded
_LAST = 10  # lines of what a command printed before it failed
_STREAMS = ("stdout", "stderr")


def last_line(output: Json) -> str:
    """Return an output in a line: of a command the last one that it printed, as the live view showed it.

    >>> last_line({"exit_code": 0, "stdout": "one\\ntwo\\n", "stderr": ""}), last_line([1, 2])
    ('two', '[1, 2]')
    """
    if _is_of_command(output):
        return brief(output["stdout"].rstrip().rsplit("\n", 1)[-1])
    return brief(output)


def folded(output: Json) -> tuple[list[str], bool]:
    """Return a few lines of an output, and whether there is more: of a command, the last that it printed.

    >>> folded("a\\nb\\nc\\nd"), folded({"n": 1})
    ((['a', 'b', 'c', '… 1 more line'], True), (['{"n": 1}'], False))
    >>> folded({"exit_code": 0, "stdout": "a\\nb\\nc\\nd", "stderr": "e"})
    (['… 1 more line', 'b', 'c', 'd', 'stderr: e'], True)
    """
    if not _is_of_command(output):
        lines = _lines(output) if isinstance(output, str) else [brief(output)]
        return [*lines[:_FEW], *_more(lines)], len(lines) > _FEW
    found, is_more = list[str](), False
    for stream in _STREAMS:
        lines = _lines(output.get(stream))
        is_more = is_more or len(lines) > _FEW
        shown = [*_more(lines), *lines[-_FEW:]]
        found += [line if stream == "stdout" else f"{stream}: {line}" for line in shown]
    return found, is_more


def tails(output: Json) -> Iterator[tuple[str, list[str]]]:
    """Yield the last lines of stdout and of stderr, where a command printed any.

    >>> dict(tails({"exit_code": 3, "stdout": "one\\ntwo", "stderr": ""}))
    {'stdout': ['one', 'two']}
    """
    if _is_of_command(output):
        for stream in _STREAMS:
            if lines := _lines(output.get(stream))[-_LAST:]:
                yield stream, lines


def whole(output: Json) -> str:
    r"""Return all of an output: text as it is, anything else as JSON; of a command what it printed to stdout.

    >>> print(whole({"n": [1]}), whole({"exit_code": 0, "stdout": "a\nb", "stderr": ""}))
    {"n": [1]} a
    b
    """
    if _is_of_command(output):
        output = output["stdout"]
    return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)


def _more(lines: Sequence[str]) -> list[str]:
    left = len(lines) - _FEW
    return [f"… {left} more line{'s' * (left > 1)}"] if left > 0 else []


def _is_of_command(output: Json) -> bool:
    return isinstance(output, dict) and "exit_code" in output and isinstance(output.get("stdout"), str)


def _lines(text: Json) -> list[str]:
    stripped = clean(text).rstrip() if isinstance(text, str) else ""
    return stripped.split("\n") if stripped else []
