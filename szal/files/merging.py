"""YAML's merge key: ``<<: *anchor`` takes over the entries of another object, or of a list of them.

A step of its own over the values that were read, so that the parser knows nothing of it, and whoever reads the flow
neither. What was taken over keeps the place where it stands: messages lead to the anchor.
"""

from typing import Final

from szal.files.document import Entry, Problem, Value

__all__ = ["merged"]

_KEY: Final = "<<"


def merged(root: Value, problems: list[Problem]) -> Value:
    """Return *root* with its merge keys carried out, noting in *problems* those that cannot be.

    An object's own keys win, and of a list the objects that come first. What has no merge key in it stays as it is.

    >>> from szal.files.yaml import read_yaml
    >>> merged(read_yaml("x: &x {a: 1, b: 2}\\ny: {<<: *x, b: 3}", []), []).plain()
    {'x': {'a': 1, 'b': 2}, 'y': {'a': 1, 'b': 3}}
    """
    return _Merger(problems).value(root)


class _Merger:
    """Recursive: the parser has limited how deep a document is."""

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems
        self._made: dict[int, Value] = {}  # by id of a value: aliases share theirs, and go on sharing it

    def value(self, value: Value) -> Value:
        if not isinstance(value.data, list | dict):
            return value
        made = self._made.get(id(value))
        if made is None:
            made = self._made[id(value)] = self._list(value) if isinstance(value.data, list) else self._object(value)
        return made

    def _list(self, value: Value) -> Value:
        assert isinstance(value.data, list)
        items = [self.value(item) for item in value.data]
        is_same = all(new is old for new, old in zip(items, value.data, strict=True))
        return value if is_same else Value.of_list(value.place, items)

    def _object(self, value: Value) -> Value:
        assert isinstance(value.data, dict)
        own = {key: Entry(entry.place, self.value(entry.value)) for key, entry in value.data.items()}
        merge = own.pop(_KEY, None)
        if merge is None and all(own[key].value is entry.value for key, entry in value.data.items()):
            return value
        taken_over = {} if merge is None else self._taken_over(merge)
        return Value.of_dict(value.place, {**taken_over, **own})

    def _taken_over(self, merge: Entry) -> dict[str, Entry]:
        given = merge.value.data
        found: dict[str, Entry] = {}
        for value in reversed(given) if isinstance(given, list) else [merge.value]:
            if isinstance(value.data, dict):
                found.update(value.data)
            else:
                problem = "'<<' takes over the keys of an object, as in '<<: *anchor', or of a list of objects"
                self._problems.append(Problem(value.place, problem))
        return found
