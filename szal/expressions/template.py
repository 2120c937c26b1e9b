"""The language of a step's ``config``: ``{{path}}`` in any string of a JSON structure, filled in before each attempt.

Where there may be nothing at the path, ``{{path?}}`` is empty, and ``{{path | default('x')}}`` is the literal.

Rendered text is never read again, so a value that looks like a placeholder stays as it is.
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple, TypeAlias

import attrs

from szal.errors import ConditionError, EncodeError, MissingValue
from szal.expressions.literal import read_literal
from szal.expressions.missing import there_is
from szal.expressions.path import Context, Json, Path, Scanner, step_names

__all__ = ["MAX_VALUES", "CompiledTemplate", "Piece", "Quote", "pieces_of", "render_template"]

MAX_VALUES: Final = 1_000_000
"""The most values that one template may hold; this also stops at one that holds itself, as a YAML alias can."""

Quote: TypeAlias = Callable[[str], str]
"""Makes a value's text safe where it goes, as `shlex.quote` does for a shell."""


@attrs.frozen(eq=False)
class CompiledTemplate:
    """A JSON structure with placeholders, ready to be rendered any number of times, by any number of threads.

    >>> template = CompiledTemplate.compile({"url": "https://{{inputs.host}}/", "retries": "{{inputs.retries}}"})
    >>> template.render({"inputs": {"host": "example.org", "retries": 3}})
    {'url': 'https://example.org/', 'retries': 3}
    >>> [str(path) for path in template.references], template.steps, template.is_constant
    (['inputs.host', 'inputs.retries'], frozenset(), False)
    """

    value: Json = attrs.field(repr=False)
    """What it was compiled from. It must not change afterwards."""
    references: tuple[Path, ...]
    """The paths it mentions, each once, in order."""
    steps: frozenset[str] = attrs.field(repr=False)
    """The names of the steps among them."""
    needed: frozenset[Path] = attrs.field(repr=False)
    """Those of the paths where there has to be something: no ``?`` and no default stands in its place."""
    is_constant: bool
    """Whether it has no placeholder at all; `render` then returns `value` itself."""
    strict: bool
    """Whether it is a flow's: see `compile`."""
    _verbatim: Collection[str] = attrs.field(repr=False)
    _program: tuple["_Instruction", ...] = attrs.field(repr=False)

    @classmethod
    def compile(cls, value: Json, *, strict: bool = False, verbatim: Collection[str] = ()) -> "CompiledTemplate":
        """Find the placeholders in the strings of *value*, however deep it is. Keys of objects are left alone.

        ``{{"…"}}``, with a quoted string in place of a path, stands for that string: it is how to write ``{{`` itself.
        *strict*, as the templates of flows are: `render` raises `MissingValue` where it finds nothing, and ``${{`` and
        ``{{`` in a key, which nothing fills in, are refused. What is under the keys *verbatim* of *value* itself stays
        as it is.

        >>> CompiledTemplate.compile(["{{inputs.host"])
        Traceback (most recent call last):
        szal.errors.ConditionError: expected '}}', found end of text at position 13
          {{inputs.host
                       ^
        """
        compiler = _Compiler(strict, verbatim)
        program = compiler.compile(value)
        references = tuple(dict.fromkeys(compiler.references))
        constant = len(program) == 1 and isinstance(program[0], _Constant)
        needed = frozenset(compiler.needed)
        return cls(value, references, step_names(references), needed, constant, strict, verbatim, program)

    def render(self, context: Context, quote: Quote | None = None) -> Json:
        """Return the structure with its placeholders filled in from *context*; see `render_template`.

        Treat what it returns as read-only: it shares its constant parts with `value`, and its values with *context*.
        """
        stack: list[Json] = []
        for instruction in self._program:
            match instruction:
                case _Constant(value):
                    stack.append(value)
                case _Text():
                    stack.append(instruction.render(context, quote, self.strict))
                case _List(size):
                    stack.append([stack.pop() for _ in range(size)])
                case _Object(keys):
                    stack.append({key: stack.pop() for key in keys})
        return stack.pop()

    def __reduce__(self) -> tuple[Callable[..., "CompiledTemplate"], tuple[Json, bool, Collection[str]]]:
        return _compiled, (self.value, self.strict, self._verbatim)


def _compiled(value: Json, strict: bool, verbatim: Collection[str]) -> CompiledTemplate:
    return CompiledTemplate.compile(value, strict=strict, verbatim=verbatim)


