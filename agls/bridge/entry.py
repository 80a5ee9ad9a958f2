"""The way in for dispatch and reviewers: what they say of incidents, over HTTP with JSON, beside the page.

    GET  /api/incidents/<incident>                 the record, as it is now
    GET  /api/incidents/<incident>/letters         who was told what, and what became of it
    GET  /api/dead                                 what nobody will be told any more, and why; the last 1000
    POST /api/incidents/<incident>/review          author, reason, judgement: gunfire | not_gunfire | undecided
    POST /api/incidents/<incident>/correct         author, reason, latitude_deg and longitude_deg, round_count,
                                                   incident_type
    POST /api/incidents/<incident>/acknowledge     author, call_number
    POST /api/incidents/<incident>/disposition     author, reason, outcome: confirmed | unconfirmed | unfounded
    POST /api/incidents/<incident>/duplicate       author, call_number
    POST /api/incidents/<incident>/merge           author, reason, into
    POST /api/incidents/<incident>/split           author, reason, shot_ids
    POST /api/incidents/<incident>/hold            author, case_number
    POST /api/calls                                number, received, latitude_deg, longitude_deg, kind
    POST /api/missed                               heard, latitude_deg, longitude_deg, author, reason

Answers are JSON. What cannot be is told in one sentence under ``error``: 400 for what is no such word, 404 for an
unknown incident, 409 for one in no state for it, 415 without ``Content-Type: application/json`` (which no page
elsewhere can send unasked), 503 while the store is away.
"""

import time
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import msgspec
import sqlalchemy as sa
from msgspec import Meta
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agls.bridge import people
from agls.bridge.places import moved_place
from agls.bridge.record import CLEAN, IncidentRecord, Judgement, Line, Outcome
from agls.bridge.store import queue
from agls.bridge.store.book import Book
from agls.bridge.store.opening import begin_reading, is_away
from agls.errors import InputError, MessageError
from agls.messages import Identifier, Latitude, Longitude, UtcNs, Wire, decode, encode

MAX_WORD_BYTES = 65_536
MAX_DEAD_COUNT = 1_000
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=80, pattern=CLEAN)]
Number: TypeAlias = Annotated[str, Meta(max_length=64, pattern=CLEAN)]
NeededNumber: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64, pattern=CLEAN)]


class Review(Wire, frozen=True, kw_only=True):
    """A person judged an incident."""

    author: Name
    reason: Line
    judgement: Judgement


class Correct(Wire, frozen=True, kw_only=True):
    """A person knows better; what is left out stays as it was."""

    author: Name
    reason: Line
    latitude_deg: Latitude | None = None
    longitude_deg: Longitude | None = None
    round_count: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    incident_type: Name | None = None


class Acknowledge(Wire, frozen=True, kw_only=True):
    """Dispatch took notice."""

    author: Name
    call_number: Number = ""


class Dispose(Wire, frozen=True, kw_only=True):
    """What was found on the spot."""

    author: Name
    reason: Line
    outcome: Outcome
    case_number: Number = ""


class Duplicate(Wire, frozen=True, kw_only=True):
    """Dispatch has it as another call already."""

    author: Name
    call_number: NeededNumber


class Merge(Wire, frozen=True, kw_only=True):
    """It is the same as another one, which goes on."""

    author: Name
    reason: Line
    into: Identifier


class Split(Wire, frozen=True, kw_only=True):
    """Some of its shots are an incident of their own."""

    author: Name
    reason: Line
    shot_ids: Annotated[tuple[Identifier, ...], Meta(min_length=1, max_length=1000)]


class Hold(Wire, frozen=True, kw_only=True):
    """Keep it as evidence of a case; without a number, no longer."""

    author: Name
    case_number: Number = ""


class EmergencyCall(Wire, frozen=True, kw_only=True):
    """Of a 911 call, what is kept; anything else in it is refused unread."""

    number: NeededNumber
    received_ns: UtcNs = msgspec.field(name="received")
    latitude_deg: Latitude
    longitude_deg: Longitude
    kind: Number


class Missed(Wire, frozen=True, kw_only=True):
    """Shots that people heard and nobody was told of."""

    heard_ns: UtcNs = msgspec.field(name="heard")
    latitude_deg: Latitude
    longitude_deg: Longitude
    author: Name
    reason: Line


def _review(book: Book, name: str, word: Review, now_ns: int) -> Any:
    return people.review(book, name, word.author, word.reason, word.judgement, now_ns=now_ns)


def _correct(book: Book, name: str, word: Correct, now_ns: int) -> Any:
    place = None
    if word.latitude_deg is not None and word.longitude_deg is not None:
        place = moved_place(book.record(name).latest.place, word.latitude_deg, word.longitude_deg)
    what = {"place": place, "round_count": word.round_count, "incident_type": word.incident_type}
    return people.correct(book, name, word.author, word.reason, now_ns=now_ns, **what)


def _acknowledge(book: Book, name: str, word: Acknowledge, now_ns: int) -> Any:
    return people.acknowledge(book, name, word.author, word.call_number, now_ns=now_ns)


def _dispose(book: Book, name: str, word: Dispose, now_ns: int) -> Any:
    return people.dispose(book, name, word.author, word.reason, word.outcome, word.case_number, now_ns=now_ns)


