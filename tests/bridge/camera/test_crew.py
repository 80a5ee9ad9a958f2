import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from agls.bridge.camera import crew as crew_module
from agls.bridge.camera import onvif
from agls.bridge.camera.crew import AWAY_NAME, OPERATOR, Crew
from agls.bridge.camera.entry import SlewBoard, routes
from agls.bridge.camera.onvif import OnvifCamera
from agls.config import Camera, Mqtt, SiteConfig, Slewing
from agls.errors import InputError
from calibration.camera import Landmark, mounting
from firmware_sim.camera.describe import Setup
from firmware_sim.camera.faults import Faults
from firmware_sim.camera.head import HeadModel, Mount, reading
from firmware_sim.camera.service import Serving
from tests.firmware_sim.soap_client import PASSWORD

WAIT_S = 15.0


def quick() -> float:
    return 20.0 * time.monotonic()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onvif, "START_S", 0.2)
    monkeypatch.setattr(crew_module, "WATCH_S", 0.1)
    monkeypatch.setattr(crew_module, "AGAIN_S", 0.3)
    monkeypatch.setattr(crew_module, "GOING_HOME_S", 1.0)


@pytest.fixture
def crews(tmp_path: Path, at_onvif) -> Iterator[Callable[..., tuple[Crew, list[Serving]]]]:
    """A running crew, and its cameras: one for each list of faults."""
    with ExitStack() as stack:

        def build(*faults: Faults, realm: str = "live", **slewing) -> tuple[Crew, list[Serving]]:
            served = [stack.enter_context(Serving(Setup(faults=one), PASSWORD, clock=quick)) for one in faults]
            cameras = tuple(at_onvif(one, camera={"camera_id": f"c{number}"}) for number, one in enumerate(served))
            policy = Slewing(**{"execute": True, "hold_s": 60.0, **slewing})
            site = SiteConfig(name="Town", camera=cameras, slewing=policy, mqtt=Mqtt(realm=realm))
            return stack.enter_context(Crew(site, tmp_path)), served

        yield build


def wait_for(crew: Crew, *phases: str, camera_id: str = "c0") -> None:
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        seen = [status.phase for status in list(crew.statuses) if status.camera_id == camera_id]
        if [phase for phase in seen if phase in phases][: len(phases)] == list(phases):
            return
        time.sleep(0.02)
    raise AssertionError(f"waited for {phases}, saw {[(s.camera_id, s.phase, s.detail) for s in crew.statuses]}")


def pan(served: Serving) -> float:
    return served.camera.pose(quick()).pan_deg


def test_a_request_turns_the_camera_and_the_end_of_its_time_turns_it_home(crews, slew, tmp_path: Path) -> None:
    crew, [served] = crews(Faults())
    crew.feed(slew(camera_id="c0", hold_s=1.5))
    assert json.loads((tmp_path / AWAY_NAME).read_text()) == ["c0"]
    wait_for(crew, "accepted", "on_target")
    assert pan(served) == pytest.approx(100.0, abs=0.05)
    wait_for(crew, "home")
    assert pan(served) == pytest.approx(0.0, abs=0.05)
    assert json.loads((tmp_path / AWAY_NAME).read_text()) == []


def test_an_operator_at_the_stick_is_noticed_and_left_alone(crews, slew) -> None:
    crew, [served] = crews(Faults())
    crew.feed(slew(camera_id="c0"))
    wait_for(crew, "on_target")
    served.camera.head = served.camera.head.go(quick(), (-40.0, -10.0))
    wait_for(crew, "released")
    assert crew.holdings()[0].operator == OPERATOR
    crew.feed(slew(camera_id="c0", revision=1))
    wait_for(crew, "denied")
    assert pan(served) == pytest.approx(-40.0, abs=0.05)
    assert crew.release("c0")
    wait_for(crew, "home")


def test_an_operator_who_moved_it_just_before_the_next_revision_is_not_overridden(
    crews, slew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "WATCH_S", 60.0)
    crew, [served] = crews(Faults())
    crew.feed(slew(camera_id="c0"))
    wait_for(crew, "on_target")
    served.camera.head = served.camera.head.go(quick(), (-40.0, -10.0))
    crew.feed(slew(camera_id="c0", revision=1, pan_deg=110.0))
    wait_for(crew, "released")
    assert pan(served) == pytest.approx(-40.0, abs=0.05)


