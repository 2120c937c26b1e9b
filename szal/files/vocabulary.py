"""The words of the format: each key with its Python name, and what words of other tools are called here.

docs/flows-as-files.md lists the keys in the same tables; a test compares them.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final

from szal.errors import did_you_mean
from szal.model.step import TriggerMode

__all__ = [
    "DEFAULTS",
    "FLOW",
    "OLD_TRIGGERS",
    "RETRIES",
    "ROLLBACK",
    "STEP",
    "STOP",
    "SUB_FLOW",
    "SURROUNDINGS",
    "TRIGGERS",
    "UP_TO_DATE",
    "WAIT",
    "hint_for",
    "hint_for_trigger",
    "name_of_trigger",
]

SUB_FLOW: Final[Mapping[str, str]] = {
    "mode": "FlowDef.mode",
    "description": "FlowDef.description",
    "version": "FlowDef.version",
    "inputs": "FlowDef.inputs",
    "timeout": "FlowDef.timeout",
    "rollback_on_failure": "FlowDef.rollback_on_failure",
    "fail_fast": "FlowDef.fail_fast",
    "isolation": "FlowDef.isolation",
    "env": 'config["env"] of each command',
    "cwd": 'config["cwd"] of each command',
    "shell": 'config["shell"] of each command',
    "defaults": "of each step",
    "steps": "FlowDef.steps",
}
FLOW: Final[Mapping[str, str]] = {
    "name": "FlowDef.name",
    **SUB_FLOW,
    "concurrency": "FlowDef.concurrency_key",
    "flows": "FlowDef.sub_flows",
}
DEFAULTS: Final[Mapping[str, str]] = {"timeout": "StepDef.timeout", "retries": "StepDef.max_retries"}
SURROUNDINGS: Final[Mapping[str, str]] = {
    "cwd": 'config["cwd"]',
    "env": 'config["env"]',
    "shell": 'config["shell"]',
    "stop": 'config["stop"]',
}
"""What a command has beside its text."""
STOP: Final[Mapping[str, str]] = {
    "signal": 'config["stop"]["signal"]',
    "grace": 'config["stop"]["grace"]',
}

STEP: Final[Mapping[str, str]] = {
    "name": "StepDef.name",
    "description": "StepDef.description",
    "needs": "StepDef.depends_on",
    "when": "StepDef.trigger_mode",
    "if": "StepDef.condition",
    "foreach": "StepDef.foreach",
    "max_parallel": "StepDef.max_parallel",
    "max_items": "StepDef.max_items",
    "until": "StepDef.until",
    "delay": "StepDef.delay",
    "until_timeout": "StepDef.until_timeout",
    "timeout": "StepDef.timeout",
    "total_timeout": "StepDef.total_timeout",
    "retries": "StepDef.max_retries",
    "priority": "StepDef.priority",
    "undo_on_failure": "StepDef.undo_on_failure",
    "continue_on_error": "StepDef.continue_on_error",
    "cancel_losers": "StepDef.cancel_losers",
    "finally": "StepDef.finally_",
    "idempotent": "StepDef.idempotent",
    "resources": "StepDef.resources",
    "rate": "StepDef.rate",
    "inline": "StepDef.inline",
    "isolation": "StepDef.isolation",
    "up_to_date": 'config["up_to_date"]',
    "rollback": "StepDef.rollbackable",
    "steps": "StepDef.sub_steps",
    "run": 'step_type="shell", config["run"]',
    "call": 'step_type="python", config["call"]',
    "with": 'config["args"]; of a sub-flow config["inputs"]',
    "flow": 'step_type="sub_flow", config["flow_name"]',
    "wait": 'step_type="wait", config["signal"]',
    "sleep": 'step_type="sleep", config["seconds"]',
    "type": "StepDef.step_type",
    "config": "StepDef.config",
    "output": 'config["output"]',
    **SURROUNDINGS,
}
RETRIES: Final[Mapping[str, str]] = {
    "max": "StepDef.max_retries",
    "delay": "StepDef.retry_delay",
    "backoff": "StepDef.backoff",
    "max_delay": "StepDef.max_retry_delay",
    "jitter": "StepDef.retry_jitter",
    "on": "StepDef.retry_on",
    "give_up_on": "StepDef.give_up_on",
}
UP_TO_DATE: Final[Mapping[str, str]] = {
    "sources": 'config["up_to_date"]["sources"]',
    "outputs": 'config["up_to_date"]["outputs"]',
}
WAIT: Final[Mapping[str, str]] = {
    "signal": 'config["signal"]',
    "timeout": 'config["timeout"]',
    "default": 'config["default"]',
}
ROLLBACK: Final[Mapping[str, str]] = {
    "run": 'config["rollback"]["run"]',
    "call": 'config["rollback"]["call"]',
    "with": 'config["rollback"]["args"]',
    **{key: f'config["rollback"]["{key}"]' for key in SURROUNDINGS},
}

TRIGGERS: Final[Mapping[str, TriggerMode]] = {
    "all": TriggerMode.ALL,
    "any": TriggerMode.ANY,
    "all_succeeded": TriggerMode.ALL_COMPLETED,
    "all_done": TriggerMode.ALL_DONE,
    "one_failed": TriggerMode.ONE_FAILED,
    "one_done": TriggerMode.ONE_DONE,
}
"""What stands under "when"."""

OLD_TRIGGERS: Final[Mapping[str, TriggerMode]] = {"all_completed": TriggerMode.ALL_COMPLETED}
"""Names from earlier versions, which files may still use."""


_TRIGGER_WORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("always", "all_finished", "completed", "done", "finally"), "all_done"),
    **dict.fromkeys(("on_success", "success", "succeeded"), "all"),
    **dict.fromkeys(("one_success", "one_succeeded"), "any"),
}


def hint_for_trigger(text: str) -> str:
    """Return what to write instead of *text*, which is no trigger; or nothing.

    >>> hint_for_trigger("always"), hint_for_trigger("steps.a.output.n > 1")
    ("; did you mean 'all_done'?", "; a condition goes into 'if'")
    """
    if text in _TRIGGER_WORDS:
        return f"; did you mean {_TRIGGER_WORDS[text]!r}?"
    if text in ("failure", "failed", "on_failure"):
        return "; did you mean 'one_failed'?"
    if text == "all_failed":
        return "; write 'when: all_done', and in 'if' that the status of each is 'failed'"
    return "; a condition goes into 'if'" if re.search(r"[^\w-]", text) else did_you_mean(text, list(TRIGGERS))


def name_of_trigger(trigger: TriggerMode) -> str:
    """Return what a trigger is called in files.

    >>> name_of_trigger(TriggerMode.ALL_COMPLETED)
    'all_succeeded'
    """
    return next(name for name, known in TRIGGERS.items() if known is trigger)


# -- words of other tools ----------------------------------------------------------------------------

_EACH = "write 'foreach', a list or the path to one: the step runs once for each {{item}} of it"
_HERE = "commands run on this machine"
_STARTED = "szal run starts a flow: call that from cron, a timer or a hook"
_AFTERWARDS = "write a step with 'finally: true', which runs whatever happened; its 'if' may ask how the others ended"
_INCLUDED = "write a step with 'flow': a name under 'flows', or a file beside this one"
_VALUES = "write 'inputs' for what a run is given, and 'env' for variables of commands"
_TRIES = "write 'retries: 2', how many times to try again after the first, or 'retries: {max: 2, delay: 10s}'"

_HINTS: Final[Mapping[str, str]] = {
    # another name for a key, alone
    **dict.fromkeys(("cmd", "cmds", "command", "commands", "script", "shell_command", "bash", "exec"), "run"),
    **dict.fromkeys(("after", "dependencies", "depends", "depends_on", "depends-on", "deps", "requires"), "needs"),
    **dict.fromkeys(("condition", "only_if", "precondition", "preconditions", "unless"), "if"),
    **dict.fromkeys(("args", "arguments"), "with"),
    **dict.fromkeys(("environment", "environ"), "env"),
    **dict.fromkeys(("chdir", "dir", "workdir", "working-directory", "working_dir", "working_directory"), "cwd"),
    **dict.fromkeys(("function", "python", "python_callable"), "call"),
    **dict.fromkeys(("approval", "approve", "manual", "pause", "signal"), "wait"),
    **dict.fromkeys(("undo", "compensate"), "rollback"),
    **dict.fromkeys(("trigger", "trigger_mode", "trigger_rule"), "when"),
    **dict.fromkeys(("params", "parameters"), "inputs"),
    **dict.fromkeys(("grace", "grace_period", "kill_after", "stop_grace_period"), "write 'stop: {grace: {n}s}'"),
    **dict.fromkeys(("stop_signal", "signalOnStop", "kill_signal"), "write 'stop: {signal: INT}'"),
    "step_type": "type",
    "sub_flow": "flow",
    "sub_flows": "flows",
    "sub_steps": "steps",
    "workflow": "flow",
    # and what is said in another way
    "timeout-minutes": "write 'timeout: {n}m'",
    "timeout_minutes": "write 'timeout: {n}m'",
    "timeout_ms": "write 'timeout: {n}ms'",
    **dict.fromkeys(("timeoutSec", "timeout_sec", "timeout_seconds", "timeout-seconds"), "write 'timeout: {n}s'"),
    **dict.fromkeys(("execution_timeout", "deadline", "max_time"), "write 'timeout: 10m'"),
    **dict.fromkeys(("attempts", "max_attempts", "max_retries", "retry", "retry_count", "retry_policy"), _TRIES),
    **dict.fromkeys(("backoff", "retryPolicy", "retryStrategy", "retry_delay", "retry_on"), _TRIES),
    **dict.fromkeys(("jobs", "tasks", "stages", "pipeline"), "write 'steps', a list: each step has its 'name'"),
    **dict.fromkeys(("for_each", "for-each", "forEach"), "foreach"),
    **dict.fromkeys(("for", "items", "loop", "matrix", "strategy", "withItems", "withParam", "with_items"), _EACH),
    **dict.fromkeys(("max-parallel", "maxParallel", "parallelism"), "max_parallel"),
    **dict.fromkeys(("cron", "on", "schedule", "schedule_interval", "triggers"), _STARTED),
    **dict.fromkeys(("import", "imports", "include", "includes", "extends", "from", "call_flow"), _INCLUDED),
    **dict.fromkeys(("always", "handlers", "handlerOn", "handler_on", "notify", "on_exit"), _AFTERWARDS),
    **dict.fromkeys(("on_failure", "on_success", "onFailure", "onSuccess"), _AFTERWARDS),
    **dict.fromkeys(("vars", "variables"), _VALUES),
    **dict.fromkeys(("allow_failure", "continueOn", "continue-on-error", "continue_on"), "continue_on_error"),
    **dict.fromkeys(("continue_on_failure", "ignore_error", "ignore_errors"), "continue_on_error"),
    **dict.fromkeys(("container", "executor", "hosts", "image", "runs-on", "runs_on", "services"), _HERE),
    "uses": "there are no actions: write 'run', a command, or 'call', a function as \"package.module:function\"",
    "parallel": "steps run at once where their 'needs' allow ('mode: parallel': all do); over a list with 'foreach'",
    **dict.fromkeys(("concurrency_key", "concurrency-group", "concurrency_group"), "concurrency"),
    "max_concurrency": "write 'szal run --max-concurrency N'",
    **dict.fromkeys(("outputs", "register"), "every output is kept: steps.NAME.output, in a template or a condition"),
    "id": "a step is known by its 'name'",
    "secrets": "set them in the environment of szal run: commands inherit it",
    "inputs": "inputs stand at the top of the file; a sub-flow is given its own by 'with'",
}
"""By a word that is none here: a key, which is meant by it, or what to write. ``{n}`` stands for the value."""


def hint_for(key: str, known: Collection[str], value: str) -> str:
    """Return what to write instead of *key*, whose *value* is that text, where *known* keys stand; or nothing.

    >>> hint_for("timeout-minutes", STEP, "5")
    "; write 'timeout: 5m'"
    >>> hint_for("depends_on", STEP, ""), hint_for("run", FLOW, "make")
    ("; did you mean 'needs'?", '; it belongs in a step')
    """
    hint = _HINTS.get(key)
    if hint in known:
        return f"; did you mean {hint!r}?"
    if hint in STEP or hint in FLOW:
        return f"; did you mean {hint!r}, {_place_of(hint)}?"
    if hint is not None:
        number = value if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) else "10"
        return f"; {hint.replace('{n}', number)}"
    close = did_you_mean(key, list(known))
    return f"; it belongs {_place_of(key)}" if not close and (key in STEP or key in FLOW) else close


def _place_of(key: str | None) -> str:
    return "in a step" if key in STEP and key not in FLOW else "at the top of the file"
