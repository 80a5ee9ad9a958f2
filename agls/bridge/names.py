"""Make the identifiers of what the bridge says from the identifiers of what it was told.

An identifier derived from inputs, not from chance or a clock, is what makes replays byte-identical and lets a
receiver that hears twice notice it.
"""

import hashlib

MAX_LENGTH = 64  # of `messages.Identifier`


def derived_id(*parts: str) -> str:
    """Join parts into one identifier, the same for the same parts and different for different ones.

    Parameters
    ----------
    *parts : str
        Identifiers, or whole numbers as text; not empty.

    Returns
    -------
    str
        The parts joined by dots where that is short and unambiguous, else its beginning and a digest.
    """
    name = ".".join(parts)
    if len(name) <= MAX_LENGTH and not any("." in part for part in parts):
        return name
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return f"{name[: MAX_LENGTH - 17]}-{digest}"
