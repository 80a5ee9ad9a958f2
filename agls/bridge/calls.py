"""911 calls near in place and time: the shots are offered as a link to such a call, not as a second one.

Of a call only its number, time, place and type are kept: who called, and what was said, is nobody's business here.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from agls.bridge.places import metres_apart
from agls.bridge.record import CallLink, Finding
from agls.config import Policy
from agls.messages import NS_PER_S, UtcNs


def links(found: Finding, calls: Iterable[Mapping[Any, Any]], policy: Policy) -> list[CallLink]:
    """Choose the calls that may be of the same shots.

    Parameters
    ----------
    found : Finding
        Where and when the shots were.
    calls : iterable of mapping
        Rows with ``number``, ``received_ns``, ``latitude_deg``, ``longitude_deg`` and ``kind``.
    policy : Policy
        How near is near enough.

    Returns
    -------
    list of CallLink
        Those within its radius and window, nearest first; none where the site has no place on Earth.
    """
    place = found.place
    if place.latitude_deg is None or place.longitude_deg is None:
        return []
    near = []
    for call in calls:
        where_deg = (call["latitude_deg"], call["longitude_deg"])
        distance_m = metres_apart((place.latitude_deg, place.longitude_deg), where_deg)
        apart_s = _apart_s(found, call["received_ns"])
        if distance_m <= policy.call_radius_m and apart_s <= policy.call_window_s:
            near.append(
                CallLink(
                    call_number=call["number"],
                    received_ns=UtcNs(call["received_ns"]),
                    kind=call["kind"],
                    latitude_deg=where_deg[0],
                    longitude_deg=where_deg[1],
                    distance_m=round(distance_m, 1),
                    apart_s=round(apart_s, 3),
                )
            )
    return sorted(near, key=lambda link: (link.distance_m, link.call_number))


def _apart_s(found: Finding, moment_ns: int) -> float:
    """Measure how long before the first or after the last shot something was."""
    return max(found.first_shot_ns - moment_ns, moment_ns - found.last_shot_ns, 0) / NS_PER_S
