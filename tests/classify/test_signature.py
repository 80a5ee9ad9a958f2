import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agls.classify.signature import public_key, sign, verify

SECRET = bytes(range(32))


@settings(max_examples=6, deadline=None)
@given(secret=st.binary(min_size=32, max_size=32), message=st.binary(max_size=80))
def test_keys_and_signatures_are_those_of_another_implementation(secret, message):
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    theirs = ed25519.Ed25519PrivateKey.from_private_bytes(secret)
    assert public_key(secret) == theirs.public_key().public_bytes_raw()
    assert sign(secret, message) == theirs.sign(message)
    assert verify(public_key(secret), message, sign(secret, message))


def test_the_first_example_of_the_standard_holds():
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert public_key(secret).hex() == public
    assert sign(secret, b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155")


@settings(max_examples=10, deadline=None)
@given(place=st.integers(0, 63), bit=st.integers(0, 7))
def test_a_signature_with_any_bit_turned_is_refused(place, bit):
    signature = bytearray(sign(SECRET, b"model"))
    signature[place] ^= 1 << bit
    assert not verify(public_key(SECRET), b"model", bytes(signature))


def test_another_message_key_or_length_is_refused():
    signature = sign(SECRET, b"model")
    assert not verify(public_key(SECRET), b"models", signature)
    assert not verify(public_key(bytes(32)), b"model", signature)
    assert not verify(public_key(SECRET), b"model", signature[:-1])
    assert not verify(b"", b"model", signature)
    assert not verify(bytes(32), b"model", bytes(64))
    assert not verify(b"\xff" * 32, b"model", signature)
