"""The root of the tree."""

__all__ = ["SzalError"]


class SzalError(Exception):
    """The root of every error that szal raises on purpose.

    >>> issubclass(StepTimeout, SzalError), issubclass(SinkFull, SzalError)
    (True, True)
    """
