"""szal: workflows that live inside a Python program.

Steps wired into flows, with branching, retry, time limits, rollback and parallel stages, recorded durably.
Synchronous and thread-based. The names below are the public ones; ``szal.errors`` has all the exceptions.
"""

import atexit
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from szal.authoring.flow import Flow
    from szal.authoring.step import each
    from szal.engine.config import EngineConfig
    from szal.engine.engine import Engine
    from szal.engine.execution import Execution
    from szal.engine.health import Health
    from szal.engine.one_shot import run
    from szal.engine.part import Part
    from szal.engine.status import ExecutionStatus
    from szal.engine.stream import sse_stream
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
    from szal.files.loader import load_flow
    from szal.model.catalogue import InMemoryStorage, WorkflowStorage
    from szal.model.flow import FlowDef, FlowMode
    from szal.model.migration import MigrationRegistry
    from szal.model.results import ExecutionRecord, FlowEnd, FlowResult, StepResult
    from szal.model.state import StepStatus, WorkflowState
    from szal.model.step import BackoffStrategy, StepDef, TriggerMode
    from szal.scheduler.cancel import CancellationToken
    from szal.scheduler.context import StepContext
    from szal.steps.handlers import Handlers
    from szal.stores import (
        ExecutionStore,
        ExecutionSummary,
        InMemoryExecutionStore,
        PostgresExecutionStore,
        SqliteExecutionStore,
        open_store,
    )

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

# Where each name is, but for those of `szal.errors`. They are loaded at first use (PEP 562): what imports szal and does
# not use it pays nothing, and what uses a part of it pays for that.
_PLACES = {
    "BackoffStrategy": "szal.model.step",
    "CancellationToken": "szal.scheduler.cancel",
    "CompiledCondition": "szal.expressions.condition",
    "CompiledTemplate": "szal.expressions.template",
    "ConditionCache": "szal.expressions.condition",
    "Engine": "szal.engine.engine",
    "EngineConfig": "szal.engine.config",
    "EventBus": "szal.events.bus",
    "Execution": "szal.engine.execution",
    "ExecutionRecord": "szal.model.results",
    "ExecutionStatus": "szal.engine.status",
    "ExecutionStore": "szal.stores",
    "ExecutionSummary": "szal.stores",
    "Flow": "szal.authoring.flow",
    "FlowDef": "szal.model.flow",
    "FlowEnd": "szal.model.results",
    "FlowMode": "szal.model.flow",
    "FlowResult": "szal.model.results",
    "Handlers": "szal.steps.handlers",
    "Health": "szal.engine.health",
    "InMemoryExecutionStore": "szal.stores",
    "InMemoryStorage": "szal.model.catalogue",
    "MigrationRegistry": "szal.model.migration",
    "Part": "szal.engine.part",
    "PostgresExecutionStore": "szal.stores",
    "ProgressHub": "szal.events.progress",
    "SqliteExecutionStore": "szal.stores",
    "StepContext": "szal.scheduler.context",
    "StepDef": "szal.model.step",
    "StepProgress": "szal.events.progress",
    "StepResult": "szal.model.results",
    "StepStatus": "szal.model.state",
    "TriggerMode": "szal.model.step",
    "WorkflowEvent": "szal.events.bus",
    "WorkflowState": "szal.model.state",
    "WorkflowStorage": "szal.model.catalogue",
    "build_step_context": "szal.expressions.path",
    "each": "szal.authoring.step",
    "evaluate": "szal.expressions.condition",
    "load_flow": "szal.files.loader",
    "open_store": "szal.stores",
    "progress_to_sse": "szal.events.progress",
    "render_template": "szal.expressions.template",
    "resolve_path": "szal.expressions.path",
    "run": "szal.engine.one_shot",
    "sse_frame": "szal.events.progress",
    "sse_stream": "szal.engine.stream",
}


@atexit.register
def _end() -> None:
    # From here on, and not from the first use: what a program registers after the import may use szal at its end.
    if events := sys.modules.get(f"{__name__}.process_events"):
        events.end_process()


def __getattr__(name: str) -> Any:
    if name in __all__:
        value = getattr(import_module(_PLACES.get(name, "szal.errors")), name)
        globals()[name] = value
        return value
    if not name.startswith("_"):
        from importlib.util import find_spec

        if find_spec(f"{__name__}.{name}") is not None:
            return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=import_module(__name__))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
