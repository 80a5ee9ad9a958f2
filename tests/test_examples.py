"""Each consumer in examples/, as a process of its own, beside the real sender."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agls.bridge.exercise import EXAMPLE_SITE, made_up, tell
from agls.bridge.serving import Serving
from agls.bridge.store.book import Book
from agls.bridge.store.opening import open_store
from agls.broker import USER, EmbeddedBroker
from agls.config import SiteConfig, Subscriber
from bench.formats import taky
from bench.peers.environment import PeerAbsentError

HEADLINE = "Probable gunfire, 3 rounds"


@pytest.fixture
def consumer(project: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a consumer; it is stopped in the end."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(project / "examples" / f"{name}.py"), *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
    return port


def wait_until_it_listens(port: int) -> None:
    end_s = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < end_s, "it never listened"
            time.sleep(0.05)
        else:
            return


def told(**subscriber: str) -> list[tuple[str, str, str]]:
    """Tell a subscriber of an exercise, as `agls bridge send --exercise` does."""
    settings: Any = {"subscriber_id": "rtcc", "realm": "exercise"} | subscriber
    one = Subscriber(**settings)
    return tell(SiteConfig(name="Town", subscriber=(one,)), made_up(EXAMPLE_SITE, time.time_ns()))


def said_by(one: subprocess.Popen[str]) -> str:
    assert one.stdout is not None
    return one.stdout.readline()


@pytest.mark.parametrize("name", ["webhook", "cap", "radio"])
def test_a_consumer_takes_documents_by_webhook(consumer, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("between us")
    (tmp_path / "secret").chmod(0o600)
    port = free_port()
    one = consumer(name, port, "between us")
    wait_until_it_listens(port)
    written = {"webhook": "agls_incident"}.get(name, name)
    [(_, outcome, _)] = told(format=written, url=f"http://127.0.0.1:{port}/", secret_file=str(tmp_path / "secret"))
    assert (outcome, HEADLINE in said_by(one)) == ("sent", True)


def test_a_consumer_does_not_believe_what_is_not_signed(consumer) -> None:
    port = free_port()
    one = consumer("webhook", port, "between us")
    wait_until_it_listens(port)
    [(_, outcome, said)] = told(format="agls_incident", url=f"http://127.0.0.1:{port}/")
    assert (outcome, said, said_by(one)) == ("refused", "HTTP 403", "not signed\n")


def test_a_cad_is_asked_for_service(consumer) -> None:
    port = free_port()
    one = consumer("eido_push", port)
    wait_until_it_listens(port)
    [(_, outcome, _)] = told(kind="eido", format="eido", url=f"ws://127.0.0.1:{port}/")
    assert outcome == "sent"
    assert re.match(r"requestForService X\w+-exercise EXERCISE - Probable gunfire, 3 rounds", said_by(one))


def test_a_phone_at_a_tak_server_is_shown_the_shot(consumer, tmp_path: Path) -> None:
    port = free_port()
    try:
        server = taky(tmp_path, port)
    except PeerAbsentError as absent:
        pytest.skip(f"needs taky in .venv-peers-formats, which could not be made: {absent}")
    try:
        wait_until_it_listens(port)
        one = consumer("tak", "127.0.0.1", port)
        time.sleep(1.0)
        [(_, outcome, _)] = told(kind="tak", format="cot", url=f"tcp://127.0.0.1:{port}")
        assert (outcome, said_by(one)) == ("sent", f"EXERCISE {HEADLINE} 40.440620 -79.995890\n")
    finally:
        server.terminate()
        server.wait(10)


def test_a_consumer_hears_exercises_under_their_own_root_by_mqtt(consumer, tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "broker") as broker:
        secret_file = broker.mqtt.password_file
        account = (USER, Path(secret_file).read_text().strip())
        one = consumer("mqtt", "127.0.0.1", broker.port, "agls-exercise/v1/document/+", *account)
        assert said_by(one) == "listening\n"
        settings = {"kind": "mqtt", "format": "agls_incident", "url": broker.mqtt.url, "secret_file": secret_file}
        [(_, outcome, _)] = told(subscriber_id=USER, **settings)
        assert (outcome, HEADLINE in said_by(one)) == ("sent", True)


@pytest.mark.parametrize(
    ("name", "kind", "written"),
    [("stream", "stream", "agls_incident"), ("eido_subscribe", "eido_server", "eido")],
)
def test_a_consumer_fetches_what_is_kept(consumer, tmp_path: Path, name: str, kind: str, written: str) -> None:
    scheme = "http" if kind == "stream" else "ws"
    served: Any = {"kind": kind, "format": written, "url": f"{scheme}://127.0.0.1:0/", "told": "every"}
    site = SiteConfig(name="Town", subscriber=(Subscriber(subscriber_id="rtcc", **served),))
    book = Book(open_store(site.store, tmp_path, "live"), site)
    record = made_up(EXAMPLE_SITE, time.time_ns())
    with book.writing(time.time_ns()) as one:
        book.begin(one, msgspec.structs.replace(record, exercise=False), "tester", "a test")
    book.engine.dispose()
    with Serving(site, tmp_path) as serving:
        address = f"{scheme}://127.0.0.1:{serving.ports['rtcc']}/"
        assert HEADLINE in said_by(consumer(name, address, *(["0"] if kind == "stream" else [])))
