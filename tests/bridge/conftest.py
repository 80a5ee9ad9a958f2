from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from agls.messages import Ellipse, Incident, UtcNs

NOON_NS = 1_545_220_800_000_000_000
USUAL = Incident(
    incident="i20181219-1",
    revision=0,
    state="probable",
    first_shot_ns=UtcNs(NOON_NS),
    last_shot_ns=UtcNs(NOON_NS + 2_000_000_000),
    round_count=3,
    x_m=120.0,
    y_m=-45.0,
    z_m=1.5,
    latitude_deg=40.44062,
    longitude_deg=-79.99589,
    height_m=250.0,
    ellipse=Ellipse(major_m=11.2, minor_m=6.0, azimuth_deg=30.0),
    p_gunshot=0.97,
    sensor_count=9,
    shot_ids=("s1", "s2", "s3"),
)


@pytest.fixture(scope="session")
def incident() -> Callable[..., Incident]:
    """A usual incident, with what a test wants otherwise."""

    def build(**otherwise: Any) -> Incident:
        return msgspec.structs.replace(USUAL, **otherwise)

    return build
