"""How a command ended, and what it printed last, as the text of an error."""

import signal
from typing import Final

from szal.storable import standing_in

__all__ = ["signal_name", "tails_of", "with_tails"]

_STREAMS: Final = ("stderr", "stdout")


def signal_name(number: int) -> str:
    """Return what the signal of that *number* is called; the number itself where it has no name.

    >>> signal_name(9), signal_name(150)
    ('SIGKILL', '150')
    """
    return signal.Signals(number).name if number in set(signal.Signals) else str(number)


def with_tails(how: str, stderr: str, stdout: str) -> str:
    """Return *how* a command ended, with the last lines of what it printed."""
    texts = zip(_STREAMS, (stderr, stdout), strict=True)
    tails = {name: _last_lines(text) for name, text in texts if text.strip()}
    if not tails:
        return how
    if len(tails) == 1:
        (lines,) = tails.values()
        return f"{how}: {lines[0]}" if len(lines) == 1 else how + ":" + "".join(f"\n  {line}" for line in lines)
    return how + ":" + "".join(f"\n  {name}:" + "".join(f"\n    {line}" for line in tails[name]) for name in tails)


def _last_lines(text: str) -> list[str]:
    return [standing_in(line) for line in text[-4000:].rstrip().split("\n")[-10:]]


def tails_of(output: object) -> tuple[str, str]:
    """Return what was printed to stderr and stdout, where *output* is what a command came to; else nothing."""
    found = output if isinstance(output, dict) else {}
    stderr, stdout = (found.get(name) for name in _STREAMS)
    return stderr if isinstance(stderr, str) else "", stdout if isinstance(stdout, str) else ""
