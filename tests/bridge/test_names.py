from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from agls.bridge.names import derived_id
from agls.messages import Identifier

identifiers = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}[A-Za-z0-9_-]", fullmatch=True).map(lambda text: text[:64])


def test_short_parts_stay_readable() -> None:
    assert derived_id("slew", "i7", "2", "cam-north") == "slew.i7.2.cam-north"


def test_dots_inside_parts_cannot_make_two_names_one() -> None:
    assert derived_id("slew", "a.1", "2", "x") != derived_id("slew", "a", "1", "2.x")


@given(identifiers, st.integers(0, 2**53), identifiers)
def test_every_name_is_an_identifier_and_repeats(incident: str, revision: int, camera: str) -> None:
    name = derived_id("slew", incident, str(revision), camera)
    assert convert(name, Identifier) == name == derived_id("slew", incident, str(revision), camera)


@given(st.tuples(identifiers, identifiers), st.tuples(identifiers, identifiers))
def test_different_parts_get_different_names(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (derived_id(*one) == derived_id(*other)) == (one == other)
