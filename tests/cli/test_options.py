"""How labels, durations and states are written on the command line; for inputs, see test_inputs."""

import json

import pytest

from szal import load_flow


@pytest.mark.parametrize(
    "options",
    [
        ["-i", "novalue"],
        ["-i", "=3"],
        ["--label", "x"],
        ["--timeout", "3x"],
        ["--timeout", "-1"],
        ["--timeout", "1m1m"],
        ["--timeout", "1e400"],
        ["--lease-ttl", "soon"],
        ["--lease-ttl", "0s"],
        ["--max-concurrency", 0],
    ],
)
def test_what_is_not_written_properly_is_a_usage_error(szal, options):
    result = szal("run", "flows:good", *options)
    assert result.exit_code == 2
    assert options[0].removeprefix("-") in result.stderr


def test_labels_are_strings(szal):
    record = json.loads(szal("run", "flows:good", "--json", "--label", "ticket=42", "-l", "who=me").stdout)
    assert record["labels"] == {"ticket": "42", "who": "me"}


@pytest.mark.parametrize("limit", ["0.05", "50ms", "0.05s"])
def test_a_timeout_limits_the_run(spawn, limit):  # in a process: one that leaves a thread behind ends its process
    process = spawn("run", "flows:waits", "--json", "--timeout", limit)
    assert process.end() == 1
    assert '"error":"flow timeout exceeded"' in process.seen


@pytest.mark.parametrize(
    ("written", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("1h30m", 5400), ("1d", 86400)]
)
def test_durations_are_those_of_files(here, written, seconds):
    from szal.cli.options import duration_of

    assert duration_of(None, None, written) == seconds
    (here / "f.yaml").write_text(f"name: f\ntimeout: {written}\nsteps:\n  - name: a\n    run: echo\n")
    assert load_flow("f.yaml").timeout == seconds
