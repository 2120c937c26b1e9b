"""The language of a step's ``condition``: comparisons of JSON values, compiled to closures.

Loosest first: ``||``, ``&&``, one comparison (``== != > >= < <= in contains``), prefix ``!``, then literals (lists of
them, too), paths and parentheses. A missing path is null, and what cannot be compared is unequal. What cannot be
ordered is unordered, or, in a condition of a flow, an error: nothing else in it can fail at run time.
"""

from collections.abc import Callable
from functools import lru_cache

import attrs

from szal.expressions.comparison import is_truthy
from szal.expressions.parser import MAX_LENGTH, MAX_NESTING, Parsed, Term, parse
from szal.expressions.path import Context, Path, step_names

__all__ = ["MAX_LENGTH", "MAX_NESTING", "CompiledCondition", "ConditionCache", "evaluate"]


@attrs.frozen
class CompiledCondition:
    """A condition, ready to be evaluated any number of times, by any number of threads. Equal if its text is.

    >>> condition = CompiledCondition.compile("steps.test.output.failed == 0 && inputs.envs contains 'prod'")
    >>> condition.evaluate({"inputs": {"envs": ["prod"]}, "steps": {"test": {"output": {"failed": 0}}}})
    True
    >>> [str(path) for path in condition.references], condition.steps
    (['steps.test.output.failed', 'inputs.envs'], frozenset({'test'}))
    """

    text: str
    references: tuple[Path, ...] = attrs.field(eq=False, repr=False)
    """The paths it mentions, each once, in order."""
    steps: frozenset[str] = attrs.field(eq=False, repr=False)
    """The names of the steps among them."""
    strict: bool
    """Whether it is a flow's: see `compile`."""
    _term: Term = attrs.field(eq=False, repr=False)

    @classmethod
    def compile(cls, text: str, *, strict: bool = False) -> "CompiledCondition":
        """Parse *text*; blank text is always true. Takes time linear in its length.

        *strict*, as the conditions of flows are: ``<``, ``<=``, ``>`` and ``>=`` between values that have no order
        raise `NotComparable`, where they would be false.

        >>> CompiledCondition.compile("inputs.env = 'prod'")
        Traceback (most recent call last):
        szal.errors.ConditionError: expected an operator, found '=' (compare with ==) at position 11
          inputs.env = 'prod'
                     ^
        """
        return cls.of(text, parse(text, strict=strict), strict=strict)

    @classmethod
    def of(cls, text: str, parsed: Parsed, *, strict: bool) -> "CompiledCondition":
        """Return the condition that *text* was parsed to."""
        return cls(text, parsed.references, step_names(parsed.references), strict, parsed.term)

    def evaluate(self, context: Context) -> bool:
        return is_truthy(self._term(context))

    def __reduce__(self) -> tuple[Callable[[str, bool], "CompiledCondition"], tuple[str, bool]]:
        return _compiled, (self.text, self.strict)  # closures cannot be pickled


def _compiled(text: str, strict: bool) -> CompiledCondition:
    return CompiledCondition.compile(text, strict=strict)


def evaluate(text: str, context: Context) -> bool:
    """Compile *text* and evaluate it once.

    >>> evaluate("inputs.count >= 3 && !inputs.dry-run", {"inputs": {"count": 3.0}})
    True
    """
    return CompiledCondition.compile(text).evaluate(context)


class ConditionCache:
    """The most recently used conditions, compiled: at most *capacity* of them. Any thread may use it.

    >>> cache = ConditionCache(capacity=100)
    >>> cache.get("inputs.env == 'prod'") is cache.get("inputs.env == 'prod'")
    True
    """

    def __init__(self, capacity: int = 1024) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        self._compiled = lru_cache(maxsize=capacity)(CompiledCondition.compile)

    def get(self, text: str) -> CompiledCondition:
        """Return *text* compiled. Raises `ConditionError`, anew each time: a failure is not kept."""
        return self._compiled(text)

    def __len__(self) -> int:
        return self._compiled.cache_info().currsize
