"""Values in commands: the script that a shell gets, with a variable where a placeholder stands."""

import re
import shlex

from szal.scheduler.context import StepContext

__all__ = ["script_of"]

_CODE = re.compile(r"\\.|\0(\d+)\0|\$\(|[()'\"`]|(?<![^\s;&|()])#[^\n]*", re.DOTALL)
_QUOTED = {"'": re.compile(r"\0(\d+)\0|'"), '"': re.compile(r"\\.|\0(\d+)\0|\$\(|[\"`]", re.DOTALL)}
_CLOSES = {"(": ")", "$(": ")", "`": "`", "'": "'", '"': '"'}
_VARIABLE = {"'": "'\"${_szal_%s}\"'", '"': "${_szal_%s}"}  # anywhere else it gets quotes of its own


def script_of(ctx: StepContext, run: str) -> str:
    """Return the command with a variable for each placeholder, and their values before it.

    Variables and not quoted text, as a value's quotes would end the quotes that people write around a
    placeholder, and set it free. Where this reads a command wrongly, as it may in a ``case`` within ``$( )``,
    a value may be split into words, but is never run.
    """
    values: list[str] = []

    def mark(value: str) -> str:
        values.append(value)
        return f"\0{len(values)}\0"

    text: str = ctx.render(run, quote=mark)
    if not values:
        return text
    assignments = [f"_szal_{number}={shlex.quote(value)}; " for number, value in enumerate(values, 1)]
    return "".join(assignments) + _with_variables(text)


def _with_variables(text: str) -> str:
    parts: list[str] = []
    inside = [""]  # the quotes and brackets that are open
    position = 0
    while (match := _QUOTED.get(inside[-1], _CODE).search(text, position)) is not None:
        found, within = match[0], inside[-1]
        parts.append(text[position : match.start()])
        position = match.end()
        if match[1]:
            parts.append(_VARIABLE.get(within, '"${_szal_%s}"') % match[1])
            continue
        if found[0] == "#":  # a comment: nothing that it contains is to be read
            continue
        parts.append(found)
        if _CLOSES.get(within) == found:
            inside.pop()
        elif found in _CLOSES:
            inside.append(found)
    return "".join(parts) + text[position:]
