from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.bridge import life
from agls.bridge.record import IncidentRecord, State, judgement
from agls.errors import InputError
from tests.bridge.records import STATES, records

NAMES = sorted({move.name for move in life.MOVES})


def test_the_page_is_made_from_the_table() -> None:
    assert Path(life.__file__).with_name("LIFE.md").read_text("utf-8") == life.page()


def test_no_move_leads_from_one_state_to_two() -> None:
    leads = [(move.name, source) for move in life.MOVES for source in move.sources]
    assert len(leads) == len(set(leads))
    assert {move.target for move in life.MOVES} <= {*STATES, life.SAME}
    assert {source for _, source in leads} <= {*STATES, life.NOTHING}


def test_every_state_can_be_reached_and_closed_or_merged_is_where_it_ends() -> None:
    reached = {life.NOTHING}
    for _ in STATES:
        reached |= {move.target for move in life.MOVES if reached & set(move.sources)}
    assert reached - {life.SAME} == {*STATES, life.NOTHING}
    ends = {state for state in STATES if all(m.target == life.SAME for m in life.MOVES if state in m.sources)}
    assert ends == {"closed", "merged"}


@given(records, st.sampled_from(NAMES), st.integers(0, 10**15))
def test_a_move_is_what_the_table_says_or_refused_by_name(record: IncidentRecord, move: str, later_ns: int) -> None:
    rows = [row for row in life.MOVES if row.name == move and record.state in row.sources]
    if not rows:
        with pytest.raises(InputError, match=rf"is {record.state}: {move} is not possible"):
            life.step(record, move, record.at_ns + later_ns)
        return
    after = life.step(record, move, record.at_ns + later_ns)
    assert after.state == (record.state if rows[0].target == life.SAME else rows[0].target)
    assert (after.revision, after.move, after.first) == (record.revision + 1, move, record.first)


@given(records, st.sampled_from(["probable", "possible", "withdrawn"]))
def test_the_machine_always_has_a_move_and_never_overturns_a_person(record: IncidentRecord, verdict: str) -> None:
    move = life.machine_move(record, msgspec.structs.replace(record.latest, verdict=verdict))
    after = life.step(record, move, record.at_ns)
    judged = judgement(record)
    if judged == "gunfire" and record.state != "withdrawn":
        assert after.state != "withdrawn"
    if judged == "not_gunfire" and record.state == "withdrawn":
        assert after.state == "withdrawn"


@pytest.mark.parametrize("state", [None, *STATES])
def test_a_refusal_says_what_is_possible(state: State | None) -> None:
    with pytest.raises(InputError, match=r"I1.*(possible are [a-z]+|nothing is possible)"):
        life.target("no such move", state, "I1")
