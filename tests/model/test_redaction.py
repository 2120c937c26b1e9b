"""What must not be seen, in texts and values: `szal.model.redaction`."""

import base64
import json
import re
import shlex
from datetime import date
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from szal import EngineConfig, GiveUp, RetryExhausted, StepResult, StepStatus
from szal.model.redaction import Redaction, Rules
from szal.model.secret_forms import SHORTEST

TEXTS = st.text(st.characters(exclude_characters="*"), max_size=12)
SECRET = "pä$$ \"w\\o'rd"


def redaction(*secrets, rules=()):
    found = Redaction(Rules.of(rules))
    found.add(secrets)
    return found


def result_of(**fields):
    return StepResult("1", "a", StepStatus.COMPLETED, **fields)


def raised(function):
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("it raised nothing")


class TestSecrets:
    @pytest.mark.parametrize(
        "shown",
        [
            str,
            repr,
            json.dumps,
            lambda text: json.dumps(text, ensure_ascii=False),
            lambda text: json.dumps(json.dumps({"key": text})),
            shlex.quote,
            quote_plus,
            lambda text: str(KeyError(text)),
            lambda text: repr(text.encode()),
            lambda text: repr({text: [text]}),
            lambda text: "'" + text.replace("'", "'\\''") + "'",
        ],
        ids=[
            *["itself", "repr", "JSON", "JSON, not ASCII", "JSON in JSON", "shell", "URL", "KeyError", "bytes", "dict"],
            "GNU",
        ],
    )
    def test_are_found_in_the_forms_that_texts_give_them(self, shown):
        found = redaction(SECRET).text(f"before {shown(SECRET)} after")
        assert "***" in found
        assert not any(part in found for part in ("w\\", "rd", "$$", "24%24", "xc3")), found

    def test_are_not_found_where_they_are_encoded_otherwise(self):
        encoded = base64.b64encode(SECRET.encode()).decode()
        assert redaction(SECRET).text(encoded) == encoded

    def test_that_overlap_are_masked_as_one(self):
        assert redaction("abcdef", "defghi").text("x abcdefghi abcdef defghi") == "x *** *** ***"

    def test_that_hold_others_are_masked_whole(self):
        assert redaction("hunter2", "hunter2-and-more").text("hunter2-and-more, hunter2") == "***, ***"

    @pytest.mark.parametrize("short", ["", "1", "abc", "  a  ", 7, True, None])
    def test_that_are_short_are_looked_for_nowhere(self, short):
        found = redaction(short)
        assert not found.is_active
        assert found.value(["1", "abc", 7, True]) == ["1", "abc", 7, True]

    def test_of_several_lines_are_looked_for_line_by_line(self):
        key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nab\n-----END KEY-----\n"
        assert redaction(key).text("MIIEvQIBADANBg\nab") == "***\nab"
        assert redaction(key).text(f"<{key}>") == "<***\n>"

    def test_a_whole_number_is_the_same_as_int_and_as_float(self):
        assert redaction(918273645).value([918273645.0, 918273645, 918273645.5]) == ["***", "***", 918273645.5]
        assert redaction(918273645.0).value([918273645.0, 918273645]) == ["***", "***"]

    def test_that_are_lists_or_objects_are_all_that_they_consist_of(self):
        found = redaction({"user": "anna", "tokens": [12345, "sesame"]})
        assert found.value({"user": "anna", "n": 12345, "m": 123456, "x": "open sesame"}) == {
            "user": "***",
            "n": "***",
            "m": 123456,
            "x": "open ***",
        }

    def test_are_masked_in_keys_too(self):
        assert redaction("sesame").value({"sesame": {"x sesame": 1}}) == {"***": {"x ***": 1}}

    def test_what_holds_none_is_the_same_object(self):
        value = {"a": [1, ("b", None)], "c": {"d": 2.5}}
        assert redaction("sesame").value(value) is value

    @pytest.mark.parametrize("value", [date(2026, 6, 10), {1, 2}, object()])
    def test_what_is_no_json_is_masked_as_a_whole_or_not_at_all(self, value):
        assert redaction("sesame").value([value]) == [value]
        assert redaction("sesame").value([{"sesame"}, b"sesame", ValueError("sesame")]) == ["***"] * 3

    def test_what_contains_itself_comes_to_an_end(self):
        value = ["sesame"]
        value.append(value)
        assert "sesame" not in repr(redaction("sesame").value(value))
        assert redaction(value).text("open sesame") == "open ***"

    def test_a_text_that_was_cut_has_no_part_of_one(self):
        found = redaction("hunter2-and-more")
        assert found.beginning_cut("-and-more: denied") == "***: denied"
        assert found.beginning_cut("ore: denied") == "ore: denied"
        assert found.end_open("token=hunter2-a") == "token=***"
        assert found.end_open("token=hun") == "token=hun"

    @given(TEXTS.filter(lambda text: len(text.strip()) >= SHORTEST), TEXTS, TEXTS)
    def test_whatever_it_is_it_is_not_there_any_more(self, secret, before, after):
        found = redaction(secret)
        assert secret.strip() not in found.text(f"{before}{secret}{after}")
        assert secret.strip() not in found.value([{"x": before + secret + after}])[0]["x"]


