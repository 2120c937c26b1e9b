"""What all steps of a flow have that say nothing else: where commands run, and what stands under "defaults"."""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from szal.expressions.path import Json
from szal.files.action import surroundings_of
from szal.files.fields import Fields
from szal.files.vocabulary import DEFAULTS, RETRIES
from szal.model.exception_name import problem_of_exception_name
from szal.model.fields import problem_of_status
from szal.model.step import BackoffStrategy, Failure

__all__ = ["Shared"]


@attrs.frozen
class Shared:
    """`around`: what commands have of `cwd`, `env` and `shell`; the rest is for steps that do something themselves.

    A wait or a sleep takes as long as it takes, and a sub-flow has limits of its own: none of them gets a default.
    """

    around: Mapping[str, Json] = attrs.field(factory=dict)
    timeout: float | None = None
    retries: Mapping[str, Any] = attrs.field(factory=dict)

    @classmethod
    def of(cls, flow: Fields, outer: "Shared") -> "Shared":
        """Return what *flow* says, laid over what the file around it does."""
        defaults = flow.inner("defaults")
        defaults.allow(DEFAULTS)
        return outer.over(defaults, surroundings_of(flow, outer.around))

    def over(self, fields: Fields, around: Mapping[str, Json]) -> "Shared":
        """Return the limit and the retries that *fields* say, or else these; null says that there are none."""
        return Shared(
            around,
            fields.duration("timeout") if "timeout" in fields.entries else self.timeout,
            _retries(fields) if "retries" in fields.entries else self.retries,
        )


def _retries(fields: Fields) -> dict[str, Any]:
    """Return the fields of a StepDef that say how often it is tried."""
    given = fields.get("retries")
    if given is None:
        return {}
    if not isinstance(given.data, dict):
        return {"max_retries": fields.whole("retries", 0, or_else=" or an object")}
    retries = fields.inner("retries")
    retries.allow(RETRIES)
    if "max" not in retries.entries:
        retries.problem(f"{retries.label} needs 'max': how many times to try again")
    found = {
        "max_retries": retries.whole("max", 0),
        "retry_delay": retries.duration("delay"),
        "backoff": retries.choice("backoff", BackoffStrategy),
        "max_retry_delay": retries.duration("max_delay"),
        "retry_jitter": retries.number("jitter"),
        "retry_on": list(_failures(retries, "on")),
        "give_up_on": list(_failures(retries, "give_up_on")),
    }
    return {field: value for field, value in found.items() if value is not None}


def _failures(retries: Fields, key: str) -> Iterator[Failure]:
    """Yield names of exceptions, and exit statuses of commands; one alone will do."""
    given = retries.get(key)
    if given is None:
        return
    for item in given.data if isinstance(given.data, list) else [given]:
        data = item.data
        if isinstance(data, str):
            problem = problem_of_exception_name(data)
        elif isinstance(data, int) and not isinstance(data, bool):
            problem = problem_of_status(data)
        else:
            retries.wrong(key, "names of exceptions, or exit statuses", item)
            continue
        if problem is None:
            yield data
        else:
            retries.problem(f"{key!r} in {retries.label}: {problem}", place=item.place)
