"""Ids of steps and flows that read as what they are of: UUIDs, which szal-rs reads only."""

import uuid


def uid(name: object) -> str:
    """Return the UUID that stands for *name*, always the same."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(name)))
