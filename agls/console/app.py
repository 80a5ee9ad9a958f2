"""Serve the first plain page: a live map and the incidents, on this machine only.

The page shows where the sensors stand, which nobody else may learn: it listens on 127.0.0.1, answers only requests
made to that name (a page elsewhere that resolves its own name to this machine gets nothing), and forbids scripts,
frames and connections from anywhere else. It will be replaced by the real console; everything it shows comes from
`Board`, so nothing else depends on it.

    GET /            the page        GET /api/state   site and records, as one JSON document
    GET /stream      changes as server-sent messages, from `Last-Event-ID` or `?after=` on
    GET /api/fleet   which sensors can be relied on, as the hub last wrote it into its folder (`agls.fleet`)
    /api/incidents   what dispatch and reviewers say of incidents, and what is kept: see `agls.bridge.entry`
"""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agls.bridge import entry
from agls.bridge.places import load_places
from agls.bridge.store.book import Book
from agls.bridge.store.opening import open_store
from agls.config import SiteConfig
from agls.console.board import Board, Changes
from agls.errors import InputError
from agls.locate.frame import Frame
from agls.transport import Connection, topic

HOST = "127.0.0.1"
GATHER_S = 0.1  # a burst of changes becomes one message
STILL_HERE_S = 15.0
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FILES = {
    "/": ("console.html", "text/html"),
    "/console.js": ("console.js", "text/javascript"),
    "/stream.js": ("stream.js", "text/javascript"),
    "/console.css": ("console.css", "text/css"),
}


