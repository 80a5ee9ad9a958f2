from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agls.config import Camera, Onvif
from agls.messages import Ellipse, SlewRequest, SlewTarget, UtcNs
from firmware_sim.camera.service import Serving
from tests.firmware_sim.soap_client import PASSWORD

NOW_NS = 1_545_220_805_000_000_000
ASKED = SlewRequest(
    request_id="slew-1", incident="i-1", revision=0, camera_id="c", issued_ns=UtcNs(NOW_NS),
    not_after_ns=UtcNs(2 * NOW_NS), hold_s=60.0, distance_m=100.0, pan_deg=100.0, tilt_deg=-12.0, hfov_deg=35.0,
    fits=True, reason="probable gunfire",
    target=SlewTarget(
        latitude_deg=40.0, longitude_deg=-80.0, height_m=230.0,
        ellipse=Ellipse(major_m=10.0, minor_m=5.0, azimuth_deg=0.0),
    ),
)  # fmt: skip


@pytest.fixture(scope="session")
def slew() -> Callable[..., SlewRequest]:
    """A usual request, with what a test wants otherwise."""
    return lambda **otherwise: msgspec.structs.replace(ASKED, **otherwise)


@pytest.fixture(scope="session")
def at_onvif(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Camera]:
    """A camera of the site that is really a simulated one."""
    secret: Path = tmp_path_factory.mktemp("secret") / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)

    def build(serving: Serving, *, camera: dict[str, Any] | None = None, **otherwise: Any) -> Camera:
        usual = {"username": "agls", "password_file": str(secret), "plain_password": True, "rate_per_s": 50.0}
        onvif = Onvif(url=f"{serving.url}/onvif/device_service", **{**usual, **otherwise})
        place = {"camera_id": "c", "latitude_deg": 40.0, "longitude_deg": -80.0, "height_m": 240.0}
        return Camera(**{**place, **(camera or {})}, onvif=onvif)

    return build
