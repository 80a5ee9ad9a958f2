"""Whose camera it is: leases of incidents, and operators before them. No clock, no network.

| a camera is | who asks | what follows |
|---|---|---|
| nobody's | an incident | granted: turn it; home is due `hold_s` after the last request |
| an incident's | the same incident | granted, from its latest revision on |
| an incident's | another one | granted where that is more probable; or as probable, `better_p` more of it in view, |
| | | and the first one has had it for `least_hold_s`; else denied: `held` |
| an operator's | an incident | denied: `operator`; unless the site says that probable gunfire overrides |
| anybody's | an operator | the operator's, at once, until released or `operator_s` after the last command |

A camera that an incident turned is `away` until it has gone home, and is sent home again until it has; one in an
operator's hand is left alone, and is sent home when the operator is done. A camera that only operators moved is theirs
to bring back.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from agls.config import Slewing
from agls.messages import NS_PER_S, SlewRequest

HOME_AGAIN_NS = 5 * NS_PER_S  # doubled after each failure
HOME_AGAIN_LAST_NS = 60 * NS_PER_S
RANK = {"possible": 1, "probable": 2}

Denial: TypeAlias = Literal["operator", "held", "unknown_camera", "too_late", "old_revision"]


@dataclass(frozen=True, slots=True)
class Turn:
    """Order: look there."""

    request: SlewRequest


@dataclass(frozen=True, slots=True)
class Home:
    """Order: go home."""

    camera_id: str


@dataclass(frozen=True, slots=True)
class Denied:
    """A request that is not followed, and why."""

    request: SlewRequest
    reason: Denial


Order: TypeAlias = Turn | Home | Denied


@dataclass(slots=True)
class _Hold:
    """One camera: whose it is, and whether it is away from home because of us."""

    request: SlewRequest | None = None
    since_ns: int = 0
    until_ns: int = 0
    operator: str = ""
    operator_until_ns: int = 0
    is_away: bool = False
    home_at_ns: int = 0
    home_failures: int = 0


@dataclass(frozen=True, slots=True)
class Holding:
    """Whose a camera is now: an operator's, an incident's, or nobody's; and whether it is yet to go home."""

    camera_id: str
    operator: str = ""
    incident: str = ""
    until_ns: int = 0
    is_away: bool = False


