"""A JSON Schema for flow files, made of the tables that the loader reads by, for editors that complete and check.

A key gets into it from its table (`vocabulary`), by itself. What stands under it, and what editors tell of it, is here:
a key that is not may hold anything.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any, Final, TypeAlias

from szal.expressions.path import Json
from szal.files.action import GOES_WITH, KINDS
from szal.files.vocabulary import (
    DEFAULTS,
    FLOW,
    OLD_TRIGGERS,
    RETRIES,
    ROLLBACK,
    STEP,
    STOP,
    SUB_FLOW,
    TRIGGERS,
    UP_TO_DATE,
    WAIT,
)
from szal.model.analysis import FlowMode
from szal.model.config import STOP_SIGNALS, VARIABLE
from szal.model.duration import DURATION
from szal.model.state import NamedEnum
from szal.model.step import INLINE, ISOLATION, BackoffStrategy

__all__ = ["flow_schema"]

_Schema: TypeAlias = dict[str, Json]


def _either(*schemas: _Schema) -> _Schema:
    return {"anyOf": [*schemas, {"type": "null"}]}  # null stands for what is not said


def _named(kind: type[NamedEnum]) -> _Schema:
    return {"enum": [*(str(member) for member in kind), None]}


def _part(name: str) -> _Schema:
    return {"$ref": f"#/$defs/{name}"}


_TEXT: Final[_Schema] = {
    "type": ["string", "number", "boolean", "null"]
}  # what is no text stands for how it is written
_FLAG: Final[_Schema] = {"type": ["boolean", "null"]}
_WHOLE: Final[_Schema] = {"type": ["integer", "null"], "minimum": 0}
_POSITIVE: Final[_Schema] = {"type": ["integer", "null"], "minimum": 1}
_OBJECT: Final[_Schema] = {"type": ["object", "null"]}
_TEXTS: Final = _either({"type": "string"}, {"type": "array", "items": {"type": "string"}})
_FAILURE: Final[_Schema] = {"type": ["string", "integer"], "minimum": 1, "maximum": 255}
_FAILURES: Final = _either(_FAILURE, {"type": "array", "items": _FAILURE})
_DURATION: Final = _either({"type": "number", "minimum": 0}, {"type": "string", "pattern": f"^(?:{DURATION.pattern})$"})
_STEPS: Final[_Schema] = {"type": ["array", "null"], "items": _part("step")}

_KEYS: Final[Mapping[str, tuple[_Schema, str]]] = {
    "name": ({"type": "string", "minLength": 1}, "What it is called."),
    "mode": (_named(FlowMode), "How the steps run: one after another, all at once, or as their 'needs' say (dag)."),
    "description": (_TEXT, "A text for people."),
    "version": (_WHOLE, "A number for migrations."),
    "inputs": (_OBJECT, "What a run is given: by name, a default or a declaration (type, required, secret, …)."),
    "timeout": (_DURATION, "A limit, as seconds or like 90s, 10m, 1h30m."),
    "rollback_on_failure": (_FLAG, "Whether what was done is undone where the run fails."),
    "fail_fast": (_FLAG, "Whether the first failure stops what still runs."),
    "defaults": (_either(_part("defaults")), "What steps have that say nothing else."),
    "steps": (_STEPS, "What is to be done."),
    "flows": (
        {"type": ["object", "null"], "additionalProperties": _part("sub_flow")},
        "Further flows by name, for 'flow' in steps.",
    ),
    "needs": (_TEXTS, "The steps that it waits for."),
    "when": ({"enum": [*TRIGGERS, *OLD_TRIGGERS, None]}, "How what it needs must have ended; all by default."),
    "if": (_TEXT, "A condition: where it is false, the step is skipped."),
    "foreach": (_either({"type": "string"}, {"type": "array"}), "The list that it runs over, or the path to one."),
    "max_parallel": (_POSITIVE, "How many elements of it at a time, at most."),
    "max_items": (_POSITIVE, "How many elements it may have; 100000 by default."),
    "until": (_TEXT, "A condition over its output: it is called again until that holds."),
    "until_timeout": (_DURATION, "A limit for all these calls together."),
    "total_timeout": (_DURATION, "A limit for all attempts together, and the waits between them."),
    "retries": (_either(_WHOLE, _part("retries")), "How many times to try again after the first."),
    "priority": ({"type": ["integer", "null"]}, "Of those that wait for a worker, higher ones go first."),
    "undo_on_failure": (_FLAG, "True: it is undone also where it failed itself."),
    "continue_on_error": (_FLAG, "True: what follows goes on where it fails, and the flow may succeed."),
    "cancel_losers": (_FLAG, "True, with 'when: any': when it starts, what only it waits for ends."),
    "finally": (_FLAG, "True: it runs when all else is over, whatever happened."),
    "up_to_date": (_part("up_to_date"), "Files by which its work is there: then it is skipped."),
    "sources": (_TEXTS, "What it reads: files, or patterns."),
    "outputs": (_TEXTS, "What it makes. Each must be there, and older than none of its sources."),
    "resources": (
        {"type": ["object", "null"], "additionalProperties": _POSITIVE},
        "What it shares with other steps: so much of each, by name. It waits until it has that.",
    ),
    "rate": (
        {
            "type": ["object", "null"],
            "additionalProperties": {"type": "string", "pattern": r"^\s*[1-9][0-9]{0,8}\s*/\s*[smh]\s*$"},
        },
        "How often what it shares with other steps is called, by name: as 10/s, 10/m or 10/h.",
    ),
    "inline": ({"enum": [*INLINE, None]}, "Whether it runs on the thread that coordinates the run."),
    "concurrency": (_TEXT, "A key with inputs in it: of executions with the same one, one runs at a time."),
    "isolation": ({"enum": [*ISOLATION, None]}, "process: in a child process, which a time-out really ends."),
    "idempotent": (_FLAG, "False: it must not run twice."),
    "rollback": (_either(_FLAG, _part("rollback")), "How to undo it."),
    "run": (_TEXT, "A shell command."),
    "cwd": (_TEXT, "The directory of commands, seen from that of the file. ~ and $HOME at its beginning are expanded."),
    "env": (
        {
            "type": ["object", "null"],
            "propertyNames": {"pattern": f"^(?:{VARIABLE.pattern})$"},
            "additionalProperties": _TEXT,
        },
        "Variables of commands. Nothing in them is expanded but {{…}}.",
    ),
    "shell": (_TEXT, "The shell of commands: sh by default. Without options it stops where a line fails."),
    "stop": (_either(_part("stop")), "How a command is told to end: TERM, and 2s later SIGKILL, by default."),
    "grace": (_DURATION, "How long it has until SIGKILL."),
    "output": ({"enum": ["text", "lines", "json", None]}, "What of a command's output is the step's."),
    "call": ({"type": ["string", "null"]}, 'A function, as "package.module:function".'),
    "with": ({"type": ["object", "array", "null"]}, "The arguments of 'call', or the inputs of 'flow'."),
    "flow": (_TEXT, "Another flow, by its name or its file."),
    "wait": (_either(_TEXT, _part("wait")), "A signal to wait for."),
    "sleep": (_DURATION, "How long to sleep."),
    "type": (_TEXT, "A type of steps that handlers in Python do."),
    "config": (_OBJECT, "What that is given."),
    "max": (_WHOLE, "How many times to try again after the first."),
    "delay": (_DURATION, "The wait before it is called again, 1s by default."),
    "backoff": (_named(BackoffStrategy), "How the wait grows."),
    "max_delay": (_DURATION, "What it does not grow beyond."),
    "jitter": ({"type": ["number", "null"], "minimum": 0}, "Spreads it by that fraction."),
    "on": (_FAILURES, "Exceptions, by name, and exit statuses: only after these."),
    "give_up_on": (_FAILURES, "Exceptions, by name, and exit statuses: never after these."),
    "signal": (_TEXT, "The name of the signal."),
    "default": ({}, "The output of the step where the signal does not come in time."),
}


def flow_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of flow files. What it refuses, `load_flow` refuses too; not all of it.

    >>> schema = flow_schema()
    >>> schema["required"], schema["$defs"]["step"]["properties"]["sleep"]["description"]
    (['name', 'steps'], 'How long to sleep.')
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A szal flow",
        **_object(FLOW, "name", "steps"),
        "$defs": {
            "sub_flow": _object(SUB_FLOW, "steps"),
            "step": {**_object(STEP, "name"), **_one_thing()},
            "defaults": _object(DEFAULTS),
            "retries": _object(RETRIES, "max"),
            "wait": _object(WAIT, "signal"),
            "stop": _stop(),
            "up_to_date": _object(UP_TO_DATE, "outputs"),
            "rollback": {**_object(ROLLBACK), "oneOf": [{"required": ["run"]}, {"required": ["call"]}]},
        },
    }


def _object(keys: Mapping[str, str], *required: str) -> _Schema:
    """Return the schema of an object with these *keys*; those that begin with "x-" are for people."""
    properties = {}
    for key, python in keys.items():
        schema, told = _KEYS.get(key, ({}, f"In Python: {python}"))
        properties[key] = {**schema, "description": told}
    return {
        "type": "object",
        "properties": properties,
        "patternProperties": {"^x-": {}},
        "additionalProperties": False,
        "required": list(required),
    }


def _stop() -> _Schema:
    """Return the schema of how a command is told to end: its signal is one of few, where that of a wait is any text."""
    found = _object(STOP)
    found["properties"]["signal"] = {"enum": [*STOP_SIGNALS, None], "description": "The signal, without SIG."}
    return found


def _one_thing() -> _Schema:
    """Return that a step does one thing at most, and says nothing that goes with another."""
    any_of_them: _Schema = {"anyOf": [{"required": [kind]} for kind in KINDS]}
    owners: dict[str, Json] = {
        key: {"anyOf": [{"required": [kind]} for kind in kinds]} for key, kinds in GOES_WITH.items()
    }
    owners["config"]["anyOf"].append({"not": any_of_them})  # of a step that a handler does by its name
    pairs = [{"not": {"required": list(pair)}} for pair in combinations(KINDS, 2)]
    return {"allOf": pairs, "dependentSchemas": owners}
