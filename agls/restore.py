"""Put a back-up in the place of a hub: `agls hub restore`.

A restored hub tells nobody twice. It cannot know what the one before it said after the back-up, so what waits for
receivers becomes dead letters by name (`RESTORED`, see ``GET /api/dead``), and what was fired before the moment of
restoring is kept and told to nobody.
"""

import argparse
import io
import shutil
import tarfile
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

from agls.backup import ABOUT, DUMP, JOURNALS, PRIVATE, STORE, About, journals_of, run_postgres
from agls.backup import add_arguments as add_common_arguments
from agls.bridge.store import queue
from agls.bridge.store.opening import FILE_NAMES, begin_reading, open_store
from agls.bridge.store.tables import audit
from agls.bridge.store.tables import realm as realm_table
from agls.bridge.store.writing import put
from agls.config import SiteConfig, load_site
from agls.errors import InputError, MessageError
from agls.hub import JOURNAL_NAME
from agls.messages import decode, format_utc


def restore(site: SiteConfig, out: Path, archive: Path, *, force: bool = False) -> tuple[About, int]:
    """Put a back-up in the place of a hub that does not run.

    Parameters
    ----------
    site : SiteConfig
        The site, of the same realm.
    out : pathlib.Path
        The hub's folder.
    archive : pathlib.Path
        What `back_up` wrote.
    force : bool, optional
        Whether what is there may be overwritten.

    Returns
    -------
    about : About
        What was restored.
    dead_count : int
        How many letters will not be sent, because they may have been.

    Raises
    ------
    InputError
        If it is no back-up of this site, or something is there that would be overwritten.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as unpacked:
        folder = Path(unpacked)
        about = _unpack(archive, folder)
        if (about.site, about.realm) != (site.name, site.mqtt.realm):
            raise InputError(
                f"{archive} is of the site {about.site!r}, realm {about.realm!r}, but the site's file says"
                f" {site.name!r}, {site.mqtt.realm!r}; give the file of that site"
            )
        if (folder / STORE).exists() == bool(site.store.url):
            raise InputError(f"{archive} is not of the kind of store that store.url names; restore into the same kind")
        there = _there(site, out)
        if there and not force:
            raise InputError(f"{there[0]} is there and would be overwritten; give --force, or another folder")
        _put_back(site, folder, out)
    return about, _settle(site, out)


def _put_back(site: SiteConfig, folder: Path, out: Path) -> None:
    for old in [*journals_of(out), *(out.glob(f"{FILE_NAMES[site.mqtt.realm]}*") if not site.store.url else ())]:
        old.unlink()
    for journal in journals_of(folder):
        journal.replace(out / journal.name)
    if site.store.url:
        run_postgres(
            site, "pg_restore", "--clean", "--if-exists", "--no-owner", "--single-transaction", str(folder / DUMP)
        )
    else:
        (folder / STORE).chmod(PRIVATE)
        (folder / STORE).replace(out / FILE_NAMES[site.mqtt.realm])


def _settle(site: SiteConfig, out: Path) -> int:
    """Let the restored store say from when on it speaks, and bury what may have been said."""
    engine, now_ns = open_store(site.store, out, site.mqtt.realm), time.time_ns()
    with engine.begin() as db:
        dead_count = queue.bury_all(db, now_ns)
        put(db, realm_table, {"name": "restored_ns"}, {"value": str(now_ns)})
    engine.dispose()
    return dead_count


def _there(site: SiteConfig, out: Path) -> list[str]:
    """List what a restore would overwrite."""
    found = [str(path) for path in journals_of(out)]
    if not site.store.url:
        return found + [str(path) for path in out.glob(FILE_NAMES[site.mqtt.realm])]
    engine = open_store(site.store, out, site.mqtt.realm)
    with begin_reading(engine) as db:
        count = db.scalar(sa.select(sa.func.count()).select_from(audit))
    engine.dispose()
    return found + ([f"store.url, with {count} entries of the audit,"] if count else [])


def _unpack(archive: Path, folder: Path) -> About:
    known = (ABOUT, STORE, DUMP, JOURNAL_NAME)
    try:
        with tarfile.open(archive) as tar:
            for one in tar:
                if not one.isfile() or not (one.name in known or Path(one.name).match(JOURNALS[0])) or "/" in one.name:
                    raise InputError(f"{archive} holds {one.name!r}, which no back-up does; give what backup wrote")
                with (folder / one.name).open("wb") as file:
                    shutil.copyfileobj(tar.extractfile(one) or io.BytesIO(), file)
        return decode((folder / ABOUT).read_bytes(), About)
    except (OSError, EOFError, tarfile.TarError, MessageError) as error:
        raise InputError(f"{archive} is no back-up of a hub ({error}); give what `agls hub backup` wrote") from None


# ------------------------------------------------------------------------------------------------------ the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``agls hub restore`` takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of the command.
    """
    add_common_arguments(parser)
    parser.add_argument("--force", action="store_true", help="overwrite what is there")


def run(arguments: argparse.Namespace) -> int:
    """Restore a back-up.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` defines them.

    Returns
    -------
    int
        0.
    """
    about, dead = restore(load_site(arguments.site), arguments.out, arguments.archive, force=arguments.force)
    print(f"{about.site}, {about.realm}, as of {format_utc(about.made_ns)}, is in {arguments.out}")
    print(f"{dead} letters that may have been delivered since will not be sent; GET /api/dead lists them")
    return 0
