"""The inputs that a file declares for its flow."""

from szal.expressions.path import Json
from szal.files.document import Value
from szal.files.fields import Fields
from szal.model.input_faults import faults_of
from szal.model.inputs import is_declaration

__all__ = ["read_inputs"]


def read_inputs(flow: Fields) -> dict[str, Json]:
    """Return the inputs of a flow, by name: defaults and declarations. What is wrong with them is noted."""
    inputs = flow.inner("inputs")
    found: dict[str, Json] = {}
    for name, (place, value) in inputs.entries.items():
        found[name] = _said(value)
        for key, problem in faults_of(name, found[name]):
            inside = value.data if isinstance(value.data, dict) else {}
            inputs.problem(problem, place=place if key is None else inside[key].place)
    return found


def _said(value: Value) -> Json:
    """Return what is said of one input. With a type, scalars are read as that says."""
    said = value.plain()
    if is_declaration(said) and isinstance(value.data, dict):
        for key in ("default", "enum"):
            if key in value.data:
                said[key] = _typed(value.data[key].value, said.get("type"))
    return said


def _typed(value: Value, type_: Json) -> Json:
    if isinstance(value.data, list) and type_ in ("string", "integer", "number"):
        return [_typed(item, type_) for item in value.data]
    if type_ == "string" and isinstance(value.data, str | int | float):
        return value.raw
    if type_ in ("integer", "number") and isinstance(value.data, int | float):
        return value.data
    return value.plain()
