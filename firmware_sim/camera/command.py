"""The command that plays a camera: its arguments, and the loop that serves it."""

from __future__ import annotations

import argparse
import secrets
import tomllib
from pathlib import Path

import msgspec

from agls.errors import InputError
from agls.tables import accepted, load_table
from firmware_sim.camera.describe import Setup
from firmware_sim.camera.faults import Faults


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to.
    """
    parser.add_argument(
        "camera", type=Path, nargs="?", metavar="CAMERA.toml", help="what camera (default: a usual one)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="port to listen at (default: any free one)")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="password (default: a new one, printed)")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME[=VALUE]", help=f"one of {', '.join(_names())}; repeatable"
    )
    parser.add_argument("--certificate", type=Path, metavar="PEM", help="speak TLS with this certificate")
    parser.add_argument("--key", type=Path, metavar="PEM", help="key of the certificate")


def run(arguments: argparse.Namespace) -> int:
    """Play a camera until interrupted.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` says.

    Returns
    -------
    int
        0.

    Raises
    ------
    InputError
        If an argument or the file is wrong.
    """
    from firmware_sim.camera.service import Serving

    setup = load_table(arguments.camera, Setup) if arguments.camera else Setup()
    setup = msgspec.structs.replace(setup, faults=with_faults(setup.faults, arguments.fault))
    if (arguments.certificate is None) != (arguments.key is None):
        raise InputError("--certificate and --key belong together; give both or none")
    for path in filter(None, (arguments.certificate, arguments.key)):
        if not path.is_file():
            raise InputError(f"{path}: no such file; a PEM file is needed")
    password = _password(arguments.password_file)
    with Serving(
        setup, password, host=arguments.host, port=arguments.port, certificate=arguments.certificate, key=arguments.key
    ) as serving:
        shown = "" if arguments.password_file else f", password {password}"
        print(f"{setup.camera_id} at {serving.url}/onvif/device_service, user {setup.username}{shown}", flush=True)
        while serving.wait(0.5):
            pass
    return 0


def with_faults(faults: Faults, switches: list[str]) -> Faults:
    """Switch faults on.

    Parameters
    ----------
    faults : Faults
        Those that are on.
    switches : list of str
        Each ``NAME`` or ``NAME=VALUE``, the value as in TOML; a text may stand without quotes.

    Returns
    -------
    Faults
        Those and these.

    Raises
    ------
    InputError
        If there is no such fault, or it takes no such value.
    """
    found = msgspec.to_builtins(faults)
    kinds = {field.name: field.type for field in msgspec.inspect.type_info(Faults).fields}  # type: ignore[attr-defined]
    for switch in switches:
        name, given, value = switch.partition("=")
        if name not in kinds:
            raise InputError(f"--fault {switch}: no fault {name}; accepted are {', '.join(kinds)}")
        try:
            one = msgspec.to_builtins(msgspec.convert({name: _value(value) if given else True}, Faults))
        except msgspec.ValidationError:
            raise InputError(f"--fault {switch}: {name} must be {accepted(kinds[name])}") from None
        found[name] = one[name]
    return msgspec.convert(found, Faults)


def _value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _names() -> tuple[str, ...]:
    return Faults.__struct_fields__


def _password(path: Path | None) -> str:
    if path is None:
        return secrets.token_hex(4)
    try:
        password = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); a file with a password is needed") from None
    if not password:
        raise InputError(f"{path}: is empty; a password is needed")
    return password
