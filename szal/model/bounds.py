"""What one store cannot hold and others can: known before it is asked."""

from typing import Final

import attrs

__all__ = ["ANYTHING", "Bounds"]


@attrs.frozen
class Bounds:
    """What a store cannot hold. `key`: how many bytes a name may have.

    >>> Bounds(key=1300).problem_of_key("x" * 2000)
    'is 2000 bytes long: an index of this store takes 1300'
    """

    key: int | None = None

    def problem_of_key(self, name: str) -> str | None:
        """Return what keeps *name* from being the name of a step, or an execution's id, as the end of a sentence."""
        if self.key is None or len(name) * 4 <= self.key or (size := len(name.encode())) <= self.key:
            return None
        return f"is {size} bytes long: an index of this store takes {self.key}"


ANYTHING: Final = Bounds()
