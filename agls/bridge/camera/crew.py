"""Follow slew requests on the cameras that are ours to turn: one thread, in it one task for each camera.

    feed(request) -> lease -> queue of one order for each camera -> ONVIF -> SlewStatus to whoever listens
    take, release (an operator)   -> lease; an order not begun is dropped
    a head found elsewhere than it was left is an operator's: somebody has moved it

Which cameras are away from home is kept in a file, so that a crash leaves none turned: the next start sends them home.
Nothing of what a camera sees passes through here. An exercise moves no camera.
"""

import asyncio
import json
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self, TypeAlias

import msgspec

from agls.bridge.camera.geometry import is_fixed
from agls.bridge.camera.lease import Denied, Holding, Home, Leases, Turn
from agls.bridge.camera.onvif import OnvifCamera, Turned, is_there
from agls.bridge.camera.soap import OnvifError
from agls.config import SiteConfig
from agls.errors import InputError
from agls.messages import Identifier, Incident, Outbound, SlewRequest, Text, UtcNs, Wire

TICK_S = 0.05
WATCH_S = 2.0  # how often a held camera is looked at
GOING_HOME_S = 8.0
AGAIN_S = 5.0  # a camera that did not turn is asked again while its lease lasts
OPERATOR = "somebody at the camera"
AWAY_NAME = "cameras-away.json"
MAX_STATUSES = 1_000

Phase: TypeAlias = Literal["accepted", "denied", "on_target", "off_target", "not_moved", "failed", "released", "home"]
_log = logging.getLogger(__name__)


class SlewStatus(Wire, frozen=True, kw_only=True, tag_field="type", tag="slew_status"):
    """What became of a slew request; `on_target` is verified by the camera's own reading."""

    at_ns: UtcNs = msgspec.field(name="at")
    camera_id: Identifier
    request_id: str = ""
    incident: str = ""
    phase: Phase
    method: str = ""
    detail: Text = ""


