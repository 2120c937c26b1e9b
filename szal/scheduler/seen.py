"""What conditions and templates see of a run: JSON, as a store has it, be there one or not."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from szal.errors import EncodeError, OutputMasked, ValueNotJson
from szal.expressions.path import Json, outcome_values, quoted_name
from szal.model.json.text import as_recorded, is_plain_scalar
from szal.model.results import StepResult
from szal.scheduler.plan import Item

__all__ = ["MaskedOutcome", "Place", "Seen", "ValuesOfItem"]

Place: TypeAlias = "int | tuple[int, int | None]"
"""That of a step in its flow, and of an item in its list."""


class Seen:
    """The inputs and the outcomes of one run's steps, for its conditions and templates. From any thread.

    What is recorded is JSON already. Without a store, handlers hand on what they like: of that, what somebody asks for
    becomes JSON when it is asked for, once. Raises `ValueNotJson` where that cannot be.
    """

    def __init__(self, inputs: Mapping[str, Json], *, is_recorded: bool, execution_id: str = "") -> None:
        self._execution_id = execution_id
        self._is_recorded = is_recorded
        self._outputs: dict[Place, Json] = {}
        is_json = is_recorded or all(map(is_plain_scalar, inputs.values()))
        self.inputs: Mapping[str, Json] = inputs if is_json else _Inputs(inputs)

    def outcome(self, place: Place, result: StepResult) -> Mapping[str, Json]:
        """Return how the step, or the item, at *place* ended: what stands under ``steps.NAME``."""
        if result.is_masked:
            return MaskedOutcome(result, self._execution_id)
        if self._is_recorded or is_plain_scalar(result.output):
            return outcome_values(result)
        return _Outcome(self, place, result)

    def element(self, value: Json) -> Json:
        """Return an element of a list as JSON."""
        return value if self._is_recorded or is_plain_scalar(value) else _as_json(value, "item")

    def own_output(self, value: Json) -> Json:
        """Return what a step has returned, that has no result yet, as JSON."""
        return value if self._is_recorded or is_plain_scalar(value) else _as_json(value, "output")

    def output(self, place: Place, result: StepResult) -> Json:
        """Return the output of the step, or the item, at *place* as JSON."""
        if place not in self._outputs:
            self._outputs[place] = _as_json(result.output, f"steps{quoted_name(result.step_name)}.output")
        return self._outputs[place]


def _as_json(value: Any, path: str) -> Json:
    try:
        return as_recorded(value, path, nul=True)[1]
    except EncodeError as error:
        raise ValueNotJson(error.path, error.problem) from None


class _Inputs(Mapping[str, Json]):
    """Inputs, each of which becomes JSON when somebody looks at it."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._made: dict[str, Json] = {}

    def __getitem__(self, name: str) -> Json:
        if name not in self._made:
            self._made[name] = _as_json(self._given[name], f"inputs{quoted_name(name)}")
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)


_FIELDS: Final = ("status", "output", "error")


class MaskedOutcome(Mapping[str, Json]):
    """How a step ended that was recorded masked, in another process: who asks for its output gets `OutputMasked`."""

    def __init__(self, result: StepResult, execution_id: str) -> None:
        self._result = result
        self._execution_id = execution_id

    def __getitem__(self, name: str) -> Json:
        if name == "output":
            raise OutputMasked(self._result.step_name, self._execution_id)
        return outcome_values(self._result)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_FIELDS)

    def __len__(self) -> int:
        return len(_FIELDS)


class _Outcome(Mapping[str, Json]):
    """How a step ended; its output becomes JSON when somebody looks at it."""

    def __init__(self, seen: Seen, place: Place, result: StepResult) -> None:
        self._seen = seen
        self._place = place
        self._result = result

    def __getitem__(self, name: str) -> Json:
        if name == "output":
            return self._seen.output(self._place, self._result)
        return outcome_values(self._result)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_FIELDS)

    def __len__(self) -> int:
        return len(_FIELDS)


class ValuesOfItem(Mapping[str, Json]):
    """What templates see of a call for one element of a list: *values*, and the element."""

    __slots__ = ("_item", "_seen", "_values")

    def __init__(self, values: Mapping[str, Json], seen: Seen, item: Item) -> None:
        self._values = values
        self._seen = seen
        self._item = item

    def __getitem__(self, name: str) -> Json:
        if name == "item":
            return self._seen.element(self._item.value)
        return self._item.index if name == "index" else self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._values, "item", "index"))

    def __len__(self) -> int:
        return len(self._values) + 2
