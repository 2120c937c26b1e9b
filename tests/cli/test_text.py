"""Text from steps is untrusted: it must not move the cursor, set the title, or take a screen."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from szal.cli.text import brief, clean, clean_lines, elapsed, one_line

HARMLESS = {"\n"}


@given(st.text(st.characters() | st.sampled_from("\x1b\x9b\x07[]\\;m\r\n\t\u202e\ud800")))
def test_clean_text_has_nothing_that_a_terminal_acts_on(text):
    assert not {char for char in clean(text) if unicodedata.category(char) in ("Cc", "Cs")} - HARMLESS


@given(st.text() | st.text(st.sampled_from("\x1b\r\n\t a")))
def test_one_line_is_one_line(text):
    assert len(one_line(text).splitlines()) <= 1
    assert len(brief(text).splitlines()) <= 1


@given(st.lists(st.text(st.characters(exclude_characters="\n") | st.sampled_from("\x1b\x9b\x07[];m\r\t")), min_size=1))
def test_many_lines_are_as_many_clean_ones(lines):
    found = clean_lines("\n".join(lines))
    assert len(found) == len(lines)
    assert not {char for char in "".join(found) if unicodedata.category(char) in ("Cc", "Cs")}


def test_a_title_without_an_end_hides_no_line_that_follows():
    assert clean_lines("\x1b]0;title\nnext") == ["", "next"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("a\x1b(Bb", "ab"),
        ("plain [bold]text[/bold]", "plain [bold]text[/bold]"),
        ("a\tb", "a   b"),
        ("right\u202eleft", "right�left"),
        ("lone \ud800", "lone �"),
    ],
)
def test_clean(text, expected):
    assert clean(text) == expected


def test_of_an_overwritten_line_what_it_ended_as_is_shown():
    assert brief("10%\r50%\r100%\n") == "100%"


def test_a_name_is_not_hidden_by_overwriting_it():
    assert one_line("rm -rf\rharmless").startswith("rm -rf")


def test_one_line_looks_at_no_more_than_fits_on_a_screen():
    assert len(one_line("x" * 10_000_000)) < 5000


class Broken:
    def __repr__(self):
        raise RuntimeError


def endless():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", [Broken(), endless(), {1: {2}}, float("nan"), b"\x1b[2J", {"line": 3}, "\ud800"])
def test_brief_never_fails_and_gives_one_harmless_line(value):
    text = brief(value)
    assert text
    assert "\x1b" not in text
    text.encode()


@given(st.floats(0, 86400 * 99))
def test_durations_fit_their_column(seconds):
    assert len(elapsed(seconds)) <= 6
