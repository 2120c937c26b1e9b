"""Keys: one for each list of parts, and the plain join where no part holds a separator."""

from hypothesis import example, given
from hypothesis import strategies as st

from szal.model.key import key_of

PARTS = st.lists(st.text(":%3A25ab\\", min_size=1, max_size=5), min_size=1, max_size=3)


@given(PARTS)
def test_parts_without_a_colon_stay_as_they_are(parts):
    parts = [part.replace(":", "%3A") for part in parts]
    assert key_of(*parts) == ":".join(parts)


@given(PARTS, PARTS)
@example(["e", "pay:rollback"], ["e", "pay", "rollback"])
@example(["a", "1:b"], ["a:1", "b"])
@example(["a:", "b"], ["a", ":b"])
@example(["a:b", "c"], ["a%3Ab", "c"])
def test_other_parts_have_another_key(one, two):
    assert (key_of(*one) == key_of(*two)) == (one == two)
