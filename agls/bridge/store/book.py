"""The book of incidents: what the machine says and what people say, entered as moves, each whole or not at all."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from agls.bridge.calls import links
from agls.bridge.life import UNTOLD, first_move, machine_move, step, target
from agls.bridge.places import Places, nearest
from agls.bridge.policy import Policies
from agls.bridge.record import (
    CallLink,
    Finding,
    IncidentRecord,
    ShotRecord,
    finding_of,
    judgement,
    shot_record_of,
    shown,
)
from agls.bridge.stages import overruns
from agls.bridge.store import tables
from agls.bridge.store.opening import begin_reading
from agls.bridge.store.writing import MACHINE, Writing, entered_ns, read_record, stages_of, writing
from agls.config import SiteConfig, Subscriber
from agls.errors import InputError
from agls.messages import NS_PER_S, CadEvent, Incident, Outbound, Shot, SlewRequest, UtcNs, decode, encode

MAX_SHOT_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class Batch:
    """What the hub said at one moment.

    Attributes
    ----------
    items : tuple of Outbound
        What it said, in order.
    due_ns : int
        The moment of its journal, UTC: a replay says the same at the same moment.
    located_ns : int
        Wall clock when it had said so, UTC.
    received_ns : mapping of str to int
        When the last detection was received that an incident stands on.
    """

    items: tuple[Outbound, ...]
    due_ns: int
    located_ns: int
    received_ns: Mapping[str, int]


class Book:
    """The incidents of one realm in one store; any thread may call any method.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The store, of the site's realm (`open_store`).
    site : SiteConfig
        The site.
    places : Places, optional
        What the agency calls its places.
    """

    def __init__(self, engine: sa.Engine, site: SiteConfig, places: Places | None = None) -> None:
        self.engine = engine
        self.site = site
        self.realm = site.mqtt.realm
        self.subscribers = subscribers_of(site)
        self._policies = Policies(site)
        self._places = places or Places()

    # ------------------------------------------------------------------------------------------ what the hub says

    def enter(self, batches: Sequence[Batch], now_ns: int) -> None:
        """Enter what the hub said, all of it or nothing; what is known already changes nothing.

        Parameters
        ----------
        batches : sequence of Batch
            In order.
        now_ns : int
            Wall clock, UTC.
        """
        with self.writing(now_ns) as one:
            for batch in batches:
                for item in batch.items:
                    if isinstance(item, Shot):
                        _keep_shot(one, item)
                    elif isinstance(item, Incident):
                        self._incident(one, item, batch)
                    elif isinstance(item, CadEvent):
                        self._due(one, item)
                    elif isinstance(item, SlewRequest) and one.record(item.incident) is not None:
                        one.pass_stages(item.incident, camera_asked=batch.located_ns)
            if batches:
                one.mark("entered_ns", str(batches[-1].due_ns))

    def passed(self, incident: str, now_ns: int, **stages_ns: int) -> None:
        """Note when an incident passed stages that others watch, such as a camera on target; the first time counts.

        Parameters
        ----------
        incident : str
            The incident; one that is not kept here is left alone.
        now_ns : int
            UTC.
        **stages_ns : int
            Stage, as in `StageTimes` without ``_ns``, to moment.
        """
        with self.writing(now_ns) as one:
            if one.record(incident) is not None:
                one.pass_stages(incident, **stages_ns)

    def entered_ns(self) -> int:
        """Say up to which moment the hub's word is in the store.

        Returns
        -------
        int
            UTC; 0 for an empty store.
        """
        with begin_reading(self.engine) as db:
            return entered_ns(db)

    def close_due(self, now_ns: int) -> int:
        """Close what has not changed for as long as the site says.

        Parameters
        ----------
        now_ns : int
            UTC.

        Returns
        -------
        int
            How many incidents.
        """
        row = tables.incident.c
        before_ns = now_ns - round(self.site.policy.close_after_s * NS_PER_S)
        old = sa.select(row.incident).where(row.state.not_in(("closed", "merged")), row.changed_ns < before_ns)
        with begin_reading(self.engine) as db:
            names = list(db.scalars(old.limit(1000)))
        for name in names:
            self.move(name, "close", "clock", "unchanged", now_ns, lambda _: {})
        return len(names)

    # ------------------------------------------------------------------------------------------ what people say

    def move(
        self,
        incident: str,
        move: str,
        author: str,
        reason: str,
        now_ns: int,
        change: Callable[[IncidentRecord], dict[str, Any]],
    ) -> IncidentRecord:
        """Make a move of a person, of dispatch or of the clock.

        Parameters
        ----------
        incident : str
            The incident.
        move : str
            A move of the table (`agls.bridge.life`).
        author, reason : str
            By whom, and why.
        now_ns : int
            UTC.
        change : callable
            From the record as it is to the fields that change.

        Returns
        -------
        IncidentRecord
            The new revision.

        Raises
        ------
        InputError
            If there is no such incident, or it is in no state for that move.
        """
        with self.writing(now_ns) as one:
            return self.moved(one, incident, move, author, reason, change)

    def writing(self, now_ns: int) -> AbstractContextManager[Writing]:
        """Begin a transaction, in which several moves can be made together.

        Parameters
        ----------
        now_ns : int
            UTC.

        Returns
        -------
        context manager
            Of a `Writing`.
        """
        return writing(self.engine, self.realm, self.subscribers, now_ns)

    def moved(
        self,
        one: Writing,
        incident: str,
        move: str,
        author: str,
        reason: str,
        change: Callable[[IncidentRecord], dict[str, Any]],
    ) -> IncidentRecord:
        """Make a move within a transaction; as `move`.

        Parameters
        ----------
        one : Writing
            The transaction.
        incident, move, author, reason : str
            As in `move`.
        change : callable
            As in `move`.

        Returns
        -------
        IncidentRecord
            The new revision.
        """
        before = one.record(incident)
        if before is None:
            raise InputError(f"there is no incident {incident!r}; give the name of one that is kept here")
        target(move, before.state, incident)
        # Never before what it follows, whatever the clock says.
        record = self._dressed(one, step(before, move, max(one.now_ns, before.at_ns), **change(before)))
        one.keep(record, author, reason)
        if move not in UNTOLD:
            one.tell(record, is_withheld=self._is_withheld(record))
        return record

    def begin(self, one: Writing, record: IncidentRecord, author: str, reason: str) -> IncidentRecord:
        """Enter a new incident and tell of it.

        Parameters
        ----------
        one : Writing
            The transaction.
        record : IncidentRecord
            Its first revision.
        author, reason : str
            By whom, and why.

        Returns
        -------
        IncidentRecord
            The same, with what follows from places and policy.
        """
        record = self._dressed(one, record)
        one.keep(record, author, reason)
        one.tell(record, is_withheld=self._is_withheld(record))
        return record

    # -------------------------------------------------------------------------------------------------- reading

    def record(self, incident: str) -> IncidentRecord:
        """Read an incident as it is now.

        Parameters
        ----------
        incident : str
            Its name.

        Returns
        -------
        IncidentRecord
            Its latest revision, with all stages known by now.

        Raises
        ------
        InputError
            If there is none of that name.
        """
        with begin_reading(self.engine) as db:
            row = tables.incident.c
            body = db.scalar(sa.select(row.body).where(row.incident == incident))
            if body is None:
                raise InputError(f"there is no incident {incident!r}; give the name of one that is kept here")
            return self.timed(db, read_record(body))

    def revisions(self, incident: str) -> list[IncidentRecord]:
        """Read every revision of an incident, as it was.

        Parameters
        ----------
        incident : str
            Its name.

        Returns
        -------
        list of IncidentRecord
            The first one first; empty where there is none.
        """
        row = tables.revision.c
        kept = sa.select(row.body).where(row.incident == incident).order_by(row.revision)
        with begin_reading(self.engine) as db:
            return [read_record(body) for body in db.scalars(kept)]

    def timed(self, db: sa.Connection, record: IncidentRecord) -> IncidentRecord:
        """Fill in the stages passed by now, and those that took too long.

        Parameters
        ----------
        db : sqlalchemy.Connection
            The store.
        record : IncidentRecord
            A revision.

        Returns
        -------
        IncidentRecord
            The same with these.
        """
        stages = stages_of(db, record.incident)
        return msgspec.structs.replace(record, stages=stages, overruns=overruns(stages, self.site.budget))

    # --------------------------------------------------------------------------------------------------- inside

    def _incident(self, one: Writing, incident: Incident, batch: Batch) -> None:
        """Enter a revision of the machine's, unless it is known."""
        finding = finding_of(incident, batch.due_ns)
        before = one.record(incident.incident)
        if before is not None and not _is_newer(finding, before.latest):
            return
        shots, times = _shots(one, incident)
        if before is None:
            record = self._first(incident, finding, shots, one.restored_ns)
        else:
            move = machine_move(before, finding)
            at_ns = max(batch.due_ns, before.at_ns)
            record = step(before, move, at_ns, latest=finding, shots=shots)
        record = self._dressed(one, record)
        one.keep(record, MACHINE, f"revision {incident.revision} of the hub")
        if before is None:
            received_ns = batch.received_ns.get(incident.incident)
            stages = {"due": batch.due_ns, "located": batch.located_ns, "stored": one.now_ns, "received": received_ns}
            one.pass_stages(incident.incident, **times, **stages)

    def _first(
        self, incident: Incident, finding: Finding, shots: tuple[ShotRecord, ...], restored_ns: int
    ) -> IncidentRecord:
        old_s = (finding.at_ns - finding.last_shot_ns) / NS_PER_S
        late = old_s > self.site.gathering.late_s or finding.last_shot_ns < restored_ns
        move = first_move(finding, late)
        return IncidentRecord(
            incident=incident.incident,
            revision=0,
            state=target(move, None, incident.incident),
            move=move,
            at_ns=finding.at_ns,
            site=self.site.name,
            issuer=self.site.policy.issuer,
            exercise=self.realm == "exercise",
            first=finding,
            latest=finding,
            shots=shots,
            incident_type=self.site.cad.incident_type,
            priority=self.site.policy.priority_possible,
            late=late,
        )

    def _due(self, one: Writing, cad_event: CadEvent) -> None:
        """Queue for dispatch what the pace of `agls.bridge.cad` says is due."""
        record = one.record(cad_event.incident)
        if record is not None:
            one.tell(record, is_withheld=self._is_withheld(record))

    def _is_withheld(self, record: IncidentRecord) -> bool:
        return self._policies.ruling_of(record.first).review and judgement(record) is None

    def _dressed(self, one: Writing, record: IncidentRecord) -> IncidentRecord:
        """Fill in what follows from places, policy and 911 calls."""
        place = shown(record).place
        record = msgspec.structs.replace(
            record,
            address=nearest(self._places.addresses, place),
            intersection=nearest(self._places.intersections, place),
            beat=self._places.beat(place),
            calls=self._calls(one, record),
        )
        return self._policies.dressed(record)

    def _calls(self, one: Writing, record: IncidentRecord) -> tuple[CallLink, ...]:
        """Link the 911 calls near in place and time; one that was linked stays linked."""
        found, row = shown(record), tables.call.c
        window_ns = round(self.site.policy.call_window_s * NS_PER_S)
        near = row.received_ns.between(found.first_shot_ns - window_ns, found.last_shot_ns + window_ns)
        calls = one.db.execute(sa.select(tables.call).where(near)).mappings()
        known = {link.call_number: link for link in record.calls}
        new = [link for link in links(found, calls, self.site.policy) if link.call_number not in known]
        return (*record.calls, *new)


