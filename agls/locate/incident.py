"""Shots that belong together in place and time become one incident, revised as shots are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from agls.config import SiteConfig
from agls.locate.evidence import of_cadence, of_incident, probability, total
from agls.locate.fire import automatic, even_run, motion, rate_per_s, shooters
from agls.locate.frame import Frame
from agls.messages import NS_PER_S, Incident, Rejection, Shot, format_utc

# Sounds from so near each other come from one spot; those refused there count against what is not, for an hour.
SPOT_M = 25.0
REPEATED_NS = 3600 * NS_PER_S
REFUSED_COUNT = 2_000  # kept at most, the oldest forgotten first


@dataclass
class _Open:
    """An incident that may still grow."""

    incident: str
    revision: int = -1
    shots: dict[str, Shot] = field(default_factory=dict)


class Incidents:
    """Gather shots into incidents.

    Parameters
    ----------
    site : SiteConfig
        The site's configuration.
    frame : Frame
        Its frame.
    """

    def __init__(self, site: SiteConfig, frame: Frame) -> None:
        self.settings = site.gathering
        self.prior_gunshot = site.gathering.prior_gunshot
        self.frame = frame
        self.open: dict[str, _Open] = {}
        self.refused: dict[str, Shot] = {}  # located, and not taken for gunfire

    def feed(self, shot: Shot, now_ns: int) -> list[Shot | Incident | Rejection]:
        """Take in a shot, or a revision of one.

        Parameters
        ----------
        shot : Shot
            As located.
        now_ns : int
            UTC.

        Returns
        -------
        list of Shot, Incident or Rejection
            The shot with the incident it belongs to, and the incident's new revision; or the shot alone and why it
            opens nothing.
        """
        self._forget(now_ns)
        home = next((one for one in self.open.values() if shot.shot_id in one.shots), None)
        if home is None:
            reason = self._refusal(shot)
            if reason is not None:
                refusal = Rejection(stage="incident", reason=reason, subject=shot.shot_id)
                return [shot, refusal, *self._doubted(shot, reason)]
            self.refused.pop(shot.shot_id, None)
            home = self._home(shot)
        shot = msgspec.structs.replace(shot, incident=home.incident)
        home.shots[shot.shot_id] = shot
        home.revision += 1
        return [shot, self._incident(home)]

    def _refusal(self, shot: Shot) -> str | None:
        """Say why a shot opens no incident."""
        if shot.state == "withdrawn":
            return "withdrawn"
        if shot.late:
            return "late"
        return "not_gunfire" if shot.p_gunshot < self.settings.possible_p and not self._keeps_time(shot) else None

    def _keeps_time(self, shot: Shot) -> bool:
        """Say whether a shot that nodes do not take for gunfire is one of a burst's, which only the burst can tell."""
        known = {
            name: other for one in self.open.values() for name, other in one.shots.items() if other.state == "located"
        }
        near = {**self._doubts([shot]), **{name: one for name, one in known.items() if _apart_m(one, shot) <= SPOT_M}}
        heard = sorted({**near, shot.shot_id: shot}.values(), key=lambda one: (one.origin_ns, one.shot_id))
        own = next(group for group in shooters(heard) if shot in group)
        if shot not in even_run(own) or not of_cadence(own):
            return False
        return probability(total(of_incident(own, own, 0)), self.prior_gunshot) >= self.settings.possible_p

    def _state(self, live: list[Shot], p_gunshot: float) -> Literal["probable", "possible", "withdrawn"]:
        """Say how an incident stands: withdrawn too where what came later makes it less than possible."""
        if not live or p_gunshot < self.settings.possible_p:
            return "withdrawn"
        return "probable" if p_gunshot >= self.settings.probable_p else "possible"

    def _doubted(self, shot: Shot, reason: str) -> list[Incident]:
        """Remember a sound that is no gunfire, forget one that is withdrawn; revise the incident whose spot it is."""
        known = self.refused.pop(shot.shot_id, None)
        if reason == "not_gunfire" and shot.reasons:
            self.refused[shot.shot_id] = known = shot
        if known is None:
            return []
        doubted = [one for one in self.open.values() if _live(one) and shot.shot_id in self._doubts(_live(one))]
        for one in doubted:
            one.revision += 1
        return [self._incident(one) for one in doubted]

    def _doubts(self, shots: list[Shot]) -> dict[str, Shot]:
        """Find the sounds of an incident's spot and time that were not taken for gunfire."""
        gap_ns = int(self.settings.gap_s * NS_PER_S)
        return {
            name: other
            for name, other in self.refused.items()
            if any(abs(one.origin_ns - other.origin_ns) <= gap_ns and _apart_m(one, other) <= SPOT_M for one in shots)
        }

    def _repeated_count(self, shots: list[Shot]) -> int:
        """Count the sounds of an incident's spot, within the hour before it, that were not taken for gunfire."""
        last_ns = shots[0].origin_ns - int(self.settings.gap_s * NS_PER_S)
        before = (one for one in self.refused.values() if last_ns - REPEATED_NS <= one.origin_ns < last_ns)
        return sum(any(_apart_m(one, other) <= SPOT_M for one in shots) for other in before)

    def _home(self, shot: Shot) -> _Open:
        """Find the incident a shot belongs to, or open one."""
        near = [
            (_apart_m(shot, other), one)
            for one in self.open.values()
            for other in _live(one)
            if self._same(shot, other)
        ]
        if near:
            return min(near, key=lambda pair: pair[0])[1]
        seed = hashlib.sha256(shot.shot_id.encode()).hexdigest()[:6]
        moment = format_utc(shot.origin_ns)[:19].translate({ord(mark): None for mark in "-:T"})
        opened = _Open(f"I{moment}-{seed}")
        self.open[opened.incident] = opened
        return opened

    def _same(self, shot: Shot, other: Shot) -> bool:
        gap_s = abs(shot.origin_ns - other.origin_ns) / NS_PER_S
        return gap_s <= self.settings.gap_s and _apart_m(shot, other) <= self.settings.radius_m

    def _forget(self, now_ns: int) -> None:
        """Close incidents that no shot can join any more: even a late one comes within `late_s`."""
        oldest_ns = now_ns - int((self.settings.gap_s + self.settings.late_s) * NS_PER_S)
        for one in [one for one in self.open.values() if max(s.origin_ns for s in one.shots.values()) < oldest_ns]:
            del self.open[one.incident]
        oldest_ns -= REPEATED_NS
        kept = [(name, shot) for name, shot in self.refused.items() if shot.origin_ns >= oldest_ns]
        self.refused = dict(sorted(kept, key=lambda pair: (pair[1].origin_ns, pair[0]))[-REFUSED_COUNT:])

    def _incident(self, home: _Open) -> Incident:
        """Sum an incident up. Its ellipse is its best shot's: what shots of one place share does not average out."""
        live = _live(home)
        shots = sorted(live or home.shots.values(), key=lambda shot: (shot.origin_ns, shot.shot_id))
        groups = shooters(live)
        busiest = max(groups, key=len, default=shots)
        moved = motion(busiest)
        best = min(shots, key=lambda shot: (shot.ellipse.major_m * shot.ellipse.minor_m, shot.origin_ns))
        # Where he is now if he moves, else the average: it does not jump with every shot.
        x_m, y_m, z_m = _place(busiest[-1:] if moved else busiest)
        geodetic = self.frame.to_geodetic(x_m, y_m, z_m)
        heard = [*shots, *self._doubts(shots).values()]
        rhythm = max(shooters(heard), key=len) if live else busiest
        reasons = of_incident(heard, rhythm, self._repeated_count(shots))
        # Shots that give no reasons, as from a file, are as likely as the likeliest of them.
        p_gunshot = (
            round(probability(total(reasons), self.prior_gunshot), 4)
            if any(shot.reasons for shot in shots)
            else max(shot.p_gunshot for shot in shots)
        )
        return Incident(
            incident=home.incident,
            revision=home.revision,
            state=self._state(live, p_gunshot),
            first_shot_ns=shots[0].origin_ns,
            last_shot_ns=shots[-1].origin_ns,
            round_count=len(live),
            shooter_count=len(groups),
            automatic=any(automatic(group) for group in groups),
            rate_per_s=_rounded(rate_per_s(busiest), 2),
            motion=moved,
            x_m=x_m,
            y_m=y_m,
            z_m=z_m,
            latitude_deg=None if geodetic is None else round(geodetic[0], 8),
            longitude_deg=None if geodetic is None else round(geodetic[1], 8),
            height_m=None if geodetic is None else round(geodetic[2], 3),
            ellipse=best.ellipse,
            p_gunshot=p_gunshot,
            sensor_count=max(shot.sensor_count for shot in shots),
            shot_ids=tuple(shot.shot_id for shot in shots),
            reasons=reasons,
        )


def _place(shots: list[Shot]) -> tuple[float, float, float]:
    """Average the places of shots, each by how sure it is."""
    weights = [1.0 / (shot.ellipse.major_m * shot.ellipse.minor_m + 1e-6) for shot in shots]
    total = sum(weights)
    x_m, y_m, z_m = (
        round(sum(w * value for w, value in zip(weights, values, strict=True)) / total, 3)
        for values in zip(*((shot.x_m, shot.y_m, shot.z_m) for shot in shots), strict=True)
    )
    return x_m, y_m, z_m


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _live(one: _Open) -> list[Shot]:
    return [shot for shot in one.shots.values() if shot.state == "located"]


def _apart_m(one: Shot, other: Shot) -> float:
    return float(((one.x_m - other.x_m) ** 2 + (one.y_m - other.y_m) ** 2) ** 0.5)
