"""What a benchmark says: figures with what is asked of them, counts and intervals, and where they were measured."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from agls import __version__

PROJECT = Path(__file__).resolve().parent.parent
REPORTED_SEED = 10_000  # seeds from here on are for reporting alone; settings are chosen on seeds below 1000
_Z95 = 1.959963984540054

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    Attributes
    ----------
    quick : bool
        Fewer draws: a look during development, no report.
    first_seed : int
        Seeds count from here.
    processes : int
        How many processes may work at once.
    """

    quick: bool = False
    first_seed: int = REPORTED_SEED
    processes: int = 2

    def draws(self, full: int, quick: int) -> int:
        """Say how many draws to take.

        Parameters
        ----------
        full, quick : int
            How many in a full run, and in a quick one.

        Returns
        -------
        int
            One of the two.
        """
        return quick if self.quick else full

    def seeds(self, full: int, quick: int) -> range:
        """Say which seeds to use.

        Parameters
        ----------
        full, quick : int
            How many in a full run, and in a quick one.

        Returns
        -------
        range
            The seeds.
        """
        return range(self.first_seed, self.first_seed + self.draws(full, quick))


@dataclass(frozen=True)
class Ask:
    """What a figure must be: between two bounds, both included."""

    low: float = -math.inf
    high: float = math.inf

    def holds(self, figure: float) -> bool:
        """Say whether a figure is as asked.

        Parameters
        ----------
        figure : float
            As measured; not a number never holds.

        Returns
        -------
        bool
            Whether it is.
        """
        return self.low <= figure <= self.high

    def __str__(self) -> str:
        """Write it as people do."""
        if self.low == self.high:
            return f"{self.low:g}"
        if math.isinf(self.high):
            return f">= {self.low:g}" if math.isfinite(self.low) else "-"
        return f"{self.low:g} to {self.high:g}" if math.isfinite(self.low) else f"<= {self.high:g}"


