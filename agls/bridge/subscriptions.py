"""One CAD's subscriptions by NENA-STA-024, without a socket: what it said goes in, what to answer comes out.

| the CAD says | the answer |
|---|---|
| subscribe, new | 200; then at once all active incidents, or an empty event; then every revision |
| subscribe, single with incidentId | 200 and its latest revision; 404 where it is not known, or closed for 5 minutes |
| subscribe with subscriptionId | renewed; 481 where it is not known |
| subscribe otherwise (resource, another type, qualFilter) | 406: not served |
| a 33rd subscription | 503 |
| unsubscribe | 200, or 481 |
| eventResponse, terminateResponse | counted |
| anything else | response 501 Not implemented |

What is to be told is the latest of each incident, so it cannot pile up. `maxRate` seconds pass between two events of a
subscription; after `minRate` without one an empty event says that it is still there.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

MOST_COUNT = 32
EXPIRES_S, LONGEST_S = 3_600, 86_400
SHORTEST_S = 5  # between keep-alives
SOME_COUNT = 20  # incidents in one event
Message: TypeAlias = dict[str, Any]
Eido: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class _Subscription:
    """What one subscription asks for, and what it is still to be told."""

    incident: str  # empty for all
    min_rate_s: float
    max_rate_s: float
    until_s: float
    told_s: float
    due: dict[str, Eido] = field(default_factory=dict)
    is_greeted: bool = False


class Subscriptions:
    """The subscriptions of one connection.

    Parameters
    ----------
    new_name : callable
        Gives a name that was never given.
    active : callable
        Gives the EIDOs of all active incidents, by incident.
    latest : callable
        Gives the EIDO of one incident, by its name here or its URN, as a dict of one, or of none.
    """

    def __init__(
        self,
        new_name: Callable[[], str],
        active: Callable[[], dict[str, Eido]],
        latest: Callable[[str], dict[str, Eido]],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._new_name, self._active, self._latest = new_name, active, latest
        self._all: dict[str, _Subscription] = {}

    def hear(self, message: Any, now_s: float) -> Iterator[Message]:
        """Take in what the CAD said.

        Parameters
        ----------
        message : Any
            A JSON value.
        now_s : float
            A clock that never runs back.

        Yields
        ------
        dict of str to Any
            What to answer.
        """
        kind, said = next(iter(message.items()), ("", None)) if isinstance(message, dict) else ("", None)
        said = said if isinstance(said, dict) else {}
        if kind == "subscribe":
            yield self._subscribe(said, now_s)
        elif kind == "unsubscribe":
            name = _text(said, "subscriptionId")
            known = self._all.pop(name, None) is not None
            answer = {"requestId": _text(said, "requestId"), "subscriptionId": name}
            yield {"unsubscribeResponse": answer | _status(200 if known else 481)}
        elif kind in ("eventResponse", "terminateResponse"):
            self.counts["acknowledged" if said.get("statusCode") == 200 else "not_acknowledged"] += 1
        else:
            self.counts["not_implemented"] += 1
            status = {"statusCode": 501, "statusText": "Not implemented"}
            yield {"response": {"requestId": _text(said, "requestId")} | status}

    def tell(self, incident: str, eido: Eido) -> None:
        """Take in a revision of an incident.

        Parameters
        ----------
        incident : str
            Its name.
        eido : dict of str to Any
            What is told of it.
        """
        for one in self._all.values():
            if one.incident in ("", incident):
                one.due.pop(incident, None)
                one.due[incident] = eido

    def due(self, now_s: float) -> Iterator[Message]:
        """Say what is due by now.

        Parameters
        ----------
        now_s : float
            A clock that never runs back.

        Yields
        ------
        dict of str to Any
            An event.
        """
        for name, one in list(self._all.items()):
            if now_s >= one.until_s:
                del self._all[name]
                self.counts["expired"] += 1
            elif self._is_due(one, now_s):
                some = list(one.due)[:SOME_COUNT]
                one.is_greeted, one.told_s = True, now_s
                self.counts["events"] += 1
                notification = [one.due.pop(incident) for incident in some]
                yield {
                    "event": {
                        "subscriptionId": name,
                        "transactionId": self._new_name(),
                        "notification": notification,
                    }
                }

    def _is_due(self, one: _Subscription, now_s: float) -> bool:
        if not one.is_greeted:
            return True
        rest_s = one.max_rate_s if one.due else one.min_rate_s
        return now_s - one.told_s >= rest_s

    def _subscribe(self, said: Message, now_s: float) -> Message:
        request = {"requestId": _text(said, "requestId")}
        code, name = self._take(said, now_s)
        if code != 200:
            return {"subscribeResponse": request | _status(code)}
        one = self._all[name]
        terms = {
            "minRate": round(one.min_rate_s),
            "maxRate": round(one.max_rate_s),
            "expires": round(one.until_s - now_s),
        }
        return {"subscribeResponse": request | {"subscriptionId": name} | terms | _status(200)}

    def _take(self, said: Message, now_s: float) -> tuple[int, str]:
        """Make or renew a subscription; give the status and its name."""
        expires_s = _number(said, "expires", EXPIRES_S, 1, LONGEST_S)
        if not _text(said, "requestId") or expires_s is None:
            return 400, ""
        renewed = _text(said, "subscriptionId")
        if renewed:
            if renewed not in self._all:
                return 481, ""
            self._all[renewed].until_s = now_s + expires_s
            return 200, renewed
        return self._make(said, now_s, expires_s)

    def _make(self, said: Message, now_s: float, expires_s: float) -> tuple[int, str]:
        kind, wanted = said.get("requestSubType"), _text(said, "incidentId")
        min_rate_s = _number(said, "minRate", 60, SHORTEST_S, LONGEST_S)
        max_rate_s = _number(said, "maxRate", 0, 0, LONGEST_S)
        if said.get("requestType") != "EIDO" or kind not in ("new", "single") or "qualFilter" in said:
            return 406, ""
        if min_rate_s is None or max_rate_s is None or (kind == "single") != bool(wanted):
            return 400, ""
        if len(self._all) >= MOST_COUNT:
            return 503, ""
        found = self._latest(wanted) if wanted else self._active()
        if wanted and not found:
            return 404, ""
        name, incident = self._new_name(), next(iter(found)) if wanted else ""
        self._all[name] = _Subscription(incident, min_rate_s, max_rate_s, now_s + expires_s, now_s, dict(found))
        return 200, name


_TEXTS = {
    200: "OK", 400: "Bad request", 404: "No such incident", 406: "Not served here", 481: "No such subscription",
    503: "Too many subscriptions",
}  # fmt: skip


def _status(code: int) -> Message:
    return {"statusCode": code, "statusText": _TEXTS[code]}


def _text(said: Message, name: str) -> str:
    value = said.get(name, "")
    return value if isinstance(value, str) and len(value) <= 300 else ""


def _number(said: Message, name: str, usual: int, least: int, most: int) -> float | None:
    """Read a number of seconds, brought within bounds; None where it is none."""
    value = said.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return float(min(max(value, least), most))
