"""Make the peers' environment when it is first needed, and run a script in it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent.parent / ".venv-peers"
WAIT_S = 600.0


class PeerAbsentError(Exception):
    """A peer that cannot be run; its text says why."""


def python(name: str = "") -> Path:
    """Find the peers' Python, and make it where there is none.

    Parameters
    ----------
    name : str, optional
        Which peers: those of ``requirements-NAME.txt``, in an environment of their own.

    Returns
    -------
    pathlib.Path
        The interpreter.

    Raises
    ------
    PeerAbsentError
        If it cannot be made, as without a network.
    """
    ending = f"-{name}" if name else ""
    folder, requirements = FOLDER.with_name(FOLDER.name + ending), HERE / f"requirements{ending}.txt"
    interpreter = folder / "bin" / "python"
    stamp, wanted = folder / "installed", requirements.read_text("utf-8")
    if stamp.is_file() and stamp.read_text("utf-8") == wanted:
        return interpreter
    print(f"installing bench/peers/{requirements.name} into {folder.name}", file=sys.stderr)
    _run([sys.executable, "-m", "venv", "--clear", str(folder)], WAIT_S)
    pip = [str(interpreter), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    _run([*pip, "-r", str(requirements)], WAIT_S)
    stamp.write_text(wanted, "utf-8")
    return interpreter


def ask(script: str, wait_s: float, **arrays: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
    """Hand arrays to a script in the peers' environment, and take arrays back.

    Parameters
    ----------
    script : str
        File name beside this module.
    wait_s : float
        Give up after this [s].
    **arrays : numpy.ndarray
        What it is given.

    Returns
    -------
    dict of str to numpy.ndarray
        What it gives back.

    Raises
    ------
    PeerAbsentError
        If it cannot be run, fails or takes too long.
    """
    interpreter = python()
    with tempfile.TemporaryDirectory() as folder:
        given, taken = Path(folder) / "given.npz", Path(folder) / "taken.npz"
        np.savez(given, **arrays)  # type: ignore[arg-type]
        _run([str(interpreter), str(HERE / script), str(given), str(taken)], wait_s)
        with np.load(taken, allow_pickle=False) as found:
            return dict(found)


def _run(command: list[str], wait_s: float) -> None:
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=wait_s, env=os.environ | one_thread)
    except subprocess.TimeoutExpired:
        raise PeerAbsentError(f"took more than {wait_s:g} s") from None
    except (OSError, subprocess.CalledProcessError) as error:
        told = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise PeerAbsentError(told[-1][:200] if told else "failed without a word") from None
