"""Where the commands of an execution run: decided when it begins, and recorded, so that it is the same ever after.

Whoever goes on with it, and from wherever, runs them there. `EngineConfig.cwd` says another place.
"""

import os

import attrs

from szal.engine.config import EngineConfig
from szal.errors import EncodeError, WorkingDirectoryGone
from szal.model.fields import problem_of_text
from szal.model.flow import FlowDef
from szal.model.results import ExecutionRecord
from szal.scheduler.plan import Plan

__all__ = ["check_directory", "first_directory", "moved"]


def first_directory(execution_id: str, flow: FlowDef, plan: Plan, config: EngineConfig) -> str | None:
    """Return where the commands of a new execution run: in the folder of the flow's file, if it has one.

    None: in the process's working directory, whatever that is by then. Where somebody may go on with the execution in
    another process, it is the one that this has now. Raises `WorkingDirectoryGone` where that is not there any more,
    and `EncodeError` for one that is to be recorded and is no text.
    """
    cwd = _directory_of(execution_id, flow, plan, config)
    if cwd is not None and config.execution_store is not None and (problem := problem_of_text(cwd)) is not None:
        raise EncodeError("cwd", problem)
    return cwd


def _directory_of(execution_id: str, flow: FlowDef, plan: Plan, config: EngineConfig) -> str | None:
    if config.cwd is not None:
        return config.cwd
    if flow.file is not None:
        return os.path.dirname(flow.file)  # noqa: PTH120 (as everywhere here: pathlib takes long to import)
    if config.execution_store is None or not plan.may_run_commands:
        return None
    try:
        return os.getcwd()  # noqa: PTH109 (a third of the time of Path.cwd)
    except FileNotFoundError:
        raise WorkingDirectoryGone(execution_id, None) from None


def check_directory(record: ExecutionRecord, plan: Plan, config: EngineConfig) -> None:
    """Raise `WorkingDirectoryGone` where the commands of an execution cannot go on where they ran."""
    is_lost = record.cwd is not None and not os.path.isdir(record.cwd)  # noqa: PTH112
    gone = config.cwd is None and is_lost
    if gone and plan.may_run_commands:
        raise WorkingDirectoryGone(record.execution_id, record.cwd)


def moved(record: ExecutionRecord, cwd: str | None) -> ExecutionRecord:
    """Return *record*, of an execution that goes on in the directory *cwd* from now on; None: where it was."""
    return record if cwd is None or cwd == record.cwd else attrs.evolve(record, cwd=cwd)
