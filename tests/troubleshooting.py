"""docs/troubleshooting.md, made of the docstrings of szal's exceptions: ``python tests/troubleshooting.py`` writes it.

Each says in its first lines what has happened, then ``Cause:`` and ``Next:``, and its example prints its message.
"""

import doctest
import inspect
import re
import sys
from pathlib import Path

import attrs

from szal import errors

PAGE = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
BASES = (errors.SzalError, errors.StepError, errors.StoreError)
"""They are raised as one of their subclasses."""

KINDS = {
    "flow": "A flow, or what it was given, cannot be run as it is",
    "execution": "An execution cannot be begun, gone on with, or run again",
    "step": "A step, or a flow, did not succeed",
    "elsewhere": "An attempt could not be made in another process, or did not end well there",
    "items": "A step that runs over a list did not succeed",
    "command": "A command did not succeed",
    "store": "The store could not do what was asked of it",
    "value": "JSON and text that are not what they should be",
    "handler": "What handlers raise, or see raised",
}

HEAD = """\
# Troubleshooting

What each error of szal says, where it comes from, and what to do next. All are subclasses of `SzalError`; where several
are caught, `StepError` stands for a step that did not succeed, and `StoreError` for a store. This page is made from
`szal/errors/` (`python tests/troubleshooting.py`), and a test keeps it so.

Where it is not clear what is wrong, begin with these:

```console
$ szal doctor --store URL     # whether the store works, and why what is unfinished does not go on
$ szal show ID --store URL    # how one execution went, with its errors in full, and how it goes on
$ szal list --state failed    # which have failed
```

[After an outage](recipes.md#after-an-outage) tells how many are taken up again at once,
[before a release](recipes.md#before-a-release) how it is seen which of them the new code could not go on with.
"""


@attrs.frozen
class Entry:
    """What the page says of one class."""

    name: str
    kind: str
    message: str
    what: str
    cause: str
    next: str

    def __str__(self) -> str:
        lines = [f"### {self.name}", "", "```text", self.message, "```", "", self.what, ""]
        return "\n".join([*lines, f"**Cause:** {self.cause}", "", f"**Next:** {self.next}", ""])


def classes() -> list[type[errors.SzalError]]:
    """Return all classes that szal raises, by name."""
    found = (getattr(errors, name) for name in errors.__all__)
    return [each for each in found if inspect.isclass(each) and each not in BASES]


def entry_of(kind: type[errors.SzalError], module: str) -> Entry:
    """Return what the docstring of a class says; raises ValueError where it lacks something."""
    doc = inspect.getdoc(kind) or ""
    text = doc.partition("\n>>> ")[0]
    said = {}
    for word in ("Next", "Cause"):
        text, found, after = text.partition(f"\n{word}: ")
        if not found:
            raise ValueError(f"the docstring of {kind.__name__} has no line that begins with {word}:")
        said[word] = " ".join(after.split())
    return Entry(kind.__name__, module, message_of(kind.__name__, doc), as_markdown(text), said["Cause"], said["Next"])


def message_of(name: str, doc: str) -> str:
    """Return what the example prints, or raises."""
    for example in doctest.DocTestParser().get_examples(doc):
        raised = re.search(r"^szal\.errors\.\w+: (.*)", example.want, re.DOTALL | re.MULTILINE)
        if raised or example.source.startswith("print("):
            return (raised[1] if raised else example.want).rstrip()
    raise ValueError(f"the docstring of {name} has no example that prints its message")


def as_markdown(text: str) -> str:
    """Return reStructuredText, as docstrings are, as Markdown."""
    return text.strip().replace("``", "`")


def page() -> str:
    """Return the page."""
    homes = {name: module for module in KINDS for name in vars(sys.modules[f"szal.errors.{module}"])["__all__"]}
    entries = [entry_of(kind, homes[kind.__name__]) for kind in classes()]
    parts = [HEAD]
    for module, title in KINDS.items():
        parts.append(f"## {title}\n")
        parts += [str(entry) for entry in entries if entry.kind == module]
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
