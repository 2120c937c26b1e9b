"""The model as JSON text and back: the one place that knows how it is written.

The keys, their order and their types are szal-rs 1.2's, so that a Rust and a Python program can share a
database; what szal adds are extra keys, left out when empty. Reading is strict about what it knows and
tolerant of the rest: an unknown key is passed over, a missing optional one takes its default.
"""

from szal.model.json.checkpoint import MOST_ATTEMPTS, AttemptEnd, Checkpoint, decode_checkpoint, encode_checkpoint
from szal.model.json.flow import decode_flow, encode_flow, flow_fields, step_fields
from szal.model.json.record import checked_labels, decode_record, encode_record
from szal.model.json.step_result import decode_step_result, encode_step_result
from szal.model.moment import NO_LIMIT_MS

__all__ = [
    "MOST_ATTEMPTS",
    "NO_LIMIT_MS",
    "AttemptEnd",
    "Checkpoint",
    "checked_labels",
    "decode_checkpoint",
    "decode_flow",
    "decode_record",
    "decode_step_result",
    "encode_checkpoint",
    "encode_flow",
    "encode_record",
    "encode_step_result",
    "flow_fields",
    "step_fields",
]
