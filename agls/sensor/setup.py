"""Write a node's file and secrets: `agls sensor init`.

What is not given is asked for, where somebody is there to answer. The file holds every key with its meaning; secrets
are files of their own beside it, mode 0600. All are written whole under other names and then take their places, the
node's file last: it names the secrets, so at any moment it is the old one with the old secrets or the new one with the
new. It is read back, and TLS is tried with the keys, before it counts.
"""

import argparse
import getpass
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import Meta, inspect

from agls.config import Classification, Microphone, Mqtt, NodeConfig, Survey, Table, load_node, load_table
from agls.errors import InputError
from agls.example import example
from agls.messages import Identifier
from agls.mqtt_settings import address, broker_url, password, tls_context
from agls.sensor.certificate import read_certificate
from agls.sensor.portaudio import card_numbers
from agls.tables import accepted

STATE_FOLDER = Path("/var/lib/agls")  # of root's nodes; systemd gives it to the service
PROFILES = ("usb", "i2s", "sim")

Ask = Callable[[str, str], str]


class Identity(Table, frozen=True, kw_only=True):
    """Who a bundle is for."""

    sensor_id: Identifier
    site: str = ""


class Broker(Table, frozen=True, kw_only=True):
    """Whom the node calls, and by what they know each other."""

    host: Annotated[str, Meta(pattern=r"^[A-Za-z0-9.:-]{1,253}\Z", description="name or address of a machine")]
    port: Annotated[int, Meta(ge=1, le=65_535)] = 8883
    ca_pem: str
    cert_pem: str
    key_pem: str


