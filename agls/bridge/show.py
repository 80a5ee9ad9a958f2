"""`agls bridge formats`: print an incident as its receivers read it."""

import argparse
import sys
from pathlib import Path

from agls.bridge import formats
from agls.bridge.exercise import EXAMPLE_NS, EXAMPLE_SITE, made_up
from agls.bridge.record import IncidentRecord
from agls.bridge.store.writing import MAX_BODY_BYTES
from agls.config import Dialect, load_site
from agls.errors import InputError, MessageError
from agls.messages import decode


def read_record(path: Path) -> IncidentRecord:
    """Read an incident record.

    Parameters
    ----------
    path : pathlib.Path
        JSON, as ``GET /api/incidents/<incident>`` gives it.

    Returns
    -------
    IncidentRecord
        The record.

    Raises
    ------
    InputError
        If the file holds none.
    """
    wanted = "give an incident record, as GET /api/incidents/<incident> answers"
    try:
        return decode(path.read_bytes(), IncidentRecord, max_bytes=MAX_BODY_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {wanted}") from None
    except MessageError as error:
        raise InputError(f"{path}: {error.detail}; {wanted}") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Its parser.
    """
    names = formats.names()
    parser.add_argument(
        "incident", type=Path, metavar="INCIDENT.json", nargs="?", help="an incident record (default: one made up)"
    )
    parser.add_argument("--format", choices=names, metavar="NAME", help=f"one of {', '.join(names)} (default: all)")
    parser.add_argument(
        "--site", type=Path, metavar="SITE.toml", help="write them as its subscribers of that format read them"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print an incident in one format, or in all of them.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` says.

    Returns
    -------
    int
        Exit code.
    """
    site = load_site(arguments.site) if arguments.site else EXAMPLE_SITE
    record = read_record(arguments.incident) if arguments.incident else made_up(site, EXAMPLE_NS)
    for name in [arguments.format] if arguments.format else formats.names():
        dialect = next((one.dialect for one in site.subscriber if one.format == name), Dialect())
        document, content_type = formats.load(name, dialect)
        try:
            text = document(record).decode()
        except InputError as refusal:
            if arguments.format:
                raise
            text = f"({refusal})"
        if not arguments.format:
            print(f"--- {name}: {content_type}")
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
    return 0
