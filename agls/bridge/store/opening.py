"""Open a store: SQLite in a file or PostgreSQL, brought up to date, and of the right realm.

A store is stamped with its realm when it is made. One of an exercise never opens as live, nor the other way round, so
nothing that is written for one can be told to who receives the other.
"""

import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

from agls.bridge.store import tables
from agls.config import Realm, Store
from agls.errors import InputError
from agls.mqtt_settings import password

FILE_NAMES: dict[Realm, str] = {"live": "bridge.sqlite", "exercise": "exercise.sqlite"}
BUSY_S = 10
PAUSE_S = 0.5
MIGRATIONS = "agls.bridge.store:migrations"


def open_store(store: Store, folder: Path, realm: Realm, *, wait_s: float = 0.0) -> sa.Engine:
    """Open a site's store; it is made, or brought up to date, where it is not.

    Parameters
    ----------
    store : Store
        Where it is.
    folder : pathlib.Path
        Where the file is if it is one.
    realm : Realm
        Whether it must be of what is real, or of exercises.
    wait_s : float, optional
        How long to wait for a server that is not there yet [s].

    Returns
    -------
    sqlalchemy.Engine
        Ready to use, by any thread.

    Raises
    ------
    InputError
        If it cannot be opened, or is of the other realm.
    """
    engine = _postgres(store) if store.url else _sqlite(folder / FILE_NAMES[realm])
    shown = engine.url.render_as_string(hide_password=True)
    until_s = time.monotonic() + wait_s
    while True:
        try:
            with engine.begin() as db:
                _upgrade(db)
                stamped = _stamp(db, realm)
            break
        except sa.exc.DBAPIError as error:
            if store.url and is_away(error) and time.monotonic() < until_s:
                time.sleep(PAUSE_S)
                continue
            engine.dispose()
            why = f"store {shown} cannot be opened: {_why(error)}; give another store.url or folder"
            raise InputError(why) from None
    if stamped != realm:
        engine.dispose()
        raise InputError(f"store {shown} is of the realm {stamped!r}, but {realm!r} is wanted; give each its own store")
    return engine


def begin_reading(engine: sa.Engine) -> sa.Connection:
    """Connect for reading alone, which waits for no writer.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The store.

    Returns
    -------
    sqlalchemy.Connection
        A context manager.
    """
    return engine.connect().execution_options(is_reading=True)


def version_of(engine: sa.Engine) -> str:
    """Say which migration a store is at.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The store.

    Returns
    -------
    str
        The name of the last one that ran.
    """
    with begin_reading(engine) as db:
        return str(MigrationContext.configure(db).get_current_revision())


def is_away(error: sa.exc.DBAPIError) -> bool:
    """Tell whether a store could not be reached or was busy, so that the same may succeed later.

    Parameters
    ----------
    error : sqlalchemy.exc.DBAPIError
        What it said.

    Returns
    -------
    bool
        Whether to try again.
    """
    return isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) or error.connection_invalidated


def _sqlite(path: Path) -> sa.Engine:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise InputError(f"store {path} cannot be written: {error.strerror}; give another folder") from None
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_S})

    @sa.event.listens_for(engine, "connect")
    def _settle(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say so, below
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # what was told must survive the loss of power
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # what was purged is gone from the file, too

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # One that writes says so at once: one that began by reading could not go on to write beside another.
        reading = connection.get_execution_options().get("is_reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _postgres(store: Store) -> sa.Engine:
    try:
        url = sa.make_url(store.url).set(drivername="postgresql+psycopg")
    except sa.exc.ArgumentError:
        raise InputError("store.url is not an address like postgresql://agls@host/agls") from None
    if store.password_file:
        url = url.set(password=password(store.password_file))
    limits = f"-c statement_timeout={BUSY_S}s -c lock_timeout={BUSY_S}s"
    try:
        return sa.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 5, "options": limits})
    except ModuleNotFoundError:
        raise InputError("store.url names PostgreSQL, which needs psycopg; install agls[postgres]") from None


def _upgrade(db: sa.Connection) -> None:
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    config.attributes["connection"] = db
    command.upgrade(config, "head")


def _stamp(db: sa.Connection, realm: Realm) -> str:
    """Stamp a new store with its realm; say of which one it is."""
    named = sa.select(tables.realm.c.value).where(tables.realm.c.name == "realm")
    stamped = db.scalar(named)
    if stamped is None:
        first = [
            {"name": "realm", "value": realm},
            {"name": "digest", "value": ""},
            {"name": "entered_ns", "value": "0"},
        ]
        db.execute(sa.insert(tables.realm), first)
        return realm
    return str(stamped)


def _why(error: sa.exc.DBAPIError) -> str:
    return " ".join(str(error.orig).split())[:200]
