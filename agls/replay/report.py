"""Write ``report.html``: the score, then for each recording a map and the residual of every arrival.

One file that needs nothing else: the maps are inline SVG, drawn by the template from what is computed here.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from agls.messages import Arrival, Shot, format_utc
from agls.replay.score import Match, RecordingScore, ellipse_distance
from agls.replay.truth import TrueShot

if TYPE_CHECKING:
    from agls.replay.run import Located, ReplaySummary

MAP_PX = 360
CLOSE_UP_M = 40.0
COLUMNS_COUNT = 6
CELL_ARRIVALS_COUNT = 3


@dataclass(frozen=True, slots=True)
class Dot:
    """A place on a map: position in pixels, a class for its style, and words."""

    x: float
    y: float
    style: str
    label: str


@dataclass(frozen=True, slots=True)
class Oval:
    """An error ellipse on a map, in pixels; `turn_deg` as SVG turns, clockwise from the x axis."""

    x: float
    y: float
    rx: float
    ry: float
    turn_deg: float


@dataclass(frozen=True, slots=True)
class Map:
    """What one map shows."""

    title: str
    dots: tuple[Dot, ...]
    ovals: tuple[Oval, ...]
    bar_px: float
    bar_m: float


@dataclass(frozen=True, slots=True)
class _View:
    """A square piece of the site: its middle and width in metres."""

    x_m: float
    y_m: float
    width_m: float

    @property
    def scale(self) -> float:
        return MAP_PX / self.width_m

    def place(self, x_m: float, y_m: float) -> tuple[float, float]:
        x = MAP_PX / 2 + (x_m - self.x_m) * self.scale
        y = MAP_PX / 2 - (y_m - self.y_m) * self.scale
        return round(x, 2), round(y, 2)


def render(
    name: str, located: Sequence["Located"], scores: Mapping[str, RecordingScore], summary: "ReplaySummary"
) -> str:
    """Write the report.

    Parameters
    ----------
    name : str
        Name of the dataset.
    located : sequence of Located
        What was located.
    scores : mapping of str to RecordingScore
        By recording, where there is a truth.
    summary : ReplaySummary
        Counts, score and changes.

    Returns
    -------
    str
        HTML.
    """
    environment = Environment(
        loader=PackageLoader("agls.replay", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["share"] = share_told
    environment.filters["metres"] = _metres
    environment.filters["short"] = _short
    return environment.get_template("report.html").render(
        name=name,
        summary=summary,
        score=summary.score,
        changes=summary.changes.lines() if summary.changes else [],
        recordings=[_section(item, scores.get(item.recording.name)) for item in located],
        size=MAP_PX,
    )


def score_lines(score: Mapping[str, Any]) -> list[str]:
    """Tell a score in a few lines.

    Parameters
    ----------
    score : mapping
        What ``score.json`` holds.

    Returns
    -------
    list of str
        For a terminal.
    """
    total = score["total"]
    if not total["true_shots_count"]:
        called = total["ghosts_called_gunfire_count"]
        return [f"Nothing was fired: of {total['ghosts_count']} sounds located, {called} were called gunfire."]
    lines = [f"Of {total['true_shots_count']} true shots {total['located_count']} located (95 % interval):"]
    lines += [f"  within {radius:>4}: {share_told(found)}" for radius, found in total["within"].items()]
    lines.append(
        f"  error median {_metres(total['error_median_m'])}, p90 {_metres(total['error_p90_m'])},"
        f" p95 {_metres(total['error_p95_m'])}"
    )
    lines.append(
        f"  {total['ghosts_count']} ghosts (> 50 m; {total['ghosts_called_gunfire_count']} of them called gunfire),"
        f" {total['doubles_count']} doubles,"
        f" rounds exact in {share_told(total['rounds_exact'])}"
    )
    scatter = total["scatter"]
    lines.append(
        f"  ellipse holds truth {share_told(total['ellipse95_holds_truth'])};"
        f" shot-to-shot scatter x {_metres(scatter['x_sigma_m'])}, y {_metres(scatter['y_sigma_m'])}"
    )
    return lines


def share_told(found: Mapping[str, Any]) -> str:
    """Tell a share with its interval.

    Parameters
    ----------
    found : mapping
        What `score.share` gives.

    Returns
    -------
    str
        Such as ``104/108 = 96.3 % (90.9-98.6)``.
    """
    if found["share"] is None:
        return "of none"
    told = [f"{100 * found[key]:.1f}" for key in ("share", "low", "high")]
    return f"{found['count']}/{found['of']} = {told[0]} % ({told[1]}-{told[2]})"


def _metres(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} m"


def _short(name: str) -> str:
    """Shorten a sensor's name for a map to what tells it from its neighbours: its last part."""
    return name if len(name) <= 10 else re.split(r"[-_.]", name)[-1]


# -------------------------------------------------------------------------------------------------- one recording


