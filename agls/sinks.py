"""The folder that others read: what the hub found, as files that are whole at every moment.

    shots.csv            the last revision of each shot, in order of recording, origin time and name
    withdrawn.csv        the same columns: shots whose last revision took them back. They are no shots, so no script
                         should meet them in shots.csv; but an engineer asks where a shot went
    incidents.geojson    the last revision of each incident, withdrawn ones too (they say so), RFC 7946
    cad/<incident>.<revision>.json    each CAD event as it was told, never rewritten
    slew/<request_id>.json            each slew request
    rejections.json      how often each reason for a "no" was given

Positions are rounded to 1 mm (8 decimals of a degree), and nothing depends on the order in which records of one moment
arrive: the same records give the same bytes. Every file is written under another name and renamed.
"""

import csv
import io
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from agls.errors import InputError
from agls.messages import CadEvent, Incident, Outbound, Rejection, Shot, SlewRequest, Wire, encode, format_utc

SHOT_COLUMNS = (
    "recording", "incident", "shot", "origin_time", "x_m", "y_m", "z_m", "latitude_deg", "longitude_deg",
    "ellipse95_major_m", "ellipse95_minor_m", "ellipse95_azimuth_deg", "p_gunshot", "sensor_count",
)  # fmt: skip
_NOT_FOR_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


def document(record: Wire) -> bytes:
    """Write a record as a JSON document for people and their programs.

    Parameters
    ----------
    record : Wire
        Such as a CAD event.

    Returns
    -------
    bytes
        Indented JSON with a final line break: the bytes of the file and of the webhook alike.
    """
    return msgspec.json.format(encode(record), indent=2) + b"\n"


class OutFolder:
    """Keep a folder in step with what the hub says.

    Parameters
    ----------
    path : Path
        The folder; made where it is not there.
    keep : bool, optional
        Whether CAD events and slew requests of an earlier run stay. Otherwise they are removed, so that what is
        there is of this run; other files are never touched.

    Raises
    ------
    InputError
        If the folder cannot be made.
    """

    def __init__(self, path: Path, *, keep: bool = False) -> None:
        self.path = path
        self._rows: dict[tuple[str, str], tuple[int, bool, tuple[str, ...]]] = {}
        self._incidents: dict[tuple[str, str], Incident] = {}
        self._rejections: Counter[str] = Counter()
        self._owners: dict[str, str] = {}
        self._is_changed = True
        try:
            for kind in ("cad", "slew"):
                (path / kind).mkdir(parents=True, exist_ok=True)
                if not keep:
                    _remove_documents(path / kind)
        except OSError as error:
            raise InputError(
                f"{path} cannot be made a folder to write into ({error.strerror}); give a new folder, or one of ours"
            ) from None

    def write(self, item: Outbound, recording: str = "") -> None:
        """Take in a record; CAD events and slew requests are on disk when this returns.

        Parameters
        ----------
        item : Outbound
            A shot, incident, CAD event, slew request or rejection.
        recording : str, optional
            The recording it is from; empty live.

        Raises
        ------
        OSError
            If a document cannot be written.
        """
        match item:
            case CadEvent() | SlewRequest():
                _put(self.path / self._name(item, recording), document(item))
                return
            case Shot():
                key, known = (recording, item.shot_id), self._rows.get((recording, item.shot_id))
                if known is None or known[0] <= item.revision:
                    self._rows[key] = (item.revision, item.state == "withdrawn", _row(item, recording))
            case Incident():
                earlier = self._incidents.get((recording, item.incident))
                if earlier is None or earlier.revision <= item.revision:
                    self._incidents[recording, item.incident] = item
            case Rejection():
                self._rejections[f"{item.stage}.{item.reason}"] += 1
        self._is_changed = True

    def flush(self) -> None:
        """Bring the tables on disk up to date.

        Raises
        ------
        OSError
            If one cannot be written.
        """
        if not self._is_changed:
            return
        for name, wanted in (("shots.csv", False), ("withdrawn.csv", True)):
            # The time column sorts as text: all years have four digits.
            rows = [row for _, withdrawn, row in self._rows.values() if withdrawn == wanted]
            _put(self.path / name, _csv(sorted(rows, key=lambda row: (row[0], row[3], row[2]))))
        features = [_feature(item, key[0]) for key, item in sorted(self._incidents.items(), key=lambda pair: pair[0])]
        _put(self.path / "incidents.geojson", _json({"type": "FeatureCollection", "features": features}))
        _put(self.path / "rejections.json", _json(dict(sorted(self._rejections.items()))))
        self._is_changed = False

    def forget(self, before_ns: int) -> None:
        """Leave out of the tables what was fired before a moment, and remove documents written before it.

        Parameters
        ----------
        before_ns : int
            UTC.
        """
        limit = format_utc(before_ns)
        self._rows = {key: row for key, row in self._rows.items() if row[2][3] >= limit}
        self._incidents = {key: item for key, item in self._incidents.items() if item.last_shot_ns >= before_ns}
        for kind in ("cad", "slew"):
            for path in (self.path / kind).glob("*.json"):
                with suppress(OSError):
                    if path.stat().st_mtime_ns < before_ns:
                        path.unlink()
        self._is_changed = True

    def close(self) -> None:
        """Bring the tables on disk up to date for the last time.

        Raises
        ------
        OSError
            If one cannot be written.
        """
        self.flush()

    def _name(self, item: CadEvent | SlewRequest, recording: str) -> str:
        """Name a document; two recordings that use the same names do not overwrite each other's."""
        if isinstance(item, CadEvent):
            folder, name = "cad", f"{item.incident}.{item.revision}.json"
        else:
            folder, name = "slew", f"{item.request_id}.json"
        if self._owners.setdefault(f"{folder}/{name}", recording) != recording:
            name = f"{_NOT_FOR_NAMES.sub('_', recording)[:100]}.{name}"
        return f"{folder}/{name}"


