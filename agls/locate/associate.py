"""From a stream of detections, in any order and late, to shots: told early, corrected, then decided.

Time runs by what is handed in alone. Detections are held until every sensor could have heard the same shot:

        first held                                      now
    ----|--x--x---x---x--|--x--------x---|--------------|-----> time of arrival
        |<---- zone ---->|<---- zone --->|<-- settle -->|
         shots heard first in the first zone are decided: no arrival of theirs, nor of a rival's, can still come

Before that a shot is told as soon as enough sensors agree, again when it changes, and withdrawn when what came later
explains its detections otherwise. What is decided depends on the detections alone, not on the order they came in.

A preliminary detection says when, not what: half a second before its node has judged the sound. It helps to agree on a
place early, beside detections that are judged; alone it tells nothing, and what is decided knows nothing of it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from agls.config import SiteConfig
from agls.locate._groups import Group, Held, Key, decided_of, judged_count, keys_of, same, shot_id
from agls.locate._shock import MUZZLE, SHOCK
from agls.locate._told import revised, withdrawn
from agls.locate.clocks import Suspect
from agls.locate.evidence import of_bullet, of_height, of_level, of_nodes, probability, ranked, total
from agls.locate.frame import Frame
from agls.locate.region import region95
from agls.locate.rounds import Round, locate, together
from agls.locate.search import Array, Idle, Picks, find_shots
from agls.locate.shock import solve_rifle
from agls.locate.slow import SlowState
from agls.locate.solve import Air, Height, NoSolution, Solution
from agls.locate.uncertainty import ellipse95
from agls.locate.window import HALF_RANGE_SHARE
from agls.messages import NS_PER_S, Alternative, Arrival, Detection, Reason, Rejection, Shot, Spot, UtcNs, format_utc

EARLY_EVERY_NS = NS_PER_S // 10  # how often a busy window is looked at before it is decided
EARLY_COUNT = 50  # detections that can be looked through so often; more take longer, and are looked at less often
BUSY_COUNT = 150  # detections that can be looked through in a moment
# Before all could have heard, less speaks against a wrong combination: ask for more in favour, and expect what the
# network delivers at once to have come.
EARLY_NATS = 10.0
EARLY_SHARE = 0.65  # of the sensors that should have heard it by then: combinations of several shots' sounds have fewer
EARLY_SETTLE_NS = 3 * NS_PER_S // 10
JUDGED_COUNT = 2  # detections of a shot that say what it was, before it is told
EARLY_KEPT_NS = 2 * NS_PER_S  # after which the judgement of a preliminary detection is not coming soon
ALONE_NS = 3 * NS_PER_S
CONTEXT_NS = 2 * NS_PER_S  # shots decided so short before may still send echoes
OUTLIER_WEIGHT = 0.5
FEW_FOR_ELLIPSE = 5
BEFORE_S, AFTER_S = 0.1, 0.4  # unused detections this near a predicted arrival are listed with the shot
NEVER_NS = 2**62
WAVES = {"unknown": 0, "muzzle": MUZZLE, "shock": SHOCK}

Located = tuple[int, Shot | Rejection]


@dataclass(frozen=True, slots=True)
class _Told:
    """A shot that has been told and is not decided yet."""

    shot: Shot
    keys: frozenset[Key]
    first_ns: int
    judged_count: int


class Associator:
    """Decide which detections are the same shot, and locate it.

    Parameters
    ----------
    site : SiteConfig
        The site's configuration.
    frame : Frame
        Its frame, with the sensors' places.
    """

    def __init__(self, site: SiteConfig, frame: Frame) -> None:
        self.settings = site.locating
        self.prior_gunshot = site.gathering.prior_gunshot
        self.late_ns = int(site.gathering.late_s * NS_PER_S)
        air = Air.of_weather(site.weather)
        self.slow = SlowState(air, self.settings.path_sigma_s)
        self.frame = frame
        ids = tuple(sorted(frame.sensor_positions_m))
        places = np.array([frame.sensor_positions_m[one] for one in ids], dtype=np.float64).reshape(-1, 3)
        self.array = Array(ids, places)
        self.index = {one: k for k, one in enumerate(ids)}
        # What stays the same from shot to shot, as a time: the survey of each sensor's place and of its clock.
        surveys = {
            one.sensor_id: (one.position_sigma_m / air.sound_speed_m_s, one.clock_offset_sigma_s) for one in site.sensor
        }
        self.survey_s = np.array([math.hypot(*surveys[one]) for one in ids])
        slowest = air.sound_speed_m_s - 3 * air.sound_speed_sigma_m_s - 3 * air.wind_sigma_m_s
        self.zone_ns = int(self.array.longest_delay_s(slowest, self.settings.max_range_m) * NS_PER_S)
        self.settle_ns = int(self.settings.settle_s * NS_PER_S)
        self.held: list[Held] = []
        self.by_key: dict[Key, Held] = {}
        self.early: dict[Key, Held] = {}  # not judged yet
        self.past: list[Group] = []
        self.past_rounds: list[tuple[int, Round]] = []  # those of them that no bullet helped to locate, as heard last
        self.idle = Idle.at_first(len(ids))
        self.idle_until_ns: int | None = None
        self.told: list[_Told] = []
        self.look_ns = NEVER_NS
        self.looked_ns = -NEVER_NS

    def feed(self, detection: Detection, now_ns: int) -> list[Shot | Rejection]:
        """Take in a detection.

        Parameters
        ----------
        detection : Detection
            From a sensor of the site; a final replaces its preliminary.
        now_ns : int
            When it was received, UTC; `advance` has been called with it.

        Returns
        -------
        list of Shot or Rejection
            The detection shed, where more wait than may.
        """
        key = (detection.sensor_id, detection.boot_id, detection.seq)
        held = Held(detection.toa_ns, key, self.index[detection.sensor_id], detection, now_ns)
        if detection.stage == "preliminary":
            if detection.toa_ns > now_ns - EARLY_KEPT_NS and len(self.early) < self.settings.max_pending_count:
                self.early[key] = held
            if not self._is_judged_near(detection.toa_ns):
                return []  # whatever it agrees with could not be told yet
        else:
            self.early.pop(key, None)
            insort(self.held, held)
            self.by_key[key] = held
        self.look_ns = min(self.look_ns, max(now_ns, self.looked_ns + self._rest_ns()))
        if len(self.held) <= self.settings.max_pending_count:
            return []
        shed = self.held[0]
        self._release([shed])
        return [_rejected("shed", shed.detection, f"more than {self.settings.max_pending_count} detections wait")]

    def advance(self, now_ns: int) -> list[Located]:
        """Let time pass.

        Parameters
        ----------
        now_ns : int
            UTC; never less than in an earlier call.

        Returns
        -------
        list of tuple of int and Shot or Rejection
            What became known, each with the moment at which it did.
        """
        out: list[Located] = []
        while True:
            decide_ns = self._decide_ns()
            due_ns = min(decide_ns, self.look_ns)
            if due_ns > now_ns:
                return out
            step = self._decide if decide_ns <= self.look_ns else self._look
            out += [(due_ns, item) for item in step(due_ns)]

    def _is_judged_near(self, toa_ns: int) -> bool:
        """Say whether enough was judged of what could be the same shot."""
        first = bisect_left(self.held, toa_ns - self.zone_ns, key=lambda held: held.toa_ns)
        return bisect_left(self.held, toa_ns + self.zone_ns, key=lambda held: held.toa_ns) - first >= JUDGED_COUNT

    def _decide_ns(self) -> int:
        """Say when the first zone can be decided: nothing of it, nor of a rival's, can still come."""
        if not self.held:
            return NEVER_NS
        return max(self.held[0].toa_ns + 2 * self.zone_ns, self.held[0].received_ns) + self.settle_ns

    def _rest_ns(self) -> int:
        """Say how long to wait from one look to the next."""
        return max(EARLY_EVERY_NS, EARLY_EVERY_NS * (len(self.held) + len(self.early)) // EARLY_COUNT)

    def _look(self, now_ns: int) -> list[Shot | Rejection]:
        """Tell what can be told before it is decided."""
        self.early = {key: held for key, held in self.early.items() if held.received_ns > now_ns - EARLY_KEPT_NS}
        with_early = len(self.held) + len(self.early) <= BUSY_COUNT  # else what is judged is enough to look through
        window = sorted([*self.held, *self.early.values()]) if self.early and with_early else self.held
        if len(window) > BUSY_COUNT or len(self.held) < JUDGED_COUNT:
            self.look_ns, self.looked_ns = NEVER_NS, now_ns
            return []  # too much to look through twice, told when it is decided; or nothing that could be told yet
        horizon_ns = now_ns - min(self.settle_ns, EARLY_SETTLE_NS)
        found = self._find(window, horizon_ns, thorough=False)
        ripe_ns = [self._ripe_ns(group, found) for group in found]
        ripe = [
            group
            for group, at_ns in zip(found, ripe_ns, strict=True)
            if at_ns <= horizon_ns and judged_count(group) >= JUDGED_COUNT and self._heard_by_most(group, horizon_ns)
        ]
        out, fallen = self._tell(ripe, now_ns, final=False)
        self.told += fallen  # not yet: what comes may bear them out
        # Those that were held back are looked at again when they are ripe, if nothing comes before.
        waits = (at_ns for at_ns in ripe_ns if at_ns > horizon_ns)
        self.look_ns, self.looked_ns = min(waits, default=NEVER_NS - EARLY_SETTLE_NS) + EARLY_SETTLE_NS, now_ns
        return out

    def _ripe_ns(self, group: Group, found: list[Group]) -> int:
        """Say from when a shot may be told: at once where much speaks for it, else when all could have heard it.

        At once is for the first shot: it opens the incident. What seems to follow within seconds may be its echoes,
        as long as the sensors that would contradict have not been reached.
        """
        others = [*found, *self.past]
        first = all(
            other is group or other.found.score < group.found.score or abs(other.origin_ns - group.origin_ns) > ALONE_NS
            for other in others
        )
        near = [told for told in self.told if abs(told.shot.origin_ns - group.origin_ns) < ALONE_NS]
        beside = any(not same(told.keys, keys_of(group)) for told in near)
        if first and not beside and group.found.surplus >= EARLY_NATS:
            return group.members[0].toa_ns
        apart_m = np.linalg.norm(self.array.positions_m - np.array(group.found.place_m), axis=1)
        farthest_m = min(float(apart_m.max()), self.settings.max_range_m)
        return group.origin_ns + int(farthest_m / self.slow.air.sound_speed_m_s * NS_PER_S)

    def _heard_by_most(self, group: Group, horizon_ns: int) -> bool:
        """Say whether most sensors that should have heard a shot by now did."""
        apart_m = np.linalg.norm(self.array.positions_m - np.array(group.found.place_m), axis=1)
        due_ns = group.origin_ns + apart_m / self.slow.air.sound_speed_m_s * NS_PER_S
        due = (apart_m < HALF_RANGE_SHARE * self.settings.max_range_m) & (due_ns < horizon_ns)
        return len(group.members) >= EARLY_SHARE * int(due.sum())

    def _decide(self, now_ns: int) -> list[Shot | Rejection]:
        """Decide the shots heard first in the zone, and let go of what was heard there."""
        zone_end_ns = self.held[0].toa_ns + self.zone_ns
        window = [held for held in self.held if held.toa_ns <= zone_end_ns + self.zone_ns]
        decided = [
            group
            for group in self._find(window, now_ns - self.settle_ns, thorough=True)
            if group.members[0].toa_ns <= zone_end_ns
        ]
        undecided = [told for told in self.told if told.first_ns > zone_end_ns]
        self.told = [told for told in self.told if told.first_ns <= zone_end_ns]
        out, fallen = self._tell(decided, now_ns, final=True)
        out += [withdrawn(told.shot) for told in fallen]
        self.told = undecided
        shocks = [held for group in decided for held in group.shocks]
        self._release([*(held for group in decided for held in group.members), *shocks])
        rest = self.held[: bisect_left(self.held, zone_end_ns + 1, key=lambda held: held.toa_ns)]
        self._release(rest)
        shocks += [held for held in rest if held.detection.wave == "shock"]
        idle = [held for held in rest if held.detection.wave != "shock"]
        since_ns = zone_end_ns - self.zone_ns if self.idle_until_ns is None else self.idle_until_ns
        self.idle = self.idle.after(len(idle), max(zone_end_ns - since_ns, 0) / NS_PER_S * len(self.index))
        self.idle_until_ns = zone_end_ns
        past = [group for group in self.past if group.members[-1].toa_ns > zone_end_ns - CONTEXT_NS]
        self.past = past + decided
        self.past_rounds = [one for one in self.past_rounds if one[0] > zone_end_ns - CONTEXT_NS]
        out += [_rejected("shockwave", held.detection) for held in sorted(shocks)]
        return out + [_rejected("unassociated", held.detection) for held in idle]

    def _release(self, gone: list[Held]) -> None:
        """Hold some detections no longer."""
        keys = {held.key for held in gone}
        self.held = [held for held in self.held if held.key not in keys]
        for key in keys:
            del self.by_key[key]

    def _find(self, window: list[Held], horizon_ns: int, *, thorough: bool) -> list[Group]:
        """Search a window for shots, beside those decided before."""
        if len({held.sensor for held in window}) < self.settings.min_sensors_count:
            return []
        reference_ns = window[0].toa_ns
        rows = window + [held for group in self.past for held in group.members]
        picks = self._picks(rows, reference_ns)
        horizon_s = (horizon_ns - reference_ns) / NS_PER_S
        decided = decided_of(self.past, len(window), reference_ns)
        found = find_shots(
            picks, self.array, self.slow.air, self.settings, horizon_s, decided, thorough=thorough, idle=self.idle
        )
        return [
            Group(shot, tuple(rows[k] for k in shot.members), tuple(rows[k] for k in shot.shocks), reference_ns)
            for shot in found
        ]

    def _tell(self, groups: list[Group], now_ns: int, *, final: bool) -> tuple[list[Shot | Rejection], list[_Told]]:
        """Turn groups into shots, new or revised; say those that changed, and hand back those no group bears out."""
        out: list[Shot | Rejection] = []
        fallen, self.told = self.told, []
        changed = []
        for group in groups:
            known_as = (keys_of(group), judged_count(group))
            unchanged = [told for told in fallen if (told.keys, told.judged_count) == known_as and not final]
            if unchanged:
                fallen.remove(unchanged[0])
                self.told.append(unchanged[0])
            else:
                changed.append(group)
        for group, one in zip(changed, self._located(changed), strict=True):
            shot, *rest = self._published(one, group, now_ns, final=final)
            out += rest
            if isinstance(shot, Rejection):
                out.append(shot)
                continue
            keys = keys_of(group)
            known = max(fallen, key=lambda told, keys=keys: len(told.keys & keys), default=None)  # type: ignore[misc]
            if known is None or not same(known.keys, keys):
                out.append(shot)
            else:
                fallen.remove(known)
                now = revised(shot, known.shot, final=final)
                out += [now] if now is not known.shot else []
                shot = now
            self.told.append(_Told(shot, keys, group.members[0].toa_ns, judged_count(group)))
        return out, fallen

    def _located(self, groups: Sequence[Group]) -> list[Round | Rejection]:
        """Locate groups of detections, each for itself; then those of one place together, and with those before."""
        out = [self._alone(group) for group in groups]
        which = [k for k, (group, one) in enumerate(zip(groups, out, strict=True))
                 if isinstance(one, Round) and not group.shocks]  # fmt: skip
        rounds = [one for one in (out[k] for k in which) if isinstance(one, Round)]
        before = [one for _, one in self.past_rounds]
        if rounds and len(before) + len(rounds) > 1:
            located = together([*before, *rounds], self.array.positions_m, self.slow)
            for k, one in zip(which, located[len(before) :], strict=True):
                out[k] = one
        return out

    def _alone(self, group: Group) -> Round | Rejection:
        """Locate one group of detections."""
        picks = self._picks([*group.members, *group.shocks], group.reference_ns)
        count = len(group.members)
        own_s = np.array([held.detection.toa_sigma_s for held in group.members])
        common_s = np.sqrt(np.maximum(picks.sigma_s[:count] ** 2 - own_s**2, 0.0))
        one = locate(picks.sensor[:count], picks.toa_s[:count], own_s, common_s, self.array.positions_m, self.slow)
        if group.shocks and isinstance(one, Round):
            rifle = solve_rifle(self.array, group.found, picks, one.air, one.path_s, count)
            one = rifle if isinstance(rifle, NoSolution) else replace(one, solution=rifle)
        if isinstance(one, NoSolution):
            return _rejected(one.reason, group.members[0].detection, f"{count} detections agreed")
        return one

    def _published(self, one: Round | Rejection, group: Group, now_ns: int, *, final: bool) -> list[Shot | Rejection]:
        """Write a located group as a shot, and learn from it once it is decided."""
        if isinstance(one, Rejection):
            return [one]
        solution = one.solution
        right = int((solution.weights >= OUTLIER_WEIGHT).sum())
        if right < self.settings.min_sensors_count:
            detail = f"{right} of {len(group.members)} detections"
            return [_rejected("too_few_agree", group.members[0].detection, detail)]
        shot = self._shot(one, group, right, now_ns)
        if not final:
            return [shot]
        if not group.shocks:
            self.past_rounds.append((group.members[-1].toa_ns, one))
        positions_m, pick_s = self.array.positions_m[one.sensors], np.hypot(one.pick_s, one.common_s)
        sigma_s = np.hypot(pick_s, one.path_s)
        if self._no_ellipse(solution, right):
            region = region95(solution, positions_m, one.toa_s, sigma_s, one.air, Height(solution.z_m, 10.0))
            shot = msgspec.structs.replace(
                shot, region=tuple(self._spot(x, y, solution.z_m) for x, y in region.tolist())
            )
        suspects = self.slow.feed(solution, one.sensors, positions_m, sigma_s, pick_s, shot.origin_ns)
        return [shot, *(self._suspected(suspect) for suspect in suspects)]

    def _picks(self, rows: Sequence[Held], reference_ns: int) -> Picks:
        """Write detections as picks: less what a clock is known to be late, and as unsure as survey and clock are."""
        said = [held.detection for held in rows]
        sensor = np.array([held.sensor for held in rows], dtype=np.int64)
        late_s, clock_s = self.slow.clocks.known(sensor)
        toa_s = np.array([(held.toa_ns - reference_ns) / NS_PER_S for held in rows]) - late_s
        sigma_s = np.sqrt(np.array([one.toa_sigma_s for one in said]) ** 2 + self.survey_s[sensor] ** 2 + clock_s**2)
        level_db = np.array([math.nan if one.level_db is None else one.level_db for one in said])
        llr = np.array([one.llr.get("gunshot", 0.0) for one in said])
        return Picks(sensor, toa_s, sigma_s, level_db, llr, np.array([WAVES[one.wave] for one in said], dtype=np.int64))

    def _no_ellipse(self, solution: Solution, right: int) -> bool:
        """Say whether few sensors, or a place outside them, make a region that no ellipse describes."""
        flat = self.array.positions_m[:, :2]
        place = np.array([solution.x_m, solution.y_m])
        return right <= FEW_FOR_ELLIPSE or bool((place < flat.min(axis=0)).any() or (place > flat.max(axis=0)).any())

    def _spot(self, x_m: float, y_m: float, z_m: float) -> Spot:
        geodetic = self.frame.to_geodetic(x_m, y_m, z_m)
        latitude, longitude = (None, None) if geodetic is None else (round(geodetic[0], 7), round(geodetic[1], 7))
        return Spot(x_m=round(x_m, 2), y_m=round(y_m, 2), latitude_deg=latitude, longitude_deg=longitude)

    def _suspected(self, suspect: Suspect) -> Rejection:
        detail = f"arrivals {suspect.offset_s * 1e3:+.1f} ms off at every place, +- {suspect.sigma_s * 1e3:.1f} ms"
        return Rejection(
            stage="associate", reason="clock_suspect", subject=self.array.sensor_ids[suspect.sensor], detail=detail
        )

    def _reasons(self, one: Round, group: Group) -> tuple[Reason, ...]:
        """Say what speaks for gunfire, and what against: by the detections that agree on the place."""
        solution, right = one.solution, one.solution.weights >= OUTLIER_WEIGHT
        heard = [held.detection for held, good in zip(group.members, right, strict=True) if good]
        positions_m, pick_s = self.array.positions_m[one.sensors[right]], np.hypot(one.pick_s, one.common_s)[right]
        range_m = np.linalg.norm(positions_m - [solution.x_m, solution.y_m, solution.z_m], axis=1)
        level_db = np.array([math.nan if said.level_db is None else said.level_db for said in heard])
        return ranked([
            *of_nodes([said.llr["gunshot"] for said in heard if "gunshot" in said.llr]),
            *of_bullet(len({held.sensor for held in group.shocks})),
            *of_level(level_db, np.array([said.clipped for said in heard]), range_m),
            *of_height(positions_m, one.toa_s[right], pick_s, one.path_s, one.air),
        ])  # fmt: skip

    def _shot(self, one: Round, group: Group, right: int, now_ns: int) -> Shot:
        solution, reasons = one.solution, self._reasons(one, group)
        x, y, z = (round(value, 3) for value in (solution.x_m, solution.y_m, solution.z_m))
        geodetic = self.frame.to_geodetic(x, y, z)
        latitude, longitude, height = geodetic or (None, None, None)
        origin_ns = group.reference_ns + round(solution.origin_s * 1e6) * 1000
        return Shot(
            shot_id=shot_id(origin_ns, group.members),
            late=now_ns - origin_ns > self.late_ns,
            origin_ns=UtcNs(origin_ns),
            origin_sigma_s=round(float(solution.covariance[3, 3]) ** 0.5, 6),
            x_m=x,
            y_m=y,
            z_m=z,
            latitude_deg=None if latitude is None else round(latitude, 8),
            longitude_deg=None if longitude is None else round(longitude, 8),
            height_m=None if height is None else round(height, 3),
            ellipse=ellipse95(solution.covariance),
            alternatives=tuple(
                Alternative(spot=self._spot(x_m, y_m, solution.z_m), odds=round(min(odds, 1.0), 4))
                for x_m, y_m, odds in solution.others
            ),
            p_gunshot=round(probability(total(reasons), self.prior_gunshot), 4),
            sensor_count=right,
            arrivals=self._arrivals(solution, group),
            reasons=reasons,
        )

    def _arrivals(self, solution: Solution, group: Group) -> tuple[Arrival, ...]:
        """List the detections used, and those refused near by, with the reason."""
        rows = [
            _arrival(held, float(residual), "" if weight >= OUTLIER_WEIGHT else "outlier")
            for held, residual, weight in zip(group.members, solution.residuals_s, solution.weights, strict=True)
        ]
        used = {held.key for held in group.members}
        shocks = {held.key for held in group.shocks}
        place = np.array([solution.x_m, solution.y_m, solution.z_m])
        flight_s = np.linalg.norm(self.array.positions_m - place, axis=1) / solution.air.sound_speed_m_s
        due_ns = group.reference_ns + np.rint((solution.origin_s + flight_s) * NS_PER_S).astype(np.int64)
        for held in self.held:
            residual = (held.toa_ns - int(due_ns[held.sensor])) / NS_PER_S
            if held.key in shocks:
                rows.append(_arrival(held, residual, "shockwave"))
            elif held.key not in used and -BEFORE_S < residual < AFTER_S:
                rows.append(_arrival(held, residual, "echo_or_other" if residual > 0 else "early"))
        return tuple(rows)


def _arrival(held: Held, residual_s: float, reason: str) -> Arrival:
    sensor_id, boot_id, seq = held.key
    return Arrival(
        sensor_id=sensor_id, boot_id=boot_id, seq=seq, toa_ns=UtcNs(held.toa_ns), residual_s=round(residual_s, 6),
        used=not reason, reason=reason,
    )  # fmt: skip


def _rejected(reason: str, detection: Detection, detail: str = "") -> Rejection:
    subject = f"{detection.sensor_id} {format_utc(detection.toa_ns)}"
    return Rejection(stage="associate", reason=reason, subject=subject, detail=detail)
