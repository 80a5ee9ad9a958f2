"""What a check can say of a node before it hears: its file, time, disk, model, place and broker.

node      the file is this node's: its certificate, and the outbox that was filled here
time      what the system clock follows, and whether it was set back
disk      there is room for the outbox, and it takes what is written
model     it is what was signed, and fits this version
broker    it can be reached, and TLS is as it should be; whether it answers is seen when the node speaks
survey    where the node stands, and what the receiver says to that
"""

import math
import os
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from agls.config import Mqtt, NodeConfig
from agls.errors import InputError
from agls.mqtt_settings import address, password, tls_context, why_unreachable
from agls.sensor.certificate import read_certificate
from agls.sensor.finding import Finding, Verdict
from agls.sensor.gps import Gps
from agls.sensor.health import FULL_BYTES, MOVED_M, MOVED_SIGMAS, Fix, distance_m
from agls.sensor.shell import LATEST, model_name, set_back_s
from agls.sensor.store import read_known
from agls.sensor.system_time import Sync

CONNECT_S = 5.0
EXPIRES_S = 30 * 86_400.0
WRITTEN_BYTES = 65_536
AHEAD_S = 2.0  # of the receiver's time, which comes a moment late


def look_at_node(config: NodeConfig) -> Finding:
    """Say whether the file is this node's.

    Parameters
    ----------
    config : NodeConfig
        The node's configuration.

    Returns
    -------
    Finding
        By its certificate, and by whose outbox it names.
    """
    owner = read_known(Path(config.outbox_file), "sensor_id") if config.outbox_file else ""
    if owner not in ("", config.sensor_id):
        said = f'the file says "{config.sensor_id}", but {config.outbox_file} was filled by "{owner}"'
        do = f'give this node its own file; if it was renamed, name a new outbox_file once "{owner}" has sent all'
        return Finding("node", "FAILED", said, do)
    named = ""
    if config.mqtt.certificate_file:
        try:
            named = read_certificate(Path(config.mqtt.certificate_file).read_text("ascii")).name
        except (OSError, ValueError) as error:
            do = "make it anew: agls deploy enroll at the site, agls sensor init --bundle --force here"
            return Finding("node", "FAILED", f"{config.mqtt.certificate_file}: {error}", do)
    if named not in ("", config.sensor_id):
        said = f'the file says "{config.sensor_id}", but its certificate is that of "{named}"'
        do = f'what it says as "{config.sensor_id}" would be thrown away: agls sensor init --bundle with its own bundle'
        return Finding("node", "FAILED", said, do)
    whose = " and ".join(filter(None, (named and "its certificate", owner and "its outbox")))
    return Finding("node", "ok", config.sensor_id + (f", by {whose}" if whose else ""))


def look_at_time(config: NodeConfig, sync: Sync, gps: Gps, wall_ns: int) -> Finding:
    """Say what the system clock is worth.

    Parameters
    ----------
    config : NodeConfig
        The node's configuration.
    sync : Sync
        What chrony says.
    gps : Gps
        What the receiver says.
    wall_ns : int
        What the clock says, UTC.

    Returns
    -------
    Finding
        Whether it follows anything, was set back, or contradicts the receiver.
    """
    back_s = set_back_s(read_known(Path(config.outbox_file), LATEST), wall_ns) if config.outbox_file else 0.0
    here = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(wall_ns / 1e9))
    if back_s and sync.source == "none":
        do = "sudo timedatectl set-ntp true, or sudo chronyc makestep; a node without network needs a GNSS receiver"
        return Finding(
            "time", "FAILED", f"the clock was set back: it says {here}, {back_s:.0f} s before its latest", do
        )
    ahead_s = gps.system_ahead_s
    if ahead_s is not None and abs(ahead_s) > AHEAD_S:
        way = "ahead of" if ahead_s > 0 else "behind"
        said = f"the system clock says {here}, {abs(ahead_s):.0f} s {way} the receiver"
        return Finding("time", "FAILED", said, "sudo chronyc makestep, then check `chronyc sources`")
    if not math.isnan(sync.against_ntp_s) and abs(sync.against_ntp_s) > AHEAD_S:
        said = f"the system clock says {here}, {sync.against_ntp_s:+.1f} s against network time"
        return Finding("time", "FAILED", said, "sudo chronyc makestep")
    if sync.source == "none":
        do = "install chrony (apt install chrony) and wait a minute; without it times are taken as the clock says them"
        return Finding("time", "look", f"the system clock says {here} and follows nothing", do)
    follows = {"pps": "a pulse per second", "ntp": "network time"}[sync.source]
    return Finding("time", "ok", f"{here}; the system clock follows {follows}, +-{sync.sigma_s * 1e3:.3g} ms")


