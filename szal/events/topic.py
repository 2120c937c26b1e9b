"""Patterns of topics: which events somebody wants to hear of."""

import attrs

__all__ = ["TopicPattern"]


@attrs.frozen
class TopicPattern:
    """A pattern of topics: ``*`` stands for exactly one level, a final ``#`` for any number, none included.

    Both are wildcards only as a whole level: ``issue #3`` is an ordinary name.

    >>> TopicPattern("szal/step/*/step_failed").matches("szal/step/build/step_failed")
    True
    >>> TopicPattern("szal/flow/#").matches("szal/step/build/step_failed")
    False
    """

    text: str
    _levels: tuple[str, ...] = attrs.field(init=False, repr=False, eq=False)
    _open_ended: bool = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        levels = self.text.split("/")
        open_ended = levels[-1] == "#"
        if open_ended:
            levels.pop()
        if "#" in levels:
            raise ValueError(f"pattern {self.text!r}: '#' may only be the last level; '*' matches one level")
        object.__setattr__(self, "_levels", tuple(levels))
        object.__setattr__(self, "_open_ended", open_ended)

    @property
    def name(self) -> str | None:
        """The one name that the pattern stands for; None where it is for any."""
        name = self._levels[2] if len(self._levels) > 2 else "*"
        return None if name == "*" else name.replace("%2F", "/").replace("%25", "%")

    def matches(self, topic: str) -> bool:
        """Return whether *topic* is one of those that the pattern stands for."""
        levels = topic.split("/")
        if len(levels) < len(self._levels) or (len(levels) > len(self._levels) and not self._open_ended):
            return False
        return all(wanted in ("*", level) for wanted, level in zip(self._levels, levels, strict=False))
