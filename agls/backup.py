"""Back up a hub while it runs: `agls hub backup`; `agls.restore` puts it back.

A back-up is one file, a tar archive: a line of what it is, the hub's journals, and the store. The journals are copied
first: so the store holds all that they have led to, and a restored hub has nothing in them left to tell. SQLite copies
itself consistently while others write; of PostgreSQL it is what ``pg_dump`` says.
"""

import argparse
import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import sqlalchemy as sa

from agls import __version__
from agls.bridge.store.opening import FILE_NAMES
from agls.config import Realm, SiteConfig, load_site
from agls.errors import InputError
from agls.hub import JOURNAL_NAME
from agls.messages import UtcNs, Wire, encode, format_utc
from agls.mqtt_settings import password

ABOUT, STORE, DUMP = "about.json", "store.sqlite", "store.pgdump"
JOURNALS = ("journal-*.jsonl", JOURNAL_NAME)
PRIVATE = 0o600


class About(Wire, frozen=True, kw_only=True):
    """What a back-up is of."""

    agls: str
    site: str
    realm: Realm
    made_ns: UtcNs = msgspec.field(name="made")


def back_up(site: SiteConfig, out: Path, archive: Path) -> About:
    """Write a back-up; the hub may run.

    Parameters
    ----------
    site : SiteConfig
        The site.
    out : pathlib.Path
        The hub's folder.
    archive : pathlib.Path
        The file to write; one that is there is replaced once the new one is whole.

    Returns
    -------
    About
        What it is of.

    Raises
    ------
    InputError
        If there is no store to back up, or the file cannot be written.
    """
    realm = site.mqtt.realm
    about = About(agls=__version__, site=site.name, realm=realm, made_ns=UtcNs(time.time_ns()))
    if not site.store.url and not (out / FILE_NAMES[realm]).exists():
        raise InputError(f"{out} holds no {FILE_NAMES[realm]}; give the folder that `agls hub` was given as --out")
    part = archive.with_name(f".{archive.name}.part")
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=archive.absolute().parent)))
            (folder / ABOUT).write_bytes(encode(about))
            for journal in journals_of(out):
                shutil.copyfile(journal, folder / journal.name)
            if site.store.url:
                run_postgres(site, "pg_dump", "--format=custom", f"--file={folder / DUMP}")
            else:
                _copy_sqlite(out / FILE_NAMES[realm], folder / STORE)
            part.unlink(missing_ok=True)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb") as file:
                with tarfile.open(fileobj=file, mode="w:gz") as tar:
                    for one in sorted(folder.iterdir()):
                        tar.add(one, one.name)
                file.flush()
                os.fsync(file.fileno())
            part.replace(archive)
    except OSError as error:
        raise InputError(f"{archive} cannot be written ({error.strerror}); give a file where there is room") from None
    finally:
        part.unlink(missing_ok=True)
    return about


def journals_of(folder: Path) -> list[Path]:
    """List the journals that a hub goes on with, and those before.

    Parameters
    ----------
    folder : pathlib.Path
        The hub's folder.

    Returns
    -------
    list of pathlib.Path
        In order of their names.
    """
    return sorted(path for pattern in JOURNALS for path in folder.glob(pattern))


def _copy_sqlite(source: Path, target: Path) -> None:
    try:
        here, there = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True), sqlite3.connect(target)
        with closing(here), closing(there):
            here.backup(there)
            (verdict,) = there.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.Error as error:
        raise InputError(f"store {source} cannot be copied: {error}; give the folder of a hub") from None
    if verdict != "ok":
        raise InputError(f"store {source} is damaged ({verdict}); restore an earlier back-up")


def run_postgres(site: SiteConfig, program: str, *words: str) -> None:
    """Run a program of PostgreSQL's on the store; the password is handed over in the environment.

    Parameters
    ----------
    site : SiteConfig
        The site.
    program : str
        Such as ``pg_dump``.
    *words : str
        Its arguments, but for the store.

    Raises
    ------
    InputError
        If it is not there, or fails.
    """
    url = sa.make_url(site.store.url).set(drivername="postgresql", password=None)
    secret = password(site.store.password_file) if site.store.password_file else (
        sa.make_url(site.store.url).password or "")  # fmt: skip
    command = [program, f"--dbname={url.render_as_string()}", *words]
    try:
        done = subprocess.run(  # noqa: S603 - words of ours
            command,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | ({"PGPASSWORD": secret} if secret else {}),
        )
    except OSError:
        raise InputError(f"{program} is not there; install PostgreSQL's client programs (postgresql-client)") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise InputError(f"{program}: {said[-1]}; is the store there, and {program} as new as it is?")


# ------------------------------------------------------------------------------------------------------ the commands


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the commands take.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of ``agls hub backup`` or ``agls hub restore``.
    """
    parser.add_argument("site", type=Path, metavar="SITE.toml", help="of the hub")
    parser.add_argument("archive", type=Path, metavar="FILE.tar.gz", help="the back-up")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="the hub's folder")


def run(arguments: argparse.Namespace) -> int:
    """Write a back-up.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` defines them.

    Returns
    -------
    int
        0.
    """
    about = back_up(load_site(arguments.site), arguments.out, arguments.archive)
    print(f"{arguments.archive}: {about.site}, {about.realm}, as of {format_utc(about.made_ns)}")
    return 0
