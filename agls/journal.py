"""The journal: everything the hub heard and every moment it was told, in the order in which it took them.

A file of JSON lines. The first is a `Header`, the others are `Heard` (a record that was understood), `Refused` (bytes
that were not) and `Advanced` (time passed). Outputs are not in it: they follow from it, and replaying it on the same
machine and versions gives them again, byte for byte (`agls.hub.replay_into`). Its times are those handed to the hub,
which never run backwards.

What a crash can cost:

- `Journal.flush` hands all lines to the operating system. The hub acknowledges a detection only after it, so a hub
  that dies loses nothing that a node has been told to forget.
- `Journal.sync` makes the device keep them (fsync); the hub calls it once a second. A power cut may cost what was
  acknowledged in the last second: an fsync for each detection would cost an SD card its life and every shot tens of
  milliseconds.
- A last line that is torn is reported by the reader (`Torn`) and cut off before the file is written on.

A hub begins a new file each hour (`Journal.turn_over`) and deletes those past the site's days, as the store does. What
it must remember over a restart is in the last two (`recent_journals`).
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import msgspec

from agls import __version__
from agls.config import Mqtt, SiteConfig, Store
from agls.errors import InputError, MessageError
from agls.messages import Counter, Detection, Heartbeat, Status, UtcNs, Wire, decode, encode, format_utc

FORMAT_VERSION = 1
_BEGINNING = b'{"line":"header",'
_CHUNK_BYTES = 65_536


class Header(Wire, frozen=True, kw_only=True, tag_field="line", tag="header"):
    """What replaying needs to know first: who wrote this, and for which site.

    The site is without its secrets: how to reach the broker, the store and subscribers is left out.
    """

    version: int
    agls: str
    site: SiteConfig


class Heard(Wire, frozen=True, kw_only=True, tag_field="line", tag="heard"):
    """A record that a node sent, and when the hub took it."""

    at_ns: UtcNs = msgspec.field(name="at")
    message: Detection | Heartbeat | Status


class Refused(Wire, frozen=True, kw_only=True, tag_field="line", tag="refused"):
    """Bytes that were no such record: where they came from, why they were refused, and what they were.

    Of a payload beyond `messages.MAX_MESSAGE_BYTES` only that much is kept; `size_bytes` is all of it.
    """

    at_ns: UtcNs = msgspec.field(name="at")
    topic: str
    reason: str
    detail: str
    size_bytes: Counter
    payload_base64: bytes


class Advanced(Wire, frozen=True, kw_only=True, tag_field="line", tag="advanced"):
    """A moment up to which the hub was told to let time pass."""

    at_ns: UtcNs = msgspec.field(name="at")


class Torn(Wire, frozen=True, kw_only=True, tag_field="line", tag="torn"):
    """Report a last line that a crash left unfinished; never written."""

    size_bytes: Counter


Entry: TypeAlias = Heard | Refused | Advanced
_ENTRY: Any = Entry  # a union is no `type` to mypy


def header(site: SiteConfig) -> Header:
    """Make the first line of a site's journal.

    Parameters
    ----------
    site : SiteConfig
        The site's configuration.

    Returns
    -------
    Header
        With the site as far as the outputs depend on it.
    """
    bare = msgspec.structs.replace(
        site,
        mqtt=Mqtt(realm=site.mqtt.realm),
        cad=msgspec.structs.replace(site.cad, webhook_url=""),
        subscriber=(),
        store=Store(),
    )
    return Header(version=FORMAT_VERSION, agls=__version__, site=bare)


class Journal:
    """Append to a journal; one process at a time.

    Parameters
    ----------
    path : Path
        The file; made, with its header, where it is not there.
    site : SiteConfig
        The site, for the header of a new file.

    Raises
    ------
    InputError
        If the file cannot be written, or another hub is writing it.
    """

    def __init__(self, path: Path, site: SiteConfig) -> None:
        self._path, self._site = path, site
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
        except OSError as error:
            raise InputError(f"journal {path} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.torn_bytes = _cut_torn_line(path)
        except (OSError, InputError) as error:
            self._file.close()
            if isinstance(error, InputError):
                raise
            raise InputError(f"journal {path} is in use by another hub: give each hub its own folder") from None
        self._is_synced = True
        if path.stat().st_size == 0:
            self._write(header(site))
            self.flush()

    def append(self, entry: Entry) -> None:
        """Write one line, into the buffer.

        Parameters
        ----------
        entry : Heard, Refused or Advanced
            What the hub is about to take.

        Raises
        ------
        OSError
            If the device refuses; the journal is not whole from here on.
        """
        self._write(entry)

    def _write(self, line: Header | Entry) -> None:
        self._file.write(encode(line) + b"\n")
        self._is_synced = False

    def flush(self) -> None:
        """Hand all lines to the operating system: from here on this process may die.

        Raises
        ------
        OSError
            If the device refuses.
        """
        self._file.flush()

    def sync(self) -> None:
        """Make the device keep all lines: from here on the power may fail.

        Raises
        ------
        OSError
            If the device refuses.
        """
        if not self._is_synced:
            self.flush()
            os.fsync(self._file.fileno())
            self._is_synced = True

    def turn_over(self, name: str) -> None:
        """Go on in a new file; the one so far is kept under another name.

        Parameters
        ----------
        name : str
            The other name, in the same folder.

        Raises
        ------
        OSError
            If the device refuses; the journal then goes on where it was.
        """
        self.sync()
        self._path.rename(self._path.with_name(name))
        fresh = self._path.open("ab")
        fcntl.flock(fresh, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._file.close()
        self._file = fresh
        self._write(header(self._site))
        self.flush()

    def close(self) -> None:
        """Make the device keep all lines and let the file go.

        Raises
        ------
        OSError
            If the device refuses; the file is let go all the same.
        """
        try:
            self.sync()
        finally:
            self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journal(path: Path) -> Iterator[Header | Entry | Torn]:
    """Read a journal from beginning to end.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    Header, Heard, Refused, Advanced or Torn
        The header first; `Torn`, where a crash left the last line unfinished, last.

    Raises
    ------
    InputError
        If the file cannot be read, or holds a whole line that does not belong into a journal of this version.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"journal {path} cannot be read ({error.strerror}); give the journal.jsonl of a hub") from None
    number = 0
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                yield Torn(size_bytes=len(line))
                break
            yield _read_line(path, number, line)
    if number == 0:
        raise InputError(f"journal {path} is empty: a journal begins with a header line")


