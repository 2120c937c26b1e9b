"""What the command line says of finally steps, and of failures that are caught."""

import pytest

FILE = """
name: night
steps:
  - {name: tell, run: echo told, finally: true, if: "steps.load.status == 'failed'"}
  - {name: load, run: "exit 3", continue_on_error: true}
  - {name: report, run: "echo load {{steps.load.status}}", needs: load}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "night.yaml"
    path.write_text(FILE)
    return path


def test_a_run_with_a_caught_failure_succeeds_and_shows_it(szal, file):
    done = szal("run", file)
    assert done.exit_code == 0
    for line in ("load failed", "told", "command failed with exit status 3"):
        assert line in done.output


def test_a_dry_run_has_the_finally_steps_last(szal, file):
    lines = szal("run", file, "--dry-run").output.splitlines()
    numbered = [line.split()[1] for line in lines if line.lstrip()[:1].isdigit()]
    assert numbered == ["load", "report", "tell"]


def test_a_graph_names_them(szal, file):
    assert "<br/>finally" in szal("graph", file).output


def test_a_file_tells_what_does_not_go_with_them_and_where(szal, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: bad\nsteps:\n  - {name: a, run: x, needs: b}\n  - {name: b, run: x, finally: true}\n")
    shown = szal("validate", path)
    assert shown.exit_code == 2
    assert f"{path}:3:6: step 'a': depends on the finally step 'b', which runs when all else is over" in shown.output
