"""Run the whole chain live on one machine: a city that only simulates its sound, everything after it for real.

    this process     the hub (a thread), the page (a thread), and at the end the comparison with the truth
    a process        the MQTT broker (`agls.broker`)
    some processes   the nodes, a thread each: source -> onset -> classify -> outbox -> MQTT

Nodes and hub know nothing of the truth: what a node gets is samples, what the hub gets is what comes over MQTT. Whoever
simulates hands a `City` in; `agls` does not know the simulator.
"""

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec

from agls.broker import EmbeddedBroker
from agls.config import Mqtt, NodeConfig, SiteConfig
from agls.console.app import serve
from agls.console.board import Board
from agls.errors import InputError
from agls.hub import HubSummary, rehearse, run_hub
from agls.messages import NS_PER_S, Outbound
from agls.sensor.capture import Source
from agls.sinks import OutFolder
from agls.tally import TrueShot, fired_until, table, tally

LEAD_S = 1.5  # from the word to the nodes to the first sample
READY_S = 120.0  # for slow disks: everything is imported from cold
STOP_S = 15.0
JUDGED_S = 6.0  # a shot needs this long to be heard, settled and told; later ones are not judged
HEADLESS_S = 40.0
DONE, FAILED = 0, 1


class OpenSource(Protocol):
    """Make the source of one sensor, in the process its node runs in.

    It must be a function of a module, or a `functools.partial` of one: it is handed to processes of our own.
    """

    def __call__(self, sensor_id: str, start_ns: int) -> Source:
        """Make a source.

        Parameters
        ----------
        sensor_id : str
            The sensor.
        start_ns : int
            When its first sample is to sound, UTC [ns].

        Returns
        -------
        Source
            What the sensor hears.
        """


@dataclass(frozen=True)
class City:
    """A simulated city.

    Attributes
    ----------
    site : SiteConfig
        What the hub is told.
    nodes : tuple of NodeConfig
        What each node is told; the broker is filled in.
    open_source : OpenSource
        What each node hears.
    truth : tuple of TrueShot
        What is fired; used for the final comparison alone.
    period_s : float
        After how long it all begins again [s].
    """

    site: SiteConfig
    nodes: tuple[NodeConfig, ...]
    open_source: OpenSource
    truth: tuple[TrueShot, ...]
    period_s: float


def run_demo(
    city: City, *, headless: bool, duration_s: float | None, out: Path, port: int, stop: threading.Event
) -> int:
    """Run a city live, and say at the end what the chain made of it.

    Parameters
    ----------
    city : City
        The city.
    headless : bool
        Whether to do without the page.
    duration_s : float or None
        How long to listen [s]; None for `HEADLESS_S` if headless, else until stopped.
    out : pathlib.Path
        Folder for ``shots.csv``, ``incidents.geojson``, ``cad/`` and ``slew/``.
    port : int
        Port of the page on 127.0.0.1.
    stop : threading.Event
        Set to end it early.

    Returns
    -------
    int
        0 if the chain worked, else 1.
    """
    listen_s = HEADLESS_S if headless and duration_s is None else duration_s
    if listen_s is not None and not listen_s > 0:
        raise InputError(f"--duration is {listen_s:g}, but must be more than 0 seconds")
    OutFolder(out, keep=True)  # refused now rather than when all is started
    with ExitStack() as stack:
        secrets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agls-demo-")))
        _say("starting broker, hub and nodes")
        broker = stack.enter_context(EmbeddedBroker(secrets))
        site = msgspec.structs.replace(city.site, mqtt=broker.mqtt)
        page = None if headless else Board()
        nodes = stack.enter_context(_NodeProcesses(city, broker.mqtt))
        rehearse(site)  # the city is silent until the hub can locate, even where it has yet to be compiled
        hub = stack.enter_context(_HubThread(site, out, page.on_outbound if page else None))
        nodes.wait_ready(stop)
        start_ns = nodes.begin()
        _say(f"listening with {len(city.nodes)} nodes" + (f" for {listen_s:g} s" if listen_s else " until Ctrl-C"))
        if page:
            _say(f"see {stack.enter_context(serve(site, page, port, threading.Event(), fleet=out / 'fleet.json')).url}")
        _listen(start_ns, listen_s, stop, hub, nodes)
        heard_s = (time.time_ns() - start_ns) / NS_PER_S
        used = nodes.finish()
        summary = hub.finish()
    fired = fired_until(city.truth, city.period_s, heard_s)
    found = tally(out, fired, start_ns, heard_s - JUDGED_S, summary.cad_latencies_s)
    print(f"\n{table(found)}\nnodes: {used}")
    if not found.verdicts and not headless:
        return DONE  # stopped before anything could be judged
    return DONE if found.worked else FAILED


def _listen(
    start_ns: int, listen_s: float | None, stop: threading.Event, hub: "_HubThread", nodes: "_NodeProcesses"
) -> None:
    """Wait until the time is up, somebody says stop, or a part of the chain is gone."""
    start_s = time.monotonic() + (start_ns - time.time_ns()) / NS_PER_S
    while not stop.wait(0.25):
        if listen_s is not None and time.monotonic() >= start_s + listen_s:
            return
        if not hub.running or not nodes.running:
            _say("a part of the chain ended by itself; stopping")
            return


