"""The life of an incident: one table of states and moves, which is the code; `LIFE.md` beside it is made from it.

Every move makes a revision, an entry of the audit and, for whoever is told, a document to deliver: all of them or none
(`agls.bridge.store.book`). A move that the table does not have in a state is refused, by name.
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec

from agls.bridge.record import Finding, IncidentRecord, State, judgement
from agls.errors import InputError
from agls.messages import UtcNs

By: TypeAlias = Literal["machine", "person", "dispatch", "clock"]
SAME = "same"
NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Move:
    """One row of the table.

    Attributes
    ----------
    name : str
        What happens.
    by : By
        Who does it.
    sources : tuple of str
        In which states it may happen; `NOTHING` before there is an incident.
    target : str
        The state afterwards; `SAME` where it stays.
    when : str
        What it means.
    """

    name: str
    by: By
    sources: tuple[str, ...]
    target: str
    when: str


_OPEN = ("published", "reviewed", "acknowledged")
_TOLD = (*_OPEN, "dispositioned")

MOVES: tuple[Move, ...] = (
    Move("open", "machine", (NOTHING,), "candidate", "located, but too late or too improbable for anybody to be told"),
    Move("publish", "machine", (NOTHING, "candidate", "withdrawn"), "published", "at least possible, by the policy"),
    Move("update", "machine", ("candidate", *_TOLD, "withdrawn", "closed", "merged"), SAME, "located anew"),
    Move("withdraw", "machine", ("candidate", *_OPEN), "withdrawn", "explained away, and nobody judged it gunfire"),
    Move("review", "person", ("candidate", "published", "reviewed", "withdrawn"), "reviewed", "gunfire, or undecided"),
    Move("review", "person", ("acknowledged", "dispositioned", "closed"), SAME, "the same, after dispatch took notice"),
    Move("dismiss", "person", ("candidate", *_OPEN, "withdrawn"), "withdrawn", "judged no gunfire"),
    Move("correct", "person", ("candidate", *_TOLD, "closed"), SAME, "place, rounds or type are known better"),
    Move("acknowledge", "dispatch", _OPEN, "acknowledged", "dispatch took notice"),
    Move("acknowledge", "dispatch", ("dispositioned", "closed", "withdrawn", "merged"), SAME, "the same, but late"),
    Move("link", "dispatch", ("candidate", *_TOLD, "withdrawn"), SAME, "a 911 call is near in place and time"),
    Move("duplicate", "dispatch", (*_TOLD, "withdrawn"), SAME, "dispatch has it as another call already"),
    Move("merge", "person", _OPEN, "merged", "it is the same incident as another one"),
    Move("absorb", "person", _TOLD, SAME, "another one is the same incident as this"),
    Move("split", "person", (NOTHING,), "published", "some shots of another incident are one of their own"),
    Move("shed", "person", _TOLD, SAME, "some of its shots became an incident of their own"),
    Move("disposition", "person", (*_TOLD, "withdrawn"), "dispositioned", "what was found on the spot is known"),
    Move("disposition", "person", ("closed", "merged"), SAME, "the same, after it was closed"),
    Move("close", "clock", ("candidate", *_TOLD, "withdrawn"), "closed", "unchanged for as long as the site says"),
)
_TARGETS = {(move.name, source): move.target for move in MOVES for source in move.sources}
BY: dict[str, By] = {move.name: move.by for move in MOVES}
# Moves that change nothing for a patrol: who is told of every revision hears of them, dispatch does not.
UNTOLD = frozenset({"acknowledge", "duplicate", "disposition", "close"})


def target(move: str, state: State | None, incident: str) -> State:
    """Look up where a move leads.

    Parameters
    ----------
    move : str
        The move.
    state : State or None
        The state it starts from; None where there is no incident yet.
    incident : str
        The incident, for the sentence of a refusal.

    Returns
    -------
    State
        The state afterwards.

    Raises
    ------
    InputError
        If the table has no such move in that state.
    """
    there = _TARGETS.get((move, state or NOTHING))
    if there is None:
        known = sorted({name for name, source in _TARGETS if source == (state or NOTHING) and BY[name] != "machine"})
        wanted = f"possible are {', '.join(known)}" if known else "nothing is possible"
        where = f"incident {incident} is {state}" if state else f"there is no incident {incident}"
        raise InputError(f"{where}: {move} is not possible; {wanted}")
    return there if there != SAME else state  # type: ignore[return-value]


def step(record: IncidentRecord, move: str, at_ns: int, **changes: Any) -> IncidentRecord:
    """Make a move: the next revision of a record.

    Parameters
    ----------
    record : IncidentRecord
        As it was.
    move : str
        A move of the table.
    at_ns : int
        When, UTC.
    **changes : Any
        Fields that change with it.

    Returns
    -------
    IncidentRecord
        As it is now; the machine's first finding is never among the changes.

    Raises
    ------
    InputError
        If the table has no such move in its state.
    """
    assert not {"first", "incident", "exercise"} & set(changes)  # noqa: S101 - what no move may touch
    return msgspec.structs.replace(
        record,
        revision=record.revision + 1,
        state=target(move, record.state, record.incident),
        move=move,
        at_ns=UtcNs(at_ns),
        **changes,
    )


def first_move(finding: Finding, late: bool) -> str:
    """Say with which move an incident begins.

    Parameters
    ----------
    finding : Finding
        The machine's first.
    late : bool
        Whether it was located too late to open anything.

    Returns
    -------
    str
        ``publish``, or ``open``.
    """
    return "open" if late or finding.verdict == "withdrawn" else "publish"


def machine_move(record: IncidentRecord, finding: Finding) -> str:
    """Say which move a new finding of the machine makes; what a person judged it does not overturn.

    Parameters
    ----------
    record : IncidentRecord
        As it is.
    finding : Finding
        The machine's newest.

    Returns
    -------
    str
        ``publish``, ``withdraw`` or ``update``.
    """
    judged = judgement(record)
    withdrawn = finding.verdict == "withdrawn"
    if withdrawn and judged != "gunfire" and ("withdraw", record.state) in _TARGETS:
        return "withdraw"
    wakes = record.state == "candidate" or (record.state == "withdrawn" and judged != "not_gunfire")
    return "publish" if wakes and not withdrawn and not record.late else "update"


def page() -> str:
    """Write the table as the page `LIFE.md`.

    Returns
    -------
    str
        Markdown.
    """
    head = [
        "# The life of an incident", "",
        "Made from the table in `agls/bridge/life.py` by `python -m agls.bridge.life`. Every move makes a revision,",
        "an entry of the audit and, for whoever is told, a document to deliver: all of them or none.", "",
        "| move | by | from | to | when |", "|---|---|---|---|---|",
    ]  # fmt: skip
    rows = [f"| {m.name} | {m.by} | {', '.join(m.sources)} | {m.target} | {m.when} |" for m in MOVES]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    print(page(), end="")
