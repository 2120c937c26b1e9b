"""Real workflow files of other tools, as flows: they are valid, run, and do what they did there."""

from pathlib import Path

import pytest

from szal import Engine, EngineConfig, FlowResult, Handlers, InMemoryExecutionStore, WorkflowState, load_flow

CONVERTED = Path(__file__).parent.parent / "examples" / "converted"


def run(name: str, **inputs: object) -> FlowResult:
    with Engine(Handlers()) as engine:
        return engine.run(load_flow(CONVERTED / f"{name}.yaml", is_whole=True, here=True), inputs)


def skipped(result: FlowResult) -> dict[str, str | None]:
    return {step.step_name: step.error for step in result.steps if str(step.status) == "skipped"}


def test_there_is_one_for_each_tool() -> None:
    assert sorted(path.stem for path in CONVERTED.iterdir()) == [
        *("airflow", "ansible", "argo", "dagu", "github_actions", "make", "pypyr", "task")
    ]


def test_github_actions_publishes_once_somebody_has_approved(tmp_path: Path) -> None:
    flow = load_flow(CONVERTED / "github_actions.yaml", is_whole=True, here=True)
    with Engine(Handlers(), EngineConfig(execution_store=InMemoryExecutionStore())) as engine:
        inputs = {"tag": "3.1.0", "dist": str(tmp_path / "dist")}
        paused = engine.run(flow, inputs, execution_id="release")
        assert paused.state is WorkflowState.PAUSED
        assert paused["create-release"].output["stdout"] == "draft release 3.1.0"
        engine.signal("release", "publish")
        assert engine.resume("release")["publish-pypi"].output == ["flask-3.1.0.tar.gz", "provenance.txt"]


@pytest.mark.parametrize(("name", "steps"), [("dagu", 14), ("task", 5), ("make", 8)])
def test_dagu_task_and_make_run_all_of_their_steps(name: str, steps: int) -> None:
    assert run(name).raise_for_failure().completed_count == steps


def test_argo_fails_and_skips_as_it_does_there() -> None:
    result = run("argo")
    assert result.state is WorkflowState.FAILED
    assert [step.step_name for step in result.steps if str(step.status) == "failed"] == ["C"]
    assert skipped(result) == {"should-not-execute": "dependency failed"}


def test_pypyr_publishes_where_it_is_told_to() -> None:
    assert [step.step_name for step in run("pypyr").steps if str(step.status) == "completed"] == ["lint", "test"]
    published = run("pypyr", publish=True, ci=True).raise_for_failure()
    assert published["install the published release"].attempts == 2
    assert set(skipped(published)) == {"test", "it is the one that was published"}


@pytest.mark.parametrize(("family", "not_here"), [("RedHat", "Debian"), ("Debian", "RedHat")])
def test_ansible_installs_for_the_system_at_hand(family: str, not_here: str, tmp_path: Path) -> None:
    result = run("ansible", repository="https://example.org/a b.git", family=family, www=str(tmp_path / "www"))
    assert skipped(result.raise_for_failure()) == {f"install packages ({not_here})": "condition not met"}
    assert (tmp_path / "www" / "index.html").read_text() == "<h1>https://example.org/a b.git</h1>\n"


@pytest.mark.parametrize(
    ("rows", "way"), [([{"id": 1}], ["save"]), ([{"id": None}], ["describe_integrity", "email_error"])]
)
def test_airflow_takes_one_of_its_branches(rows: list[object], way: list[str]) -> None:
    result = run("airflow", rows=rows).raise_for_failure()
    assert result["report"].output["stdout"] == "reported"
    branches = ("save", "describe_integrity", "email_error")
    assert [name for name in branches if str(result[name].status) == "completed"] == way
