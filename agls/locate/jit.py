"""The one place that decides how kernels are compiled."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a numeric kernel.

    Cached on disk, so that only the first run on a machine pays for compiling; division by zero gives infinity as in
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
    compiled: Callable[P, R] = numba.njit(cache=True, error_model="numpy")(function)
    return compiled
