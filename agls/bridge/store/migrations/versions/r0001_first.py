"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NAME, _TEXT = sa.String(64), sa.String(500)
_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table("realm", sa.Column("name", _NAME, primary_key=True), sa.Column("value", _TEXT, nullable=False))
    _incidents()
    _outbox()
    _heard()


def _incidents() -> None:
    op.create_table(
        "incident",
        sa.Column("incident", _NAME, primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("state", _NAME, nullable=False),
        sa.Column("first_shot_ns", sa.BigInteger, nullable=False),
        sa.Column("changed_ns", sa.BigInteger, nullable=False),
        sa.Column("latitude_deg", sa.Float),
        sa.Column("longitude_deg", sa.Float),
        sa.Column("hold", _TEXT, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("incident_by_change", "incident", ["state", "changed_ns"])
    op.create_index("incident_by_time", "incident", ["first_shot_ns"])
    op.create_table(
        "revision",
        sa.Column("incident", _NAME, sa.ForeignKey("incident.incident", ondelete="CASCADE"), primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("move", _NAME, nullable=False),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.Column("subject", _NAME, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("move", _NAME, nullable=False),
        sa.Column("author", _TEXT, nullable=False),
        sa.Column("reason", _TEXT, nullable=False),
        sa.Column("digest", _NAME, nullable=False),
    )
    op.create_index("audit_by_subject", "audit", ["subject"])


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("subscriber", _NAME, nullable=False),
        sa.Column("incident", _NAME, sa.ForeignKey("incident.incident", ondelete="CASCADE"), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("telling", _NAME, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("state", _NAME, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("made_ns", sa.BigInteger, nullable=False),
        sa.Column("until_ns", sa.BigInteger, nullable=False),
        sa.Column("next_ns", sa.BigInteger, nullable=False),
        sa.Column("done_ns", sa.BigInteger),
        sa.Column("answer", _TEXT, nullable=False),
        sa.UniqueConstraint("subscriber", "incident", "revision", name="outbox_once"),
    )
    op.create_index("outbox_in_order", "outbox", ["subscriber", "state", "priority", "number"])
    op.create_table(
        "stage",
        sa.Column("incident", _NAME, sa.ForeignKey("incident.incident", ondelete="CASCADE"), primary_key=True),
        sa.Column("stage", _NAME, primary_key=True),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
    )


def _heard() -> None:
    op.create_table(
        "shot",
        sa.Column("shot_id", _NAME, primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("incident", _NAME, nullable=False),
        sa.Column("late", sa.Boolean, nullable=False),
        sa.Column("origin_ns", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("shot_by_incident", "shot", ["incident"])
    op.create_index("shot_by_time", "shot", ["origin_ns"])
    op.create_table(
        "call",
        sa.Column("number", _TEXT, primary_key=True),
        sa.Column("received_ns", sa.BigInteger, nullable=False),
        sa.Column("latitude_deg", sa.Float, nullable=False),
        sa.Column("longitude_deg", sa.Float, nullable=False),
        sa.Column("kind", _TEXT, nullable=False),
    )
    op.create_index("call_by_time", "call", ["received_ns"])
    op.create_table(
        "report",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.Column("heard_ns", sa.BigInteger, nullable=False),
        sa.Column("latitude_deg", sa.Float, nullable=False),
        sa.Column("longitude_deg", sa.Float, nullable=False),
        sa.Column("author", _TEXT, nullable=False),
        sa.Column("reason", _TEXT, nullable=False),
        sa.Column("found", _NAME, nullable=False),
        sa.Column("subject", _NAME, nullable=False),
    )
