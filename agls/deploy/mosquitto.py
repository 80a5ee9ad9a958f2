"""How mosquitto is set up for a site: who may connect, and who may say and hear what. Text alone, no I/O.

A client is who its certificate says (`use_identity_as_username`), and its session is that name's
(`use_username_as_clientid`): no node can take the session of another, or the hub's with all that waits in it.

What may be written is named topic by topic. A pattern such as ``agls/v1/+/%u`` would let a node write slew requests.
Under MQTT 3.1.1 nobody is told that he was refused: the broker says Success and drops it.
"""

from pathlib import Path

from agls.config import Realm
from agls.messages import MAX_MESSAGE_BYTES
from agls.transport import ROOT, ROOTS, Kind, topic

HUB, CONSOLE = "agls-hub", "agls-console"
USER = "mosquitto"  # as whom the broker runs where root starts it
# A day of a thousand nodes at a detection a minute each is some 700 MB; nodes keep what finds no room.
QUEUE_LIMIT_BYTES = 1_000_000_000
HEAD_BYTES = 1_000  # of a packet: its topic, and a few more

CONF = """\
# mosquitto for AGLS, made by `agls deploy certs`, which writes it anew each time. It needs mosquitto 2.0 or later.
# Everybody has a certificate of the site's own authority and is who it says; see `agls deploy --help`.
per_listener_settings false
allow_anonymous false
acl_file {folder}/acl

# Nobody outside this machine is heard where the address is 127.0.0.1 (agls deploy certs --bind).
listener {port} {bind}
tls_version tlsv1.2
cafile {folder}/ca.pem
certfile {folder}/broker.pem
keyfile {folder}/broker.key
crlfile {folder}/crl.pem
require_certificate true
use_identity_as_username true
# A session belongs to a name, so no client can take another's; `agls deploy revoke` takes a name away by this.
use_username_as_clientid true

# What waits for a hub that is away: as many messages as there are (the default keeps 1000), up to so many bytes.
max_queued_messages 0
max_queued_bytes {queue_bytes}
max_packet_size {packet_bytes}
persistence true
persistence_location {folder}/kept/
autosave_interval 60
set_tcp_nodelay true
# `agls deploy revoke` tells the process named here to read crl.pem again.
pid_file {folder}/kept/mosquitto.pid
log_type error
log_type warning
log_type notice
"""

ACL_HEAD = """\
# Who may write and read what, made by `agls deploy certs`. %u is the name in the client's certificate.
# What a node writes under another's name is dropped here, though an MQTT 3.1.1 node is told Success.
"""


def conf(folder: Path, bind: str, port: int) -> str:
    """Write mosquitto.conf.

    Parameters
    ----------
    folder : pathlib.Path
        Where the broker finds its files.
    bind : str
        Address it listens on.
    port : int
        Port it listens on.

    Returns
    -------
    str
        The file's text.
    """
    return CONF.format(
        folder=folder, bind=bind, port=port, queue_bytes=QUEUE_LIMIT_BYTES, packet_bytes=MAX_MESSAGE_BYTES + HEAD_BYTES
    )


def acl(realm: Realm = "live") -> str:
    """Write the list of who may write and read what; the same at every site.

    Parameters
    ----------
    realm : Realm, optional
        Whose topics: a broker is of one realm, so that nobody can mistake an exercise for gunfire.

    Returns
    -------
    str
        The file's text.
    """

    def _named(kind: Kind, name: str) -> str:
        return ROOTS[realm] + topic(kind, name).removeprefix(ROOT)

    hub = [f"topic read {_named(kind, '+')}" for kind in ("detection", "heartbeat", "status")]
    hub += [f"topic write {_named(kind, '+')}" for kind in ("ack", "shot", "incident", "slew")]
    hub.append(f"topic write {ROOTS[realm]}/document/+")  # what a subscriber by MQTT reads of the bridge
    console = [f"topic read {_named(kind, '+')}" for kind in ("shot", "incident", "slew")]
    node = [f"pattern write {_named(kind, '%u')}" for kind in ("detection", "heartbeat", "status")]
    node.append(f"pattern read {_named('ack', '%u')}")
    parts = [["# the hub", f"user {HUB}", *hub], ["# the console", f"user {CONSOLE}", *console], ["# each node", *node]]
    return ACL_HEAD + "".join("\n" + "\n".join(part) + "\n" for part in parts)
