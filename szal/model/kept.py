"""What was made of a flow, kept for as long as the flow says the same: a plan, a definition."""

import operator
from collections.abc import Sequence
from typing import Generic, TypeVar

from szal.errors import EncodeError
from szal.model.analysis import walk
from szal.model.flow import FlowDef
from szal.model.json.text import dumps

__all__ = ["Kept"]

_T = TypeVar("_T")


class Kept(Generic[_T]):
    """Something made of a flow, and what the flow was then.

    Steps are values, and compared by identity; but what they are configured with can be changed in place, and is
    compared by what it says; so are the flow's inputs. Of what is no JSON nobody can tell, so nothing is kept for long
    there.
    """

    __slots__ = ("_configs", "_fields", "_texts", "made")

    def __init__(self, flow: FlowDef, fields: Sequence[object], made: _T) -> None:
        self.made = made
        self._fields = [*fields, *flow.steps]
        said = (said for step, _ in walk(flow.steps) for said in (step.config, step.foreach))
        self._configs = [each for each in said if each is not None]
        self._texts = self._said(flow)

    def is_of(self, flow: FlowDef, fields: Sequence[object]) -> bool:
        """Whether *flow*, of which *fields* are what counts beside its steps, still says what it said."""
        now = [*fields, *flow.steps]
        if len(now) != len(self._fields) or not all(map(operator.is_, now, self._fields)):
            return False
        if self._texts == [] and not flow.inputs:
            return True
        return self._texts is not None and self._said(flow) == self._texts

    def _said(self, flow: FlowDef) -> list[str] | None:
        """Return what can be changed in place, as text; None where that cannot be said."""
        if not (self._configs or flow.inputs):
            return []
        try:
            return [dumps(dict(flow.inputs)), *map(dumps, self._configs)]
        except EncodeError:
            return None
