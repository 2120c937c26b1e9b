"""How inputs, labels, durations and states are written on the command line."""

import json

import pytest


def inputs_of(szal, *options):
    return json.loads(szal("run", "flows:good", "--json", *options).stdout).get("inputs", {})


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("3", 3),
        ("-1.5e3", -1500.0),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ('{"a": {"b": []}}', {"a": {"b": []}}),
        ('"3"', "3"),
        ("prod", "prod"),
        ("", ""),
        ("a=b", "a=b"),
        ("True", "True"),
        ("NaN", "NaN"),
        ("[1, 2", "[1, 2"),
        ("01", "01"),
        ("1.2.3", "1.2.3"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_an_input_is_json_where_it_can_be_and_else_a_string(szal, written, value):
    assert inputs_of(szal, "-i", f"value={written}") == {"value": value}


def test_the_last_input_of_a_name_counts(szal):
    assert inputs_of(szal, "-i", "a=1", "--input", "b=2", "-i", "a=3") == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    "options",
    [
        ["-i", "novalue"],
        ["-i", "=3"],
        ["--label", "x"],
        ["--timeout", "3x"],
        ["--timeout", "-1"],
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


@pytest.mark.parametrize(("written", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400)])
def test_durations(written, seconds):
    from szal.cli.options import duration_of

    assert duration_of(None, None, written) == seconds