class Bundle(Table, frozen=True, kw_only=True):
    """What `agls deploy enroll` makes for one node."""

    identity: Identity
    broker: Broker


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that a node's file must or may say.

    Attributes
    ----------
    flag : str
        How it is given on the command line.
    table : type
        The table it stands in.
    key : str
        Its key there.
    words : str
        How it is asked for.
    default : str
        What is taken where nothing is answered.
    asked : bool
        Whether it is asked for where it is not given.
    """

    flag: str
    table: type
    key: str
    words: str
    default: str = ""
    asked: bool = True

    def value(self, text: str) -> Any:
        """Read an answer.

        Parameters
        ----------
        text : str
            As it was given.

        Returns
        -------
        Any
            As the table takes it.

        Raises
        ------
        InputError
            If the table would not.
        """
        kind = get_type_hints(self.table, include_extras=True)[self.key]
        try:
            return msgspec.convert(text, kind, strict=False)
        except msgspec.ValidationError:
            fields = inspect.type_info(self.table).fields  # type: ignore[attr-defined]
            wanted = accepted(next(field.type for field in fields if field.encode_name == self.key))
            raise InputError(f'{self.flag} is "{text}", but must be {wanted}') from None


QUESTIONS = (
    Question("--sensor-id", NodeConfig, "sensor_id", "Name of this sensor, as in the site's file"),
    Question("--device", Microphone, "device", "Sound card"),
    Question("--pulse-channel", Microphone, "pulse_channel", "Channel with a pulse per second", "0", asked=False),
    Question("--broker", Mqtt, "url", "Address of the MQTT broker", "mqtt://127.0.0.1:1883"),
    Question("--username", Mqtt, "username", "Name at the broker (nothing for none)"),
    Question("--latitude", Survey, "latitude_deg", "Latitude in degrees (nothing if not surveyed yet)"),
    Question("--longitude", Survey, "longitude_deg", "Longitude in degrees"),
    Question("--height", Survey, "height_m", "Height of the microphone above the ellipsoid in metres", "0"),
    Question("--position-sigma", Survey, "position_sigma_m", "How far the survey may be off, one sigma, metres", "3"),
    Question("--gpsd", NodeConfig, "gpsd", "Address of gpsd", asked=False),
    Question("--model", Classification, "model_file", "Model that judges impulses", asked=False),
    Question("--outbox", NodeConfig, "outbox_file", "File that keeps detections", asked=False),
)
OF_BUNDLE = ("url", "username")
PLACE = ("latitude_deg", "longitude_deg", "height_m", "position_sigma_m")


def load_bundle(path: Path) -> Bundle:
    """Read a bundle, which only its owner may read.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    Bundle
        For one node.

    Raises
    ------
    InputError
        If it cannot be read, others may read it, or its certificate is another node's.
    """
    bundle = load_table(path, Bundle)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise InputError(f"{path} has mode {mode:04o}, others may read its key; what is accepted is 0600")
    try:
        name = read_certificate(bundle.broker.cert_pem).name
    except ValueError as error:
        raise InputError(f"{path}: broker.cert_pem is {error}; a bundle of `agls deploy enroll` is accepted") from None
    if name != bundle.identity.sensor_id:
        raise InputError(
            f'{path}: broker.cert_pem is the certificate of "{name}", but identity.sensor_id is'
            f' "{bundle.identity.sensor_id}"; one bundle is for one node'
        )
    return bundle


# ------------------------------------------------------------------------------------------------- what it will say


def answers(given: Mapping[str, str | None], profile: str, bundle: Bundle | None, ask: Ask | None) -> dict[str, Any]:
    """Gather what a node's file will say, by key.

    Parameters
    ----------
    given : mapping
        Key to what was given on the command line, None for nothing.
    profile : str
        One of `PROFILES`.
    bundle : Bundle or None
        What the site's people made for this node.
    ask : callable or None
        Ask somebody: question and default in, answer out; None where nobody is there.

    Returns
    -------
    dict
        Key to value, as the tables take it.

    Raises
    ------
    InputError
        If something is missing, not accepted, or contradicts the bundle.
    """
    of_bundle = {"sensor_id": bundle.identity.sensor_id} if bundle else {}
    found: dict[str, Any] = {}
    for question in QUESTIONS:
        text, key = given.get(question.key), question.key
        if bundle and key in OF_BUNDLE:
            if text is not None:
                raise InputError(f"{question.flag} is given, but the bundle says which broker; give one of both")
            continue
        if key in of_bundle and text not in (None, of_bundle[key]):
            raise InputError(f'{question.flag} is "{text}", but the bundle is for "{of_bundle[key]}"')
        default = of_bundle.get(key) or (_device(profile) if key == "device" else question.default)
        if text is None and key in of_bundle:
            text = default
        needless = key in PLACE[1:] and "latitude_deg" not in found
        if text is None and ask and question.asked and not needless and not (key == "device" and profile == "sim"):
            text = _asked(question, default, ask)
        text = default if text is None else text
        if text == "" and key in ("sensor_id", "device"):
            raise InputError(f"{question.flag} is missing: {question.words.lower()}{_cards(key)}")
        if text != "" and not (needless and given.get(key) is None):
            found[key] = question.value(text)
    if ("latitude_deg" in found) != ("longitude_deg" in found):
        raise InputError("of --latitude and --longitude one is given; a place needs both")
    return found


def _asked(question: Question, default: str, ask: Ask) -> str:
    """Ask until the answer can be taken."""
    while True:
        text = ask(question.words, default) or default
        try:
            if text:
                question.value(text)
        except InputError as error:
            print(f"  {error}", file=sys.stderr)
        else:
            return text


def _device(profile: str, folder: Path = Path("/proc/asound")) -> str:
    """Name the sound card that is meant, if there is but one."""
    if profile == "sim":
        return "sim"
    usb = {name: (folder / name / "usbid").exists() for name in card_numbers(folder)}
    hears = [name for name in usb if list((folder / name).glob("pcm*c"))]
    found = [name for name in hears if usb[name] == (profile == "usb")]
    return f"hw:{found[0]}" if len(found) == 1 else ""


def _cards(key: str) -> str:
    if key != "device":
        return ""
    there = ", ".join(f"hw:{name}" for name in sorted(card_numbers()))
    return f"; there are {there}" if there else "; this machine has none now: plug it in, or give the name it will have"


def make_config(found: Mapping[str, Any], secrets: Mapping[str, str], bundle: Bundle | None) -> NodeConfig:
    """Make the node's configuration of what was gathered.

    Parameters
    ----------
    found : mapping
        As `answers` gave.
    secrets : mapping
        Files of secrets, by their keys in the table ``[mqtt]``.
    bundle : Bundle or None
        What names the broker.

    Returns
    -------
    NodeConfig
        Complete.
    """
    broker = {"url": broker_url(bundle.broker.host, bundle.broker.port)} if bundle else {}
    mqtt = {key: found[key] for key in ("url", "username") if key in found}
    place = {key: found[key] for key in PLACE if key in found}
    return NodeConfig(
        sensor_id=found["sensor_id"],
        microphone=Microphone(device=found["device"], pulse_channel=found["pulse_channel"]),
        classification=Classification(model_file=_absolute(found.get("model_file", ""))),
        mqtt=Mqtt(**{**mqtt, **broker, **secrets}),
        outbox_file=_absolute(found["outbox_file"]),
        gpsd=found.get("gpsd", ""),
        survey=Survey(**place) if "latitude_deg" in place else None,
    )


def _absolute(file: str) -> str:
    return str(Path(file).absolute()) if file else ""


# ------------------------------------------------------------------------------------------------------- writing it


def write_node(
    path: Path, make: Callable[[Mapping[str, str]], NodeConfig], secrets: Mapping[str, str], force: bool = False
) -> NodeConfig:
    """Write a node's file and its secrets, all or nothing.

    Parameters
    ----------
    path : pathlib.Path
        The node's file.
    make : callable
        Makes the configuration, told where the secrets will be: keys of ``[mqtt]`` to files.
    secrets : mapping
        Keys of ``[mqtt]`` to what the files are to hold.
    force : bool, optional
        Whether a file that is there is replaced.

    Returns
    -------
    NodeConfig
        As it will be read.

    Raises
    ------
    InputError
        If a file is there already, or anything cannot be written or used; nothing has changed then.
    """
    if path.exists() and not force:
        raise InputError(f"{path} is there already; --force replaces it, --out names another")
    generation = hashlib.sha256("".join(secrets.values()).encode()).hexdigest()[:8]
    places = {key: path.with_name(f"{path.stem}-{generation}.{key.removesuffix('_file')}") for key in secrets}
    old = _secrets_of(path) if force else set()
    partial: dict[Path, Path] = {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for key, text in secrets.items():
            partial[places[key]] = _written(places[key], text)
        _try_tls(make({key: str(partial[place]) for key, place in places.items()}).mqtt)
        config = make({key: str(place.absolute()) for key, place in places.items()})
        partial[path] = _written(path, example(NodeConfig, config))
        load_node(partial[path])
        for place, part in partial.items():
            part.replace(place)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); nothing was changed") from None
    except InputError as error:  # which names files as they are called for now
        told = str(error)
        for place, part in partial.items():
            told = told.replace(str(part), str(place))
        raise InputError(told) from None
    finally:
        for part in partial.values():
            part.unlink(missing_ok=True)
    for gone in old - set(places.values()):
        gone.unlink(missing_ok=True)
    return config


def _written(place: Path, text: str) -> Path:
    """Write a file under another name beside its own, for its owner alone, and wait until it is on the device."""
    descriptor, name = tempfile.mkstemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent)
    part = Path(name)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            part.unlink()
            raise
    return part


def _try_tls(mqtt: Mqtt) -> None:
    if address(mqtt.url)[2]:
        tls_context(mqtt)


def _secrets_of(path: Path) -> set[Path]:
    """Find the secrets that an earlier init wrote beside a node's file."""
    with suppress(InputError):
        mqtt = load_node(path).mqtt
        files = (mqtt.password_file, mqtt.ca_file, mqtt.certificate_file, mqtt.key_file)
        return {Path(file) for file in files if file and Path(file).name.startswith(f"{path.stem}-")}
    return set()