def render_template(template: Json, context: Context, quote: Quote | None = None) -> Json:
    """Return *template* with every ``{{path}}`` in its strings replaced by the value there.

    A string that is nothing but one placeholder takes the value itself. Inside other text a string goes in as it is,
    any other value, null included, as compact JSON. Where nothing is at the path, that is an empty string, alone too.
    With *quote* every value becomes text, as it would inside other text, and is passed through *quote*.

    ``{{path?}}`` is null alone and empty in text where the value is missing or null; ``{{path | default(…)}}`` is the
    literal there: a string, a number, true, false, null, or a list of such.

    Raises `ConditionError` for a placeholder that does not parse, `EncodeError` for a value that JSON cannot hold.

    >>> import shlex
    >>> context = {"inputs": {"files": ["a b", "c"], "name": "it's", "n": None}}
    >>> render_template(["{{inputs.files}}", "-> {{ inputs.files }}", "{{inputs.n}}", "{{inputs.none}}"], context)
    [['a b', 'c'], '-> ["a b","c"]', None, '']
    >>> render_template(["{{inputs.n?}}", "<{{inputs.n?}}>", "{{inputs.none | default(['a'])}}"], context)
    [None, '<>', ['a']]
    >>> render_template('echo {{inputs.name}} {{inputs.none}} {{"{{"}}', context, quote=shlex.quote)
    'echo \\'it\\'"\\'"\\'s\\' \\'\\' {{'
    """
    return CompiledTemplate.compile(template).render(context, quote)


class _Constant(NamedTuple):
    value: Json


_MISSING: Final = object()


class _Placeholder(NamedTuple):
    path: Path
    is_optional: bool = False
    default: Json = None

    def value(self, context: Context, strict: bool) -> Json:
        """Return what stands here alone."""
        found = self.path.resolve(context, _MISSING)
        if self.is_optional:
            return self.default if found is _MISSING or found is None else found
        if found is not _MISSING:
            return found
        if strict:
            raise MissingValue(self.path.text, there_is(self.path, context))
        return ""

    def text(self, context: Context, strict: bool) -> str:
        """Return what stands here in text."""
        value = self.value(context, strict)
        if isinstance(value, str):
            return value
        return "" if value is None and self.is_optional else _as_json(value, self.path)


class _Text(NamedTuple):
    parts: tuple[str | _Placeholder, ...]

    def render(self, context: Context, quote: Quote | None, strict: bool) -> Json:
        first = self.parts[0]
        if quote is None and len(self.parts) == 1 and isinstance(first, _Placeholder):
            return _plain(first.value(context, strict))
        texts = (part if isinstance(part, str) else part.text(context, strict) for part in self.parts)
        if quote is None:
            return "".join(texts)
        pairs = zip(self.parts, texts, strict=True)
        return "".join(text if isinstance(part, str) else quote(text) for part, text in pairs)


class _List(NamedTuple):
    size: int


class _Object(NamedTuple):
    keys: tuple[str, ...]


_Instruction: TypeAlias = _Constant | _Text | _List | _Object


class _Compiler:
    """Turns a structure into a program for a stack, last part first, so that no depth takes recursion."""

    def __init__(self, strict: bool, verbatim: Collection[str]) -> None:
        self._strict = strict
        self._verbatim = verbatim
        self.references: list[Path] = []
        self.needed: list[Path] = []

    def compile(self, value: Json) -> tuple[_Instruction, ...]:
        program: list[_Instruction] = []
        starts: list[int] = []  # where the instructions of each value that would now be on the stack begin
        for node, parts, instruction in reversed(self._walk(value)):
            start = starts[-parts] if parts else len(program)
            del starts[len(starts) - parts :]
            if parts and len(program) - start == parts and all(isinstance(part, _Constant) for part in program[start:]):
                program[start:] = [_Constant(node)]
            else:
                program.append(instruction)
            starts.append(start)
        return tuple(program)

    def _walk(self, root: Json) -> list[tuple[Json, int, _Instruction]]:
        """List every value in *root*, each before its parts: the value, how many parts it has, and how to make it."""
        found: list[tuple[Json, int, _Instruction]] = []
        pending = [root]
        while pending:
            value = pending.pop()
            if len(found) == MAX_VALUES:
                raise ConditionError("", 0, f"more than {MAX_VALUES} values, or a value that holds itself")
            if type(value) is _Verbatim:
                found.append((value.value, 0, _Constant(value.value)))
            elif isinstance(value, str) and "{{" in value:
                found.append((value, 0, _Text(self._parts(value))))
            elif isinstance(value, (dict, Mapping)) and value:
                if self._strict:
                    _check_keys(value)
                found.append((value, len(value), _Object(tuple(value))))
                parts = list(value.values())
                if self._verbatim and len(found) == 1:
                    parts = [_Verbatim(part) if key in self._verbatim else part for key, part in value.items()]
                pending.extend(reversed(parts))
            elif isinstance(value, (list, tuple)) and value:
                found.append((value, len(value), _List(len(value))))
                pending.extend(reversed(value))
            else:
                found.append((value, 0, _Constant(value)))
        return found

    def _parts(self, text: str) -> tuple[str | _Placeholder, ...]:
        parts = [part for _, part in _split(text, self._strict)]
        placeholders = [part for part in parts if isinstance(part, _Placeholder)]
        self.references += [part.path for part in placeholders]
        self.needed += [part.path for part in placeholders if not part.is_optional]
        return tuple(part for part in parts if part != "") or ("",)