def _row(shot: Shot, recording: str) -> tuple[str, ...]:
    """Lay out a shot in the columns of `SHOT_COLUMNS`."""
    azimuth_deg = _fixed(shot.ellipse.azimuth_deg, 2)
    return (
        recording,
        shot.incident or "",
        shot.shot_id,
        format_utc(shot.origin_ns),
        *(_fixed(value, 3) for value in (shot.x_m, shot.y_m, shot.z_m)),
        *("" if value is None else _fixed(value, 8) for value in (shot.latitude_deg, shot.longitude_deg)),
        *(_fixed(value, 3) for value in (shot.ellipse.major_m, shot.ellipse.minor_m)),
        "0.00" if azimuth_deg == "180.00" else azimuth_deg,
        _fixed(shot.p_gunshot, 6),
        str(shot.sensor_count),
    )


def _fixed(value: float, decimals: int) -> str:
    """Write a number with so many decimals, and zero without a sign."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def _csv(rows: list[tuple[str, ...]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SHOT_COLUMNS)
    writer.writerows(rows)
    return text.getvalue().encode()


def _feature(incident: Incident, recording: str) -> dict[str, Any]:
    """Lay out an incident as a GeoJSON feature; without a place on Earth its geometry is null."""
    geometry: dict[str, Any] | None = None
    if incident.latitude_deg is not None and incident.longitude_deg is not None:
        place = [round(incident.longitude_deg, 8), round(incident.latitude_deg, 8)]
        place += [] if incident.height_m is None else [round(incident.height_m, 3)]
        geometry = {"type": "Point", "coordinates": place}
    properties = {
        "recording": recording,
        "incident": incident.incident,
        "revision": incident.revision,
        "state": incident.state,
        "first_shot_time": format_utc(incident.first_shot_ns),
        "last_shot_time": format_utc(incident.last_shot_ns),
        "round_count": incident.round_count,
        "p_gunshot": round(incident.p_gunshot, 6),
        "sensor_count": incident.sensor_count,
        "x_m": round(incident.x_m, 3) + 0.0,
        "y_m": round(incident.y_m, 3) + 0.0,
        "z_m": round(incident.z_m, 3) + 0.0,
        "ellipse95_major_m": round(incident.ellipse.major_m, 3),
        "ellipse95_minor_m": round(incident.ellipse.minor_m, 3),
        "ellipse95_azimuth_deg": round(incident.ellipse.azimuth_deg, 2) % 180,
        "shots": list(incident.shot_ids),
    }
    name = f"{recording}/{incident.incident}" if recording else incident.incident
    return {"type": "Feature", "id": name, "geometry": geometry, "properties": properties}


def _json(content: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _put(path: Path, content: bytes) -> None:
    """Write a file such that it is never seen half written."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def _remove_documents(folder: Path) -> None:
    """Remove what an earlier run wrote here; a file that only has the right name is somebody else's."""
    for path in folder.glob("*.json"):
        with path.open("rb") as file:
            beginning = file.read(40)
        if beginning.startswith((b'{\n  "type": "cad_event",', b'{\n  "type": "slew_request",')):
            path.unlink()
