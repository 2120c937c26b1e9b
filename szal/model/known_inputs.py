"""The inputs of a flow that declares none, where all that takes them is known: parameters of functions, and texts."""

from collections.abc import Iterator, Mapping

import attrs

from szal.expressions.path import Path
from szal.expressions.template import CompiledTemplate
from szal.model.analysis import Analysis
from szal.model.concurrency import TAKES_IT
from szal.model.inputs import Input
from szal.model.texts import undo_of

__all__ = ["known_inputs"]


def known_inputs(parameters: Mapping[str, Input], found: Analysis) -> dict[str, Input]:
    """Return the inputs that the functions take as *parameters*, and those that texts of the flow name, by name.

    An input that only texts name has to be given, unless each says what stands in its place. Where a parameter has a
    default it need not, whatever texts name it.
    """
    known = dict(parameters)
    for step, path, is_needed in _named(found):
        match path.segments:
            case ("inputs", str(name), *_) if name not in parameters:
                before = known.get(name)
                if before is None:
                    known[name] = Input(name, required=is_needed, taken_by=step)
                elif is_needed and not before.required:
                    known[name] = attrs.evolve(before, required=True, taken_by=step)
    return known


def _named(found: Analysis) -> Iterator[tuple[str, Path, bool]]:
    """Yield each path that a text names, with the step whose text it is, and whether there has to be something."""
    for place, condition in found.conditions.items():
        yield from ((found.steps[place].name, path, True) for path in condition.references)
    for place, until in found.untils.items():
        yield from ((found.steps[place].name, path, True) for path in until.references)
    for place, template in found.templates.items():
        yield from ((found.steps[place].name, path, path in template.needed) for path in template.references)
    for place, path in found.lists.items():
        yield found.steps[place].name, path, True
    if found.key is not None:
        yield from ((TAKES_IT, path, path in found.key.needed) for path in found.key.references)
    for step in found.steps:
        undo = undo_of(step)
        if undo is not None:
            yield from ((step.name, path, False) for path in CompiledTemplate.compile(undo).references)
