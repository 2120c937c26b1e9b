"""Here-documents: which lines of a script are theirs, and belong to no command."""

import re
from typing import Final

from szal.scripts.cursor import MARK, Cursor, HereDocument, NotUnderstood, Refusal
from szal.scripts.words import WordReader

__all__ = ["read_delimiter", "read_texts"]

_DELIMITER: Final = re.compile(
    r"""'(?P<single>[^'\n\0]+)'|"(?P<double>[^"$`\\\n\0]+)"|(?P<escape>\\?)(?P<bare>[A-Za-z0-9_.+%@:/=^-]+)"""
)
_JOINED: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\\n")
_TEXT: Final = re.compile(r"[^\\$`\0]+")
_FILLED: Final = Refusal("stands in a here-document", "write ${variable} there")
_VERBATIM: Final = Refusal(
    "stands in a here-document of which nothing is filled in", "write <<EOF, without quotes, and ${variable} there"
)


def read_delimiter(cursor: Cursor, start: int, *, strips_tabs: bool) -> None:
    """Read the word after ``<<``, and note that its text comes after this line."""
    while cursor.peek() in (" ", "\t"):
        cursor.position += 1
    match = _DELIMITER.match(cursor.text, cursor.position)
    if match is None:
        raise NotUnderstood(start)
    cursor.position = match.end()
    if cursor.peek() not in ("", *" \t\n;&|()<>"):
        raise NotUnderstood(start)
    delimiter = match["single"] or match["double"] or match["bare"]
    is_quoted = match["bare"] is None or bool(match["escape"])
    cursor.here_documents.append(HereDocument(start, delimiter, is_quoted, strips_tabs))


def read_texts(cursor: Cursor, words: WordReader) -> None:
    """Read the texts that begin with this line."""
    waiting, cursor.here_documents = cursor.here_documents, []
    for document in waiting:
        end, after = _end_of(cursor, document)
        cursor.check_old_bash(end)
        if document.is_quoted:
            cursor.refuse_up_to(end, _VERBATIM)
        else:
            _read_filled(cursor, document, end, words)
        cursor.position = after


def _end_of(cursor: Cursor, document: HereDocument) -> tuple[int, int]:
    """Return where the text ends, and where the line after the delimiter begins."""
    tabs = "\t*" if document.strips_tabs else ""
    end = re.compile(f"^{tabs}{re.escape(document.delimiter)}(?:\n|\\Z)", re.MULTILINE)
    match = end.search(cursor.text, cursor.position)
    if match is None:
        raise NotUnderstood(document.position)
    return match.start(), match.end()


def _read_filled(cursor: Cursor, document: HereDocument, end: int, words: WordReader) -> None:
    """Read a text in which the shell fills in variables and commands: they may not go on beyond its *end*."""
    text = cursor.text[cursor.position : end]
    joined = _JOINED.sub(r"\1", text)
    lines = (line.lstrip("\t") for line in joined.split("\n"))
    if joined != text and (document.delimiter in lines or not joined.endswith("\n")):
        raise NotUnderstood(document.position)  # lines that a backslash joins may be the delimiter, or hide it
    with cursor.within(_FILLED):
        while cursor.position < end:
            if (match := _TEXT.match(cursor.text, cursor.position, end)) is not None:
                cursor.position = match.end()
            elif cursor.at(MARK):
                cursor.refuse_up_to(cursor.position + 1, _FILLED)
            elif cursor.at("\\"):
                cursor.position += 1 if cursor.peek(2)[1:] == MARK else 2
            elif cursor.at("$"):
                words.dollar(in_double=True)
            else:
                words.backticks()
    if cursor.position != end:
        raise NotUnderstood(document.position)
