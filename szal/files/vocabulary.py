"""The words of the format: each key with its Python name. docs/flows-as-files.md lists them too."""

from collections.abc import Mapping
from typing import Final

__all__ = ["FLOW", "RETRIES", "ROLLBACK", "STEP", "SURROUNDINGS", "WAIT"]

FLOW: Final[Mapping[str, str]] = {
    "name": "FlowDef.name",
    "mode": "FlowDef.mode",
    "description": "FlowDef.description",
    "version": "FlowDef.version",
    "inputs": "FlowDef.inputs",
    "timeout": "FlowDef.timeout",
    "rollback_on_failure": "FlowDef.rollback_on_failure",
    "steps": "FlowDef.steps",
}
SURROUNDINGS: Final[Mapping[str, str]] = {
    "cwd": 'config["cwd"]',
    "env": 'config["env"]',
    "shell": 'config["shell"]',
    "grace": 'config["grace"]',
}
"""What a command has beside its text."""

STEP: Final[Mapping[str, str]] = {
    "name": "StepDef.name",
    "description": "StepDef.description",
    "needs": "StepDef.depends_on",
    "when": "StepDef.trigger_mode",
    "if": "StepDef.condition",
    "timeout": "StepDef.timeout",
    "retries": "StepDef.max_retries",
    "rollback": 'StepDef.rollbackable, config["rollback"]',
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
