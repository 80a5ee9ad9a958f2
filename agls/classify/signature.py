"""Sign a model file and check its signature: Ed25519 (RFC 8032) by Python's integers alone.

A node carries no cryptography library, and checks one signature when it starts: a few hundredths of a second. Nothing
here runs in constant time, so sign on a machine that nobody else measures.

References
----------
Josefsson and Liusvaara 2017, Edwards-Curve Digital Signature Algorithm (EdDSA), RFC 8032, section 5.1.
"""

from hashlib import sha512

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
CURVE = -121665 * pow(121666, -1, PRIME) % PRIME
ROOT_OF_MINUS_ONE = pow(2, (PRIME - 1) // 4, PRIME)

# A point of the curve as X, Y, Z and T, where x = X / Z, y = Y / Z and x y = T / Z.
Point = tuple[int, int, int, int]
NEUTRAL: Point = (0, 1, 1, 0)


def public_key(secret: bytes) -> bytes:
    """Compute the public key of a secret one.

    Parameters
    ----------
    secret : bytes
        32 bytes of chance.

    Returns
    -------
    bytes
        32 bytes for everybody.
    """
    return _encoded(_times(_scalar(secret)[0], BASE))


def sign(secret: bytes, message: bytes) -> bytes:
    """Sign a message; the same key and message give the same signature.

    Parameters
    ----------
    secret : bytes
        32 bytes.
    message : bytes
        What is signed.

    Returns
    -------
    bytes
        64 bytes.
    """
    scalar, prefix = _scalar(secret)
    public = public_key(secret)
    nonce = _hashed(prefix + message)
    commitment = _encoded(_times(nonce, BASE))
    answer = (nonce + _hashed(commitment + public + message) * scalar) % ORDER
    return commitment + answer.to_bytes(32, "little")


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether a signature is that of a message by the holder of a key.

    Parameters
    ----------
    public : bytes
        Whose.
    message : bytes
        What was signed.
    signature : bytes
        64 bytes.

    Returns
    -------
    bool
        False for anything that is not exactly right.
    """
    if len(public) != 32 or len(signature) != 64:
        return False
    answer = int.from_bytes(signature[32:], "little")
    signer, commitment = _decoded(public), _decoded(signature[:32])
    if answer >= ORDER or NEUTRAL in (signer, commitment):
        return False
    challenge = _hashed(signature[:32] + public + message)
    return _encoded(_times(answer, BASE)) == _encoded(_sum(commitment, _times(challenge, signer)))


def _hashed(content: bytes) -> int:
    return int.from_bytes(sha512(content).digest(), "little") % ORDER


def _scalar(secret: bytes) -> tuple[int, bytes]:
    """Derive from a secret key its number and what its nonces are made with."""
    whole = sha512(secret).digest()
    number = int.from_bytes(whole[:32], "little")
    return number & ((1 << 254) - 8) | (1 << 254), whole[32:]


def _sum(one: Point, other: Point) -> Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % PRIME
    b = (one[1] + one[0]) * (other[1] + other[0]) % PRIME
    c = 2 * one[3] * other[3] * CURVE % PRIME
    d = 2 * one[2] * other[2] % PRIME
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % PRIME, g * h % PRIME, f * g % PRIME, e * h % PRIME


def _times(factor: int, point: Point) -> Point:
    product = NEUTRAL
    while factor:
        if factor & 1:
            product = _sum(product, point)
        point = _sum(point, point)
        factor >>= 1
    return product


def _encoded(point: Point) -> bytes:
    scale = pow(point[2], -1, PRIME)
    x, y = point[0] * scale % PRIME, point[1] * scale % PRIME
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _decoded(content: bytes) -> Point:
    """Find the point that 32 bytes stand for; the neutral one, which no key or commitment may be, if there is none."""
    number = int.from_bytes(content, "little")
    odd, y = number >> 255, number & ((1 << 255) - 1)
    square = (y * y - 1) * pow(CURVE * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * ROOT_OF_MINUS_ONE % PRIME
    if y >= PRIME or (x * x - square) % PRIME or (x == 0 and odd):
        return NEUTRAL
    if x & 1 != odd:
        x = PRIME - x
    return x, y, 1, x * y % PRIME


BASE: Point = _decoded((4 * pow(5, -1, PRIME) % PRIME).to_bytes(32, "little"))
