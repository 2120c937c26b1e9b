"""Elements of SVG and HTML as text: the one place where what they say is made harmless."""

import re
from html import escape
from typing import Final

from szal.legible import clean

__all__ = ["said", "tag"]

# What XML has no place for, and `clean` leaves.
_NO_XML: Final = re.compile("[\ufffe\uffff]")


def said(text: str) -> str:
    """Return *text* as it stands in SVG and HTML, between tags and in quotes, whatever it is.

    >>> said('<script>"&"\\x00')
    '&lt;script&gt;&quot;&amp;&quot;�'
    """
    if not text.isprintable():  # most is, and a page has a hundred thousand of them
        text = _NO_XML.sub("\N{REPLACEMENT CHARACTER}", clean(text))
    return escape(text)


def tag(name: str, /, *inside: str, **attributes: str | float | None) -> str:
    """Return an element with what is *inside* it, which is markup; its attributes are not: they may be any text.

    An attribute that is None is left out. ``class_`` is "class", ``text_anchor`` is "text-anchor".

    >>> tag("text", said("a < b"), x=1.50, class_="name", id=None)
    '<text x="1.5" class="name">a &lt; b</text>'
    >>> tag("path", d="M0 0")
    '<path d="M0 0"/>'
    """
    begun = f"<{name}"
    for key, value in attributes.items():
        if value is not None:
            text = said(value) if isinstance(value, str) else f"{value:.10g}"
            begun += f' {key.rstrip("_").replace("_", "-")}="{text}"'
    return f"{begun}>{''.join(inside)}</{name}>" if inside else f"{begun}/>"