ANY = Ask()


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes
    ----------
    figure : str
        What it is, with its unit.
    measured : float
        Its value; not a number where it was not measured.
    ask : Ask
        What it must be.
    count : int
        On how many draws it rests.
    interval : tuple of float or None
        Its 95 % interval.
    detail : dict
        What lies behind it: by position, by configuration, by peer.
    note : str
        What a reader must know, such as why it was not measured.
    """

    figure: str
    measured: float
    ask: Ask = ANY
    count: int = 0
    interval: tuple[float, float] | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def verdict(self) -> str:
        """Say in a word how it stands.

        Returns
        -------
        str
            ``ok``, ``MISSED``, ``not run``, or nothing where nothing is asked.
        """
        if math.isnan(self.measured):
            return "not run"
        if self.ask == ANY:
            return ""
        return "ok" if self.ask.holds(self.measured) else "MISSED"


def wilson(count: int, of: int) -> tuple[float, float]:
    """Give the 95 % Wilson interval of a share.

    Parameters
    ----------
    count : int
        How many.
    of : int
        Of how many.

    Returns
    -------
    tuple of float
        Low and high; 0 and 1 of nothing.
    """
    if of == 0:
        return 0.0, 1.0
    share, square = count / of, _Z95**2 / of
    middle = (share + square / 2) / (1 + square)
    half = _Z95 * math.sqrt(share * (1 - share) / of + square / (4 * of)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def share_row(figure: str, count: int, of: int, ask: Ask = ANY, **more: Any) -> Row:
    """Make the row of a share.

    Parameters
    ----------
    figure : str
        What it is.
    count : int
        How many.
    of : int
        Of how many.
    ask : Ask, optional
        What it must be.
    **more : Any
        Further fields of the row.

    Returns
    -------
    Row
        With its Wilson interval.
    """
    return Row(figure, count / of if of else math.nan, ask, of, wilson(count, of), **more)


def share_detail(count: int, of: int) -> dict[str, float | int]:
    """Tell a share with its count and interval, for the detail of a row.

    Parameters
    ----------
    count : int
        How many.
    of : int
        Of how many.

    Returns
    -------
    dict
        Count, of, share, low and high.
    """
    low, high = wilson(count, of)
    return {"count": count, "of": of, "share": count / of if of else math.nan, "low": low, "high": high}


def bootstrap(samples: ArrayLike, statistic: Callable[[np.ndarray], float], draws: int = 1000) -> tuple[float, float]:
    """Give the 95 % bootstrap interval of a statistic.

    Parameters
    ----------
    samples : array_like, shape (n,) or (n, k)
        Independent samples along the first axis.
    statistic : callable
        Samples in, figure out.
    draws : int, optional
        How many resamples.

    Returns
    -------
    tuple of float
        Low and high percentile.
    """
    values = np.asarray(samples)
    rng = np.random.default_rng(20)
    again = [statistic(values[rng.integers(0, len(values), len(values))]) for _ in range(draws)]
    low, high = np.quantile(again, [0.025, 0.975])
    return float(low), float(high)


def spread(work: Callable[[T], R], items: Iterable[T], plan: Plan) -> list[R]:
    """Do the same work on many items, in at most as many processes as planned.

    Parameters
    ----------
    work : callable
        A function of a module, so that another process finds it.
    items : iterable
        What to work on.
    plan : Plan
        How many processes.

    Returns
    -------
    list
        Results in the order of the items.
    """
    chosen = list(items)
    if plan.processes < 2 or len(chosen) < 2:
        return [work(item) for item in chosen]
    chunk = max(1, len(chosen) // (plan.processes * 8))
    with ProcessPoolExecutor(plan.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(work, chosen, chunksize=chunk))


# ---------------------------------------------------------------------------------------------------------- output


def table(rows: Sequence[Row]) -> str:
    """Write rows as a table.

    Parameters
    ----------
    rows : sequence of Row
        The rows.

    Returns
    -------
    str
        A line each: figure, asked, measured with its interval, count, verdict.
    """
    cells = [[row.figure, str(row.ask), _told(row), f"n={row.count}" if row.count else "", row.verdict] for row in rows]
    cells.insert(0, ["figure", "asked", "measured [95 %]", "draws", ""])
    widths = [max(len(line[k]) for line in cells) for k in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    notes = {row.figure: row.note for row in rows if row.note}
    return "\n".join(lines + [f"    {figure}: {note}" for figure, note in notes.items()])


def _told(row: Row) -> str:
    if math.isnan(row.measured):
        return "-"
    within = "" if row.interval is None else f" [{row.interval[0]:.4g}, {row.interval[1]:.4g}]"
    return f"{row.measured:.5g}{within}"


def machine() -> dict[str, Any]:
    """Name the machine.

    Returns
    -------
    dict
        Processor, cores, system and versions.
    """
    import numba
    import scipy

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    versions = {"python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__}
    versions |= {"scipy": scipy.__version__, "agls": __version__}
    return {"processor": model, "cores": os.cpu_count(), "system": platform.system(), "versions": versions}


def commit() -> str:
    """Name the commit measured.

    Returns
    -------
    str
        Short hash, with ``+changes`` where files differ from it; ``unknown`` outside a repository.
    """
    try:
        short = _git("rev-parse", "--short=10", "HEAD").strip()
        changed = _git("status", "--porcelain", "--untracked-files=no").strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return short + ("+changes" if changed else "")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, check=True).stdout


def write(path: Path, group: str, rows: Sequence[Row], plan: Plan, taken_s: float) -> None:
    """Put the rows of one group into a JSON file; what it holds of other groups stays.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    group : str
        Name of the group.
    rows : sequence of Row
        Its rows.
    plan : Plan
        How much was measured.
    taken_s : float
        How long it took [s].
    """
    groups = {}
    if path.is_file():
        groups = json.loads(path.read_text("utf-8")).get("groups", {})
    groups[group] = {
        "when": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit(),
        "command": " ".join(["python -m bench", *sys.argv[1:]]),
        "machine": machine(),
        "quick": plan.quick,
        "first_seed": plan.first_seed,
        "taken_s": round(taken_s, 1),
        "rows": [_json(row) for row in rows],
    }
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps({"agls": __version__, "groups": groups}, indent=1, allow_nan=False) + "\n", "utf-8")
    partial.replace(path)


def _json(row: Row) -> Any:
    return _plain(asdict(row) | {"ask": str(row.ask), "verdict": row.verdict})


def _plain(value: Any) -> Any:
    """Round numbers to what can be meant, and write those that are none as null."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