def _duplicate(book: Book, name: str, word: Duplicate, now_ns: int) -> Any:
    return people.duplicate(book, name, word.author, word.call_number, now_ns=now_ns)


def _merge(book: Book, name: str, word: Merge, now_ns: int) -> Any:
    return people.merge(book, name, word.into, word.author, word.reason, now_ns=now_ns)


def _split(book: Book, name: str, word: Split, now_ns: int) -> Any:
    return people.split(book, name, word.shot_ids, word.author, word.reason, now_ns=now_ns)


def _hold(book: Book, name: str, word: Hold, now_ns: int) -> Any:
    people.hold(book, name, word.author, word.case_number, now_ns=now_ns)
    return {"incident": name, "hold": word.case_number}


def _call(book: Book, _: str, word: EmergencyCall, now_ns: int) -> Any:
    place_deg = (word.latitude_deg, word.longitude_deg)
    linked = people.take_call(book, word.number, word.received_ns, place_deg, word.kind, now_ns=now_ns)
    return {"linked": [record.incident for record in linked]}


def _missed(book: Book, _: str, word: Missed, now_ns: int) -> Any:
    place_deg = (word.latitude_deg, word.longitude_deg)
    found, subject = people.report_missed(book, word.heard_ns, place_deg, word.author, word.reason, now_ns=now_ns)
    return {"found": found, "subject": subject}


Say: TypeAlias = Callable[[Book, str, Any, int], Any]
WORDS: dict[str, tuple[type[Wire], Say]] = {
    "/api/incidents/{incident}/review": (Review, _review),
    "/api/incidents/{incident}/correct": (Correct, _correct),
    "/api/incidents/{incident}/acknowledge": (Acknowledge, _acknowledge),
    "/api/incidents/{incident}/disposition": (Dispose, _dispose),
    "/api/incidents/{incident}/duplicate": (Duplicate, _duplicate),
    "/api/incidents/{incident}/merge": (Merge, _merge),
    "/api/incidents/{incident}/split": (Split, _split),
    "/api/incidents/{incident}/hold": (Hold, _hold),
    "/api/calls": (EmergencyCall, _call),
    "/api/missed": (Missed, _missed),
}


def routes(book: Book) -> list[Route]:
    """Make the routes of a book.

    Parameters
    ----------
    book : Book
        The book.

    Returns
    -------
    list of Route
        For a Starlette application.
    """

    async def _record(request: Request) -> Response:
        return await _answered(lambda: book.record(request.path_params["incident"]))

    async def _told(request: Request) -> Response:
        return await _answered(lambda: _letters(book, request.path_params["incident"]))

    async def _dead(_: Request) -> Response:
        return await _answered(lambda: _dead_letters(book))

    said = [Route(path, _way_in(book, kind, say), methods=["POST"]) for path, (kind, say) in WORDS.items()]
    one = "/api/incidents/{incident}"
    return [*said, Route(one, _record), Route(f"{one}/letters", _told), Route("/api/dead", _dead)]


def _way_in(book: Book, kind: type[Wire], say: Say) -> Callable[[Request], Any]:
    async def _endpoint(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _refusal(415, "what is said must be JSON; send it with Content-Type: application/json")
        payload = b""
        async for piece in request.stream():
            payload += piece
            if len(payload) > MAX_WORD_BYTES:
                return _refusal(400, f"more than {MAX_WORD_BYTES} bytes; a word about an incident is shorter")
        try:
            word = decode(payload, kind, max_bytes=MAX_WORD_BYTES)
        except MessageError as error:
            return _refusal(400, f"{kind.__name__}: {error.detail}")
        name = request.path_params.get("incident", "")
        return await _answered(lambda: say(book, name, word, time.time_ns()))

    return _endpoint


def _letters(book: Book, incident: str) -> list[dict[str, Any]]:
    book.record(incident)
    with begin_reading(book.engine) as db:
        found = queue.letters_of(db, incident=incident)
    return [_shown(letter) for letter in found]


def _dead_letters(book: Book) -> list[dict[str, Any]]:
    with begin_reading(book.engine) as db:
        found = queue.letters_of(db, state="dead")[-MAX_DEAD_COUNT:]
    return [{"incident": letter.incident, **_shown(letter)} for letter in found]


def _shown(letter: queue.Letter) -> dict[str, Any]:
    names = ("subscriber", "revision", "telling", "state", "tries", "answer")
    return {name: getattr(letter, name) for name in names}


async def _answered(act: Callable[[], Any]) -> Response:
    """Do something with the store, beside the loop that serves others; say what became of it."""
    try:
        answer = await run_in_threadpool(act)
    except InputError as error:
        return _refusal(404 if str(error).startswith("there is no incident") else 409, str(error))
    except sa.exc.DBAPIError as error:
        if not is_away(error):
            raise
        return _refusal(503, "the store cannot be reached at present; say it again in a while")
    content = encode(answer) if isinstance(answer, IncidentRecord) else msgspec.json.encode(answer)
    return Response(content, media_type="application/json")


def _refusal(status: int, sentence: str) -> Response:
    return Response(msgspec.json.encode({"error": sentence}), status, media_type="application/json")