# ------------------------------------------------------------------------------------------------------ the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of ``agls sensor init``.
    """
    parser.add_argument("--profile", choices=PROFILES, help="how the microphone is attached; sim for a simulated one")
    parser.add_argument("--bundle", type=Path, metavar="FILE", help="made by `agls deploy enroll`: name, broker, key")
    for question in QUESTIONS:
        parser.add_argument(question.flag, dest=question.key, metavar="X", help=question.words)
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="holds the password of --username; copied")
    parser.add_argument("--out", type=Path, metavar="NODE.toml", help="the file to write (default: its name.toml)")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")


def run(arguments: argparse.Namespace) -> int:
    """Write the files.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` defines them.

    Returns
    -------
    int
        0.
    """
    ask = _ask if sys.stdin.isatty() else None
    profile = arguments.profile or (ask and _asked_profile(ask))
    if not profile:
        raise InputError("--profile is missing; usb, i2s and sim are accepted")
    bundle = load_bundle(arguments.bundle) if arguments.bundle else None
    found = answers(vars(arguments), profile, bundle, ask)
    path = arguments.out or Path(f"{found['sensor_id']}.toml")
    outbox = Path(found.setdefault("outbox_file", str(_outbox_of(path))))
    if outbox.exists() and not outbox.is_file():
        raise InputError(
            f'--outbox is "{outbox}", which is there and no file; a file in a folder of its own is accepted'
        )
    secrets = _secrets(bundle, found, arguments.password_file, ask)
    config = write_node(path, lambda files: make_config(found, files, bundle), secrets, arguments.force)
    print(_told(path, config))
    return 0


def _ask(words: str, default: str) -> str:
    try:
        return input(f"{words} [{default}]: " if default else f"{words}: ").strip()
    except EOFError:
        raise InputError(f"no answer to: {words}; nothing was written") from None


def _asked_profile(ask: Ask) -> str:
    while (profile := ask("How is the microphone attached: usb, i2s or sim", "usb") or "usb") not in PROFILES:
        print(f'  "{profile}" is none of them', file=sys.stderr)
    return profile


def _outbox_of(path: Path) -> Path:
    """Name its place: in a folder that can be handed over to the node's user whole."""
    folder = STATE_FOLDER if os.geteuid() == 0 else path.parent / f"{path.stem}.kept"
    return folder / f"{path.stem}.outbox.sqlite"


def _secrets(bundle: Bundle | None, found: Mapping[str, Any], file: Path | None, ask: Ask | None) -> dict[str, str]:
    """Gather the secrets, by their keys in the table ``[mqtt]``."""
    if bundle:
        if file:
            raise InputError("--password-file is given, but with a bundle the node is known by its certificate")
        broker = bundle.broker
        return {"ca_file": broker.ca_pem, "certificate_file": broker.cert_pem, "key_file": broker.key_pem}
    if file and not found.get("username"):
        raise InputError(f"--password-file is {file}, but there is no --username; give both")
    if file:
        return {"password_file": password(str(file)) + "\n"}
    if found.get("username"):
        if not ask:
            raise InputError("--username is given without --password-file; give both")
        return {"password_file": getpass.getpass(f"Password of {found['username']}: ") + "\n"}
    return {}


def _told(path: Path, config: NodeConfig) -> str:
    survey = config.survey
    place = (
        f"{survey.latitude_deg:.6f}, {survey.longitude_deg:.6f}, {survey.height_m:g} m, +-{survey.position_sigma_m:g} m"
        if survey
        else "not surveyed: add [survey] once it is"
    )
    rows = {
        "node": config.sensor_id,
        "microphone": config.microphone.device,
        "broker": config.mqtt.url,
        "place": place,
        "outbox": config.outbox_file,
        "receiver": config.gpsd or "none (--gpsd)",
    }
    next_words = f"next: agls sensor check {path}; then: sudo agls sensor install {path}"
    return "\n".join([f"wrote {path}", *(f"  {name:<11} {value}" for name, value in rows.items()), next_words])
