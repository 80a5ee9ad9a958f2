"""The one place that decides how kernels are compiled."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")


def _cache_folder() -> Path:
    """Name the folder for compiled kernels after what is in all of them.

    A kernel holds the machine code of those it calls, but numba looks only at the file it stands in to tell whether it
    is stale: after a change in another file it would go on with the old code.
    """
    here = Path(__file__).parent
    texts = [path.read_bytes() for path in sorted(here.glob("*.py"))]
    digest = hashlib.sha256(b"".join(text for text in texts if b"@kernel" in text)).hexdigest()
    return here / "__pycache__" / f"kernels-{digest[:12]}"


_CACHE_FOLDER = _cache_folder()
_NUMBA_SETTINGS = vars(numba.config)


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a numeric kernel.

    Cached on disk, so that only the first run of a version pays for compiling; division by zero gives infinity as in
    numpy instead of an exception. No fast-math: results must not depend on how a compiler reorders sums, or a journal
    replayed tomorrow would differ from today.

    Parameters
    ----------
    function : callable
        Numbers and numpy arrays in, numbers and numpy arrays out.

    Returns
    -------
    callable
        The compiled function; its ``py_func`` is the original.
    """
    elsewhere = _NUMBA_SETTINGS["CACHE_DIR"]  # of NUMBA_CACHE_DIR, else empty
    _NUMBA_SETTINGS["CACHE_DIR"] = str(Path(elsewhere) / _CACHE_FOLDER.name if elsewhere else _CACHE_FOLDER)
    try:
        compiled: Callable[P, R] = numba.njit(cache=True, error_model="numpy")(function)
    finally:
        _NUMBA_SETTINGS["CACHE_DIR"] = elsewhere
    return compiled
