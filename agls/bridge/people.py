"""What people and dispatch say of incidents: each a move, with author and reason, beside what the machine found.

review        a person judged it: gunfire, undecided; or not gunfire, which dismisses it
correct       place, rounds or type are known better
acknowledge   dispatch took notice, under which number
dispose       what was found on the spot: confirmed, unconfirmed, unfounded
duplicate     dispatch has it as call N: later revisions go there
merge, split  two incidents are one; some shots are an incident of their own
take_call     a 911 call: its number, time, place and type
report_missed a shot that people heard; says what was known of it here
hold          keep as evidence, beyond any retention
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from agls.bridge.calls import links
from agls.bridge.places import metres_apart
from agls.bridge.record import (
    Acknowledgement,
    Correction,
    Disposition,
    Finding,
    IncidentRecord,
    Judgement,
    Outcome,
    Place,
    ShotRecord,
    shown,
)
from agls.bridge.store import tables
from agls.bridge.store.book import Book
from agls.bridge.store.writing import Writing, read_record
from agls.errors import InputError
from agls.messages import NS_PER_S, Shot, UtcNs, decode

MISSED_RADIUS_M = 500.0  # people place what they heard by street, not by metre
MISSED_WINDOW_S = 300.0


def review(book: Book, incident: str, author: str, reason: str, judgement: Judgement, *, now_ns: int) -> IncidentRecord:
    """Judge an incident.

    Parameters
    ----------
    book : Book
        The book.
    incident, author, reason : str
        Which, by whom, and why.
    judgement : Judgement
        ``gunfire``, ``not_gunfire`` or ``undecided``.
    now_ns : int
        UTC.

    Returns
    -------
    IncidentRecord
        The new revision.
    """
    said = Correction(at_ns=UtcNs(now_ns), author=author, reason=reason, judgement=judgement)
    move = "dismiss" if judgement == "not_gunfire" else "review"
    return book.move(incident, move, author, reason, now_ns, lambda one: {"corrections": (*one.corrections, said)})


def correct(book: Book, incident: str, author: str, reason: str, *, now_ns: int, **what: Any) -> IncidentRecord:
    """Say place, rounds or type otherwise.

    Parameters
    ----------
    book : Book
        The book.
    incident, author, reason : str
        Which, by whom, and why.
    now_ns : int
        UTC.
    **what : Any
        `place`, `round_count`, `incident_type` of a `Correction`.

    Returns
    -------
    IncidentRecord
        The new revision.
    """
    said = Correction(at_ns=UtcNs(now_ns), author=author, reason=reason, **what)
    return book.move(incident, "correct", author, reason, now_ns, lambda one: {"corrections": (*one.corrections, said)})


def acknowledge(book: Book, incident: str, author: str, call_number: str = "", *, now_ns: int) -> IncidentRecord:
    """Note that dispatch took notice; the same said again changes nothing.

    Parameters
    ----------
    book : Book
        The book.
    incident, author : str
        Of which, and who.
    call_number : str, optional
        Under which number of their own.
    now_ns : int
        UTC.

    Returns
    -------
    IncidentRecord
        The revision that holds it.
    """
    with book.writing(now_ns) as one:
        before = one.record(incident)
        if before is not None and any(
            (said.author, said.call_number) == (author, call_number) for said in before.acknowledgements
        ):
            return before
        said = Acknowledgement(at_ns=UtcNs(now_ns), author=author, call_number=call_number)

        def noted(record: IncidentRecord) -> dict[str, Any]:
            return {"acknowledgements": (*record.acknowledgements, said)}

        record = book.moved(one, incident, "acknowledge", author, f"call {call_number}" if call_number else "", noted)
        one.pass_stages(incident, acknowledged=now_ns)
        return record


def dispose(
    book: Book, incident: str, author: str, reason: str, outcome: Outcome, case_number: str = "", *, now_ns: int
) -> IncidentRecord:
    """Say what was found on the spot.

    Parameters
    ----------
    book : Book
        The book.
    incident, author, reason : str
        Which, by whom, and why.
    outcome : Outcome
        ``confirmed``, ``unconfirmed`` or ``unfounded``.
    case_number : str, optional
        Of the agency's records.
    now_ns : int
        UTC.

    Returns
    -------
    IncidentRecord
        The new revision; an earlier disposition stays in the one before.
    """
    said = Disposition(at_ns=UtcNs(now_ns), author=author, reason=reason, outcome=outcome, case_number=case_number)
    return book.move(incident, "disposition", author, reason, now_ns, lambda _: {"disposition": said})


def duplicate(book: Book, incident: str, author: str, call_number: str, *, now_ns: int) -> IncidentRecord:
    """Note that dispatch has an incident as another call: later revisions say so.

    Parameters
    ----------
    book : Book
        The book.
    incident, author : str
        Which, and who says so.
    call_number : str
        The call that it belongs to.
    now_ns : int
        UTC.

    Returns
    -------
    IncidentRecord
        The new revision.
    """
    reason = f"duplicate of {call_number}"
    return book.move(incident, "duplicate", author, reason, now_ns, lambda _: {"duplicate_of": call_number})


def merge(book: Book, incident: str, into: str, author: str, reason: str, *, now_ns: int) -> IncidentRecord:
    """Say that two incidents are one.

    Parameters
    ----------
    book : Book
        The book.
    incident, into : str
        The one that ends, and the one that goes on.
    author, reason : str
        By whom, and why.
    now_ns : int
        UTC.

    Returns
    -------
    IncidentRecord
        The one that goes on, with the rounds of both as a correction.
    """
    if incident == into:
        raise InputError(f"incident {incident} cannot be merged into itself; give two incidents")
    with book.writing(now_ns) as one:
        ended = book.moved(one, incident, "merge", author, reason, lambda _: {"merged_into": into})

        def absorb(record: IncidentRecord) -> dict[str, Any]:
            rounds = shown(record).round_count + shown(ended).round_count
            said = Correction(at_ns=UtcNs(now_ns), author=author, reason=reason, round_count=rounds)
            return {"corrections": (*record.corrections, said), "merged_from": (*record.merged_from, incident)}

        return book.moved(one, into, "absorb", author, reason, absorb)


def split(
    book: Book, incident: str, shot_ids: Sequence[str], author: str, reason: str, *, now_ns: int
) -> IncidentRecord:
    """Make some shots of an incident one of their own.

    Parameters
    ----------
    book : Book
        The book.
    incident : str
        The incident.
    shot_ids : sequence of str
        Some of its shots, not all.
    author, reason : str
        By whom, and why.
    now_ns : int
        UTC.

    Returns
    -------
    IncidentRecord
        The new incident, named ``<incident>-2`` and so on.
    """
    wanted = set(shot_ids)
    with book.writing(now_ns) as one:
        before = one.record(incident)
        known = {shot.shot_id for shot in before.shots} if before else set()
        if not wanted or not wanted < known:
            raise InputError(
                f"incident {incident} cannot be split by {len(wanted - known)} strange of {len(wanted)} shots; "
                f"give some of its own {len(known)}, not all"
            )
        assert before is not None  # noqa: S101 - it has shots

        def shed(record: IncidentRecord) -> dict[str, Any]:
            rounds = len(known) - len(wanted)
            said = Correction(at_ns=UtcNs(now_ns), author=author, reason=reason, round_count=rounds)
            return {"corrections": (*record.corrections, said)}

        book.moved(one, incident, "shed", author, reason, shed)
        shots = tuple(shot for shot in before.shots if shot.shot_id in wanted)
        return book.begin(one, _apart(one, before, shots, now_ns), author, reason)


def take_call(
    book: Book, number: str, received_ns: int, place_deg: tuple[float, float], kind: str, *, now_ns: int
) -> list[IncidentRecord]:
    """Take in a 911 call, and link it to incidents near in place and time.

    Parameters
    ----------
    book : Book
        The book.
    number : str
        Dispatch's number of it.
    received_ns : int
        When it was received, UTC.
    place_deg : tuple of float
        Latitude and longitude.
    kind : str
        Its type.
    now_ns : int
        UTC.

    Returns
    -------
    list of IncidentRecord
        The incidents it was linked to now.
    """
    row = {
        "number": number,
        "received_ns": int(received_ns),
        "latitude_deg": place_deg[0],
        "longitude_deg": place_deg[1],
        "kind": kind,
    }
    policy, linked = book.site.policy, []
    with book.writing(now_ns) as one:
        one.db.execute(sa.delete(tables.call).where(tables.call.c.number == number))
        one.db.execute(sa.insert(tables.call), row)
        for record in _near_in_time(one, received_ns, policy.call_window_s):
            known = {link.call_number for link in record.calls}
            if number not in known and links(shown(record), [row], policy):
                linked.append(book.moved(one, record.incident, "link", "dispatch", f"call {number}", lambda _: {}))
    return linked


def report_missed(
    book: Book, heard_ns: int, place_deg: tuple[float, float], author: str, reason: str, *, now_ns: int
) -> tuple[str, str]:
    """Take in that people heard shots, and say what was known of them here.

    Parameters
    ----------
    book : Book
        The book.
    heard_ns : int
        When, UTC.
    place_deg : tuple of float
        Latitude and longitude, as well as people know.
    author, reason : str
        Who reports it, and on what ground.
    now_ns : int
        UTC.

    Returns
    -------
    found : str
        ``told`` (dispatch was), ``candidate`` (an incident nobody was told of), ``shot`` (located, opened nothing) or
        ``nothing``: missed.
    subject : str
        The incident or shot; empty for none.
    """
    with book.writing(now_ns) as one:
        found, subject = _known(one, heard_ns, place_deg)
        row = {
            "at_ns": now_ns,
            "heard_ns": int(heard_ns),
            "latitude_deg": place_deg[0],
            "longitude_deg": place_deg[1],
            "author": author,
            "reason": reason,
            "found": found,
            "subject": subject,
        }
        one.db.execute(sa.insert(tables.report), row)
        one.note(subject or "nothing", 0, "report", author, reason)
    return found, subject


def hold(book: Book, incident: str, author: str, case_number: str, *, now_ns: int) -> None:
    """Keep an incident as evidence, beyond any retention; or, without a case number, no longer.

    Parameters
    ----------
    book : Book
        The book.
    incident, author : str
        Which, and who says so.
    case_number : str
        For which case; empty to let go.
    now_ns : int
        UTC.
    """
    row = tables.incident.c
    with book.writing(now_ns) as one:
        record = one.record(incident)
        if record is None:
            raise InputError(f"there is no incident {incident!r}; give the name of one that is kept here")
        one.db.execute(sa.update(tables.incident).where(row.incident == incident).values(hold=case_number))
        one.note(incident, record.revision, "hold" if case_number else "let_go", author, case_number)


# ------------------------------------------------------------------------------------------------------- inside


def _near_in_time(one: Writing, moment_ns: int, window_s: float) -> list[IncidentRecord]:
    """Read the incidents that still live and began not long before or after a moment."""
    row, window_ns = tables.incident.c, round((window_s + 3600.0) * NS_PER_S)
    near = row.first_shot_ns.between(moment_ns - window_ns, moment_ns + window_ns)
    living = row.state.not_in(("closed", "merged"))
    return [read_record(body) for body in one.db.scalars(sa.select(row.body).where(near, living))]


def _known(one: Writing, heard_ns: int, place_deg: tuple[float, float]) -> tuple[str, str]:
    """Say what is known of shots at a time and place, the most telling first."""
    row, window_ns = tables.incident.c, round(MISSED_WINDOW_S * NS_PER_S)
    near = row.first_shot_ns.between(heard_ns - window_ns, heard_ns + window_ns)
    found = []
    for body in one.db.scalars(sa.select(row.body).where(near)):
        record = read_record(body)
        if _is_near(shown(record).place, place_deg):
            told = record.state != "candidate" and record.first.verdict != "withdrawn"
            found.append(("told" if told else "candidate", record.incident))
    shot = tables.shot.c
    lone_near = shot.origin_ns.between(heard_ns - window_ns, heard_ns + window_ns) & (shot.incident == "")
    for body in one.db.scalars(sa.select(shot.body).where(lone_near)):
        lone = decode(bytes(body), Shot, max_bytes=10_000_000)
        if _is_near(lone, place_deg):
            found.append(("shot", lone.shot_id))
    order = ("told", "candidate", "shot")
    return min(found, key=lambda pair: order.index(pair[0]), default=("nothing", ""))


def _is_near(place: Place | Shot, place_deg: tuple[float, float]) -> bool:
    if place.latitude_deg is None or place.longitude_deg is None:
        return False
    return metres_apart((place.latitude_deg, place.longitude_deg), place_deg) <= MISSED_RADIUS_M


def _apart(one: Writing, before: IncidentRecord, shots: tuple[ShotRecord, ...], now_ns: int) -> IncidentRecord:
    """Make an incident of some shots of another: its place is that of the shot known best."""
    best = min(shots, key=lambda shot: (shot.ellipse.major_m * shot.ellipse.minor_m, shot.fired_ns))
    number = 2
    while one.record(name := f"{before.incident}-{number}") is not None:
        number += 1
    found = Finding(
        revision=0,
        at_ns=UtcNs(now_ns),
        verdict=shown(before).verdict,
        p_gunfire=max(shot.p_gunfire for shot in shots),
        first_shot_ns=min(shot.fired_ns for shot in shots),
        last_shot_ns=max(shot.fired_ns for shot in shots),
        round_count=len(shots),
        place=best.place,
        ellipse=best.ellipse,
        sensor_count=max(shot.sensor_count for shot in shots),
    )
    return msgspec.structs.replace(
        before,
        incident=name,
        revision=0,
        state="published",
        move="split",
        at_ns=UtcNs(now_ns),
        first=found,
        latest=found,
        corrections=(),
        shots=shots,
        duplicate_of="",
        acknowledgements=(),
        disposition=None,
        merged_from=(),
        split_from=before.incident,
    )
