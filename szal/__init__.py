"""szal: workflows that live inside a Python program.

Steps wired into flows, with branching, retry, time limits, rollback and parallel stages, recorded durably.
Synchronous and thread-based. The names below are the public ones; ``szal.errors`` has all the exceptions.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from szal.cancel import CancellationToken
from szal.condition import CompiledCondition, ConditionCache, evaluate
from szal.config import EngineConfig
from szal.context import StepContext
from szal.engine import Engine, run
from szal.errors import (
    Cancelled,
    ConditionError,
    CycleDetected,
    DecodeError,
    DefinitionMismatch,
    EncodeError,
    ExecutionNotFound,
    ExecutionOwned,
    FlowFailed,
    FlushTimeout,
    GiveUp,
    HandlerNotFound,
    InvalidFlow,
    LeaseLost,
    LoadError,
    MigrationFailed,
    MissingExtra,
    OutputNotSerializable,
    RetryAfter,
    RetryExhausted,
    ShellFailed,
    SinkFull,
    SkipStep,
    StepError,
    StepFailed,
    StepTimeout,
    StoreError,
    SubFlowError,
    SzalError,
    WriteFailed,
)
from szal.events import EventBus, WorkflowEvent
from szal.execution import ExecutionRecord, FlowResult, StepResult
from szal.flow import FlowDef, FlowMode
from szal.handle import Execution
from szal.handlers import Handlers
from szal.path import build_step_context, resolve_path
from szal.progress import ProgressHub, StepProgress, progress_to_sse, sse_frame
from szal.state import StepStatus, WorkflowState
from szal.step import BackoffStrategy, StepDef, TriggerMode
from szal.storage import InMemoryStorage, WorkflowStorage
from szal.template import CompiledTemplate, render_template

if TYPE_CHECKING:
    from szal.loader import load_flow
    from szal.migration import MigrationRegistry
    from szal.stores import (
        ExecutionStore,
        ExecutionSummary,
        InMemoryExecutionStore,
        PostgresExecutionStore,
        SqliteExecutionStore,
        open_store,
    )

# Slow to import, or needed by few: loaded at first use (PEP 562).
_LAZY = {
    "MigrationRegistry": "szal.migration",
    "load_flow": "szal.loader",
    **dict.fromkeys(
        (
            "ExecutionStore",
            "ExecutionSummary",
            "InMemoryExecutionStore",
            "PostgresExecutionStore",
            "SqliteExecutionStore",
            "open_store",
        ),
        "szal.stores",
    ),
}

__all__ = [
    "BackoffStrategy",
    "CancellationToken",
    "Cancelled",
    "CompiledCondition",
    "CompiledTemplate",
    "ConditionCache",
    "ConditionError",
    "CycleDetected",
    "DecodeError",
    "DefinitionMismatch",
    "EncodeError",
    "Engine",
    "EngineConfig",
    "EventBus",
    "Execution",
    "ExecutionNotFound",
    "ExecutionOwned",
    "ExecutionRecord",
    "ExecutionStore",
    "ExecutionSummary",
    "FlowDef",
    "FlowFailed",
    "FlowMode",
    "FlowResult",
    "FlushTimeout",
    "GiveUp",
    "HandlerNotFound",
    "Handlers",
    "InMemoryExecutionStore",
    "InMemoryStorage",
    "InvalidFlow",
    "LeaseLost",
    "LoadError",
    "MigrationFailed",
    "MigrationRegistry",
    "MissingExtra",
    "OutputNotSerializable",
    "PostgresExecutionStore",
    "ProgressHub",
    "RetryAfter",
    "RetryExhausted",
    "ShellFailed",
    "SinkFull",
    "SkipStep",
    "SqliteExecutionStore",
    "StepContext",
    "StepDef",
    "StepError",
    "StepFailed",
    "StepProgress",
    "StepResult",
    "StepStatus",
    "StepTimeout",
    "StoreError",
    "SubFlowError",
    "SzalError",
    "TriggerMode",
    "WorkflowEvent",
    "WorkflowState",
    "WorkflowStorage",
    "WriteFailed",
    "build_step_context",
    "evaluate",
    "load_flow",
    "open_store",
    "progress_to_sse",
    "render_template",
    "resolve_path",
    "run",
    "sse_frame",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
