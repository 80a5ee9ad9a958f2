"""A camera at a port: what a client on the network meets, broken connections included; the command too."""

import argparse
import http.client
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from agls.errors import InputError
from firmware_sim.camera.command import add_arguments, run, with_faults
from firmware_sim.camera.describe import Setup
from firmware_sim.camera.faults import Faults
from firmware_sim.camera.service import Serving
from firmware_sim.camera.soap import MAX_BYTES
from tests.firmware_sim.soap_client import PASSWORD, request, steered, token

PATH = "/onvif/PTZ"


def serving(**faults) -> Serving:
    """Serve a camera with faults."""
    return Serving(Setup(faults=Faults(**faults)), PASSWORD)


def post(port: int, body: bytes, wait_s: float = 5.0) -> tuple[int, bytes]:
    """Ask once, over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=wait_s)
    try:
        connection.request("POST", PATH, body, {"Content-Type": "application/soap+xml"})
        answer = connection.getresponse()
        return answer.status, answer.read(200_000)
    finally:
        connection.close()


def status() -> bytes:
    """Ask for the status as the one who may."""
    return request("tptz:GetStatus", steered(), token(time.time()))


def test_a_camera_answers_at_its_port_and_a_request_too_long_is_refused() -> None:
    with serving() as one:
        code, body = post(one.port, status())
        assert (code, b"PTZStatus" in body) == (200, True)
        assert b"more than" in post(one.port, b"<" * (MAX_BYTES + 1))[1]


def test_http_digest_is_taken_where_the_camera_asks_for_it() -> None:
    with serving(answers_401=True) as one:
        body = request("tptz:GetStatus", steered())
        asked, again = (urllib.request.Request(one.url + PATH, body) for _ in range(2))  # noqa: S310 - our own
        keeper = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        keeper.add_password(None, one.url, "agls", PASSWORD)
        opener = urllib.request.build_opener(urllib.request.HTTPDigestAuthHandler(keeper))
        with opener.open(asked) as answer:
            assert b"PTZStatus" in answer.read()
        keeper.add_password(None, one.url, "agls", "wrong")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            opener.open(again)


def test_a_malformed_status_line_and_a_dropped_connection_reach_the_client() -> None:
    with serving(malformed_http=True) as one, pytest.raises(http.client.BadStatusLine):
        post(one.port, status())
    with serving(drop_share=1.0) as one, pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        post(one.port, status())


def test_a_restarting_camera_is_not_there() -> None:
    with serving(reboot_rate_per_s=1.0) as one:
        assert post(one.port, status())[0] == 200
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            post(one.port, status())


def test_bytes_may_drip() -> None:
    with serving(slow_bytes_s=0.05) as one, socket.create_connection(("127.0.0.1", one.port), 5.0) as client:
        body = status()
        client.sendall(
            b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (PATH.encode(), len(body), body)
        )
        assert [len(client.recv(1_000)) for _ in range(3)] == [1, 1, 1]


def test_an_answer_may_be_huge() -> None:
    with serving(huge_answer=True) as one:
        code, body = post(one.port, status())
        assert (code, len(body)) == (200, 200_000)


def test_tls_with_a_certificate_of_its_own(tmp_path) -> None:
    certificate, key = tmp_path / "camera.pem", tmp_path / "camera.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-days", "2", "-subj", "/CN=camera", "-out", str(certificate), "-keyout", str(key)]  # fmt: skip
    try:
        subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("needs openssl to make a certificate")
    import ssl

    trusting = ssl.create_default_context(cafile=str(certificate))
    trusting.check_hostname = False
    with Serving(Setup(), PASSWORD, certificate=certificate, key=key) as one:
        connection = http.client.HTTPSConnection("127.0.0.1", one.port, timeout=5.0, context=trusting)
        connection.request("POST", PATH, status())
        assert connection.getresponse().status == 200
        connection.close()


def test_a_port_in_use_is_refused_in_a_sentence() -> None:
    with serving() as one, pytest.raises(InputError, match=f"port {one.port} at 127.0.0.1 cannot be had"):
        Serving(Setup(), PASSWORD, port=one.port)


def test_faults_are_switched_on_by_name() -> None:
    assert with_faults(Faults(), ["frozen_status", "spaces=pan_only", "jitter_s=0.8", "fault_status=200"]) == Faults(
        frozen_status=True, spaces="pan_only", jitter_s=0.8, fault_status=200
    )


@pytest.mark.parametrize(("switch", "says"), [
    ("sleepy", "no fault sleepy; accepted are config_on_sub_only"),
    ("jitter_s=long", "jitter_s must be a number from 0 to 10"),
    ("spaces=few", "spaces must be one of"),
    ("frozen_status=3", "frozen_status must be true or false"),
])  # fmt: skip
def test_a_fault_that_is_none_is_refused_in_a_sentence(switch: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        with_faults(Faults(), [switch])


@pytest.mark.parametrize(("given", "says"), [
    (["--certificate", "x.pem"], "belong together"),
    (["--password-file", "absent"], "absent: cannot be read"),
    (["absent.toml"], "absent.toml: cannot be read"),
])  # fmt: skip
def test_wrong_arguments_are_refused_before_anything_is_served(given, says) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(InputError, match=says):
        run(parser.parse_args(given))


def test_the_command_says_where_the_camera_is_and_serves_it(tmp_path) -> None:
    setup = tmp_path / "camera.toml"
    setup.write_text('camera_id = "cam-gate"\n[head]\npan_speed_deg_s = 30\n[presets]\ngate = [10, -5, 0.2]\n')
    command = [sys.executable, "-m", "firmware_sim.camera", str(setup), "--fault", "no_get_services"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("cam-gate at http://127.0.0.1:")
            port = int(line.split("/")[2].partition(":")[2])
            assert b"Fault" in post(port, request("tds:GetServices"))[1]
        finally:
            process.terminate()
