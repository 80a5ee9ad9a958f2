"""Replay the Pittsburgh live fire from pulses and from audio: the baseline that later work must beat.

    python -m bench.pittsburgh [--out FOLDER]

prints a table; `figures` gives the same numbers for ``bench.json``. The recordings are found by ``AGLS_SHARED`` or at
``../shared`` beside the project.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from agls.replay import replay
from agls.replay.dataset import Choice

SOURCES: tuple[Choice, ...] = ("detections", "audio")


def find_release() -> Path | None:
    """Find the Pittsburgh release.

    Returns
    -------
    pathlib.Path or None
        Its folder; None where it is not at hand.
    """
    named = os.environ.get("AGLS_SHARED")
    shared = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    release = shared / "data" / "shotspotter-pittsburgh"
    return release if release.is_dir() else None


def measure(source: Choice, release: Path, out: Path) -> dict[str, float]:
    """Replay the release once.

    Parameters
    ----------
    source : str
        ``detections`` or ``audio``.
    release : pathlib.Path
        The dataset.
    out : pathlib.Path
        Folder for the results.

    Returns
    -------
    dict of str to float
        Name, which ends in its unit, to figure.
    """
    started = time.perf_counter()
    summary = replay(release, out, source=source)
    taken_s = time.perf_counter() - started
    total: dict[str, Any] = (summary.score or {})["total"]  # type: ignore[assignment]
    within = {f"within_{radius.replace(' ', '_')}_count": found["count"] for radius, found in total["within"].items()}
    named = {
        "true_shots_count": total["true_shots_count"],
        "located_count": total["located_count"],
        **within,
        "error_median_m": total["error_median_m"],
        "error_p90_m": total["error_p90_m"],
        "ghosts_count": total["ghosts_count"],
        "ghosts_called_gunfire_count": total["ghosts_called_gunfire_count"],
        "doubles_count": total["doubles_count"],
        "rounds_exact_count": total["rounds_exact"]["count"],
        "ellipse_holds_truth_count": total["ellipse95_holds_truth"]["count"],
        "scatter_x_m": total["scatter"]["x_sigma_m"],
        "scatter_y_m": total["scatter"]["y_sigma_m"],
        "refused_count": len(summary.refused),
        "taken_s": taken_s,
    }
    return {f"pittsburgh_{source}_{name}": figure for name, figure in named.items() if figure is not None}


def figures(out: Path | None = None) -> dict[str, float]:
    """Replay the release from pulses and from audio.

    Parameters
    ----------
    out : pathlib.Path, optional
        Folder for the results of both; a temporary one if not given.

    Returns
    -------
    dict of str to float
        Name to figure; empty where the release is not at hand.
    """
    release = find_release()
    if release is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        root = out or Path(folder)
        return {name: figure for source in SOURCES for name, figure in measure(source, release, root / source).items()}


def main() -> None:
    """Replay, and print a table."""
    parser = argparse.ArgumentParser(prog="bench.pittsburgh", description="Replay the Pittsburgh live fire.")
    parser.add_argument("--out", type=Path, default=None, help="folder for both replays (default: none kept)")
    found = figures(parser.parse_args().out)
    if not found:
        print("the Pittsburgh release is not at hand; name the folder above data/ with AGLS_SHARED")
    width = max(map(len, found), default=0)
    for name, figure in found.items():
        print(f"{name:<{width}}  {figure:>10.3f}")


if __name__ == "__main__":
    main()