def subscribers_of(site: SiteConfig) -> tuple[Subscriber, ...]:
    """List who is told of the incidents of a site's realm, and nobody else.

    Parameters
    ----------
    site : SiteConfig
        The site.

    Returns
    -------
    tuple of Subscriber
        Those of its realm; ``cad.webhook_url`` is one of the live ones.
    """
    realm = site.mqtt.realm
    cad = Subscriber(subscriber_id="cad", url=site.cad.webhook_url)
    all_of_them = (cad, *site.subscriber) if site.cad.webhook_url else site.subscriber
    return tuple(one for one in all_of_them if one.realm == realm)


def _is_newer(finding: Finding, known: Finding) -> bool:
    """Tell whether the machine says something new; a hub that lost its memory may number its revisions anew."""
    return (finding.at_ns, finding.revision) > (known.at_ns, known.revision)


def _keep_shot(one: Writing, shot: Shot) -> None:
    """Keep the latest revision of a shot."""
    row = tables.shot.c
    known = one.db.scalar(sa.select(row.revision).where(row.shot_id == shot.shot_id))
    values = {
        "revision": shot.revision,
        "incident": shot.incident or "",
        "late": shot.late,
        "origin_ns": int(shot.origin_ns),
        "body": encode(shot),
    }
    if known is None:
        one.db.execute(sa.insert(tables.shot), {"shot_id": shot.shot_id, **values})
    elif shot.revision >= known:
        one.db.execute(sa.update(tables.shot).where(row.shot_id == shot.shot_id).values(**values))


def _shots(one: Writing, incident: Incident) -> tuple[tuple[ShotRecord, ...], dict[str, int | None]]:
    """Read an incident's shots in its order; and when the first was fired and heard at the last sensor it needed."""
    row = tables.shot.c
    bodies = one.db.scalars(sa.select(row.body).where(row.incident == incident.incident))
    kept = {shot.shot_id: shot for shot in (decode(bytes(body), Shot, max_bytes=MAX_SHOT_BYTES) for body in bodies)}
    shots = [kept[name] for name in incident.shot_ids if name in kept]
    if not shots:
        return (), {"fired": incident.first_shot_ns}
    heard_ns = max((part.toa_ns for part in shots[0].arrivals if part.used), default=UtcNs(0)) or None
    return tuple(shot_record_of(shot) for shot in shots), {"fired": shots[0].origin_ns, "heard": heard_ns}
