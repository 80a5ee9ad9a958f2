"""The RTCC's way to cameras over HTTP: what was asked, what became of it, and an operator's word.

GET  /api/slews?after=RFC3339     requests and statuses since then, oldest first
GET  /api/cameras                 whose each camera is
POST /api/cameras/{camera}/take   {"operator": "..."}: it is the operator's; say it again while at it
POST /api/cameras/{camera}/release
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agls.bridge.camera.crew import Crew, SlewStatus
from agls.errors import MessageError
from agls.messages import SlewRequest, Wire, decode, encode, format_utc, parse_utc

MAX_WORD_BYTES = 4_096
KEPT_COUNT = 1_000


class Take(Wire, frozen=True, kw_only=True):
    """An operator wants a camera, or is still at it."""

    operator: Annotated[str, Meta(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$")]


class SlewBoard:
    """The latest requests and what became of them, for whoever asks over HTTP."""

    def __init__(self) -> None:
        self._kept: deque[SlewRequest | SlewStatus] = deque(maxlen=KEPT_COUNT)
        self._lock = threading.Lock()

    def keep(self, item: SlewRequest | SlewStatus) -> None:
        """Keep one.

        Parameters
        ----------
        item : SlewRequest or SlewStatus
            As it is said.
        """
        with self._lock:
            self._kept.append(item)

    def since(self, after_ns: int) -> list[SlewRequest | SlewStatus]:
        """Give those said after a moment.

        Parameters
        ----------
        after_ns : int
            UTC.

        Returns
        -------
        list of SlewRequest or SlewStatus
            Oldest first; no more than `KEPT_COUNT` are kept.
        """
        with self._lock:
            return [one for one in self._kept if _said_ns(one) > after_ns]


def routes(crew: Crew, board: SlewBoard) -> list[Route]:
    """Make the routes.

    Parameters
    ----------
    crew : Crew
        Who turns cameras.
    board : SlewBoard
        What was asked.

    Returns
    -------
    list of Route
        For a Starlette application.
    """

    async def _slews(request: Request) -> Response:
        after = request.query_params.get("after", "")
        try:
            after_ns = parse_utc(after) if after else 0
        except (MessageError, ValueError):
            return _answer(400, {"error": f"after = {after[:60]!r} is no time such as 2026-07-04T22:00:00Z"})
        inner = b",".join(encode(one) for one in board.since(after_ns))
        return Response(b"[" + inner + b"]", media_type="application/json")

    async def _cameras(_: Request) -> Response:
        return _answer(200, [_told(one) for one in crew.holdings()])

    async def _take(request: Request) -> Response:
        payload = b""
        async for piece in request.stream():
            payload += piece
            if len(payload) > MAX_WORD_BYTES:
                return _answer(400, {"error": f"more than {MAX_WORD_BYTES} bytes"})
        try:
            word = decode(payload, Take, max_bytes=MAX_WORD_BYTES)
        except MessageError as error:
            return _answer(400, {"error": f"Take: {error.detail}"})
        return _found(request, lambda camera_id: crew.take(camera_id, word.operator))

    async def _release(request: Request) -> Response:
        return _found(request, crew.release)

    one = "/api/cameras/{camera}"
    return [
        Route("/api/slews", _slews),
        Route("/api/cameras", _cameras),
        Route(f"{one}/take", _take, methods=["POST"]),
        Route(f"{one}/release", _release, methods=["POST"]),
    ]


def _found(request: Request, act: Callable[[str], bool]) -> Response:
    camera_id = request.path_params["camera"]
    if act(camera_id):
        return _answer(200, {"camera_id": camera_id})
    return _answer(404, {"error": f"no operator has a camera {camera_id[:64]!r} of ours"})


def _told(holding: Any) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(holding)
    until_ns = told.pop("until_ns")
    return told | {"until": format_utc(until_ns) if until_ns else None}


def _said_ns(item: SlewRequest | SlewStatus) -> int:
    return item.issued_ns if isinstance(item, SlewRequest) else item.at_ns


def _answer(status: int, content: Any) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
