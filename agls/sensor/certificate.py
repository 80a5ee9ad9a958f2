"""What a certificate says: for whom it is, and until when. A node has no library to read one, and needs no more.

A certificate (RFC 5280) is values within values, each a tag, a length and a content (DER): the certificate holds what
is signed, and that holds, in this order, perhaps a version, a serial number, an algorithm, who issued it, when it holds
and for whom it is.
"""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

SEQUENCE, VERSION, UTC_TIME = 0x30, 0xA0, 0x17
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
COMMON_NAME = b"\x06\x03\x55\x04\x03"
AFTER_VERSION = 5  # serial number, algorithm, issuer, validity, subject


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says of itself; nobody has checked who signed it.

    Attributes
    ----------
    name : str
        Common name of whom it is for.
    until_s : float
        When it ends, since the Unix epoch [s].
    """

    name: str
    until_s: float


def read_certificate(pem: str) -> Certificate:
    """Read the first certificate of a PEM text.

    Parameters
    ----------
    pem : str
        The text.

    Returns
    -------
    Certificate
        What it says.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        _, begun, rest = pem.partition(BEGIN)
        inside, ended, _ = rest.partition(END)
        if not (begun and ended):
            raise IndexError(f"it does not hold {BEGIN} and {END}")
        whole = next(_values(ssl.PEM_cert_to_DER_cert(begun + inside + ended)))[1]
        parts = list(_values(next(_values(whole))[1]))
        parts = parts[parts[0][0] == VERSION :][:AFTER_VERSION]
        *_, (_, validity), (_, subject) = parts
        return Certificate(_name(subject), _moment_s(*list(_values(validity))[1]))
    except (IndexError, StopIteration, ValueError) as error:
        raise ValueError(f"not a certificate ({error})") from None


def _values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Walk through values that follow each other: the tag and the content of each."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size]), at + size
        if at + length > len(der):
            raise IndexError("it is cut off")
        yield tag, der[at : at + length]
        at += length


def _name(subject: bytes) -> str:
    """Find the common name among the parts of a name."""
    for _, part in _values(subject):
        for _, pair in _values(part):
            if pair.startswith(COMMON_NAME):
                return next(_values(pair[len(COMMON_NAME) :]))[1].decode()
    return ""


def _moment_s(tag: int, text: bytes) -> float:
    """Read a time: of two digits for the year up to 2049, of four from then on."""
    digits = text.decode("ascii").removesuffix("Z")
    if tag == UTC_TIME:
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