def segment_name(now_ns: int) -> str:
    """Name the file of a journal that goes on in another; names sort by time.

    Parameters
    ----------
    now_ns : int
        When it goes on, UTC.

    Returns
    -------
    str
        Such as ``journal-20261120T201500.123456789.jsonl``.
    """
    stamp = format_utc(now_ns).translate({ord(mark): None for mark in "-:Z"})
    return f"journal-{stamp}.jsonl"


def recent_journals(path: Path, site: SiteConfig) -> list[Path]:
    """List the files that hold what a hub must remember: the one at hand, and the one before it if of the same site.

    Parameters
    ----------
    path : pathlib.Path
        The journal at hand.
    site : SiteConfig
        The site.

    Returns
    -------
    list of pathlib.Path
        In the order of time.
    """
    before = sorted(path.parent.glob("journal-*.jsonl"))[-1:]
    return [one for one in before if _header_of(one) == header(site)] + [path]


def _header_of(path: Path) -> Header | Entry | Torn | None:
    try:
        return next(read_journal(path))
    except InputError:
        return None


def _read_line(path: Path, number: int, line: bytes) -> Header | Entry:
    try:
        if number > 1:
            entry: Entry = decode(line, _ENTRY, max_bytes=len(line))
            return entry
        first = decode(line, Header, max_bytes=len(line))
    except MessageError as error:
        wanted = "a journal's header" if number == 1 else "what a hub heard, refused or advanced to"
        raise InputError(f"journal {path}, line {number}: {error.detail}; expected {wanted}") from None
    if first.version != FORMAT_VERSION:
        raise InputError(f"journal {path} has format version {first.version}; this AGLS reads {FORMAT_VERSION}")
    return first


def _cut_torn_line(path: Path) -> int:
    """Cut off what follows the last line break; its size [bytes]."""
    with path.open("rb+") as file:
        if not _BEGINNING.startswith(beginning := file.read(len(_BEGINNING))):
            raise InputError(f"{path} is not a journal: it begins with {beginning!r}; give another folder")
        end = at = file.seek(0, os.SEEK_END)
        keep = 0
        while at and not keep:
            begin = max(0, at - _CHUNK_BYTES)
            file.seek(begin)
            found = file.read(at - begin).rfind(b"\n")
            keep = begin + found + 1 if found >= 0 else 0
            at = begin
        file.truncate(keep)
    return end - keep
