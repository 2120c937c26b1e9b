"""Every exception szal raises, in one tree under `SzalError`.

An exception carries its facts as fields and prints itself from them, so it survives pickling and a
caller never has to parse a message. Its repr is the one that every exception has: attrs' own would double
the time that importing this package takes.

Each is of ``szal.errors``, whichever module here it stands in: records and pickles name it so.
"""

from szal.errors.command import (
    CommandFilesUnusable,
    CommandOutputUnusable,
    CommandResultUnusable,
    ExitStatusUnknown,
    ShellFailed,
)
from szal.errors.description import MAX_TEXT, UNPRINTABLE, cut, describe, text_of
from szal.errors.elsewhere import FailedElsewhere, NotSendable, ProcessDied
from szal.errors.execution import (
    CannotRetry,
    CannotReuse,
    ConcurrencyKeyTaken,
    DefinitionMismatch,
    EngineClosed,
    ExecutionNotFound,
    ExecutionOwned,
    ExecutorBroken,
    LeaseLost,
    SecretMissing,
    WorkingDirectoryGone,
    secret_variable,
)
from szal.errors.flow import (
    CycleDetected,
    HandlerNotFound,
    InvalidFlow,
    InvalidInputs,
    LoadError,
    MigrationFailed,
    MissingExtra,
    ShellNotSupported,
    UnusedHandlers,
)
from szal.errors.handler import (
    Cancelled,
    GiveUp,
    NotAHandler,
    NotSupportedHere,
    RetryAfter,
    SkipStep,
    TransactionFailed,
    UnknownOutcome,
)
from szal.errors.items import ItemsFailed, NoList, TooManyItems
from szal.errors.root import SzalError, partial_output_of
from szal.errors.step import (
    AroundFailed,
    FlowFailed,
    MissingValue,
    NotComparable,
    OutputMasked,
    OutputNotSerializable,
    ResourceHeld,
    RetryExhausted,
    StepError,
    StepFailed,
    StepTimeout,
    SubFlowError,
    ThreadHeldUp,
    Undecided,
    ValueNotJson,
)
from szal.errors.store import (
    CommitUnknown,
    FlushTimeout,
    MissingDriver,
    NotMigrated,
    SinkFull,
    StoreClosed,
    StoreError,
    StoreFailed,
    StoreUnavailable,
    WriteFailed,
)
from szal.errors.suggestion import closest, did_you_mean
from szal.errors.tail import signal_name
from szal.errors.value import ConditionError, DecodeError, EncodeError

__all__ = [
    "MAX_TEXT",
    "UNPRINTABLE",
    "AroundFailed",
    "Cancelled",
    "CannotRetry",
    "CannotReuse",
    "CommandFilesUnusable",
    "CommandOutputUnusable",
    "CommandResultUnusable",
    "CommitUnknown",
    "ConcurrencyKeyTaken",
    "ConditionError",
    "CycleDetected",
    "DecodeError",
    "DefinitionMismatch",
    "EncodeError",
    "EngineClosed",
    "ExecutionNotFound",
    "ExecutionOwned",
    "ExecutorBroken",
    "ExitStatusUnknown",
    "FailedElsewhere",
    "FlowFailed",
    "FlushTimeout",
    "GiveUp",
    "HandlerNotFound",
    "InvalidFlow",
    "InvalidInputs",
    "ItemsFailed",
    "LeaseLost",
    "LoadError",
    "MigrationFailed",
    "MissingDriver",
    "MissingExtra",
    "MissingValue",
    "NoList",
    "NotAHandler",
    "NotComparable",
    "NotMigrated",
    "NotSendable",
    "NotSupportedHere",
    "OutputMasked",
    "OutputNotSerializable",
    "ProcessDied",
    "ResourceHeld",
    "RetryAfter",
    "RetryExhausted",
    "SecretMissing",
    "ShellFailed",
    "ShellNotSupported",
    "SinkFull",
    "SkipStep",
    "StepError",
    "StepFailed",
    "StepTimeout",
    "StoreClosed",
    "StoreError",
    "StoreFailed",
    "StoreUnavailable",
    "SubFlowError",
    "SzalError",
    "ThreadHeldUp",
    "TooManyItems",
    "TransactionFailed",
    "Undecided",
    "UnknownOutcome",
    "UnusedHandlers",
    "ValueNotJson",
    "WorkingDirectoryGone",
    "WriteFailed",
    "closest",
    "cut",
    "describe",
    "did_you_mean",
    "partial_output_of",
    "secret_variable",
    "signal_name",
    "text_of",
]

for _each in list(globals().values()):
    if isinstance(_each, type) and issubclass(_each, SzalError):
        _each.__module__ = __name__
del _each
