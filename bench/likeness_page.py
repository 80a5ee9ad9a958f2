"""Draw the page that shows the simulated city beside the recorded one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bench.heard import (
    AT_M,
    RANGES_M,
    SATURATED_DB,
    Heard,
    Levels,
    by_range,
    echoes_per_arrival,
    fit_levels,
    path_late_s,
    shot_late_s,
)  # fmt: skip
from bench.plots import FAINT, INK, RECORDED, SIMULATED, Plot
from bench.rows import bootstrap
from bench.street_noise import FRAMES, Noise

Floats = NDArray[np.float64]

STYLE = """body{font:14px system-ui,sans-serif;max-width:1330px;margin:20px auto;padding:0 12px;color:#222}
svg{margin:4px}table{border-collapse:collapse;margin:12px 0}td,th{padding:2px 10px;border-bottom:1px solid #ddd;
text-align:right}td:first-child,th:first-child{text-align:left}.r{color:#b03a2e}.s{color:#1f618d}.odd{font-weight:bold}"""
MIDDLES_M = [(low + high) / 2 for low, high in pairwise(RANGES_M)]


@dataclass(frozen=True)
class Compared:
    """One figure, recorded and simulated.

    Attributes
    ----------
    name : str
        What it is.
    recorded : float
        Of the live fire.
    simulated : numpy.ndarray, shape (cities,)
        Of each simulated city.
    """

    name: str
    recorded: float
    simulated: Floats

    @property
    def rank(self) -> float:
        """Tell which share of simulated cities lies below what was recorded.

        Returns
        -------
        float
            Share, ties halved; never quite 0 or 1.
        """
        there = self.simulated[np.isfinite(self.simulated)]
        below = (there < self.recorded).sum() + 0.5 * (there == self.recorded).sum()
        return float((below + 0.5) / (len(there) + 1))


def page(
    recorded: Sequence[Heard], cities: Sequence[Sequence[Heard]], noises: tuple[Sequence[Noise], Sequence[Noise]],
    table: Sequence[Compared], about: Sequence[str],
) -> str:  # fmt: skip
    """Write the page.

    Parameters
    ----------
    recorded : sequence of Heard
        Of each firing position.
    cities : sequence of sequence of Heard
        The same for each simulated city.
    noises : tuple of sequence of Noise
        Recorded and simulated.
    table : sequence of Compared
        Figures.
    about : sequence of str
        What a reader must know, a paragraph each.

    Returns
    -------
    str
        HTML that needs nothing else.
    """
    every = [one for city in cities for one in city]
    plots = [
        _levels("Recorded: level against distance", recorded, RECORDED),
        _levels("Simulated: one city of as many sensors", cities[0], SIMULATED),
        _levels("Simulated: more cities", [one for city in cities[1:7] for one in city], SIMULATED),
        _shares("Shots detected, by distance", recorded, cities, saturated=False),
        _shares("Detected arrivals saturated, by distance", recorded, cities, saturated=True),
        _steps(
            "Lateness, sensor to sensor (grey: each position)",
            "median over shots [ms]",
            (-30, 30),
            recorded,
            every,
            _path_ms,
        ),
        _steps("Lateness, shot to shot", "against the sensor's median [ms]", (-6, 6), recorded, every, _shot_ms),
        _steps("Echoes per arrival, by sensor", "echoes within 0.35 s", (0, 3), recorded, every, echoes_per_arrival),
        _steps("Echoes' lags", "after the direct arrival [ms]", (0, 350), recorded, every, _lags_ms),
        _echo_levels(recorded, cities),
        _spectrum(*noises),
        _noise_levels(*noises),
    ]
    words = "".join(f"<p>{escape(one)}</p>" for one in about)
    drawn = "".join(plot.svg() for plot in plots)
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Simulated beside recorded</title>'
    key = f'<p><b class="r">Recorded</b>: Pittsburgh live fire. <b class="s">Simulated</b>: {len(cities)} cities.</p>'
    return f"{head}<style>{STYLE}</style><h1>Simulated beside recorded</h1>{key}{words}{_table(table)}{drawn}</html>\n"


def _table(table: Sequence[Compared]) -> str:
    rows = ["<tr><th>figure<th>recorded<th>simulated, mean<th>simulated, 95 % of cities<th>rank of the recorded"]
    for one in table:
        there = one.simulated[np.isfinite(one.simulated)]
        low, high = np.quantile(there, [0.025, 0.975])
        odd = "" if 0.025 <= one.rank <= 0.975 else ' class="odd"'
        cells = f"<td>{one.recorded:.3g}<td>{there.mean():.3g}<td>{low:.3g} to {high:.3g}<td{odd}>{one.rank:.2f}"
        rows.append(f"<tr><td>{escape(one.name)}{cells}")
    return f"<table>{''.join(rows)}</table>"


def _levels(title: str, all_heard: Sequence[Heard], colour: str) -> Plot:
    """Draw each sensor's median level, rings where saturated, at the foot where it missed most shots."""
    plot = Plot(title, "distance [m]", "peak level [dB]", (40, 1000), (50, 125), log_x=True)
    levels: Levels = fit_levels(all_heard)
    reach_m = np.geomspace(40, 1000, 40)
    middle = levels.at_300_db - levels.decade_db * np.log10(reach_m / AT_M)
    plot.band(reach_m, middle - levels.path_db, middle + levels.path_db, colour)
    plot.line(reach_m, middle, colour)
    plot.line([40, 1000], [SATURATED_DB, SATURATED_DB], INK, "3 3", 1)
    for heard in all_heard:
        often = heard.found.mean(axis=0) >= 0.5
        median = np.array([np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else np.nan
                           for column in heard.level_db.T])  # fmt: skip
        full = often & (median >= SATURATED_DB)
        plot.dots(heard.range_m[full], median[full], colour, hollow=True)
        plot.dots(heard.range_m[often & ~full], median[often & ~full], colour)
        plot.dots(heard.range_m[~often], np.full((~often).sum(), 52.0), INK, 2.0)
    plot.words(0.42, 0.08, f"{levels.at_300_db:.0f} dB at 300 m, {levels.decade_db:.0f} dB a decade")
    plot.words(0.42, 0.15, f"sd {levels.path_db:.0f} dB sensor to sensor, {levels.shot_db:.1f} shot to shot")
    plot.words(0.03, 0.97, "at the foot: missed most shots")
    return plot


def _shares(title: str, recorded: Sequence[Heard], cities: Sequence[Sequence[Heard]], saturated: bool) -> Plot:
    plot = Plot(title, "distance [m]", "share", (0, 1000), (0, 1.05))
    own = np.array([by_range(city, saturated) for city in cities])
    there = np.isfinite(own).any(axis=0)
    at_m, own = np.array(MIDDLES_M)[there], own[:, there]
    low, high = np.nanquantile(own, [0.025, 0.975], axis=0)
    plot.band(at_m, low, high, SIMULATED)
    plot.line(at_m, np.nanmean(own, axis=0), SIMULATED)
    plot.line(MIDDLES_M, by_range(recorded, saturated), RECORDED, width=2.4)
    for one in recorded:
        plot.dots(MIDDLES_M, by_range([one], saturated), RECORDED)
    plot.words(0.6, 0.08, "dots: each firing position", RECORDED)
    return plot


def _steps(
    title: str, across: str, span: tuple[float, float], recorded: Sequence[Heard], simulated: Sequence[Heard],
    values: Callable[[Heard], Floats],
) -> Plot:  # fmt: skip
    plot = Plot(title, across, "share below", span, (0, 1))
    plot.steps(np.concatenate([values(one) for one in simulated]), SIMULATED)
    for one in recorded:
        plot.steps(values(one), FAINT)
    plot.steps(np.concatenate([values(one) for one in recorded]), RECORDED)
    return plot


def _path_ms(heard: Heard) -> Floats:
    return 1e3 * path_late_s(heard)


def _shot_ms(heard: Heard) -> Floats:
    return 1e3 * shot_late_s(heard)


def _lags_ms(heard: Heard) -> Floats:
    return 1e3 * heard.echoes[:, 1]


def _echo_levels(recorded: Sequence[Heard], cities: Sequence[Sequence[Heard]]) -> Plot:
    plot = Plot("Echoes' levels", "after the direct arrival [ms]", "against it [dB]", (0, 350), (-20, 30))
    for found, colour in ((cities[0], SIMULATED), (recorded, RECORDED)):
        echoes = np.concatenate([one.echoes for one in found])
        plot.dots(1e3 * echoes[:, 1], echoes[:, 2], colour, 2.0)
    plot.words(0.6, 0.08, "dots: every echo; one city", INK)
    return plot


def _spectrum(recorded: Sequence[Noise], simulated: Sequence[Noise]) -> Plot:
    plot = Plot("Noise before the shots", "frequency [Hz]", "dB re 20 uPa, 1 Hz", (20, 6000), (-30, 60), log_x=True)
    for found, colour in ((simulated, SIMULATED), (recorded, RECORDED)):
        spectra = np.array([one.spectrum_db for one in found if one.spectrum_db.size])
        low, middle, high = np.quantile(spectra, [0.1, 0.5, 0.9], axis=0)[:, 2:]
        frequency_hz = np.fft.rfftfreq(FRAMES, 1 / 12_000)[2:]
        plot.band(frequency_hz, low, high, colour)
        plot.line(frequency_hz, middle, colour)
    plot.words(0.35, 0.08, "median, and 10 to 90 % of recordings")
    return plot


def _noise_levels(recorded: Sequence[Noise], simulated: Sequence[Noise]) -> Plot:
    plot = Plot("Noise floor of the recordings", "root mean square [dB]", "share below", (35, 90), (0, 1))
    for number, (found, colour, name) in enumerate(
        ((simulated, SIMULATED, "simulated"), (recorded, RECORDED, "recorded"))
    ):
        plot.steps([one.level_db for one in found if np.isfinite(one.level_db)], colour)
        clipped = [one for noise in found for one in noise.clipped]
        low, high = bootstrap(np.array(clipped, dtype=float), lambda values: float(values.mean()))
        words = f"{name}: {np.mean(clipped):.0%} of arrivals clip ({low:.0%} to {high:.0%})"
        plot.words(0.35, 0.80 + 0.08 * number, words, colour)
    return plot
