"""What a command prints: what is kept of it, and what is told while it runs."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from szal.events.progress import Hearing, Printed
from szal.model.redaction import Redaction
from szal.steps.stream import MAX_OUTPUT, Stream


class Caller:
    """Hears what is printed: each line, or all that has come."""

    def __init__(self, hearing=Hearing.LINES, secrets=()):
        self.hearing = hearing
        self.redaction = Redaction()
        self.redaction.add(secrets)
        self.told = []

    def report(self, data):
        self.told.append(data)


class Pipe:
    """A stream, and the end that a command writes to."""

    def __init__(self, hearing=Hearing.LINES, secrets=()):
        self.caller = Caller(hearing, secrets)
        out, self._into = os.pipe()
        self.stream = Stream("stdout", os.fdopen(out, "rb", buffering=0), self.caller)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.stream.pipe.closed:
            self.ends()

    def comes(self, printed):
        """Have *printed* come, at once; return what has been told since the last time."""
        before = len(self.caller.told)
        for start in range(0, len(printed), 60_000):  # less than a pipe holds
            os.write(self._into, printed[start : start + 60_000])
            self.stream.read()
        return [_shown(data) for data in self.caller.told[before:]]

    def ends(self):
        """Have the command end; return what is told then."""
        before = len(self.caller.told)
        os.close(self._into)
        assert self.stream.read() is False
        self.stream.close()
        return [_shown(data) for data in self.caller.told[before:]]


def _shown(data):
    return (data.stream, data.data.decode()) if isinstance(data, Printed) else data["line"] + data.get("end", "")


@pytest.fixture
def pipe():
    with Pipe() as pipe:
        yield pipe


class TestProgressBars:
    r"""A line that is written anew after each ``\r`` is told as it comes, with ``"end": "\r"``."""

    def test_what_ends_with_a_carriage_return_is_told_at_once(self, pipe):
        assert pipe.comes(b"10%\r") == ["10%\r"]
        assert pipe.comes(b"20%\r") == ["20%\r"]
        assert pipe.comes(b"done\n") == ["done"]

    def test_so_is_what_follows_one(self, pipe):
        assert pipe.comes(b"\r10%") == ["10%\r"]
        assert pipe.comes(b"\r20%") == ["20%\r"]
        assert pipe.ends() == ["20%"]

    def test_the_report_says_that_the_line_may_still_change(self, pipe):
        pipe.comes(b"10%\rdone\n")
        pipe.comes(b"10%\r")
        assert pipe.caller.told == [
            {"stream": "stdout", "line": "done"},
            {"stream": "stdout", "line": "10%", "end": "\r"},
        ]

    def test_what_was_written_over_before_anybody_could_see_it_is_not_told(self, pipe):
        assert pipe.comes(b"1%\r2%\r3%\r") == ["3%\r"]
        assert pipe.comes(b"4%\r100%\nnext\n") == ["100%", "next"]

    def test_what_is_written_once_more_is_told_once(self, pipe):
        assert pipe.comes(b"10%\r") == ["10%\r"]
        assert pipe.comes(b"10%\r") == []

    def test_the_last_one_stands_when_the_line_ends(self, pipe):
        assert pipe.comes(b"100%\r") == ["100%\r"]
        assert pipe.comes(b"\n") == ["100%"]

    def test_a_line_end_of_windows_is_one(self, pipe):
        assert pipe.comes(b"one\r\ntwo\r\n") == ["one", "two"]

    def test_the_beginning_of_a_plain_line_waits_for_its_end(self, pipe):
        assert pipe.comes(b"half a ") == []
        assert pipe.comes(b"line\n") == ["half a line"]

    def test_a_bar_that_never_ends_its_line_takes_no_room(self, pipe):
        for percent in range(2000):
            pipe.comes(b"\r%50d%%" % percent)
        assert pipe.ends() == [f"{1999:50}%"]

    def test_the_text_that_is_kept_is_what_was_printed(self, pipe):
        pipe.comes(b"10%\r20%\r\n")
        assert pipe.stream.text() == "10%\r20%\r\n"


class TestLines:
    def test_a_line_that_is_very_long_is_told_in_pieces(self, pipe):
        told = [*pipe.comes(b"x" * 100_000), *pipe.ends()]
        assert max(map(len, told)) == 8192
        assert "".join(told) == "x" * 100_000

    def test_a_character_is_never_cut_in_two(self, pipe):
        text = "é🧵" * 20_000
        assert "".join([*pipe.comes(text.encode()), *pipe.ends()]) == text

    @given(st.lists(st.text(alphabet="ab\n\ré", max_size=6), max_size=12))
    def test_whatever_comes_together_whole_lines_are_told_once_and_in_order(self, chunks):
        pipe = Pipe()
        told = [line for chunk in chunks for line in pipe.comes(chunk.encode()) if not line.endswith("\r")]
        told += pipe.ends()
        *lines, last = "".join(chunks).split("\n")
        stands = [line.rstrip("\r").rpartition("\r")[2] for line in [*lines, last]]
        assert told == (stands if last.strip("\r") else stands[:-1])


class TestWhoListens:
    def test_nothing_is_split_where_nobody_does(self):
        pipe = Pipe(Hearing.NOTHING)
        assert pipe.comes(b"one\n10%\r") == pipe.ends() == []
        assert pipe.stream.text() == "one\n10%\r"

    def test_many_lines_come_at_once_to_whoever_takes_them_so(self):
        pipe = Pipe(Hearing.PRINTED)
        assert pipe.comes(b"one\ntwo\nhalf") == [("stdout", "one\ntwo\n")]
        assert pipe.comes(b" a line\n10%\r") == [("stdout", "half a line\n"), ("stdout", "10%\r")]
        assert pipe.comes(b"20%") == [("stdout", "20%\r")]
        assert pipe.ends() == [("stdout", "20%\n")]


class TestKept:
    """The last MiB: see `MAX_OUTPUT`."""

    def kept(self, *printed):
        with Pipe(Hearing.NOTHING) as pipe:
            for part in printed:
                pipe.comes(part)
            return pipe.stream

    def test_a_long_line_is_there_also_where_a_short_one_follows(self):
        stream = self.kept(b"x" * 3 * MAX_OUTPUT, b"\n", b"done\n")
        assert stream.truncated
        assert stream.text() == "x" * (MAX_OUTPUT - 6) + "\ndone\n"

    def test_it_begins_with_a_whole_line_where_lines_are_short(self):
        stream = self.kept(b"0123456789\n" * 200_000)
        assert stream.text().startswith("0123456789\n")
        assert len(stream.text()) > MAX_OUTPUT - 11

    def test_what_fits_is_whole(self):
        stream = self.kept(b"x" * (MAX_OUTPUT - 1), b"\n")
        assert not stream.truncated
        assert len(stream.text()) == MAX_OUTPUT


class TestSecrets:
    """Where a text is told or kept in parts, no part of a secret is in it."""

    SECRET = "hunter2-and-more"

    @pytest.fixture
    def pipe(self):
        with Pipe(secrets=[self.SECRET]) as pipe:
            yield pipe

    def test_a_line_that_is_still_written_does_not_end_with_one(self, pipe):
        assert pipe.comes(b"10% with hunter2-a\r") == ["10% with ***\r"]
        assert pipe.comes(b"20% with hunter2-and-more\r") == ["20% with ***\r"]
        assert pipe.comes(b"30%\r") == ["30%\r"]

    @pytest.mark.parametrize("first", [1, 8190, 8195, 8208, 9000])
    def test_a_long_line_is_not_told_from_the_middle_of_one(self, pipe, first):
        line = b"x" * 8188 + self.SECRET.encode() + b"y" * 20_000
        told = "".join([*pipe.comes(line[:first]), *pipe.comes(line[first:]), *pipe.ends()])
        assert told == "x" * 8188 + "***" + "y" * 20_000

    def test_what_is_cut_does_not_begin_with_the_end_of_one(self, pipe):
        pipe.comes(self.SECRET.encode() + b"x" * (MAX_OUTPUT - 6))
        text = pipe.stream.text()
        assert pipe.stream.truncated
        assert (text[:4], set(text[3:])) == ("***x", {"x"})
