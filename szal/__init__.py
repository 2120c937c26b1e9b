"""szal: workflows that live inside a Python program.

Steps wired into flows, with branching, retry, time limits, rollback and parallel stages, recorded durably.
Synchronous and thread-based. The names below are the public ones; ``szal.errors`` has all the exceptions.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from szal.authoring.flow import Flow
from szal.authoring.step import each
from szal.engine.config import EngineConfig
from szal.engine.engine import Engine
from szal.engine.execution import Execution
from szal.engine.one_shot import run
from szal.errors import (
    AroundFailed,
    Cancelled,
    CannotRetry,
    CannotReuse,
    CommandFilesUnusable,
    CommandOutputUnusable,
    CommandResultUnusable,
    CommitUnknown,
    ConcurrencyKeyTaken,
    ConditionError,
    CycleDetected,
    DecodeError,
    DefinitionMismatch,
    EncodeError,
    EngineClosed,
    ExecutionNotFound,
    ExecutionOwned,
    ExecutorBroken,
    ExitStatusUnknown,
    FailedElsewhere,
    FlowFailed,
    FlushTimeout,
    GiveUp,
    HandlerNotFound,
    InvalidFlow,
    InvalidInputs,
    LeaseLost,
    LoadError,
    MigrationFailed,
    MissingExtra,
    MissingValue,
    NotAHandler,
    NotComparable,
    NotSendable,
    NotSupportedHere,
    OutputMasked,
    OutputNotSerializable,
    ProcessDied,
    RetryAfter,
    RetryExhausted,
    SecretMissing,
    ShellFailed,
    ShellNotSupported,
    SinkFull,
    SkipStep,
    StepError,
    StepFailed,
    StepTimeout,
    StoreError,
    SubFlowError,
    SzalError,
    TransactionFailed,
    UnknownOutcome,
    UnusedHandlers,
    ValueNotJson,
    WorkingDirectoryGone,
    WriteFailed,
)
from szal.events.bus import EventBus, WorkflowEvent
from szal.events.progress import ProgressHub, StepProgress, progress_to_sse, sse_frame
from szal.expressions.condition import CompiledCondition, ConditionCache, evaluate
from szal.expressions.path import build_step_context, resolve_path
from szal.expressions.template import CompiledTemplate, render_template
from szal.model.catalogue import InMemoryStorage, WorkflowStorage
from szal.model.flow import FlowDef, FlowMode
from szal.model.results import ExecutionRecord, FlowEnd, FlowResult, StepResult
from szal.model.state import StepStatus, WorkflowState
from szal.model.step import BackoffStrategy, StepDef, TriggerMode
from szal.scheduler.cancel import CancellationToken
from szal.scheduler.context import StepContext
from szal.steps.handlers import Handlers

if TYPE_CHECKING:
    from szal.engine.health import Health
    from szal.engine.part import Part
    from szal.engine.status import ExecutionStatus
    from szal.engine.stream import sse_stream
    from szal.files.loader import load_flow
    from szal.model.migration import MigrationRegistry
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
    "ExecutionStatus": "szal.engine.status",
    "Health": "szal.engine.health",
    "MigrationRegistry": "szal.model.migration",
    "Part": "szal.engine.part",
    "load_flow": "szal.files.loader",
    "sse_stream": "szal.engine.stream",
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
    "AroundFailed",
    "BackoffStrategy",
    "CancellationToken",
    "Cancelled",
    "CannotRetry",
    "CannotReuse",
    "CommandFilesUnusable",
    "CommandOutputUnusable",
    "CommandResultUnusable",
    "CommitUnknown",
    "CompiledCondition",
    "CompiledTemplate",
    "ConcurrencyKeyTaken",
    "ConditionCache",
    "ConditionError",
    "CycleDetected",
    "DecodeError",
    "DefinitionMismatch",
    "EncodeError",
    "Engine",
    "EngineClosed",
    "EngineConfig",
    "EventBus",
    "Execution",
    "ExecutionNotFound",
    "ExecutionOwned",
    "ExecutionRecord",
    "ExecutionStatus",
    "ExecutionStore",
    "ExecutionSummary",
    "ExecutorBroken",
    "ExitStatusUnknown",
    "FailedElsewhere",
    "Flow",
    "FlowDef",
    "FlowEnd",
    "FlowFailed",
    "FlowMode",
    "FlowResult",
    "FlushTimeout",
    "GiveUp",
    "HandlerNotFound",
    "Handlers",
    "Health",
    "InMemoryExecutionStore",
    "InMemoryStorage",
    "InvalidFlow",
    "InvalidInputs",
    "LeaseLost",
    "LoadError",
    "MigrationFailed",
    "MigrationRegistry",
    "MissingExtra",
    "MissingValue",
    "NotAHandler",
    "NotComparable",
    "NotSendable",
    "NotSupportedHere",
    "OutputMasked",
    "OutputNotSerializable",
    "Part",
    "PostgresExecutionStore",
    "ProcessDied",
    "ProgressHub",
    "RetryAfter",
    "RetryExhausted",
    "SecretMissing",
    "ShellFailed",
    "ShellNotSupported",
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
    "TransactionFailed",
    "TriggerMode",
    "UnknownOutcome",
    "UnusedHandlers",
    "ValueNotJson",
    "WorkflowEvent",
    "WorkflowState",
    "WorkflowStorage",
    "WorkingDirectoryGone",
    "WriteFailed",
    "build_step_context",
    "each",
    "evaluate",
    "load_flow",
    "open_store",
    "progress_to_sse",
    "render_template",
    "resolve_path",
    "run",
    "sse_frame",
    "sse_stream",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
