"""Put a coverage into files: a picture to look at, GeoJSON for a map, tables."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from agls.config import SiteConfig
from agls.errors import InputError
from agls.locate.frame import Frame
from calibration.coverage import WITHIN_M, Coverage, Gain
from calibration.hearing import Hearing

# Light where the plan is poor, dark where it is good; told apart in grey and by the colour-blind.
SHADES = ("#f3ead9", "#d9dfbe", "#a6cdae", "#62aca1", "#2b8191", "#175676")
WITHIN_STEPS = (0.25, 0.5, 0.75, 0.9, 0.95)
MAJOR_STEPS_M = (100.0, 50.0, 25.0, 15.0, 10.0)
NOISES_DB = (45.0, 50.0, 57.0, 65.0, 70.0)
PANEL, GAP, TOP, INK, MARK = 560.0, 40.0, 96.0, "#222222", "#d1495b"
MOST_NAMES = 40
LISTED = 8
_LINE = f'stroke="{INK}" stroke-width="1.5"'

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Report:
    """All that is said of a plan.

    Attributes
    ----------
    site : SiteConfig
        The site.
    coverage : Coverage
        By cell.
    losses : list of Gain
        What the loss of each sensor costs, the worst first.
    choices : list of list of Gain
        For each further node all candidates, the best first.
    """

    site: SiteConfig
    coverage: Coverage
    losses: list[Gain]
    choices: list[list[Gain]]


def summary(report: Report) -> list[str]:
    """Tell a plan in some lines.

    Parameters
    ----------
    report : Report
        All that is said of it.

    Returns
    -------
    list of str
        Lines of text.
    """
    cover, hearing = report.coverage, report.coverage.plan.hearing
    seen = cover.major_m[np.isfinite(cover.major_m)]
    typical = f"{float(np.median(seen)):.0f} m" if len(seen) else "none"
    told = [
        f"{report.site.name}: {_count(len(cover.plan.names), 'sensor')}, {_area(cover)}",
        f"heard by enough sensors {cover.located.mean():.0%}, and located within {WITHIN_M:g} m {cover.score:.0%}",
        f"median of the longer semi-axis of the 95 % ellipse: {typical}",
        f"half of the sensors hear a shot at {_reach(hearing, report)} (noise {hearing.noise_db:g} dB)",
    ]
    for number, gains in enumerate(report.choices, 1):
        best, (east, north, _) = gains[0], gains[0].place_m
        told.append(f"{_nth(number)} further node: {best.name} at x {east:.0f}, y {north:.0f} m, {best.gain:+.1%}")
    told += [f"without {one.name}: {one.gain:+.1%}" for one in report.losses[:3]]
    return told


def _ways(report: Report) -> list[tuple[str, float]]:
    if report.site.weather.wind_speed_m_s < 0.5:
        return [("all round", 0.0)]
    return [("with the wind or across", 0.0), ("against it", -1.0)]


def _reach(hearing: Hearing, report: Report) -> str:
    """Say how far half of the sensors hear."""
    told = []
    for name, way in _ways(report):
        away_m = hearing.range_m(0.5, way)
        told.append(f"{away_m:.0f} m{' and more' if away_m >= hearing.max_range_m else ''} {name}")
    return ", ".join(told)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _nth(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")


def _area(cover: Coverage) -> str:
    return f"map of {cover.within.size * cover.grid.side_m**2 / 1e6:.2f} km2"


def write(report: Report, folder: Path) -> None:
    """Write a plan's picture, map and tables.

    Parameters
    ----------
    report : Report
        All that is said of it.
    folder : pathlib.Path
        Where to; made if it is not there.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    files = {
        "coverage.svg": picture(report),
        "coverage.geojson": geojson(report),
        "ranges.csv": _csv(("noise_db", "way", "share", "range_m"), _ranges(report)),
        "sensors.csv": _csv(("sensor_id", "x_m", "y_m", "z_m", "loss", "score_without"), _gains(report.losses)),
        "candidates.csv": _csv(
            ("choice", "candidate", "x_m", "y_m", "z_m", "gain", "score_with"),
            ([n, *row] for n, gains in enumerate(report.choices, 1) for row in _gains(gains)),
        ),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            part = folder / f".{name}.part"
            part.write_text(text, "utf-8")
            part.replace(folder / name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); give a folder that can be") from None


def _csv(header: Sequence[str], rows: Iterator[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _ranges(report: Report) -> Iterator[tuple[object, ...]]:
    for noise_db in sorted({*NOISES_DB, report.coverage.plan.hearing.noise_db}):
        hearing = replace(report.coverage.plan.hearing, noise_db=noise_db)
        for name, way in _ways(report):
            for share in (0.9, 0.5, 0.1):
                yield noise_db, name, share, round(hearing.range_m(share, way))


def _gains(gains: Sequence[Gain]) -> Iterator[list[object]]:
    for one in gains:
        yield [one.name, *one.place_m, round(one.gain, 5), round(one.score, 5)]


# -------------------------------------------------------------------------------------------------------- GeoJSON


def geojson(report: Report) -> str:
    """Draw a plan as GeoJSON.

    Parameters
    ----------
    report : Report
        All that is said of it.

    Returns
    -------
    str
        Cells, sensors and choices; none of them where the site has no place on Earth.
    """
    frame, cover = Frame.of_site(report.site), report.coverage
    features = [] if frame.origin is None else [*_cells(frame, cover), *_points(frame, report)]
    return json.dumps({"type": "FeatureCollection", "name": report.site.name, "features": features}) + "\n"


def _cells(frame: Frame, cover: Coverage) -> Iterator[dict[str, Any]]:
    half = cover.grid.side_m / 2
    for k, (east, north, up) in enumerate(cover.grid.places_m.tolist()):
        corners = [(east + half * x, north + half * y, up) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))]
        major = float(cover.major_m[k])
        yield _feature("Polygon", [[_degrees(frame, corner) for corner in corners]], {
            "kind": "cell",
            "p_located": round(float(cover.located[k]), 3),
            "p_within_25_m": round(float(cover.within[k]), 3),
            "heard_count": round(float(cover.heard[k]), 2),
            "ellipse95_major_m": round(major, 1) if math.isfinite(major) else None,
        })  # fmt: skip


def _points(frame: Frame, report: Report) -> Iterator[dict[str, Any]]:
    for one in report.losses:
        yield _feature(
            "Point", _degrees(frame, one.place_m), {"kind": "sensor", "sensor_id": one.name, "loss": one.gain}
        )
    for number, gains in enumerate(report.choices, 1):
        best = gains[0]
        known = {"kind": "choice", "choice": number, "candidate": best.name, "gain": best.gain}
        yield _feature("Point", _degrees(frame, best.place_m), known)


def _feature(kind: str, coordinates: object, known: dict[str, object]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": known}


def _degrees(frame: Frame, place_m: tuple[float, ...]) -> list[float]:
    east, north, up = place_m
    latitude, longitude, _ = frame.to_geodetic(east, north, up) or (0.0, 0.0, 0.0)
    return [round(longitude, 7), round(latitude, 7)]


# -------------------------------------------------------------------------------------------------------- picture


def picture(report: Report) -> str:
    """Draw a plan: where shots are located, how well, the sensors and where the next ones should go.

    Parameters
    ----------
    report : Report
        All that is said of it.

    Returns
    -------
    str
        SVG.
    """
    cover = report.coverage
    rows, columns = len(cover.grid.north_m), len(cover.grid.east_m)
    scale = PANEL / max(rows, columns)
    width, height = scale * columns, scale * rows
    left, right = GAP, 2 * GAP + width
    below = TOP + height + 92
    lower = _lists(report, GAP)
    whole_w, whole_h = max(right + width + GAP, 900.0), below + 22 + 17 * max(len(block) for _, block in lower)
    within = [sum(value >= step for step in WITHIN_STEPS) for value in cover.within]
    major = [sum(value <= step for step in MAJOR_STEPS_M) for value in cover.major_m]
    size = f'width="{whole_w:.0f}" height="{whole_h:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" fill="{INK}">',
        f'<rect {size} fill="white"/>',
        _text(GAP, 30, f"{report.site.name}: expected coverage", size=20, bold=True),
        _text(GAP, 52, _assumed(report)),
        *_panel(report, (left, TOP), scale, within, f"Chance to locate a shot within {WITHIN_M:g} m"),
        *_panel(report, (right, TOP), scale, major, "95 % error ellipse, longer semi-axis"),
        *_legend(left, TOP + height + 16, [f"{a:.0%}" for a in (0, *WITHIN_STEPS)], "and more"),
        *_legend(right, TOP + height + 16, ["worse", *(f"{a:g} m" for a in MAJOR_STEPS_M)], "and less"),
        *_scale_bar(left, TOP + height + 72, scale / cover.grid.side_m, width),
        _text(
            right, TOP + height + 74, "Circles: sensors, the larger the more their loss costs.  Diamonds: next nodes."
        ),
    ]
    for x, block in lower:
        parts += [_text(x, below + 16 + 17 * n, line, bold=n == 0) for n, line in enumerate(block)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _assumed(report: Report) -> str:
    hearing, weather = report.coverage.plan.hearing, report.site.weather
    wind = f"wind {weather.wind_speed_m_s:g} m/s from {weather.wind_from_deg:g} degrees"
    return (
        f"Unsuppressed handgun, noise {hearing.noise_db:g} dB, {weather.temperature_c:g} C, "
        f"{weather.humidity_percent:g} % humidity, {wind}, path {report.site.locating.path_sigma_s * 1e3:g} ms, "
        f"{hearing.up_share:.0%} of nodes up, {report.coverage.plan.fewest} must hear it"
    )


def _panel(
    report: Report, corner: tuple[float, float], scale: float, classes: Sequence[int], title: str
) -> Iterator[str]:
    """Draw cells by class, joined along each row, and what stands on the ground."""
    grid, (left, top) = report.coverage.grid, corner
    rows, columns = len(grid.north_m), len(grid.east_m)
    yield _text(left, top - 10, title, size=15, bold=True)
    yield '<g shape-rendering="crispEdges">'
    for row in range(rows):
        own = classes[row * columns : (row + 1) * columns]
        for shade, run in groupby(range(columns), key=own.__getitem__):
            cells = list(run)
            x, y = left + scale * cells[0], top + scale * (rows - 1 - row)
            wide = scale * len(cells)
            yield f'<rect x="{x:.2f}" y="{y:.2f}" width="{wide:.2f}" height="{scale:.2f}" fill="{SHADES[shade]}"/>'
    yield "</g>"
    yield (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{scale * columns:.1f}" height="{scale * rows:.1f}" '
        f'fill="none" stroke="{INK}"/>'
    )
    west, north = grid.east_m[0] - grid.side_m / 2, grid.north_m[-1] + grid.side_m / 2
    per_m = scale / grid.side_m
    spots = [
        (one, left + per_m * (one.place_m[0] - west), top + per_m * (north - one.place_m[1])) for one in report.losses
    ]
    worst = max((-one.gain for one in report.losses), default=0.0) or 1.0
    for one, x, y in spots:
        size = 3.0 + 6.0 * math.sqrt(max(-one.gain, 0.0) / worst)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}" fill="white" fill-opacity=".9" {_LINE}/>'
    if len(spots) <= MOST_NAMES:
        edge = left + scale * columns
        for one, x, y in spots:
            end = bool(x > edge - 8.0 * len(one.name))
            yield _text(x - 11 if end else x + 11, y + 4, one.name, size=10.5, end=end, halo=True)
    for number, gains in enumerate(report.choices, 1):
        x = left + per_m * (gains[0].place_m[0] - west)
        y = top + per_m * (north - gains[0].place_m[1])
        yield f'<path d="M{x:.1f} {y - 11:.1f}l11 11l-11 11l-11 -11z" fill="{MARK}" stroke="white" stroke-width="1.5"/>'
        yield f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" fill="white" font-weight="bold">{number}</text>'


def _legend(x: float, y: float, names: Sequence[str], last: str) -> Iterator[str]:
    for number, (shade, name) in enumerate(zip(SHADES, names, strict=True)):
        at = x + 78 * number
        yield f'<rect x="{at:.1f}" y="{y:.1f}" width="78" height="12" fill="{shade}"/>'
        yield _text(at, y + 25, name)
    yield _text(x + 78 * len(SHADES) + 6, y + 11, last)


def _scale_bar(x: float, y: float, per_m: float, width: float) -> Iterator[str]:
    """Draw a bar of a round length, about a quarter of the map, and north."""
    wanted_m = width / per_m / 4
    power = 10.0 ** math.floor(math.log10(wanted_m))
    length_m = max(step * power for step in (1.0, 2.0, 5.0) if step * power <= wanted_m)
    end = x + length_m * per_m
    yield f'<path d="M{x:.1f} {y - 5:.1f}v5H{end:.1f}v-5" fill="none" {_LINE}/>'
    yield _text(end + 8, y + 2, f"{length_m:g} m")
    at = end + 90
    yield f'<path d="M{at:.1f} {y + 4:.1f}v-18l-4 7M{at:.1f} {y - 14:.1f}l4 7" fill="none" {_LINE}/>'
    yield _text(at + 9, y + 2, "north")


def _lists(report: Report, x: float) -> list[tuple[float, list[str]]]:
    """Write the blocks of text below the maps, each with where it begins."""
    cover = report.coverage
    nodes = ["Next nodes: gain in the mean of the left map"]
    for number, gains in enumerate(report.choices, 1):
        best = gains[0]
        nodes.append(
            f"{number}  {best.name}  ({best.place_m[0]:.0f}, {best.place_m[1]:.0f}) m  {100 * best.gain:+.1f} points"
        )
    needed = ["Nodes that matter most: change if one fails"]
    needed += [f"{one.name}  {100 * one.gain:+.1f} points" for one in report.losses[:LISTED]]
    ranges = ["Half of the sensors hear a shot at"]
    for noise_db in NOISES_DB:
        hearing = replace(cover.plan.hearing, noise_db=noise_db)
        ranges.append(f"{noise_db:g} dB noise: {_reach(hearing, report)}")
    ranges.append(f"{_area(cover).capitalize()}: enough sensors hear {cover.located.mean():.0%},")
    ranges.append(f"located within {WITHIN_M:g} m: {cover.score:.0%}")
    return [(x, nodes), (x + 330, needed), (x + 660, ranges)]


def _text(
    x: float, y: float, text: str, *, size: float = 12, bold: bool = False, end: bool = False, halo: bool = False
) -> str:
    style = ' font-weight="bold"' * bold + ' text-anchor="end"' * end
    style += ' stroke="white" stroke-width="3" stroke-opacity=".8" paint-order="stroke"' * halo
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}"{style}>{escape(text)}</text>'
