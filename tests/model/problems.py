"""What people are told of a flow."""

from szal import FlowDef, InvalidFlow


def problems_of(flow: FlowDef) -> str:
    """Return what is wrong with *flow*, a line each; nothing where it is valid."""
    try:
        flow.validate()
    except InvalidFlow as error:
        return "\n".join(error.problems)
    return ""
