"""HTTP around a simulated camera, and what goes wrong on the wire: late, broken, endless or missing answers."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from asyncio import Transport
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any, Self, cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from agls.errors import InputError
from firmware_sim.camera.describe import PATHS, Setup
from firmware_sim.camera.faults import Faults
from firmware_sim.camera.onvif import Answer, Camera
from firmware_sim.camera.soap import MAX_BYTES

HUGE_CHUNK, HUGE_CHUNKS = b" " * 1_048_576, 64
SOAP = "application/soap+xml; charset=utf-8"


class Serving:
    """A camera that is being served; a context manager that ends it.

    Parameters
    ----------
    setup : Setup
        The camera.
    password : str
        Of its account.
    host : str, optional
        Address to listen at.
    port : int, optional
        Port; 0 for a free one.
    clock : callable, optional
        The head's time [s]; a faster one lets it move faster than it could.
    certificate, key : pathlib.Path, optional
        Files for TLS, both or none.

    Raises
    ------
    InputError
        If the port cannot be had, or the setup contradicts itself.
    """

    def __init__(
        self,
        setup: Setup,
        password: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.monotonic,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        listener = _listener(host, port)
        self.port: int = listener.getsockname()[1]
        self.url = f"{'https' if certificate else 'http'}://{host}:{self.port}"
        self._server = _server(setup, certificate, key)
        try:
            self.camera = Camera(setup, password, self.url)
            self._server.config.app = make_app(self.camera, clock)
            self._server.config.load()
        except InputError:
            listener.close()
            raise
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name=setup.camera_id, daemon=True
        )
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait while it serves.

        Parameters
        ----------
        timeout_s : float
            No longer than this [s].

        Returns
        -------
        bool
            Whether it still does.
        """
        self._thread.join(timeout_s)
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop, and wait until it has ended."""
        self._server.should_exit = True
        self._thread.join(10.0)

    def __enter__(self) -> Self:
        """Go on serving."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.close()


def make_app(camera: Camera, clock: Callable[[], float]) -> Starlette:
    """Build the web application of a camera.

    Parameters
    ----------
    camera : Camera
        The camera.
    clock : callable
        The head's time [s].

    Returns
    -------
    Starlette
        All its services, at their usual paths.
    """

    async def _answer(request: Request) -> Response:
        if camera.gone(clock()):
            return Response(status_code=503, headers={"X-Gone": "1"})  # the wire makes nothing of it
        received = b""
        async for part in request.stream():
            received += part
            if len(received) > MAX_BYTES:
                break
        found = camera.answer(received, request.headers.get("authorization", ""), clock(), time.time())
        await asyncio.sleep(found.wait_s)
        return _response(found, camera.setup.faults)

    return Starlette(routes=[Route(path, _answer, methods=["POST"]) for path in PATHS.values()])


def _response(found: Answer, faults: Faults) -> Response:
    headers = {"WWW-Authenticate": found.challenge} if found.challenge else {}
    if faults.huge_answer:
        return StreamingResponse(_huge(found.body), found.status, headers, SOAP)
    return Response(found.body, found.status, headers, SOAP)


async def _huge(body: str) -> AsyncIterator[bytes]:
    yield body.encode()
    for _ in range(HUGE_CHUNKS):
        yield HUGE_CHUNK


class _Wire:
    """The transport of a connection, on which bytes get lost or come late.

    Parameters
    ----------
    transport : asyncio.Transport
        The real one; everything but writing goes there as it is.
    faults : Faults
        What goes wrong.
    chance : random.Random
        Decides which answers are dropped.
    """

    def __init__(self, transport: Transport, faults: Faults, chance: Random) -> None:
        self._transport, self._faults, self._chance = transport, faults, chance
        self._queue = bytearray()
        self._dripping: asyncio.Task[None] | None = None
        self._closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, sent: bytes) -> None:
        if sent.startswith(b"HTTP/1.1"):
            if b"\r\nx-gone: 1\r\n" in sent or self._chance.random() < self._faults.drop_share:
                self._transport.abort()
                return
            if self._faults.malformed_http:
                sent = b"HTTP/one 2OO fine" + sent[len(b"HTTP/1.1") :]
        if not self._faults.slow_bytes_s:
            self._transport.write(sent)
            return
        self._queue += sent
        if self._dripping is None:
            self._dripping = asyncio.get_running_loop().create_task(self._drip())

    async def _drip(self) -> None:
        while self._queue and not self._transport.is_closing():
            self._transport.write(bytes(self._queue[:1]))
            del self._queue[:1]
            await asyncio.sleep(self._faults.slow_bytes_s)
        self._dripping = None
        if self._closing:
            self._transport.close()

    def close(self) -> None:
        self._closing = True
        if self._dripping is None:
            self._transport.close()

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()


def _server(setup: Setup, certificate: Path | None, key: Path | None) -> uvicorn.Server:
    chance = Random(setup.seed + 1)  # noqa: S311 - repeatable on purpose, and no secret

    class Protocol(H11Protocol):
        """HTTP on a wire with faults."""

        def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
            super().connection_made(cast("Transport", _Wire(transport, setup.faults, chance)))

    settings = uvicorn.Config(
        "",
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http=Protocol,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    settings.timeout_graceful_shutdown = 1
    return uvicorn.Server(settings)


def _listener(host: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(f"port {port} at {host} cannot be had ({error}); give another one, or 0 for any") from None
    return listener
