"""The journal: what was heard is there again, and a crash costs at most its last line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.config import Gathering, Mqtt, Store, Subscriber
from agls.desk import entry_of
from agls.errors import InputError
from agls.journal import (
    Advanced,
    Header,
    Heard,
    Journal,
    Refused,
    Torn,
    header,
    read_journal,
    recent_journals,
    segment_name,
)
from agls.messages import MAX_MESSAGE_BYTES, Status, UtcNs, encode
from tests import town

ENTRIES = [
    Heard(at_ns=UtcNs(town.NOW_NS), message=town.detection(0)),
    Heard(at_ns=UtcNs(town.NOW_NS + 1), message=town.heartbeat()),
    Refused(
        at_ns=UtcNs(town.NOW_NS + 1), topic="agls/v1/x", reason="not_json", detail="?", size_bytes=2,
        payload_base64=b"\xff\n",
    ),
    Advanced(at_ns=UtcNs(town.NOW_NS + 2)),
    Heard(at_ns=UtcNs(town.NOW_NS + 3), message=Status(sensor_id="s1", boot_id="b", state="online")),
]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "journal.jsonl"


def written(path, entries=ENTRIES):
    with Journal(path, town.site()) as journal:
        for entry in entries:
            journal.append(entry)
    return path


def test_a_journal_gives_back_what_was_put_in_after_a_header_with_the_site(path):
    head, *entries = read_journal(written(path))
    assert head == header(town.site())
    assert head.site == town.site()
    assert entries == ENTRIES


def test_a_second_run_goes_on_where_the_first_ended(path):
    written(written(path))
    assert list(read_journal(path)) == [header(town.site()), *ENTRIES, *ENTRIES]


def test_secrets_and_addresses_stay_out_of_the_header(path):
    with Journal(path, town.site_with_secrets()):
        pass
    assert b"secret" not in path.read_bytes()


def test_every_line_is_json_with_times_as_rfc_3339(path):
    lines = written(path).read_bytes().splitlines()
    assert len(lines) == 1 + len(ENTRIES)
    assert lines[4] == b'{"line":"advanced","at":"2023-11-14T22:13:20.000000002Z"}'


@given(st.binary(max_size=200), st.text(max_size=50), st.integers(0, 2**62))
def test_any_bytes_on_any_topic_make_a_line_that_can_be_read_again(tmp_path_factory, payload, topic, at_ns):
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    entry = entry_of(topic, payload, at_ns)
    assert list(read_journal(written(path, [entry])))[1:] == [entry]


def test_a_topic_that_is_no_proper_text_is_journaled_all_the_same(path):
    entry = entry_of("agls/v1/\udce9", b"{", town.NOW_NS)
    assert list(read_journal(written(path, [entry])))[1:] == [entry]


def test_of_a_giant_payload_the_beginning_and_the_size_are_kept():
    entry = entry_of("agls/v1/detection/s0", b"x" * 10_000_000, town.NOW_NS)
    assert (entry.reason, entry.size_bytes, len(entry.payload_base64)) == ("too_long", 10_000_000, MAX_MESSAGE_BYTES)


def test_a_record_that_is_not_for_hubs_is_refused():
    entry = entry_of("agls/v1/shot/inc-1", encode(town.shot()), town.NOW_NS)
    assert entry.reason == "not_for_hubs"


def test_a_last_line_torn_anywhere_is_reported_and_the_rest_is_there(path):
    whole = written(path).read_bytes()
    begin = whole.rstrip(b"\n").rindex(b"\n") + 1
    for end in range(begin + 1, len(whole)):
        path.write_bytes(whole[:end])
        head, *entries, torn = read_journal(path)
        assert isinstance(head, Header)
        assert entries == ENTRIES[:-1]
        assert torn == Torn(size_bytes=end - begin)


@pytest.mark.parametrize("cut", [1, 30, 100])
def test_writing_on_after_a_crash_cuts_the_torn_line_off_and_says_so(path, cut):
    whole = written(path).read_bytes()
    path.write_bytes(whole[:-cut])
    with Journal(path, town.site()) as journal:
        journal.append(ENTRIES[0])
        assert journal.torn_bytes == len(whole) - whole.rstrip(b"\n").rindex(b"\n") - 1 - cut
    assert list(read_journal(path))[1:] == [*ENTRIES[:-1], ENTRIES[0]]


def test_a_torn_header_is_written_anew(path):
    path.parent.mkdir()
    path.write_bytes(b'{"line":"head')
    assert list(read_journal(written(path)))[1:] == ENTRIES


def test_a_torn_line_longer_than_a_chunk_is_cut_off_too(path):
    whole = written(path).read_bytes()
    path.write_bytes(whole + b'{"line":"heard"' + b" " * 200_000)
    assert list(read_journal(written(path)))[1:] == ENTRIES * 2


def test_what_is_flushed_survives_a_crash_of_the_process(path):
    journal = Journal(path, town.site())
    journal.append(ENTRIES[0])
    journal.flush()
    assert list(read_journal(path))[1:] == ENTRIES[:1]
    journal.close()


def test_two_hubs_cannot_write_one_journal(path):
    with Journal(path, town.site()), pytest.raises(InputError, match="in use by another hub"):
        Journal(path, town.site())


def test_a_file_that_is_no_journal_is_left_alone(path):
    path.parent.mkdir()
    path.write_bytes(b"dear diary, no line break")
    with pytest.raises(InputError, match="not a journal"):
        Journal(path, town.site())
    assert path.read_bytes() == b"dear diary, no line break"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"{}\n", "line 1: .*expected a journal's header"),
        (b"\xff\xfe\n", "line 1: "),
        (encode(header(town.site())).replace(b'"version":1', b'"version":2') + b"\n", "version 2; this AGLS reads 1"),
        (encode(header(town.site())) + b'\n{"line":"heard"}\n', "line 2: .*expected what a hub heard"),
        (encode(header(town.site())) + b"\n" + encode(header(town.site())) + b"\n", "line 2: "),
    ],
)
def test_a_file_that_is_no_journal_is_refused_with_its_line(path, content, sentence):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        list(read_journal(path))


def test_a_journal_that_is_not_there_or_cannot_be_made_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        list(read_journal(tmp_path / "no.jsonl"))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        Journal(tmp_path / "file" / "journal.jsonl", town.site())


def test_a_journal_goes_on_in_another_file_and_both_are_whole(path):
    with Journal(path, town.site()) as journal:
        for at, entry in enumerate(ENTRIES):
            if at == 2:
                journal.turn_over(segment_name(town.NOW_NS))
            journal.append(entry)
        with pytest.raises(InputError, match="in use by another hub"):
            Journal(path, town.site())
    parts = recent_journals(path, town.site())
    assert [list(read_journal(part)) for part in parts] == [
        [header(town.site()), *ENTRIES[:2]],
        [header(town.site()), *ENTRIES[2:]],
    ]


def test_of_earlier_files_only_the_last_of_the_same_site_is_remembered(path):
    with Journal(path, town.site()) as journal:
        journal.turn_over(segment_name(town.NOW_NS))
        journal.turn_over(segment_name(town.NOW_NS + 1))
    assert [one.name for one in recent_journals(path, town.site())] == [segment_name(town.NOW_NS + 1), path.name]
    other = town.site(gathering=Gathering(radius_m=9.0))
    assert [one.name for one in recent_journals(path, other)] == [path.name]
    (path.parent / segment_name(town.NOW_NS + 2)).write_text("rubbish")
    assert [one.name for one in recent_journals(path, town.site())] == [path.name]


def test_a_journal_names_no_receiver_and_no_store(path):
    secret = Subscriber(subscriber_id="rtcc", url="https://rtcc.example/token-17")
    site = town.site(
        subscriber=(secret,), store=Store(url="postgresql://me:secret@host/x"), mqtt=Mqtt(realm="exercise")
    )
    head = header(site)
    assert b"token-17" not in encode(head)
    assert b"secret" not in encode(head)
    assert head.site.mqtt.realm == "exercise"
