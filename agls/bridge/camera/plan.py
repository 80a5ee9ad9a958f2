"""Which cameras are asked to look at an incident, and when they are asked again.

    1. every camera says how likely the shooter would be in its picture: the 95 % ellipse, widened by how far people may
       have gone since, as far as it lies within reach and no building hides it (`view`)
    2. fixed cameras that were recording come first: they alone saw what happened, and are asked for a clip of before
    3. the others by what they show, one after the other, each worth less where it looks from an angle that one already
       asked has; what a street camera shows goes before what a restricted one does

Every camera that is not asked gets a named no, told once per incident and reason.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agls.bridge.camera.geometry import Aim, Sight, Topocentre, aim, is_fixed, nearest_aim
from agls.bridge.camera.view import NO_WALLS, Walls, hidden_by, load_buildings, places_of, share_in_view, walls_round
from agls.bridge.names import derived_id
from agls.config import Camera, SiteConfig
from agls.messages import NS_PER_S, Ellipse, Incident, Rejection, SlewRequest, SlewTarget, UtcNs

MOVED_M = 2.0  # less than a target's own size; a head that twitches shows nothing
RESIZED = 1.25  # and more than MOVED_M: the ellipse grew or shrank enough to zoom for
FORGET_NS = 86_400 * NS_PER_S
SAME_P = 0.05  # views that differ by less show the same; the nearer camera sees more of it
SAME_ANGLE = 0.5  # what a view is worth beside one from the same direction
RIGHT_ANGLE_DEG = 90.0


@dataclass(frozen=True, slots=True)
class _Place:
    """A camera and what stands round it."""

    camera: Camera
    lens: Topocentre
    walls: Walls


@dataclass(frozen=True, slots=True)
class _Offer:
    """What a camera could show."""

    camera: Camera
    aim: Aim
    sight: Sight
    p_in_view: float


@dataclass(slots=True)
class _Asked:
    """What was last asked for one incident, and which refusals were told."""

    incident: Incident
    until_ns: int
    refusals: set[tuple[str, str]] = field(default_factory=set)


class CameraPlanner:
    """Ask the cameras near an incident to look at it.

    Parameters
    ----------
    site : SiteConfig
        With its cameras and its slewing policy.
    """

    def __init__(self, site: SiteConfig) -> None:
        self.slewing = site.slewing
        self.late_ns = round(site.gathering.late_s * NS_PER_S)
        self.cameras = _places(site)
        self._asked: dict[str, _Asked] = {}

    def feed(self, incident: Incident, now_ns: int) -> list[SlewRequest | Rejection]:
        """Take in a revision of an incident.

        Parameters
        ----------
        incident : Incident
            The revision.
        now_ns : int
            UTC.

        Returns
        -------
        list of SlewRequest or Rejection
            The requests, best camera first, then what was refused and is new; empty where the cameras already look at
            the place, where the incident is withdrawn, and where the site asks no cameras.
        """
        self._forget(now_ns)
        before = self._asked.get(incident.incident)
        if (
            not self.cameras
            or self.slewing.max_cameras_count == 0
            or (before and not _is_news(before, incident, now_ns))
        ):
            return []
        until_ns = now_ns + round(self.slewing.hold_s * NS_PER_S)
        asked = self._asked[incident.incident] = _Asked(incident, until_ns, before.refusals if before else set())
        if incident.state == "withdrawn":
            return []
        answers = self._answers(incident, now_ns, until_ns)
        said = {(answer.subject, answer.reason) for answer in answers if isinstance(answer, Rejection)} - asked.refusals
        asked.refusals |= said
        return [
            answer for answer in answers if isinstance(answer, SlewRequest) or (answer.subject, answer.reason) in said
        ]

    def _answers(self, incident: Incident, now_ns: int, until_ns: int) -> list[SlewRequest | Rejection]:
        if incident.latitude_deg is None or incident.longitude_deg is None or incident.height_m is None:
            return [_no(incident.incident, "no_geodetic_frame", "the site has no origin on Earth")]
        if now_ns - incident.last_shot_ns > self.late_ns:
            age_s = (now_ns - incident.last_shot_ns) / NS_PER_S
            return [_no(incident.incident, "too_late", f"the last shot was {age_s:.0f} s ago")]
        age_s = max(0.0, (now_ns - incident.last_shot_ns) / NS_PER_S)
        target = SlewTarget(
            latitude_deg=incident.latitude_deg,
            longitude_deg=incident.longitude_deg,
            height_m=incident.height_m,
            ellipse=incident.ellipse,
        )
        offers, refusals = self._offers(incident, target, age_s * self.slewing.drift_m_s)
        chosen = _chosen(offers, self.slewing.max_cameras_count)
        beyond = [
            _no(one.camera.camera_id, "enough_cameras", f"{len(chosen)} better ones are asked")
            for one in offers
            if one not in chosen
        ]
        requests = [self._request(incident, target, one, now_ns, until_ns) for one in chosen]
        return [*requests, *beyond, *refusals]

    def _offers(self, incident: Incident, target: SlewTarget, widened_m: float) -> tuple[list[_Offer], list[Rejection]]:
        """Ask every camera what it could show."""
        offers: list[_Offer] = []
        refusals: list[Rejection] = []
        wide = msgspec.structs.replace(
            target.ellipse, major_m=target.ellipse.major_m + widened_m, minor_m=target.ellipse.minor_m + widened_m
        )
        for place in self.cameras:
            answer = _private(place.camera, incident) or self._offer(place, target, wide)
            offers.append(answer) if isinstance(answer, _Offer) else refusals.append(answer)
        return offers, refusals

    def _offer(self, place: _Place, target: SlewTarget, wide: Ellipse) -> _Offer | Rejection:
        camera = place.camera
        sight = place.lens.sight(target.latitude_deg, target.longitude_deg, target.height_m)
        wanted = nearest_aim(camera, sight) if is_fixed(camera) else aim(camera, sight, wide)
        refusal = wanted if isinstance(wanted, Rejection) else None
        if refusal and refusal.reason == "out_of_range":
            return refusal
        setting = nearest_aim(camera, sight) if isinstance(wanted, Rejection) else wanted
        spots_m = places_of(sight, wide)
        hidden = hidden_by(place.walls, spots_m)
        p_in_view = share_in_view(camera, setting, spots_m, hidden)
        if p_in_view >= max(self.slewing.least_p, 1e-9):
            return _Offer(camera, setting, sight, p_in_view)
        if refusal:
            return refusal
        if share_in_view(camera, setting, spots_m, hidden & False) >= self.slewing.least_p:
            return _no(camera.camera_id, "hidden", "buildings stand between")
        return _no(camera.camera_id, "out_of_view", f"shows {p_in_view:.0%} of where the shooter may be")

    def _request(
        self, incident: Incident, target: SlewTarget, offer: _Offer, now_ns: int, until_ns: int
    ) -> SlewRequest:
        camera, setting = offer.camera, offer.aim
        whole = "" if setting.fits else "; the lens cannot hold the whole 95 % ellipse"
        owner = f"; of {camera.owner}" if camera.owner else ""
        clip_ns = incident.first_shot_ns - round(self.slewing.clip_before_s * NS_PER_S)
        return SlewRequest(
            request_id=derived_id("slew", incident.incident, str(incident.revision), camera.camera_id),
            incident=incident.incident,
            revision=incident.revision,
            camera_id=camera.camera_id,
            issued_ns=UtcNs(now_ns),
            not_after_ns=UtcNs(until_ns),
            hold_s=self.slewing.hold_s,
            target=target,
            distance_m=setting.distance_m,
            pan_deg=setting.pan_deg,
            tilt_deg=setting.tilt_deg,
            hfov_deg=setting.hfov_deg,
            fits=setting.fits,
            reason=f"{incident.state} gunfire {setting.distance_m:.0f} m away{whole}{owner}",
            state="probable" if incident.state == "probable" else "possible",
            p_in_view=round(offer.p_in_view, 3),
            clip_from_ns=UtcNs(max(0, clip_ns)) if camera.recording else None,
        )

    def _forget(self, now_ns: int) -> None:
        old = [name for name, asked in self._asked.items() if now_ns - asked.incident.last_shot_ns > FORGET_NS]
        for name in old:
            del self._asked[name]


def _places(site: SiteConfig) -> list[_Place]:
    ground_m = site.origin.height_m if site.origin else 0.0
    path = site.slewing.buildings_file
    buildings = load_buildings(Path(path), ground_m) if path else ()
    places = []
    for camera in site.camera:
        lens = Topocentre(camera.latitude_deg, camera.longitude_deg, camera.height_m)
        places.append(_Place(camera, lens, walls_round(camera, lens, buildings) if buildings else NO_WALLS))
    return places


def _private(camera: Camera, incident: Incident) -> Rejection | None:
    if camera.privacy == "never":
        return _no(camera.camera_id, "private", "its owner wants it never asked")
    if camera.privacy == "restricted" and incident.state != "probable":
        return _no(camera.camera_id, "restricted", f"asked for probable gunfire alone, this is {incident.state}")
    return None


def _chosen(offers: list[_Offer], most: int) -> list[_Offer]:
    """Choose the best views, in order."""
    chosen: list[_Offer] = []
    left = list(offers)
    while left and len(chosen) < most:
        best = min(left, key=lambda one: _cost(one, chosen))
        chosen.append(best)
        left.remove(best)
    return chosen


def _cost(offer: _Offer, chosen: list[_Offer]) -> tuple[bool, bool, float, float, str]:
    """Order offers: the least comes first."""
    camera = offer.camera
    apart = min((_apart_deg(offer, one) for one in chosen if not is_fixed(one.camera)), default=RIGHT_ANGLE_DEG)
    worth = SAME_ANGLE + (1.0 - SAME_ANGLE) * min(apart, RIGHT_ANGLE_DEG) / RIGHT_ANGLE_DEG
    shown = round(offer.p_in_view * worth / SAME_P)
    witness = is_fixed(camera) and camera.recording
    return not witness, camera.privacy != "street", -shown, offer.aim.distance_m, camera.camera_id


def _apart_deg(one: _Offer, other: _Offer) -> float:
    return abs((one.sight.azimuth_deg - other.sight.azimuth_deg + 180.0) % 360.0 - 180.0)


def _no(subject: str, reason: str, detail: str) -> Rejection:
    return Rejection(stage="camera", reason=reason, subject=subject, detail=detail)


def _is_news(asked: _Asked, incident: Incident, now_ns: int) -> bool:
    """Tell whether a revision is worth a movement of heads."""
    before = asked.incident
    if incident.revision <= before.revision:
        return False
    if "withdrawn" in (before.state, incident.state):
        return before.state != incident.state
    moved_m = math.dist((before.x_m, before.y_m, before.z_m), (incident.x_m, incident.y_m, incident.z_m))
    small_m, large_m = sorted((before.ellipse.major_m, incident.ellipse.major_m))
    resized = large_m - small_m > MOVED_M and large_m > RESIZED * small_m
    # The heads are about to turn home, and it goes on.
    went_on = now_ns >= asked.until_ns and incident.round_count > before.round_count
    return moved_m > MOVED_M or resized or went_on