class TestRules:
    def test_a_name_masks_what_stands_under_that_key(self):
        found = redaction(rules=("password", "*_token"))
        value = {"Password": "x", "user": {"api_token": [1, 2], "password": None}, "passwords": "y"}
        assert found.value(value) == {
            "Password": "***",
            "user": {"api_token": "***", "password": None},
            "passwords": "y",
        }
        assert found.is_named("PASSWORD")
        assert not found.is_named("passwords")

    def test_a_pattern_masks_what_it_finds(self):
        found = redaction(rules=(re.compile(r"sk-\w+"), re.compile(r"\d{16}")))
        assert found.value({"key": "use sk-abc1 here", "card": 4111111111111111, "n": 41}) == {
            "key": "use *** here",
            "card": "***",
            "n": 41,
        }

    def test_a_function_masks_texts(self):
        assert redaction(rules=(lambda text: text.replace("Ann", "A."),)).value(["Ann", 1]) == ["A.", 1]

    def test_what_a_function_leaves_as_it_is_is_not_masked(self):
        value = ["Anna", 1]
        assert redaction(rules=(lambda text: "".join(list(text)),)).value(value) is value

    @pytest.mark.parametrize("function", [lambda text: 1 / 0, lambda text: None], ids=["raises", "no text"])
    def test_where_a_function_fails_nothing_of_the_text_is_seen(self, function):
        assert redaction(rules=(function,)).text("Ann") == "***"

    @pytest.mark.parametrize(
        ("rules", "kind", "problem"),
        [
            ("password", TypeError, "redact takes a sequence"),
            ((3,), TypeError, "redact takes names, compiled patterns and functions, not int"),
            (("",), ValueError, "redact: a name is empty"),
            ((re.compile("x*"),), ValueError, "matches the empty text"),
            ((re.compile(b"x"),), TypeError, "is one of bytes"),
        ],
    )
    def test_what_is_none_is_refused(self, rules, kind, problem):
        with pytest.raises(kind, match=re.escape(problem)):
            EngineConfig(redact=rules)

    def test_secrets_come_from_a_function(self):
        with pytest.raises(TypeError, match=r"secrets must be a function of an input's name: write secrets=\{…\}.get"):
            EngineConfig(secrets={"a": 1})


class TestResults:
    def test_one_that_holds_none_is_the_same_object(self):
        result = result_of(output={"n": 1})
        assert redaction("sesame").result(result) is result

    def test_output_undo_output_and_items_are_masked(self):
        items = [result_of(output="sesame"), result_of(output=1)]
        result = result_of(output=["sesame", 1], undo_output="sesame", items=items, encoded_output='["sesame",1]')
        masked = redaction("sesame").result(result)
        assert "sesame" not in repr(masked)
        assert (masked.output, masked.is_masked, masked.encoded_output) == (["***", 1], True, None)
        assert [item.is_masked for item in masked.items] == [True, False]
        assert result.output == ["sesame", 1]

    def test_an_exception_is_left_out_whose_chain_tells_it(self):
        def fails():
            try:
                raise KeyError("sesame")
            except KeyError:
                raise ValueError("no") from None

        def fails_for():
            raise ValueError("no") from KeyError("sesame")

        assert redaction("sesame").exception(raised(fails_for)) is None
        assert redaction("sesame").exception(raised(fails)) is not None
        assert redaction("sesame").exception(None) is None

    def test_szals_own_stands_without_its_cause(self):
        error = RetryExhausted("a", 3, "ValueError: ***")
        error.__cause__ = ValueError("sesame")
        found = redaction("sesame").exception(error)
        assert (str(found), found.__cause__, type(found)) == (str(error), None, RetryExhausted)
        assert error.__cause__ is not None
        assert redaction("sesame").exception(GiveUp("sesame")) is None
