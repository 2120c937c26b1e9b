"""How inputs are written on the command line, and how people learn which there are."""

import json
import re

import pytest

from szal import open_store

DECLARED = """
name: report
inputs:
  day: {type: date, required: true, help: the day to report}
  n: {type: integer, default: 3}
  share: {type: number}
  name: {type: string}
  env: {enum: [staging, prod], default: staging}
  level: {enum: [1, 2, "3"]}
  dry: {type: boolean}
  tags: {type: list}
  more: {type: object}
  out: dist
  keep: false
  any: null
steps:
  - name: one
    run: exit 0
"""


@pytest.fixture
def file(here):
    (here / "report.yaml").write_text(DECLARED)
    return "report.yaml"


@pytest.fixture
def given(szal, file):
    """``given("n=3", …)`` returns the inputs that a run with these options sees."""

    def call(*options, target=file):
        result = szal("run", target, "--json", *(part for option in options for part in ("-i", option)))
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout).get("inputs", {})

    return call


@pytest.fixture
def refused(szal, file):
    """``refused("n=3", …)`` returns what is said of these options, which have to be refused before anything runs."""

    def call(*options, target=file):
        result = szal("run", target, *(part for option in options for part in ("-i", option)))
        assert (result.exit_code, result.stdout) == (2, "")
        return result.stderr.rstrip("\n")

    return call


class TestUndeclared:
    """Where a flow declares no inputs."""

    @pytest.mark.parametrize(
        ("typed", "value"),
        [
            ("3", 3),
            ("-1.5", -1.5),
            ("true", True),
            ("null", None),
            ("[1, 2]", [1, 2]),
            ('{"a": {"b": []}}', {"a": {"b": []}}),
            ("[1.10]", [1.1]),
            ('"3"', "3"),
            ('"True"', "True"),
            ("prod", "prod"),
            ("no", "no"),
            ("", ""),
            ("a=b", "a=b"),
            ("NaN", "NaN"),
            ("[1, 2", "[1, 2"),
            ("[" * 100_000, "[" * 100_000),
        ],
    )
    def test_a_value_is_json_where_it_can_be_and_else_text(self, given, typed, value):
        assert given(f"value={typed}", target="flows:good") == {"value": value}

    @pytest.mark.parametrize(
        "typed",
        [
            *(
                "1.10",
                "007",
                "01",
                "+5",
                "-0",
                "1_000",
                "0x10",
                "1e3",
                "-1.5e3",
                "1234567e3",
                "1E5",
                " 3",
                "3 ",
                "1.2.3",
            ),
            *("0.1234567890123456789", "1" * 400, "1" * 5000, "1e999", ".5", "5."),
        ],
    )
    def test_a_number_that_would_print_in_another_way_stays_what_was_typed(self, given, typed):
        assert given(f"value={typed}", target="flows:good") == {"value": typed}

    @pytest.mark.parametrize(
        ("typed", "meant"), [("True", "true"), ("False", "false"), ("FALSE", "false"), ("None", "null")]
    )
    def test_a_word_that_is_no_text_elsewhere_is_refused(self, refused, typed, meant):
        assert refused(f"dry_run={typed}", target="flows:good") == (
            "szal: invalid inputs for flow 'good': input 'dry_run': "
            f"write {meant}, or '\"{typed}\"' for the text '{typed}'"
        )

    def test_the_last_one_of_a_name_counts(self, given):
        assert given("a=1", "b=2", "a=3", target="flows:good") == {"a": 3, "b": 2}