class Crew:
    """Turn cameras; a context manager that runs until they have gone home, for a while.

    Parameters
    ----------
    site : SiteConfig
        Its cameras with an `onvif` table are turned, if `slewing.execute` says so.
    folder : pathlib.Path
        Where the hub keeps its files.
    on_status : callable, optional
        Told of everything, in the crew's thread; must not block.
    clock_ns : callable, optional
        Wall clock, UTC.

    Raises
    ------
    InputError
        If a camera's files cannot be used.
    """

    def __init__(
        self,
        site: SiteConfig,
        folder: Path,
        on_status: Callable[[SlewStatus], None] | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        moves = site.slewing.execute and site.mqtt.realm == "live"
        ours = [camera for camera in site.camera if camera.onvif is not None and moves and not is_fixed(camera)]
        self._cameras = {camera.camera_id: OnvifCamera(camera) for camera in ours}
        self._file, self._clock_ns, self._on_status = folder / AWAY_NAME, clock_ns, on_status
        left = _read_away(self._file) if self._cameras else set()
        self._leases = Leases(site.slewing, list(self._cameras), left & set(self._cameras))
        self._saved_away = left
        self._lock = threading.Lock()  # guards leases, orders, statuses and counts
        self._orders: dict[str, Turn | Home] = {}
        self.statuses: deque[SlewStatus] = deque(maxlen=MAX_STATUSES)
        self.counts: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="cameras", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        if self._cameras:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send every camera home, for a while, and stop; what is still away then goes home at the next start."""
        end_s = time.monotonic() + GOING_HOME_S
        with self._lock:
            self._leases.end()
        while self._thread.is_alive() and time.monotonic() < end_s and any(_is_due(one) for one in self.holdings()):
            time.sleep(TICK_S)
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def feed(self, item: Outbound) -> None:
        """Take in what the hub says; returns at once.

        Parameters
        ----------
        item : Outbound
            A request for a camera of ours is followed, a withdrawn incident gives its cameras back; else nothing.
        """
        if isinstance(item, Incident) and item.state == "withdrawn":
            with self._lock:
                self._leases.end(item.incident)
        if not isinstance(item, SlewRequest) or item.camera_id not in self._cameras:
            return
        with self._lock:
            answer = self._leases.ask(item, self._clock_ns())
            if isinstance(answer, Turn):
                self._orders[item.camera_id] = answer
            self._save_away()
        if isinstance(answer, Denied):
            self._tell(item, item.camera_id, "denied", detail=answer.reason)
        else:
            self._tell(item, item.camera_id, "accepted")

    def take(self, camera_id: str, operator: str) -> bool:
        """Give a camera to an operator.

        Parameters
        ----------
        camera_id : str
            The camera.
        operator : str
            Who.

        Returns
        -------
        bool
            Whether there is such a camera.
        """
        with self._lock:
            self._orders.pop(camera_id, None)
            taken = self._leases.take(camera_id, operator, self._clock_ns())
        if taken:
            self._tell(None, camera_id, "released", detail=f"taken by {operator}")
        return taken

    def release(self, camera_id: str) -> bool:
        """Take a camera back from an operator.

        Parameters
        ----------
        camera_id : str
            The camera.

        Returns
        -------
        bool
            Whether an operator had it.
        """
        with self._lock:
            return self._leases.release(camera_id)

    def holdings(self) -> list[Holding]:
        """Tell whose every camera is.

        Returns
        -------
        list of Holding
            Those that are ours to turn.
        """
        with self._lock:
            return self._leases.holdings()

    # ------------------------------------------------------------------------------------------ in the thread

    async def _run(self) -> None:
        tasks = [asyncio.create_task(self._serve(name, camera)) for name, camera in self._cameras.items()]
        while not self._stopping.is_set():
            with self._lock:
                for order in self._leases.advance(self._clock_ns()):
                    self._orders.setdefault(order.camera_id, order)
            await asyncio.sleep(TICK_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for camera in self._cameras.values():
            await camera.__aexit__()

    async def _serve(self, name: str, camera: OnvifCamera) -> None:
        """Follow the orders for one camera, and watch it while it is held."""
        await self._get_ready(camera)
        held: tuple[Turn, Turned] | None = None
        looked_s = 0.0
        while True:
            with self._lock:
                order = self._orders.pop(name, None)
                order = order if order is not None and self._leases.is_current(order) else None
            if order is not None and held is not None and await self._was_moved(camera, held[1]):
                self.take(name, OPERATOR)
                held = None
            elif order is not None:
                turned = await self._follow(camera, order)
                held = (order, turned) if isinstance(order, Turn) else None
                looked_s = time.monotonic()
            elif held is not None and time.monotonic() - looked_s >= WATCH_S:
                held = await self._watch(name, camera, held, time.monotonic() - looked_s)
                looked_s = looked_s if held and held[1].outcome != "on_target" else time.monotonic()
            await asyncio.sleep(TICK_S)

    async def _get_ready(self, camera: OnvifCamera) -> None:
        try:
            await camera.ability()
        except OnvifError as error:
            _log.warning("camera %s cannot be reached yet: %s", camera.camera.camera_id, error)

    async def _follow(self, camera: OnvifCamera, order: Turn | Home) -> Turned:
        request = order.request if isinstance(order, Turn) else None

        def is_wanted() -> bool:
            with self._lock:
                return self._leases.is_current(order) and name not in self._orders

        name = camera.camera.camera_id
        try:
            turned = await (camera.turn(request, is_wanted) if request else camera.go_home(is_wanted))
        except Exception:  # noqa: BLE001 - one camera's oddity must not stop the others
            _log.exception("camera %s", name)
            turned = Turned("failed", detail="unexpected")
        if request is None and turned.outcome == "on_target":
            with self._lock:
                self._leases.homed(name)
                self._save_away()
            self._tell(None, name, "home")
        else:
            self._tell(request, name, turned.outcome, turned.method, turned.detail)
        return turned

    async def _watch(
        self, name: str, camera: OnvifCamera, held: tuple[Turn, Turned], since_s: float
    ) -> tuple[Turn, Turned] | None:
        """Look whether a held camera is where it was left; where it never got, ask again."""
        order, turned = held
        with self._lock:
            if not self._leases.is_current(order):
                return None
        if turned.outcome != "on_target":
            if since_s >= AGAIN_S:
                with self._lock:
                    self._orders.setdefault(name, order)
            return held
        if await self._was_moved(camera, turned):
            self.take(name, OPERATOR)
            return None
        return held

    @staticmethod
    async def _was_moved(camera: OnvifCamera, turned: Turned) -> bool:
        """Tell whether somebody else has moved a head since it stood on target."""
        if turned.outcome != "on_target" or turned.posture is None:
            return False
        try:
            return not is_there(await camera.posture(), turned.posture)
        except OnvifError:
            return False

    # ------------------------------------------------------------------------------------------ telling

    def _tell(
        self, request: SlewRequest | None, camera_id: str, phase: Phase, method: str = "", detail: str = ""
    ) -> None:
        status = SlewStatus(
            at_ns=UtcNs(self._clock_ns()),
            camera_id=camera_id,
            request_id=request.request_id if request else "",
            incident=request.incident if request else "",
            phase=phase,
            method=method,
            detail=detail[:500],
        )
        with self._lock:
            self.statuses.append(status)
            self.counts[f"camera.{phase}"] += 1
        if self._on_status:
            try:
                self._on_status(status)
            except Exception:  # noqa: BLE001 - who listens must not stop the cameras
                _log.exception("what is told of cameras failed")

    def _save_away(self) -> None:
        """Keep which cameras are away, before one is turned and after one went home."""
        away = {one.camera_id for one in self._leases.holdings() if one.is_away}
        if away == self._saved_away:
            return
        try:
            fresh = self._file.with_suffix(".new")
            fresh.write_text(json.dumps(sorted(away)), "utf-8")
            fresh.replace(self._file)
            self._saved_away = away
        except OSError as error:
            self.counts["camera.not_saved"] += 1
            _log.error("%s cannot be written: %s", self._file.name, error)


def _is_due(holding: Holding) -> bool:
    return holding.is_away and not holding.operator


def _read_away(path: Path) -> set[str]:
    try:
        return set(msgspec.json.decode(path.read_bytes(), type=list[str]))
    except FileNotFoundError:
        return set()
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(f"{path}: cannot be read ({error}); a list of cameras that are turned, or no file") from None
