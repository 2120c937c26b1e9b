"""The root of the tree, and what each exception in it may carry."""

from szal.raised import attributes_of, is_a

__all__ = ["SzalError", "partial_output_of"]


class SzalError(Exception):
    """The root of every error that szal raises on purpose.

    >>> issubclass(StepTimeout, SzalError), issubclass(SinkFull, SzalError)
    (True, True)
    """

    partial_output: object = None
    """What a step has come to although it fails with this, as JSON: it becomes the output of its `StepResult`.

    Of a command that is what it printed and how it ended. A handler may set it on what it raises.
    """


def partial_output_of(error: BaseException) -> object:
    """Return what a step has come to although it failed with *error*; None where that is not told.

    >>> error = SzalError("3 of 5 are sent")
    >>> error.partial_output = {"sent": 3}
    >>> partial_output_of(error), partial_output_of(ValueError())
    ({'sent': 3}, None)
    """
    return attributes_of(error).get("partial_output") if is_a(error, SzalError) else None
