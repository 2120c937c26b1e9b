"""Where sub-flows are looked up."""

import threading
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from szal.model.flow import Defined, FlowDef, definition_of

__all__ = ["InMemoryStorage", "WorkflowStorage"]


@runtime_checkable
class WorkflowStorage(Protocol):
    """What `EngineConfig.storage` has to offer. Called on the coordinating thread, so it should be quick.

    >>> isinstance(InMemoryStorage(), WorkflowStorage)
    True
    """

    def get_by_name(self, name: str) -> FlowDef | None:
        """Return the flow called *name*, or None."""

    def get_by_id(self, flow_id: str) -> FlowDef | None:
        """Return the flow with this id, or None."""

    def list(self) -> "list[FlowDef]":
        """Return all flows, in no particular order."""


class InMemoryStorage:
    """Flows in a dict. Safe to share between threads.

    >>> storage = InMemoryStorage([FlowDef("deploy")])
    >>> storage.get_by_name("deploy").name, storage.get_by_name("other")
    ('deploy', None)
    """

    def __init__(self, flows: "Sequence[FlowDef | Defined]" = ()) -> None:
        self._lock = threading.Lock()
        self._by_id: dict[str, FlowDef] = {}
        self._by_name: dict[str, FlowDef] = {}
        for flow in flows:
            self.insert(flow)

    def insert(self, flow: FlowDef | Defined) -> None:
        """Add *flow*; one with the same id, or else the same name, gives way to it."""
        flow = definition_of(flow)
        with self._lock:
            old = self._by_id.get(flow.id) or self._by_name.get(flow.name)
            if old is not None:
                self._forget(old)
            self._by_id[flow.id] = self._by_name[flow.name] = flow

    def remove(self, flow_id: str) -> FlowDef | None:
        """Remove and return the flow with this id; None where there is none."""
        with self._lock:
            flow = self._by_id.get(flow_id)
            if flow is not None:
                self._forget(flow)
            return flow

    def _forget(self, flow: FlowDef) -> None:
        del self._by_id[flow.id]
        if self._by_name.get(flow.name) is flow:
            del self._by_name[flow.name]

    def get_by_name(self, name: str) -> FlowDef | None:
        """Return the flow called *name*, or None."""
        return self._by_name.get(name)

    def get_by_id(self, flow_id: str) -> FlowDef | None:
        """Return the flow with this id, or None."""
        return self._by_id.get(flow_id)

    def list(self) -> "list[FlowDef]":
        """Return all flows, in the order in which they were inserted."""
        with self._lock:
            return list(self._by_id.values())