class TestDeclared:
    @pytest.mark.parametrize(
        ("typed", "value"),
        [
            ("n=7", 7),
            ("n=-7", -7),
            ("share=1.10", 1.1),
            ("share=1e3", 1000.0),
            ("share=7", 7),
            ("share=null", None),
            ("name=1.10", "1.10"),
            ("name=true", "true"),
            ("name=null", "null"),
            ('name="3"', '"3"'),
            ("env=prod", "prod"),
            ("level=2", 2),
            ("level=3", "3"),
            ("dry=true", True),
            ("dry=False", False),
            ("dry=null", None),
            ('tags=["a", 1.10]', ["a", 1.1]),
            ('more={"a": [true]}', {"a": [True]}),
        ],
    )
    def test_a_value_is_read_as_its_type(self, given, typed, value):
        name = typed.partition("=")[0]
        assert given("day=2026-06-10", typed)[name] == value

    @pytest.mark.parametrize(
        ("typed", "value"),
        [("out=1.10", "1.10"), ("out=3", "3"), ("out=true", "true"), ("keep=true", True), ("keep=FALSE", False)],
    )
    def test_without_a_type_a_value_is_read_as_its_default_is(self, given, typed, value):
        name = typed.partition("=")[0]
        assert given("day=2026-06-10", typed)[name] == value

    def test_what_is_not_given_is_the_default_or_null(self, given):
        found = given("day=2026-06-10", "any=3")
        assert (found["n"], found["share"], found["out"], found["any"]) == (3, None, "dist", 3)

    @pytest.mark.parametrize(
        ("typed", "problem"),
        [
            ("n=x", "expected a whole number, given 'x'"),
            ("n=3.0", "expected a whole number, given '3.0'"),
            ("n=007", "expected a whole number, given '007'"),
            ("n=1_000", "expected a whole number, given '1_000'"),
            ("n=0x10", "expected a whole number, given '0x10'"),
            ("n=+5", "expected a whole number, given '+5'"),
            ("n=", "expected a whole number, given ''"),
            ("n=null", "expected a whole number, given null"),
            ("n=" + "1" * 5000, "expected a whole number, given '11111111"),
            ("n=" + "1" * 400, "expected a whole number, given 11111111"),
            ("share=1e999", "expected a number, given Infinity"),
            ("share=NaN", "expected a number, given 'NaN'"),
            ("day=2026-02-30", "expected a date such as '2026-06-10', given '2026-02-30'"),
            ("env=prd", "expected one of 'staging', 'prod', given 'prd'; did you mean 'prod'?"),
            ("level=4", "expected one of 1, 2, '3', given 4"),
            ("dry=no", "expected true or false, given 'no'"),
            ("dry=1", "expected true or false, given '1'"),
            ("keep=no", "expected true or false, given 'no'"),
            ("tags=a,b", """expected a list, given 'a,b'; write JSON, as in '["a", "b"]'"""),
            ("tags={}", "expected a list, given {}"),
            ("more=a", """expected an object, given 'a'; write JSON, as in '{"a": 1}'"""),
            ("any=False", "write false, or '\"False\"' for the text 'False'"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, refused, typed, problem):
        options = [typed] if typed.startswith("day") else ["day=2026-06-10", typed]
        name = typed.partition("=")[0]
        assert f"input '{name}': {problem}" in refused(*options)

    def test_an_unknown_name_is_refused_with_a_suggestion(self, refused):
        for name in ("oot", "OUT"):
            assert refused("day=2026-06-10", f"{name}=x") == (
                f"szal: invalid inputs for flow 'report': unknown input '{name}'; did you mean 'out'?"
            )

    def test_an_unknown_one_is_not_looked_at_further(self, refused):
        assert refused("day=2026-06-10", "oot=False").count("input") == 2

    def test_a_missing_one_says_how_it_is_given(self, refused):
        assert refused() == (
            "szal: invalid inputs for flow 'report': input 'day' is required: a date such as '2026-06-10'\n"
            "give it with -i day=…"
        )

    def test_all_is_told_at_once(self, refused):
        assert refused("oot=x", "n=x", "env=prd").splitlines()[1:] == [
            "  - unknown input 'oot'; did you mean 'out'?",
            "  - input 'n': expected a whole number, given 'x'",
            "  - input 'day' is required: a date such as '2026-06-10'",
            "  - input 'env': expected one of 'staging', 'prod', given 'prd'; did you mean 'prod'?",
            "give it with -i day=…",
        ]

    def test_nothing_is_recorded_of_what_is_refused(self, szal, file, database):
        assert szal("run", file, "-i", "day=today", "--store", database).exit_code == 2
        with open_store(database) as store:
            assert list(store.list()) == []


class TestReruns:
    @pytest.fixture
    def failed(self, szal, here, database):
        """The id of an execution that failed."""
        text = DECLARED.replace("exit 0", "test {{inputs.n}} -gt 3")
        (here / "failing.yaml").write_text(text)
        result = szal("run", "failing.yaml", "-i", "day=2026-06-10", "--id", "e1", "--store", database)
        assert result.exit_code == 1
        return "e1"

    def test_inputs_are_read_as_their_types_and_laid_over_the_earlier_ones(self, szal, failed, database):
        result = szal("rerun", failed, "-i", "n=4", "-i", "name=1.10", "--store", database, "--json")
        inputs = json.loads(result.stdout)["inputs"]
        assert (result.exit_code, inputs["day"], inputs["n"], inputs["name"]) == (0, "2026-06-10", 4, "1.10")

    def test_what_does_not_fit_is_refused(self, szal, failed, database):
        result = szal("rerun", failed, "-i", "n=four", "-i", "oot=x", "--store", database)
        assert result.exit_code == 2
        assert "unknown input 'oot'; did you mean 'out'?" in result.stderr
        assert "input 'n': expected a whole number, given 'four'" in result.stderr
        with open_store(database) as store:
            assert list(store.list()) == [failed]


class TestHelp:
    def test_the_inputs_of_the_flow_are_listed(self, szal, file):
        result = szal("run", "--help", file)
        assert result.exit_code == 0
        table = result.stdout.partition("Inputs of report.yaml:\n")[2]
        assert [re.split(r"  +", line.strip()) for line in table.splitlines()] == [
            ["-i day=DATE", "the day to report; required"],
            ["-i n=INTEGER", "default 3"],
            ["-i share=NUMBER"],
            ["-i name=STRING"],
            ["-i env=staging|prod", "default 'staging'"],
            ["-i level=1|2|3"],
            ["-i dry=true|false"],
            ["-i tags=LIST"],
            ["-i more=OBJECT"],
            ["-i out=STRING", "default 'dist'"],
            ["-i keep=true|false", "default false"],
            ["-i any=VALUE"],
        ]

    @pytest.mark.parametrize("order", [["{}", "--help"], ["-h", "{}"], ["-i", "day=x", "--json", "{}", "--help"]])
    def test_wherever_the_flow_stands(self, szal, file, order):
        assert "-i n=INTEGER" in szal("run", *(part.format(file) for part in order)).stdout

    def test_a_flow_that_declares_none(self, szal):
        result = szal("run", "flows:good", "--help")
        assert result.stdout.endswith("Inputs of flows:good:\n  It declares none, and takes any -i KEY=VALUE.\n")

    @pytest.mark.parametrize("target", ["nothing.yaml", "flows:twice", "flows:nothing", "broken.yaml"])
    def test_what_is_wrong_with_the_flow_is_told_after_the_help(self, szal, here, target):
        (here / "broken.yaml").write_text("name: x\nstepz: []")
        result = szal("run", "--help", target)
        assert result.exit_code == 2
        assert result.stdout.startswith("Usage: szal run")
        assert target.partition(":")[0] in result.stderr or "twice" in result.stderr

    @pytest.mark.parametrize("options", [["--help"], ["--help", "--json"]])
    def test_without_a_flow_there_is_the_help_alone(self, szal, options):
        result = szal("run", *options)
        assert result.exit_code == 0
        assert "Inputs of" not in result.stdout

    def test_what_the_flow_prints_when_it_is_made_is_not_part_of_it(self, szal):
        assert "printed while making the flow" not in szal("run", "--help", "flows:noisy").stdout

    def test_what_a_file_says_does_not_reach_the_terminal_as_it_is(self, szal, here):
        text = 'name: x\nmode: sequential\ninputs: {"a\\e[2J": {help: "b\\e[2J"}}\nsteps: []'
        (here / "evil.yaml").write_text(text)
        assert "\x1b" not in szal("run", "--help", "evil.yaml").stdout


@pytest.mark.parametrize("command", [["signal", "ID", "go", "False"], ["resolve", "ID", "step", "completed", "None"]])
def test_values_of_other_commands_are_read_likewise(szal, database, command):
    result = szal(*command, "--store", database)
    assert result.exit_code == 2
    assert "for the text" in result.stderr