@pytest.mark.parametrize(
    "faults",
    [Faults(drop_share=1.0), Faults(slow_bytes_s=0.5), Faults(malformed_http=True), Faults(huge_answer=True)],
    ids=["never", "slowly", "garbage", "huge"],
)
def test_a_camera_that_answers_never_slowly_or_garbage_disturbs_no_other(crews, slew, faults: Faults) -> None:
    crew, [_, sound] = crews(faults, Faults())
    for name in ("c0", "c1"):
        crew.feed(slew(camera_id=name))
    wait_for(crew, "on_target", camera_id="c1")
    wait_for(crew, "failed")
    assert pan(sound) == pytest.approx(100.0, abs=0.05)


def test_a_camera_that_a_crash_left_turned_goes_home_at_the_next_start(crews, tmp_path: Path) -> None:
    (tmp_path / AWAY_NAME).write_text('["c0", "gone"]')
    crew, _ = crews(Faults())
    wait_for(crew, "home")


def test_a_crew_that_ends_sends_its_cameras_home_first(crews, slew) -> None:
    crew, [served] = crews(Faults())
    crew.feed(slew(camera_id="c0"))
    wait_for(crew, "on_target")
    crew.__exit__()
    assert pan(served) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("otherwise", [{"realm": "exercise"}, {"execute": False}])
def test_an_exercise_moves_no_camera_and_neither_does_a_site_that_does_not_say_so(crews, slew, otherwise) -> None:
    crew, [served] = crews(Faults(), **otherwise)
    crew.feed(slew(camera_id="c0"))
    assert (crew.holdings(), list(crew.statuses), pan(served)) == ([], [], 0.0)


def test_a_file_of_turned_cameras_that_is_none_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / AWAY_NAME).write_text("{}")
    with pytest.raises(InputError, match=AWAY_NAME):
        crew_module._read_away(tmp_path / AWAY_NAME)


def test_the_rtcc_reads_what_was_asked_and_says_who_has_a_camera(crews, slew) -> None:
    crew, _ = crews(Faults())
    board = SlewBoard()
    board.keep(slew())
    app = Starlette(routes=routes(crew, board))

    def ask(method: str, path: str, **said) -> httpx.Response:
        async def _ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://rtcc") as client:
                return await client.request(method, path, **said)

        return asyncio.run(_ask())

    assert [one["request_id"] for one in ask("GET", "/api/slews").json()] == ["slew-1"]
    assert ask("GET", "/api/slews?after=2100-01-01T00:00:00Z").json() == []
    assert ask("GET", "/api/slews?after=yesterday").status_code == 400
    assert ask("POST", "/api/cameras/c0/take", content=b"{}").status_code == 400
    assert ask("POST", "/api/cameras/none/take", json={"operator": "Kim"}).status_code == 404
    assert ask("POST", "/api/cameras/c0/take", json={"operator": "Kim"}).status_code == 200
    [told] = ask("GET", "/api/cameras").json()
    assert (told["camera_id"], told["operator"]) == ("c0", "Kim")
    assert ask("POST", "/api/cameras/c0/release").status_code == 200


def test_a_mount_is_calibrated_from_what_the_camera_reads_back_over_onvif(at_onvif) -> None:
    mount, model = Mount(yaw_deg=212.0, pitch_deg=1.5, roll_deg=-2.0), HeadModel()
    rng = np.random.default_rng(7)
    turns = np.deg2rad(np.arange(0.0, 360.0, 45.0))
    places = [(80 * np.sin(t), 80 * np.cos(t), float(rng.uniform(-12, -2))) for t in turns]

    async def _read_all(camera: Camera) -> list[tuple[float, float]]:
        """Centre each landmark, as a tech at the stick does, and read back where the camera says it looks."""
        said = []
        async with OnvifCamera(camera) as one:
            for place in places:
                pan_deg, tilt_deg = reading(mount, model, *place)
                served.camera.head = served.camera.head.go(quick(), (pan_deg, tilt_deg))
                await asyncio.sleep(0.2)
                seen = await one.posture()
                said.append((seen.pan_deg, seen.tilt_deg))
        return said

    with Serving(Setup(head=model, mount=mount), PASSWORD, clock=quick) as served:
        said = asyncio.run(_read_all(at_onvif(served)))
    landmarks = [
        Landmark(f"l{number}", place, *read, 0.05)
        for number, (place, read) in enumerate(zip(places, said, strict=True))
    ]
    found = mounting(landmarks, 0.05, 0.0)
    assert (found.yaw_deg, found.pitch_deg, found.roll_deg) == pytest.approx((212.0, 1.5, -2.0), abs=0.05)