class _Verbatim(NamedTuple):
    value: Json


class Piece(NamedTuple):
    """A part of a text with placeholders: what it says, or the path of a placeholder, and where that begins."""

    position: int
    part: str | Path


def pieces_of(text: str) -> list[Piece]:
    """Return what *text* is made of, as the template of a flow. Raises `ConditionError` where it does not parse.

    >>> [str(piece.part) for piece in pieces_of("rm {{inputs.x?}}{{'{{'}}")]
    ['rm ', 'inputs.x', '', '{{', '']
    """
    pieces = _split(text, strict=True)
    return [Piece(start, part.path if isinstance(part, _Placeholder) else part) for start, part in pieces]


def _split(text: str, strict: bool) -> list[tuple[int, str | _Placeholder]]:
    """Return the parts of *text*, each with where it begins."""
    parts: list[tuple[int, str | _Placeholder]] = []
    scanner = Scanner(text)
    while (start := text.find("{{", scanner.position)) >= 0:
        if strict and text[start - 1 : start] == "$":
            raise scanner.error(_DOLLAR, start - 1)
        parts.append((scanner.position, text[scanner.position : start]))
        scanner.position = start + 2
        scanner.skip_space()
        parts.append((start, scanner.string() if scanner.at_quote else _placeholder(scanner)))
        scanner.skip_space()
        if not scanner.take("}}"):
            raise scanner.error(f"expected '}}}}', found {scanner.found}{_hint(scanner)}")
    parts.append((scanner.position, text[scanner.position :]))
    return parts


_WANTED: Final = 'a path (or {{"{{"}} for {{ itself)'
_DOLLAR: Final = "${{ }} is not filled in: write {{ }}, and {{'$'}}{{ }} for a dollar sign before a value"


def _placeholder(scanner: Scanner) -> _Placeholder:
    """Read the path that begins here, and what is said of it."""
    path = scanner.path(_WANTED)
    scanner.skip_space()
    if scanner.take("?"):
        return _Placeholder(path, True)
    bar = scanner.position
    if scanner.text.startswith("||", bar) or not scanner.take("|"):
        return _Placeholder(path)
    scanner.skip_space()
    if scanner.word() != "default":
        raise scanner.error("after | there can only be default(…)", bar)
    scanner.skip_space()
    if not scanner.take("("):
        raise scanner.error(f"expected the '(' of default(…), found {scanner.found}")
    scanner.skip_space()
    default = read_literal(scanner)
    scanner.skip_space()
    if not scanner.take(")"):
        raise scanner.error(f"expected the ')' of default(…), found {scanner.found}")
    return _Placeholder(path, True, default)


def _hint(scanner: Scanner) -> str:
    if scanner.text.startswith(("||", "or ", "??"), scanner.position):
        return " (another value where there is none is | default('x'))"
    return ""


def _check_keys(value: Mapping[str, Json]) -> None:
    for key in map(str, value):
        if "{{" in key:
            raise ConditionError(key, key.index("{{"), "{{ in a key is not filled in: only values are")


def _as_json(value: Json, path: Path) -> str:
    try:
        return _encode(value)
    except RecursionError:
        raise EncodeError(path.text, "nested too deeply to be written as JSON") from None
    except (TypeError, ValueError) as error:
        raise EncodeError(path.text, str(error)) from None


def _plain(value: Json) -> Json:
    """Return a computed mapping as a dict, with those in it; any other value as it is."""
    if isinstance(value, dict) or not isinstance(value, Mapping):
        return value
    return {key: _plain(part) for key, part in value.items()}


def _encodable(value: object) -> Json:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_encodable).encode