class Leases:
    """Decide who has which camera.

    Parameters
    ----------
    slewing : Slewing
        The site's policy.
    camera_ids : iterable of str
        The cameras.
    away : iterable of str, optional
        Those that an earlier run left turned.
    """

    def __init__(self, slewing: Slewing, camera_ids: Iterable[str], away: Iterable[str] = ()) -> None:
        self.slewing = slewing
        left = set(away)
        self._holds = {name: _Hold(is_away=name in left) for name in camera_ids}

    def ask(self, request: SlewRequest, now_ns: int) -> Turn | Denied:
        """Ask for a camera on behalf of an incident.

        Parameters
        ----------
        request : SlewRequest
            The request.
        now_ns : int
            UTC; never less than before.

        Returns
        -------
        Turn or Denied
            What to do.
        """
        hold = self._holds.get(request.camera_id)
        if hold is None:
            return Denied(request, "unknown_camera")
        if (reason := self._denial(hold, request, now_ns)) is not None:
            return Denied(request, reason)
        if hold.request is None or hold.request.incident != request.incident:
            hold.since_ns = now_ns
        hold.request, hold.until_ns = request, now_ns + round(request.hold_s * NS_PER_S)
        hold.operator, hold.is_away, hold.home_failures, hold.home_at_ns = "", True, 0, 0
        return Turn(request)

    def _denial(self, hold: _Hold, request: SlewRequest, now_ns: int) -> Denial | None:
        if now_ns > request.not_after_ns:
            return "too_late"
        overrides = self.slewing.override_operator and request.state == "probable"
        if _is_operated(hold, now_ns) and not overrides:
            return "operator"
        held = hold.request
        if held is None or now_ns >= hold.until_ns:
            return None
        if held.incident == request.incident:
            return "old_revision" if request.revision < held.revision else None
        if RANK[request.state] != RANK[held.state]:
            return None if RANK[request.state] > RANK[held.state] else "held"
        has_stayed = now_ns - hold.since_ns >= round(self.slewing.least_hold_s * NS_PER_S)
        is_better = request.p_in_view >= held.p_in_view + self.slewing.better_p
        return None if has_stayed and is_better else "held"

    def take(self, camera_id: str, operator: str, now_ns: int) -> bool:
        """Give a camera to an operator, or tell that the operator is still at it.

        Parameters
        ----------
        camera_id : str
            The camera.
        operator : str
            Who.
        now_ns : int
            UTC.

        Returns
        -------
        bool
            Whether there is such a camera; an incident's lease of it has ended.
        """
        hold = self._holds.get(camera_id)
        if hold is not None:
            hold.request, hold.operator = None, operator
            hold.operator_until_ns = now_ns + round(self.slewing.operator_s * NS_PER_S)
        return hold is not None

    def release(self, camera_id: str) -> bool:
        """Take a camera back from an operator who is done.

        Parameters
        ----------
        camera_id : str
            The camera.

        Returns
        -------
        bool
            Whether an operator had it.
        """
        hold = self._holds.get(camera_id)
        if hold is None or not hold.operator:
            return False
        hold.operator, hold.home_at_ns = "", 0
        return True

    def end(self, incident: str = "") -> None:
        """End the leases of an incident that is withdrawn, or of all of them.

        Parameters
        ----------
        incident : str, optional
            Which; every one if left out.
        """
        for hold in self._holds.values():
            if hold.request is not None and incident in ("", hold.request.incident):
                hold.request = None

    def advance(self, now_ns: int) -> list[Home]:
        """Let time pass.

        Parameters
        ----------
        now_ns : int
            UTC; never less than before.

        Returns
        -------
        list of Home
            Cameras to send home now; each is due again until `homed` says that it is there.
        """
        orders = []
        for name, hold in self._holds.items():
            if hold.operator and not _is_operated(hold, now_ns):
                hold.operator = ""
            if hold.request is not None and now_ns >= hold.until_ns:
                hold.request = None
            if hold.is_away and not hold.operator and hold.request is None and now_ns >= hold.home_at_ns:
                pause_ns = min(HOME_AGAIN_NS << min(hold.home_failures, 8), HOME_AGAIN_LAST_NS)
                hold.home_at_ns, hold.home_failures = now_ns + pause_ns, hold.home_failures + 1
                orders.append(Home(name))
        return orders

    def homed(self, camera_id: str) -> None:
        """Note that a camera went home; one that was given away meanwhile stays `away`.

        Parameters
        ----------
        camera_id : str
            The camera.
        """
        hold = self._holds[camera_id]
        if hold.request is None and not hold.operator:
            hold.is_away, hold.home_failures, hold.home_at_ns = False, 0, 0

    def is_current(self, order: Turn | Home) -> bool:
        """Tell whether an order still holds, just before it is followed.

        Parameters
        ----------
        order : Turn or Home
            As given earlier.

        Returns
        -------
        bool
            Whether nobody else has got the camera since.
        """
        camera_id = order.camera_id if isinstance(order, Home) else order.request.camera_id
        hold = self._holds[camera_id]
        if isinstance(order, Turn):
            return hold.request == order.request and not hold.operator
        return hold.is_away and hold.request is None and not hold.operator

    def holdings(self) -> list[Holding]:
        """Tell whose every camera is.

        Returns
        -------
        list of Holding
            In the site's order.
        """
        return [
            Holding(
                name,
                hold.operator,
                hold.request.incident if hold.request else "",
                hold.operator_until_ns if hold.operator else hold.until_ns if hold.request else 0,
                hold.is_away,
            )
            for name, hold in self._holds.items()
        ]


def _is_operated(hold: _Hold, now_ns: int) -> bool:
    return bool(hold.operator) and now_ns < hold.operator_until_ns