def _say(sentence: str) -> None:
    print(sentence, flush=True)


# ------------------------------------------------------------------------------------------------------- the nodes


class _NodeProcesses:
    """All nodes, spread over as many processes as there are cores.

    The processes are our own children, spawned from this very program: what `multiprocessing` hands to them and back
    (configurations, a function's name, counts) never comes from anywhere else. Each ends when its pipe does, so none
    outlives us, whatever ends us.
    """

    def __init__(self, city: City, mqtt: Mqtt) -> None:
        configs = [msgspec.structs.replace(node, mqtt=mqtt) for node in city.nodes]
        share_count = max(1, min(os.cpu_count() or 1, len(configs)))
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Any] = []
        self._processes: list[tuple[Any, Any]] = []
        for number in range(share_count):
            ours, theirs = context.Pipe()
            share = tuple(configs[number::share_count])
            name = f"agls-nodes-{number}"
            process = context.Process(target=_run_nodes, args=(theirs, share, city.open_source), name=name, daemon=True)
            self._pipes.append(ours)
            self._processes.append((process, theirs))

    def __enter__(self) -> Self:
        for process, theirs in self._processes:
            process.start()
            theirs.close()  # the child's copy is the only one left: its end is told by the pipe
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process, _ in self._processes:
            process.join(STOP_S)
            if process.is_alive():
                process.kill()
                process.join()

    @property
    def running(self) -> bool:
        """Tell whether all processes live."""
        return all(process.is_alive() for process, _ in self._processes)

    def wait_ready(self, stop: threading.Event) -> None:
        """Wait until every process has loaded what a node needs."""
        deadline_s = time.monotonic() + READY_S
        for pipe in self._pipes:
            while not pipe.poll(0.1):
                if stop.is_set():
                    raise KeyboardInterrupt
                if not self.running or time.monotonic() > deadline_s:
                    raise RuntimeError("the processes of the nodes did not start")
            pipe.recv()

    def begin(self) -> int:
        """Let all nodes listen from one moment on.

        Returns
        -------
        int
            When the first sample sounds, UTC [ns].
        """
        start_ns = time.time_ns() + round(LEAD_S * NS_PER_S)
        for pipe in self._pipes:
            pipe.send(start_ns)
        return start_ns

    def finish(self) -> str:
        """Stop all nodes; say what they did in one sentence."""
        for pipe in self._pipes:
            with suppress(OSError):  # a process that died is told of below
                pipe.send("stop")
        counts: Counter[str] = Counter()
        used_s = 0.0
        for pipe in self._pipes:
            word = _next(pipe) if pipe.poll(STOP_S) else None
            if word is None:
                _say("some nodes ended without a word")
                continue
            used_s += word[0]
            counts += word[1]
        kept = ", ".join(f"{name} {number}" for name, number in sorted(counts.items()) if number)
        return f"{used_s:.1f} s of processor time; {kept}"


def _run_nodes(pipe: "Connection[Any, Any]", configs: Sequence[NodeConfig], open_source: OpenSource) -> None:
    """Run some nodes in a process of their own, from the moment named on the pipe until it says more, or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent stops us in order
    from agls.classify.model import load_model
    from agls.sensor.shell import run_node

    load_model()  # what is slow to load is loaded before the first sample sounds
    stop = threading.Event()
    done: dict[str, Counter[str]] = {}

    def run(config: NodeConfig, source: Source) -> None:
        done[config.sensor_id] = run_node(config, source, stop)

    pipe.send("ready")
    start_ns = _next(pipe)
    if start_ns is None:
        return
    threads = [
        threading.Thread(target=run, args=(config, open_source(config.sensor_id, start_ns)), name=config.sensor_id)
        for config in configs
    ]
    for thread in threads:
        thread.start()
    _next(pipe)
    stop.set()
    for thread in threads:
        thread.join()
    with suppress(OSError):  # the parent may be gone
        pipe.send((time.process_time(), sum(done.values(), Counter())))


def _next(pipe: "Connection[Any, Any]") -> Any:
    """Wait for the next word on a pipe; nothing where it has ended."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None


# -------------------------------------------------------------------------------------------------------- the hub


class _HubThread:
    """The hub, in a thread of this process."""

    def __init__(self, site: SiteConfig, out: Path, on_outbound: Callable[[Outbound], None] | None) -> None:
        self._stop = threading.Event()
        self._ended: list[HubSummary | BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(site, out, on_outbound), name="hub")

    def _run(self, site: SiteConfig, out: Path, on_outbound: Callable[[Outbound], None] | None) -> None:
        try:
            self._ended.append(run_hub(site, out, self._stop, on_outbound))
        except BaseException as error:  # noqa: BLE001 - told by `finish`, in the thread that can do something about it
            self._ended.append(error)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def running(self) -> bool:
        """Tell whether it still listens."""
        return self._thread.is_alive()

    def finish(self) -> HubSummary:
        """Let it finish what it has; say what it did."""
        self._stop.set()
        self._thread.join()
        (ended,) = self._ended
        if isinstance(ended, BaseException):
            raise ended
        return ended
