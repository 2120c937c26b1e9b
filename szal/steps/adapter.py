"""What an executor may have beside `concurrent.futures.Executor`, where its library asks for more than that."""

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from importlib import import_module
from typing import Any, Final, Protocol, runtime_checkable

from szal.steps.pickling import Packed

__all__ = ["Again", "KeepsData", "adapted", "tells_when_it_begins"]


@runtime_checkable
class KeepsData(Protocol):
    """An executor that is sent once what several calls take."""

    def keep(self, pack: Callable[[], Packed]) -> object:
        """Return what stands for the bytes that *pack* returns: given to `submit`, the function is called with these.

        They are kept for as long as it is referred to. *pack* may be called again where they were lost.
        """
        ...


class Again(Exception):
    """A call has not begun, and cannot any more, through no fault of its own: *submit* gives it to its executor again.

    What a future of the executor's raises. *submit* raises what the executor's own does.
    """

    def __init__(self, submit: "Callable[[], Future[Any]]") -> None:
        super().__init__("it has to be submitted again")
        self.submit = submit


def tells_when_it_begins(executor: Executor) -> bool:
    """Whether futures of this executor are `running` from when a worker has them: not all say so.

    >>> tells_when_it_begins(Executor())
    False
    """
    from concurrent.futures import ProcessPoolExecutor  # whoever has one has imported it

    says_so = getattr(executor, "tells_when_it_begins", False) is True
    return says_so or isinstance(executor, ThreadPoolExecutor | ProcessPoolExecutor)


_ADAPTERS: Final = {"distributed.cfexecutor.ClientExecutor": "szal.contrib.dask"}
"""By the class of an executor, the module that has an `adapted` for it: what to submit to in its place."""


def adapted(executor: Any) -> Any:
    """Return what attempts are given to in the place of *executor*: itself, unless more is known of its class."""
    name = f"{type(executor).__module__}.{type(executor).__qualname__}"
    module = _ADAPTERS.get(name)
    return executor if module is None else import_module(module).adapted(executor)
