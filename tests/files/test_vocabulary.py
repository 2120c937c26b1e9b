"""What words of other tools are called here, and that the page says what the loader reads."""

import re
from pathlib import Path

import pytest

from szal.files import vocabulary
from szal.files.vocabulary import DEFAULTS, FLOW, RETRIES, ROLLBACK, STEP, STOP, TRIGGERS, UP_TO_DATE, WAIT

PAGE = Path(__file__).parents[2] / "docs" / "flows-as-files.md"


def step(line):
    return f"name: x\nsteps:\n  - name: a\n    run: x\n    {line}\n"


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("timeout-minutes: 10", "write 'timeout: 10m'"),
        ("timeout-minutes: '{{inputs.n}}'", "write 'timeout: 10m'"),
        ("timeout_seconds: 90", "write 'timeout: 90s'"),
        ("timeout_ms: 1500", "write 'timeout: 1500ms'"),
        ("cmd: x", "did you mean 'run'?"),
        ("deps: [b]", "did you mean 'needs'?"),
        ("depends: b", "did you mean 'needs'?"),
        ("working-directory: src", "did you mean 'cwd'?"),
        ("uses: actions/checkout@v4", "there are no actions: write 'run', a command, or 'call', a function"),
        ("strategy: {matrix: {a: [1]}}", "write 'foreach', a list or the path to one"),
        ("matrix: {a: [1]}", "write 'foreach', a list or the path to one"),
        ("loop: [1]", "write 'foreach', a list or the path to one"),
        ("with_items: [1]", "write 'foreach', a list or the path to one"),
        ("register: out", "every output is kept: steps.NAME.output"),
        ("parallel: true", "steps run at once where their 'needs' allow"),
        ("import: x.yml", "write a step with 'flow': a name under 'flows', or a file beside this one"),
        ("attempts: 3", "write 'retries: 2', how many times to try again after the first"),
        ("retry: 3", "write 'retries: 2'"),
        ("on_failure: x", "write a step with 'finally: true'"),
        ("ignore_errors: true", "did you mean 'continue_on_error'?"),
        ("vars: {a: 1}", "write 'inputs' for what a run is given, and 'env' for variables of commands"),
        ("params: {a: 1}", "did you mean 'inputs', at the top of the file?"),
        ("inputs: {a: 1}", "inputs stand at the top of the file; a sub-flow is given its own by 'with'"),
        ("defaults: {timeout: 1}", "it belongs at the top of the file"),
        ("grace: 5s", "write 'stop: {grace: 10s}'"),
        ("kill_after: 5", "write 'stop: {grace: 5s}'"),
        ("stop_signal: SIGINT", "write 'stop: {signal: INT}'"),
        ("tiemout: 1", "did you mean 'timeout'?"),
    ],
)
def test_a_word_of_another_tool_in_a_step(problems, line, hint):
    [found] = problems(step(line))
    assert found.startswith(f":5:5: unknown key {line.partition(':')[0]!r} in step 'a'; {hint}")


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("on: push", "szal run starts a flow"),
        ("schedule: '0 2 * * *'", "szal run starts a flow"),
        ("jobs: {}", "write 'steps', a list: each step has its 'name'"),
        ("stages: []", "write 'steps', a list"),
        ("tasks: {}", "write 'steps', a list"),
        ("vars: {a: 1}", "write 'inputs' for what a run is given"),
        ("params: {a: 1}", "did you mean 'inputs'?"),
        ("handlerOn: {}", "write a step with 'finally: true'"),
        ("includes: {}", "write a step with 'flow'"),
        ("run: make", "it belongs in a step"),
        ("cmd: make", "did you mean 'run', in a step?"),
        ("timeout-minutes: 5", "write 'timeout: 5m'"),
    ],
)
def test_a_word_of_another_tool_at_the_top(problems, line, hint):
    [found] = problems(f"name: x\nsteps: [{{name: a, run: x}}]\n{line}\n")
    assert found.startswith(f":3:1: unknown key {line.partition(':')[0]!r} in the flow; {hint}")


def test_a_hint_names_no_key_that_is_not_there():
    for word, hint in vocabulary._HINTS.items():
        assert word not in STEP or word in ("inputs", "on"), word
        for key in re.findall(r"'([a-z_]+)(?::[^']*)?'", hint):
            assert key in STEP or key in FLOW, (word, hint)


def test_a_condition_under_when_is_told_where_it_belongs(problems):
    [found] = problems(step("when: inputs.env == 'prod'"))
    assert found.endswith("not \"inputs.env == 'prod'\"; a condition goes into 'if'")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("always", "did you mean 'all_done'?"),
        ("all_success", "did you mean 'all_succeeded'?"),
        ("success", "did you mean 'all'?"),
        ("failure", "did you mean 'one_failed'?"),
        ("all_failed", "write 'when: all_done', and in 'if' that the status of each is 'failed'"),
        ("one_success", "did you mean 'any'?"),
    ],
)
def test_triggers_of_other_tools(problems, word, hint):
    [found] = problems(step(f"when: {word}"))
    assert found.endswith(f"not {word!r}; {hint}")


# -- the page ----------------------------------------------------------------------------------------

TABLES = {
    "A flow": FLOW,
    "A step": STEP,
    "`defaults`": DEFAULTS,
    "`retries`": RETRIES,
    "`wait`": WAIT,
    "`stop`": STOP,
    "`up_to_date`": UP_TO_DATE,
    "`rollback`": ROLLBACK,
    "`when`": {name: f"TriggerMode.{trigger.name}" for name, trigger in TRIGGERS.items()},
}


def tables():
    """Yield the heading of each section, and the first two columns of its tables that begin with a key."""
    for section in re.split(r"^#+ ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        rows = re.findall(r"^\| `([^`]+)` \| (.*?) \|", section, flags=re.MULTILINE)
        yield section.partition("\n")[0], {key: python.replace("`", "") for key, python in rows}


@pytest.mark.parametrize("heading", TABLES)
def test_the_page_lists_the_keys_that_are_read_with_their_python_names(heading):
    assert dict(tables())[heading] == dict(TABLES[heading])


def test_every_table_of_the_page_is_compared():
    assert {heading for heading, rows in tables() if rows} == set(TABLES)
