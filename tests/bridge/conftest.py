from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from agls.bridge.cad.event import cad_event
from agls.bridge.store import tables
from agls.bridge.store.book import Batch, Book
from agls.bridge.store.opening import open_store
from agls.config import SiteConfig, Store
from agls.messages import Ellipse, Incident, Shot, UtcNs
from bench.postgres import Cluster, programs

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
        times = {name: UtcNs(value) for name, value in otherwise.items() if name.endswith("_ns")}
        return msgspec.structs.replace(USUAL, **otherwise | times)

    return build


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL database of our own, or skip."""
    where = programs()
    if where is None:
        pytest.skip("needs PostgreSQL's programs (Debian package postgresql) and, for root, runuser")
    cluster = Cluster(where)
    try:
        cluster.start()
        yield cluster.url("agls")
    finally:
        cluster.close()


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    """Where a store is: a file, and where there is one a server."""
    return Store() if request.param == "sqlite" else Store(url=request.getfixturevalue("postgres"))


@pytest.fixture
def open_book(store: Store, tmp_path: Path) -> Iterator[Callable[..., Book]]:
    """Open books of a site, with what a test wants otherwise, on one store; empty at first."""
    opened: list[Book] = []

    def build(**otherwise: Any) -> Book:
        site = SiteConfig(name="Town", store=store, **otherwise)
        engine = open_store(store, tmp_path, site.mqtt.realm)
        if not opened:
            _empty(engine)
        opened.append(Book(engine, site))
        return opened[-1]

    yield build
    for book in opened:
        book.engine.dispose()


def _empty(engine: sa.Engine) -> None:
    with engine.begin() as db:
        for table in reversed(tables.metadata.sorted_tables):
            if table is not tables.realm:
                db.execute(sa.delete(table))
        db.execute(sa.update(tables.realm).where(tables.realm.c.name == "digest").values(value=""))
        db.execute(sa.update(tables.realm).where(tables.realm.c.name == "entered_ns").values(value="0"))


@pytest.fixture(scope="session")
def said() -> Callable[..., Batch]:
    """What a hub says of an incident at a second: its shots, the incident, and that dispatch is due to be told."""

    def build(told: Incident, at_s: float, *, is_due: bool = True) -> Batch:
        at_ns = NOON_NS + round(at_s * 1e9)
        shots = tuple(
            Shot(
                shot_id=name, incident=told.incident, revision=told.revision, origin_ns=told.first_shot_ns,
                origin_sigma_s=1e-3, x_m=told.x_m, y_m=told.y_m, z_m=told.z_m, latitude_deg=told.latitude_deg,
                longitude_deg=told.longitude_deg, ellipse=told.ellipse, p_gunshot=told.p_gunshot, sensor_count=6,
            )
            for name in told.shot_ids
        )  # fmt: skip
        due = (cad_event(told, "open", at_ns, "WEAPON"),) if is_due else ()
        return Batch((*shots, told, *due), at_ns, at_ns + 50_000_000, {told.incident: at_ns - 10**9})

    return build