def look_at_disk(config: NodeConfig) -> Finding:
    """Say whether the disk takes what a node writes.

    Parameters
    ----------
    config : NodeConfig
        The node's configuration.

    Returns
    -------
    Finding
        How much room there is where the outbox is.
    """
    if not config.outbox_file:
        said = "outbox_file is empty: a loss of power loses what the hub does not have yet"
        return Finding("disk", "FAILED", said, "name a file in a folder of the node's user, as agls sensor init does")
    folder = Path(config.outbox_file).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(folder).free
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(WRITTEN_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        said = f"{folder} takes nothing more ({error.strerror}); detections would be held in memory alone"
        return Finding("disk", "FAILED", said, f"make room (df -h {folder}) or give the node's user that folder")
    told = (
        f"{folder}: {free_bytes / 1e9:.1f} GB free" if free_bytes > 1e9 else f"{folder}: {free_bytes / 1e6:.0f} MB free"
    )
    if free_bytes < FULL_BYTES:
        return Finding("disk", "FAILED", told, f"make room (df -h {folder}): {FULL_BYTES / 1e6:.0f} MB are needed")
    return Finding("disk", "ok", f"{told}, and it takes what is written")


def look_at_model(config: NodeConfig) -> Finding:
    """Say whether the model can be used.

    Parameters
    ----------
    config : NodeConfig
        The node's configuration.

    Returns
    -------
    Finding
        Its name, or why not.
    """
    file = config.classification.model_file
    try:
        name = model_name(file, config.classification.model_key)
        return Finding("model", "ok", f"{name}{'' if file else ', the one shipped'}, unchanged since it was made")
    except InputError as error:
        do = "copy it again, or leave classification.model_file empty; until then the shipped model judges"
        return Finding("model", "FAILED", str(error), do)


def look_at_broker(mqtt: Mqtt, patience_s: float = CONNECT_S) -> Finding:
    """Say whether the broker can be reached, as far as can be seen without speaking MQTT.

    Parameters
    ----------
    mqtt : Mqtt
        Where it is.
    patience_s : float, optional
        Longest wait for each step [s].

    Returns
    -------
    Finding
        Down to its certificate and ours.
    """
    try:
        host, port, secure = address(mqtt.url)
        context = tls_context(mqtt) if secure else None
        if mqtt.password_file:
            password(mqtt.password_file)
    except InputError as error:
        return Finding("broker", "FAILED", str(error), "correct [mqtt], or run agls sensor init --force")
    try:
        with socket.create_connection((host, port), patience_s) as line:
            if context is None:
                return Finding("broker", "ok", f"{host}:{port} is there; nothing is encrypted")
            line.settimeout(patience_s)
            with context.wrap_socket(line, server_hostname=host) as secured:
                version = secured.version()
    except TimeoutError:
        return Finding(
            "broker", "FAILED", f"{host}:{port} accepts the connection and never answers (TLS)", _silent(host)
        )
    except OSError as error:
        sentence = why_unreachable(error)[1]
        do = (
            "[mqtt] has another broker's files, or a clock is wrong: agls sensor init --bundle --force"
            if isinstance(error, ssl.SSLError)
            else f"is the address right, the cable in, the broker running? ping {host}"
        )
        return Finding("broker", "FAILED", f"{host}:{port}: {sentence}", do)
    return _own_certificate(mqtt, f"{host}:{port} is there, {version}")


def _silent(host: str) -> str:
    return f"what answers at {host} is no broker, or one that hangs: restart it"


def _own_certificate(mqtt: Mqtt, said: str) -> Finding:
    """Say how long our certificate is good."""
    if not mqtt.certificate_file:
        return Finding("broker", "ok", said)
    try:
        left_s = read_certificate(Path(mqtt.certificate_file).read_text("ascii")).until_s - time.time()
    except (OSError, ValueError) as error:
        return Finding("broker", "FAILED", f"{mqtt.certificate_file}: {error}", "agls sensor init --bundle --force")
    do = "agls deploy enroll at the site, agls sensor init --bundle --force here"
    if left_s < 0:
        return Finding("broker", "FAILED", f"{said}, but our certificate ended {-left_s / 86_400:.0f} days ago", do)
    verdict: Verdict = "look" if left_s < EXPIRES_S else "ok"
    return Finding(
        "broker", verdict, f"{said}; our certificate is good for {left_s / 86_400:.0f} days", do * (verdict == "look")
    )


def look_at_survey(config: NodeConfig, gps: Gps, fixes: Sequence[Fix], trouble: str) -> Finding:
    """Say where the node stands, and whether the receiver agrees.

    Parameters
    ----------
    config : NodeConfig
        The node's configuration.
    gps : Gps
        What the receiver says now.
    fixes : sequence of agls.sensor.health.Fix
        What it said while the node listened.
    trouble : str
        Why gpsd says nothing.

    Returns
    -------
    Finding
        Spread of the fixes, and how far they are from the survey.
    """
    survey = config.survey
    if config.gpsd and not fixes:
        said = f"gpsd at {config.gpsd}: {trouble or f'no fix, {gps.satellites_count} satellites'}"
        return Finding(
            "survey", "FAILED", said, "is gpsd running (systemctl status gpsd), and does the antenna see the sky?"
        )
    if survey is None:
        do = "survey it (agls calibrate survey) and write [survey], so that a mix-up of nodes is noticed"
        return Finding("survey", "look", f"no [survey] in the node's file{_spread(fixes)}", do)
    place = f"{survey.latitude_deg:.6f}, {survey.longitude_deg:.6f}, +-{survey.position_sigma_m:g} m"
    if not fixes:
        return Finding("survey", "ok", f"{place}; no receiver to compare with")
    away_m = distance_m(fixes[-1], survey.latitude_deg, survey.longitude_deg)
    sigma_m = math.hypot(survey.position_sigma_m, max(fix.sigma_m for fix in fixes))
    if away_m > max(MOVED_M, MOVED_SIGMAS * sigma_m):
        do = "is this the file of another node? if the node was moved, survey it again, and tell the site's file"
        return Finding("survey", "FAILED", f"surveyed at {place}, but the receiver says {away_m:.0f} m away", do)
    return Finding("survey", "ok", f"{place}; the receiver agrees within {away_m:.0f} m{_spread(fixes)}")


def _spread(fixes: Sequence[Fix]) -> str:
    if len(fixes) < 2:
        return ""
    middle = sorted(fixes, key=lambda fix: fix.latitude_deg)[len(fixes) // 2]
    away_m = [distance_m(fix, middle.latitude_deg, middle.longitude_deg) for fix in fixes]
    return f"; {len(fixes)} fixes within {max(away_m):.1f} m"