def make_app(site: SiteConfig, board: Board, book: Book | None = None, fleet: Path | None = None) -> Starlette:
    """Build the web application.

    Parameters
    ----------
    site : SiteConfig
        For the map: its name, sensors and cameras.
    board : Board
        For everything that changes.
    book : Book, optional
        The incidents of which dispatch and reviewers may speak (`agls.bridge.entry`); without one nobody can.
    fleet : pathlib.Path, optional
        The hub's ``fleet.json``; without it nothing is said of how sensors are.

    Returns
    -------
    Starlette
        The application; once its ``state.closing`` (an event) is set and the board woken, streams end.
    """
    map_of_site = site_map(site)
    closing = threading.Event()

    async def _state(_: Request) -> Response:
        return Response(_state_json(map_of_site, board.changes("")), media_type="application/json")

    async def _stream(request: Request) -> Response:
        cursor = request.headers.get("last-event-id") or request.query_params.get("after", "")
        return StreamingResponse(_tell(board, cursor, closing), media_type="text/event-stream")

    async def _fleet(_: Request) -> Response:
        content = b"null"
        with suppress(OSError):  # the hub may not have written it yet
            content = fleet.read_bytes() if fleet else content
        return Response(content, media_type="application/json")

    routes = [Route(path, _file(*named)) for path, named in FILES.items()]
    app = Starlette(
        routes=[
            *routes,
            Route("/api/state", _state),
            Route("/api/fleet", _fleet),
            Route("/stream", _stream),
            *(entry.routes(book) if book else []),
        ],
        middleware=[Middleware(_Guarded), Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
    )
    app.state.closing = closing
    return app


class Serving:
    """A page that is being served; a context manager that ends it.

    Parameters
    ----------
    server : uvicorn.Server
        Ready to run.
    listener : socket.socket
        Already listening.
    """

    def __init__(self, server: "_Server", listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}/"
        self._server = server
        self._thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="console", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving and wait until it has ended."""
        self._server.should_exit = True
        self._thread.join(10.0)

    def __enter__(self) -> Self:
        """Go on serving."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.close()


def serve(
    site: SiteConfig,
    board: Board,
    port: int,
    stop: threading.Event,
    book: Book | None = None,
    fleet: Path | None = None,
) -> Serving:
    """Serve the page from a thread of its own; returns as soon as it can be reached.

    Parameters
    ----------
    site : SiteConfig
        The site.
    board : Board
        What to show; feed it with `Board.on_outbound`.
    port : int
        Port at 127.0.0.1; 0 for a free one.
    stop : threading.Event
        Ends it, as `Serving.close` does.
    book : Book, optional
        As in `make_app`.
    fleet : pathlib.Path, optional
        As in `make_app`.

    Returns
    -------
    Serving
        With the address as `url`.

    Raises
    ------
    InputError
        If the port cannot be had.
    """
    app = make_app(site, board, book, fleet)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(f"port {port} at {HOST} cannot be had ({error}); give another one, or 0 for any") from None
    settings = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", http="h11")
    settings.timeout_graceful_shutdown = 2
    return Serving(_Server(settings, app, board, stop), listener)


def run_console(site: SiteConfig, port: int, stop: threading.Event, folder: Path | None = None) -> None:
    """Serve the page beside a hub that runs elsewhere, fed by the site's broker; returns when told to stop.

    Parameters
    ----------
    site : SiteConfig
        The site, with its broker.
    port : int
        Port at 127.0.0.1; 0 for a free one.
    stop : threading.Event
        Ends it.
    folder : pathlib.Path, optional
        The hub's folder, whose store dispatch and reviewers may speak to, and which says how sensors are; the store may
        be a server instead, and without either nobody can speak.
    """
    board = Board()
    board.set_feed(live=False)
    topics = [topic("shot", "+"), topic("incident", "+"), topic("slew", "+")]
    client_id = f"agls-console-{socket.gethostname()}-{port}"
    book = None
    if folder is not None or site.store.url:
        book = Book(open_store(site.store, folder or Path(), site.mqtt.realm), site, load_places(site.policy))
    fleet = folder / "fleet.json" if folder is not None else None
    with serve(site, board, port, stop, book, fleet) as page, Connection(site.mqtt, client_id, topics) as connection:
        print(f"console at {page.url}", flush=True)
        while not stop.is_set():
            for received in connection.take(timeout_s=0.5):
                board.on_outbound(received.record)  # type: ignore[arg-type]  # the topics carry nothing else
            board.set_feed(connection.connected)


def site_map(site: SiteConfig) -> dict[str, Any]:
    """Say where everything that does not move stands.

    Parameters
    ----------
    site : SiteConfig
        The site.

    Returns
    -------
    dict
        Name, sensors and cameras, in the local frame [m]; a camera is left out where the frame has no place on Earth.
    """
    frame = Frame.of_site(site)
    sensors = [
        {"sensor_id": name, "x_m": round(x_m, 2), "y_m": round(y_m, 2)}
        for name, (x_m, y_m, _) in frame.sensor_positions_m.items()
    ]
    cameras = []
    for camera in site.camera:
        place = frame.to_local(camera.latitude_deg, camera.longitude_deg, camera.height_m)
        if place is not None:
            cameras.append(
                {
                    "camera_id": camera.camera_id,
                    "x_m": round(place[0], 2),
                    "y_m": round(place[1], 2),
                    "pan_zero_azimuth_deg": camera.pan_zero_azimuth_deg,
                }
            )
    return {"name": site.name, "sensors": sensors, "cameras": cameras}


# ----------------------------------------------------------------------------------------------------- the inside


class _Server(uvicorn.Server):
    """Uvicorn, ended by an event, and telling its streams that it ends: it would wait for them."""

    def __init__(self, settings: uvicorn.Config, app: Starlette, board: Board, stop: threading.Event) -> None:
        super().__init__(settings)
        self._app, self._board, self._stop = app, board, stop

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or self._stop.is_set()
        if self.should_exit:
            self._app.state.closing.set()
            self._board.wake()
        return await super().on_tick(counter)


class _Guarded:
    """Add the headers that keep a page to itself to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        await self.app(scope, receive, with_headers)


def _file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = files("agls.console").joinpath(name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer


def _state_json(map_of_site: dict[str, Any], changes: Changes) -> bytes:
    return b'{"site":%b,%b' % (json.dumps(map_of_site).encode(), _changes_json(changes)[1:])


def _changes_json(changes: Changes) -> bytes:
    """Write changes in one line; the records are JSON already."""
    head = {"cursor": changes.cursor, "whole": changes.whole, "feed": changes.feed}
    return b'%b,"records":[%b]}' % (json.dumps(head).encode()[:-1], b",".join(changes.records))


async def _tell(board: Board, cursor: str, closing: threading.Event) -> AsyncIterator[bytes]:
    """Yield server-sent messages until the page goes or the server ends."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile: whoever feeds the board must not learn of it
            loop.call_soon_threadsafe(news.set)

    with board.watched(wake):
        yield b"retry: 1000\n\n"
        while not closing.is_set():
            news.clear()
            changes = board.changes(cursor)
            if changes.cursor != cursor:
                cursor = changes.cursor
                yield b"id: %b\ndata: %b\n\n" % (cursor.encode(), _changes_json(changes))
            try:
                await asyncio.wait_for(news.wait(), STILL_HERE_S)
            except TimeoutError:
                yield b": still here\n\n"
            await asyncio.sleep(GATHER_S)