def _section(item: "Located", score: RecordingScore | None) -> dict[str, Any]:
    matched = {match.shot.shot_id: match for match in score.matches if match.shot} if score else {}
    return {
        "name": item.recording.name,
        "sensors_count": len(item.recording.site.sensor),
        "detections_count": item.detections_count,
        "true_count": len(score.matches) if score else None,
        "located_count": score.located_count if score else None,
        "doubles_count": len(score.doubles) if score else None,
        "ghosts_count": len(score.ghosts) if score else None,
        "shots": [_shot(number, shot, matched.get(shot.shot_id), score) for number, shot in _numbered(item.shots)],
        "maps": _maps(item, [match.true for match in score.matches] if score else []),
        "tables": [
            _residuals(item, _numbered(item.shots)[first : first + COLUMNS_COUNT])
            for first in range(0, len(item.shots), COLUMNS_COUNT)
        ],
        "rejections": sorted(item.rejections.items()),
    }


def _numbered(shots: Sequence[Shot]) -> list[tuple[int, Shot]]:
    return list(enumerate(shots, start=1))


def _shot(number: int, shot: Shot, match: Match | None, score: RecordingScore | None) -> dict[str, Any]:
    if match is not None:
        true = match.true
        outside = ellipse_distance(shot.ellipse, true.x_m - shot.x_m, true.y_m - shot.y_m) > 1
        verdict = f"{match.error_m:.1f} m off" + (", outside its ellipse" if outside else "")
    else:
        verdict = "" if score is None else "matches no true shot"
    return {
        "number": number,
        "time": format_utc(shot.origin_ns)[11:23],
        "shot": shot,
        "verdict": verdict,
        "used_count": sum(arrival.used for arrival in shot.arrivals),
    }


def _residuals(item: "Located", group: Sequence[tuple[int, Shot]]) -> dict[str, Any]:
    """Lay out arrivals: a row for each sensor, a column for each shot."""
    sensors = sorted({arrival.sensor_id for _, shot in group for arrival in shot.arrivals})
    rows = [(sensor, [_cell(shot, sensor) for _, shot in group]) for sensor in sensors]
    silent = sorted({sensor.sensor_id for sensor in item.recording.site.sensor} - set(sensors))
    return {"numbers": [number for number, _ in group], "rows": rows, "silent": silent}


def _cell(shot: Shot, sensor_id: str) -> list[tuple[str, str]]:
    """Tell a sensor's arrivals in a shot: what was used first, then the nearest of what was refused."""
    own = [arrival for arrival in shot.arrivals if arrival.sensor_id == sensor_id]
    own.sort(key=lambda arrival: (not arrival.used, abs(arrival.residual_s)))
    told = [_arrival(arrival) for arrival in own[:CELL_ARRIVALS_COUNT]]
    more = len(own) - len(told)
    return told + ([("refused", f"and {more} more")] if more else [])


def _arrival(arrival: Arrival) -> tuple[str, str]:
    residual = f"{1000 * arrival.residual_s:+.1f}"
    return ("used", residual) if arrival.used else ("refused", f"{residual} {arrival.reason.replace('_', ' ')}")


# ----------------------------------------------------------------------------------------------------------- maps


def _maps(item: "Located", truth: Sequence[TrueShot]) -> list[Map]:
    from agls.locate.frame import Frame

    sensors = Frame.of_site(item.recording.site).sensor_positions_m
    spots = [(true.x_m, true.y_m) for true in truth] + [(shot.x_m, shot.y_m) for shot in item.shots]
    everything = [(x, y) for x, y, _ in sensors.values()] + spots
    if not everything:
        return []
    maps = [_map("Sensors and shots", _around(everything, 20.0), sensors, item.shots, truth)]
    if spots:
        middle = spots[: len(truth)] or spots
        near = [spot for spot in spots if math.dist(spot, middle[0]) <= 2 * CLOSE_UP_M]
        maps.append(_map("Close up", _around(near, CLOSE_UP_M), sensors, item.shots, truth))
    return maps


def _around(spots: Sequence[tuple[float, float]], least_m: float) -> _View:
    xs, ys = [x for x, _ in spots], [y for _, y in spots]
    width_m = max(max(xs) - min(xs), max(ys) - min(ys), least_m / 1.2)
    return _View((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, 1.2 * width_m)


def _map(
    title: str,
    view: _View,
    sensors: Mapping[str, tuple[float, float, float]],
    shots: Sequence[Shot],
    truth: Sequence[TrueShot],
) -> Map:
    dots = [Dot(*view.place(x, y), "sensor", name) for name, (x, y, _) in sensors.items()]
    dots += [Dot(*view.place(true.x_m, true.y_m), "truth", "true place") for true in truth]
    dots += [Dot(*view.place(shot.x_m, shot.y_m), "shot", str(number)) for number, shot in _numbered(shots)]
    ovals = [
        Oval(
            *view.place(shot.x_m, shot.y_m),
            round(shot.ellipse.major_m * view.scale, 2),
            round(shot.ellipse.minor_m * view.scale, 2),
            round(shot.ellipse.azimuth_deg - 90, 2),
        )
        for shot in shots
    ]
    margin = 12
    inside = [dot for dot in dots if -margin <= dot.x <= MAP_PX + margin and -margin <= dot.y <= MAP_PX + margin]
    bar_m = _round_length(view.width_m / 4)
    return Map(title, tuple(dict.fromkeys(inside)), tuple(ovals), round(bar_m * view.scale, 2), bar_m)


def _round_length(length_m: float) -> float:
    """Give the longest of 1, 2, 5, 10 ... metres that is no longer."""
    power = 10.0 ** math.floor(math.log10(length_m))
    return max(step * power for step in (1, 2, 5) if step * power <= length_m)
