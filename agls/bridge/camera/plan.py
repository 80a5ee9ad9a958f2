"""Which cameras are asked to look at an incident, and when they are asked again.

Cameras in reach are ranked: first those whose lens can hold the whole 95 % ellipse, nearest first; then the others, the
one that misses least first. Every camera that is not asked gets a named no, told once per incident and reason.
"""

import math
from dataclasses import dataclass, field

from agls.bridge.camera.geometry import Aim, Topocentre, aim
from agls.bridge.names import derived_id
from agls.config import Camera, SiteConfig
from agls.messages import NS_PER_S, Incident, Rejection, SlewRequest, SlewTarget, UtcNs

MOVED_M = 2.0  # less than a target's own size; a head that twitches shows nothing
RESIZED = 1.25  # and more than MOVED_M: the ellipse grew or shrank enough to zoom for
FORGET_NS = 86_400 * NS_PER_S


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
        self.cameras = [
            (camera, Topocentre(camera.latitude_deg, camera.longitude_deg, camera.height_m)) for camera in site.camera
        ]
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
        target = SlewTarget(
            latitude_deg=incident.latitude_deg,
            longitude_deg=incident.longitude_deg,
            height_m=incident.height_m,
            ellipse=incident.ellipse,
        )
        aims, refusals = self._aims(target)
        chosen = aims[: self.slewing.max_cameras_count]
        beyond = [
            _no(camera.camera_id, "enough_cameras", f"{len(chosen)} better ones are asked")
            for camera, _ in aims[len(chosen) :]
        ]
        requests = [self._request(incident, target, camera, setting, now_ns, until_ns) for camera, setting in chosen]
        return [*requests, *beyond, *refusals]

    def _aims(self, target: SlewTarget) -> tuple[list[tuple[Camera, Aim]], list[Rejection]]:
        """Ask every camera whether it can look there; the best answer comes first."""
        aims: list[tuple[Camera, Aim]] = []
        refusals: list[Rejection] = []
        for camera, place in self.cameras:
            answer = aim(
                camera, place.sight(target.latitude_deg, target.longitude_deg, target.height_m), target.ellipse
            )
            if isinstance(answer, Rejection):
                refusals.append(answer)
            else:
                aims.append((camera, answer))
        aims.sort(key=lambda pair: (pair[1].missing_deg, pair[1].distance_m, pair[0].camera_id))
        return aims, refusals

    def _request(
        self, incident: Incident, target: SlewTarget, camera: Camera, setting: Aim, now_ns: int, until_ns: int
    ) -> SlewRequest:
        whole = "" if setting.fits else "; the lens cannot hold the whole 95 % ellipse"
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
            reason=f"{incident.state} gunfire {setting.distance_m:.0f} m away{whole}",
        )

    def _forget(self, now_ns: int) -> None:
        old = [name for name, asked in self._asked.items() if now_ns - asked.incident.last_shot_ns > FORGET_NS]
        for name in old:
            del self._asked[name]


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
