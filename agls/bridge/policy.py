"""What the agency wants, where and when: rules by zone, hours, days and dates, and what follows for an incident.

A rule restates the prior, so that the same evidence weighs differently on a night of fireworks or beside a shooting
range, and says so in a sentence that every document carries; nothing is silently left out. Below `possible_p` of the
rule that holds nobody is told, yet the incident is kept, as a candidate.
"""

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from agls.bridge.record import Finding, IncidentRecord, PlateWindow, Waypoint, judgement, shown
from agls.config import Rule, SiteConfig
from agls.messages import NS_PER_S, Incident, UtcNs

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FINEST_P = 1e-6  # as far as a probability is taken to be sure


@dataclass(frozen=True, slots=True)
class Ruling:
    """What holds at one place and time.

    Attributes
    ----------
    prior_gunshot, probable_p, possible_p : float
        As in the site's gathering, or the rule's.
    review : bool
        Whether a person must review before dispatch is told.
    statements : tuple of str
        What every document says of it.
    """

    prior_gunshot: float
    probable_p: float
    possible_p: float
    review: bool
    statements: tuple[str, ...]


class Policies:
    """The site's policy and its rules.

    Parameters
    ----------
    site : SiteConfig
        The site, checked (`agls.site_checks`).
    """

    def __init__(self, site: SiteConfig) -> None:
        self.site = site
        self._zone = ZoneInfo(site.policy.timezone)

    def ruling(self, latitude_deg: float | None, longitude_deg: float | None, at_ns: int) -> Ruling:
        """Say what holds at a place and time.

        Parameters
        ----------
        latitude_deg, longitude_deg : float or None
            The place; a rule with a zone does not hold where it is None.
        at_ns : int
            The time, UTC.

        Returns
        -------
        Ruling
            Of the site and every rule that applies, a later one having the last word.
        """
        gathering, policy = self.site.gathering, self.site.policy
        holds = [rule for rule in self.site.rule if self._applies(rule, latitude_deg, longitude_deg, at_ns)]
        asked = [policy.review, *(rule.review for rule in holds if rule.review != "as_site")]
        return Ruling(
            prior_gunshot=_last(gathering.prior_gunshot, [rule.prior_gunshot for rule in holds]),
            probable_p=_last(gathering.probable_p, [rule.probable_p for rule in holds]),
            possible_p=_last(gathering.possible_p, [rule.possible_p for rule in holds]),
            review=asked[-1] == "before_dispatch",
            statements=tuple(rule.statement for rule in holds if rule.statement),
        )

    def judge(self, incident: Incident) -> Incident:
        """Restate probability and class of an incident by the rules that hold where and when it was.

        Parameters
        ----------
        incident : Incident
            As located, at the site's prior and thresholds.

        Returns
        -------
        Incident
            The same where no rule says otherwise; withdrawn where it is less than possible.
        """
        if not self.site.rule or incident.state == "withdrawn":
            return incident
        ruling = self.ruling(incident.latitude_deg, incident.longitude_deg, incident.first_shot_ns)
        p_gunshot = at_prior(incident.p_gunshot, self.site.gathering.prior_gunshot, ruling.prior_gunshot)
        if p_gunshot >= ruling.probable_p:
            return msgspec.structs.replace(incident, p_gunshot=p_gunshot, state="probable")
        state = "possible" if p_gunshot >= ruling.possible_p else "withdrawn"
        return msgspec.structs.replace(incident, p_gunshot=p_gunshot, state=state)

    def ruling_of(self, found: Finding) -> Ruling:
        """Say what holds where and when an incident began.

        Parameters
        ----------
        found : Finding
            The machine's finding.

        Returns
        -------
        Ruling
            What holds there and then.
        """
        return self.ruling(found.place.latitude_deg, found.place.longitude_deg, found.first_shot_ns)

    def dressed(self, record: IncidentRecord) -> IncidentRecord:
        """Fill in what follows from an incident by policy: type, priority, statements, plates, waypoint.

        Parameters
        ----------
        record : IncidentRecord
            The record.

        Returns
        -------
        IncidentRecord
            The same with these.
        """
        policy, found = self.site.policy, shown(record)
        said = [correction.incident_type for correction in record.corrections if correction.incident_type is not None]
        reviewed = policy.reviewed_type if judgement(record) == "gunfire" else ""
        return msgspec.structs.replace(
            record,
            incident_type=said[-1] if said else reviewed or self.site.cad.incident_type,
            type_code=policy.type_code,
            priority=policy.priority_probable if found.verdict == "probable" else policy.priority_possible,
            statements=self.ruling_of(record.first).statements,
            plate_window=self._plate_window(found),
            waypoint=self._waypoint(found),
        )

    def _plate_window(self, found: Finding) -> PlateWindow:
        policy = self.site.policy
        return PlateWindow(
            from_ns=UtcNs(found.first_shot_ns - round(policy.plate_before_s * NS_PER_S)),
            until_ns=UtcNs(found.last_shot_ns + round(policy.plate_after_s * NS_PER_S)),
            radius_m=round(found.ellipse.major_m + policy.plate_speed_m_s * policy.plate_after_s, 1),
        )

    def _waypoint(self, found: Finding) -> Waypoint | None:
        place, above_m = found.place, self.site.policy.drone_height_m
        if place.latitude_deg is None or place.longitude_deg is None or above_m == 0:
            return None
        return Waypoint(latitude_deg=place.latitude_deg, longitude_deg=place.longitude_deg, above_ground_m=above_m)

    def _applies(self, rule: Rule, latitude_deg: float | None, longitude_deg: float | None, at_ns: int) -> bool:
        if rule.zone and (
            latitude_deg is None or longitude_deg is None or not inside(rule.zone, longitude_deg, latitude_deg)
        ):
            return False
        local = datetime.fromtimestamp(at_ns // NS_PER_S, UTC).astimezone(self._zone)
        begun = _begun(rule.hours, local)
        if begun is None or (rule.days and DAYS[begun.weekday()] not in rule.days):
            return False
        return not rule.dates or f"{begun:%m-%d}" in rule.dates or f"{begun:%Y-%m-%d}" in rule.dates


def at_prior(p: float, prior: float, other: float) -> float:
    """Say what a probability becomes at another prior.

    Parameters
    ----------
    p : float
        The probability at `prior`.
    prior, other : float
        The two priors.

    Returns
    -------
    float
        The probability that the same evidence gives at `other`.
    """
    if prior == other:
        return p
    logit = _logit(min(max(p, FINEST_P), 1 - FINEST_P)) - _logit(prior) + _logit(other)
    return round(1.0 / (1.0 + math.exp(-logit)), 6)


def inside(corners: tuple[tuple[float, float], ...], x: float, y: float) -> bool:
    """Tell whether a point lies in a polygon.

    Parameters
    ----------
    corners : tuple of tuple of float
        Its corners (x, y) in order; the first may stand at the end once more.
    x, y : float
        The point.

    Returns
    -------
    bool
        Whether a ray from the point crosses the polygon's sides an odd number of times.
    """
    crossed = False
    for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], corners[0]), strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            crossed = not crossed
    return crossed


def _begun(hours: str, local: datetime) -> date | None:
    """Say on which date the hours that hold now began; None where they do not hold."""
    if not hours:
        return local.date()
    start, end = hours.split("-")
    now = f"{local:%H:%M}"
    if start <= end:
        return local.date() if start <= now < end else None
    if now >= start:
        return local.date()
    return local.date() - timedelta(days=1) if now < end else None


def _last(usual: float, said: list[float | None]) -> float:
    return next((one for one in reversed(said) if one is not None), usual)


def _logit(p: float) -> float:
    return math.log(p / (1.0 - p))
