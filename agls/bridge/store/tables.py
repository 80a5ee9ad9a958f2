"""The tables of the store.

    realm       what this store is of (live or an exercise), how far the hub's word has been entered, the audit's end
    incident    the latest revision of each incident, with what is searched for
    revision    every revision of every incident, as it was; never changed
    audit       every move, by whom and why; each entry holds the digest of the one before
    outbox      what each subscriber is to be told, in order, and what became of it
    stage       when an incident passed each stage for the first time
    shot        every shot located, with or without an incident, late ones too
    call        of a 911 call its number, time, place and type, and nothing else
    report      shots that people heard and nobody was told of

Moments are whole nanoseconds of UTC. A body is the record as JSON, as it travels.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData()
_NAME = String(64)
_TEXT = String(500)
# SQLite numbers rows by itself only where the key is an INTEGER.
_NUMBER = BigInteger().with_variant(Integer, "sqlite")

realm = Table("realm", metadata, Column("name", _NAME, primary_key=True), Column("value", _TEXT, nullable=False))

incident = Table(
    "incident",
    metadata,
    Column("incident", _NAME, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("state", _NAME, nullable=False),
    Column("first_shot_ns", BigInteger, nullable=False),
    Column("changed_ns", BigInteger, nullable=False),
    Column("latitude_deg", Float),
    Column("longitude_deg", Float),
    Column("hold", _TEXT, nullable=False, default=""),
    Column("body", LargeBinary, nullable=False),
    Index("incident_by_change", "state", "changed_ns"),
    Index("incident_by_time", "first_shot_ns"),
)

revision = Table(
    "revision",
    metadata,
    Column("incident", _NAME, ForeignKey("incident.incident", ondelete="CASCADE"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("move", _NAME, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("subject", _NAME, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("move", _NAME, nullable=False),
    Column("author", _TEXT, nullable=False),
    Column("reason", _TEXT, nullable=False),
    Column("digest", _NAME, nullable=False),
    Index("audit_by_subject", "subject"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("subscriber", _NAME, nullable=False),
    Column("incident", _NAME, ForeignKey("incident.incident", ondelete="CASCADE"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("telling", _NAME, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", _NAME, nullable=False),  # waiting, delivered, dead
    Column("tries", Integer, nullable=False),
    Column("made_ns", BigInteger, nullable=False),
    Column("until_ns", BigInteger, nullable=False),
    Column("next_ns", BigInteger, nullable=False),
    Column("done_ns", BigInteger),
    Column("answer", _TEXT, nullable=False),
    UniqueConstraint("subscriber", "incident", "revision", name="outbox_once"),
    Index("outbox_in_order", "subscriber", "state", "priority", "number"),
)

stage = Table(
    "stage",
    metadata,
    Column("incident", _NAME, ForeignKey("incident.incident", ondelete="CASCADE"), primary_key=True),
    Column("stage", _NAME, primary_key=True),
    Column("at_ns", BigInteger, nullable=False),
)

shot = Table(
    "shot",
    metadata,
    Column("shot_id", _NAME, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("incident", _NAME, nullable=False),
    Column("late", Boolean, nullable=False),
    Column("origin_ns", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("shot_by_incident", "incident"),
    Index("shot_by_time", "origin_ns"),
)

call = Table(
    "call",
    metadata,
    Column("number", _TEXT, primary_key=True),
    Column("received_ns", BigInteger, nullable=False),
    Column("latitude_deg", Float, nullable=False),
    Column("longitude_deg", Float, nullable=False),
    Column("kind", _TEXT, nullable=False),
    Index("call_by_time", "received_ns"),
)

report = Table(
    "report",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("heard_ns", BigInteger, nullable=False),
    Column("latitude_deg", Float, nullable=False),
    Column("longitude_deg", Float, nullable=False),
    Column("author", _TEXT, nullable=False),
    Column("reason", _TEXT, nullable=False),
    Column("found", _NAME, nullable=False),  # told, candidate, shot, nothing
    Column("subject", _NAME, nullable=False),
)
