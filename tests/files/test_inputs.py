"""The inputs of a flow in a file: as in Python, what is wrong with its place; and numbers, as they are typed."""

import textwrap

import pytest

from szal import Engine, FlowDef, Handlers, InvalidInputs, LoadError, load_flow

STEPS = "mode: sequential\nsteps:\n  - {name: a, run: 'true'}\n"


@pytest.fixture
def load(tmp_path):
    """``load(inputs)`` returns the flow of a file with these inputs, a text."""

    def load(inputs, suffix="yaml"):
        file = tmp_path / f"flow.{suffix}"
        if suffix == "yaml":
            file.write_text(f"name: x\ninputs:\n{textwrap.indent(textwrap.dedent(inputs).strip(), '  ')}\n{STEPS}")
        else:
            steps = '"mode": "sequential", "steps": [{"name": "a", "run": "true"}]'
            file.write_text(f'{{"name": "x", "inputs": {inputs}, {steps}}}')
        return load_flow(file)

    return load


@pytest.fixture
def problems(load, tmp_path):
    def problems(inputs, suffix="yaml"):
        with pytest.raises(LoadError) as caught:
            load(inputs, suffix)
        return list(caught.value.problems)

    return problems


def test_they_are_declared_as_in_python(load):
    flow = load("""
        day: {type: date, required: true, help: the day to report}
        n: {type: integer, default: 3}
        env: {enum: [staging, prod]}
        dry: {type: boolean}
        out: dist
    """)
    assert flow.inputs == {
        "day": {"type": "date", "required": True, "help": "the day to report"},
        "n": {"type": "integer", "default": 3},
        "env": {"enum": ["staging", "prod"]},
        "dry": {"type": "boolean"},
        "out": "dist",
    }
    flow.validate()


def test_json_declares_the_same(load):
    assert load('{"n": {"type": "integer", "default": 3}, "out": "dist"}', "json").inputs == {
        "n": {"type": "integer", "default": 3},
        "out": "dist",
    }


def test_a_date_is_text_as_it_is_typed(load):
    assert load("day: {type: date, default: 2026-06-10}").inputs["day"]["default"] == "2026-06-10"


def test_what_is_wrong_is_told_with_its_place_all_at_once(problems):
    found = problems("""
        day: {type: dat, required: true}
        n: {type: integer,
            default: three,
            enum: [1, x]}
        env: {required: true, default: prod}
        "": 1
        dry: {tpye: boolean, default: false}
    """)
    assert [problem[:70] for problem in found] == [
        ":3:9: input 'day': type is 'dat', which is none of string, integer, number, boolean"[:70],
        ":5:7: input 'n': default: expected one of 1, 'x', given 'three'",
        ":6:7: input 'n': enum: expected a whole number, given 'x'",
        ":7:25: input 'env': it is required and has a default: leave one of the two out"[:70],
        ":8:3: the name of an input is empty",
        ":9:9: input 'dry': unknown key 'tpye' in its declaration; did you mean 'type'?"[:70],
    ]


def test_in_json_too(problems):
    assert problems('{"n": {"type": "integer", "default": "3"}}', "json") == [
        ":1:51: input 'n': default: expected a whole number, given '3'"
    ]


def test_what_a_file_declares_holds_when_it_runs(load):
    flow = load("day: {type: date, required: true}")
    with Engine(Handlers()) as engine:
        with pytest.raises(InvalidInputs, match="'day': expected a date"):
            engine.run(flow, {"day": "tomorrow"})
        assert engine.run(flow, {"day": "2026-06-10"}).success


class TestNumbers:
    @pytest.mark.parametrize("typed", ["1.10", "1e3", "1234567e3", "-0", "1.0e5", "0.1234567890123456789", "1E5"])
    @pytest.mark.parametrize("place", ["{}", "[{}]", "{{a: {}}}", "{{default: {}}}", "{{enum: [{}]}}"])
    def test_one_that_would_print_in_another_way_stays_what_was_typed(self, load, typed, place):
        assert load(f"v: {place.format(typed)}").inputs == load(f"v: {place.format(repr(typed))}").inputs

    @pytest.mark.parametrize("typed", ["1.1", "1.0", "-1.5", "0", "-12", "1000000", "1e+22"])
    def test_others_are_numbers(self, load, typed):
        assert load(f"v: {typed}").inputs["v"] == float(typed)

    def test_of_a_declared_number_it_is_the_number(self, load):
        flow = load("v: {type: number, default: 1.10, enum: [1.10, 1e3]}")
        assert flow.inputs["v"] == {"type": "number", "default": 1.1, "enum": [1.1, 1000.0]}

    def test_of_declared_text_it_is_what_is_typed(self, load):
        flow = load("v: {type: string, default: 3, enum: [1.10, 3, true, x]}")
        assert flow.inputs["v"] == {"type": "string", "default": "3", "enum": ["1.10", "3", "true", "x"]}

    def test_in_json_a_number_is_a_number(self, load):
        assert load('{"v": 1.10, "w": 1e-7}', "json").inputs == {"v": 1.1, "w": 1e-7}

    @pytest.mark.parametrize(
        ("step", "key"),
        [
            ("{name: a, call: 'm:f', with: {v: 1.10}}", "args"),
            ("{name: a, flow: other, with: {v: 1.10}}", "inputs"),
            ("{name: a, type: mine, config: {args: {v: 1.10}}}", "args"),
        ],
    )
    def test_so_it_is_in_what_steps_are_given(self, tmp_path, step, key):
        file = tmp_path / "flow.yaml"
        file.write_text(f"name: x\nmode: sequential\nsteps:\n  - {step}\n")
        flow: FlowDef = load_flow(file)
        assert flow.steps[0].config[key] == {"v": "1.10"}

    def test_durations_and_counts_are_numbers(self, tmp_path):
        file = tmp_path / "flow.yaml"
        file.write_text("name: x\nmode: sequential\ntimeout: 1.50\nsteps:\n  - {name: a, run: 'true', timeout: 1e1}\n")
        flow = load_flow(file)
        assert (flow.timeout, flow.steps[0].timeout) == (1.5, 10.0)
