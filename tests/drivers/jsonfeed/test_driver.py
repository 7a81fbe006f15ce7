"""The session: what becomes of messages, what comes twice, what is no message, what bins may not do."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.jsonfeed import levels
from drivers.jsonfeed.codec import BODY_MAX_BYTES
from drivers.tallies import RAW_MAX_BYTES
from gateway.core import kinds
from gateway.core.record import LEAF_SIZE_MAX_BYTES, encode_leaf
from tests.drivers.jsonfeed.talk import NOW, PHONE, UTC_S, Ear, body, delivery, later, why


def test_a_delivery_becomes_a_reading():
    ear = Ear()
    taken = ear.hear(
        delivery(7, beforeWeight=12.40, afterWeight="13.92", weight=1.52, trash_id="kitchen"), topic="bins/7"
    )
    (draft,) = taken.drafts
    data = draft.data
    assert (draft.kind, draft.source, draft.device) == ("reading", "bins", "B-1")
    assert (draft.device_time.text, draft.device_time.zone) == ("2026-03-02 08:30:07", "+08:00")
    assert (data["taken_utc_s"], data["sequence"], data["event"], data["category"]) == (
        UTC_S + 7,
        "7",
        "delivery",
        "kitchen",
    )
    assert (data["class"], data["site"], "flags" in data) == ("sensor", "", False)
    assert [(one["quantity"], one["value_e6"]) for one in data["values"]] == [
        ("weight_before", 12_400_000), ("weight_after", 13_920_000), ("weight", 1_520_000),
    ]  # fmt: skip
    assert {one["channel"] for one in data["values"]} == {"1"}
    assert data["envelope"]["topic"] == "bins/7"
    assert draft.profile == ear.feed.ref


def test_the_same_again_is_stored_once_also_after_a_restart():
    ear = Ear()
    assert ear.hear(delivery(1)).stored == 1
    again = ear.hear(delivery(1))
    assert (again.result, again.stored, again.repeated, again.drafts) == ("repeated", 0, 1, [])
    ear.start()
    assert ear.hear(delivery(1)).result == "repeated"
    assert ear.hear(delivery(2)).stored == 1
    assert ear.session.counts == {"messages": 2, "readings": 1, "repeated": 1}


def test_what_was_not_committed_is_new_after_a_restart():
    ear = Ear()
    ear.hear(delivery(1), commit=False)
    ear.start()
    assert ear.hear(delivery(1)).stored == 1


def test_another_wrapping_of_the_same_reading_is_the_same():
    ear = Ear()
    ear.hear(delivery(1, weight=1.5))
    assert ear.hear(delivery(1, weight=1.5, sent_at="later")).result == "repeated"


def test_a_sequence_number_with_other_values_is_stored_and_marked():
    ear = Ear()
    ear.hear(delivery(1, weight=1.5))
    other = ear.hear(delivery(1, weight=9.5))
    assert other.drafts[0].data["deviations"] == "sequence-again"


def test_without_sequence_and_time_only_the_broker_can_say_that_it_comes_again():
    ear = Ear()
    same = delivery(seq=1, datetime=None, weight=1.5) | {"seq": None}
    first = ear.hear(same)
    assert first.drafts[0].data["flags"] == "no-time"
    assert ear.hear(same).stored == 1
    assert ear.hear(same, again=True).result == "repeated"
    assert ear.hear({**same, "weight": 1.6}, again=True).stored == 1


def test_several_readings_of_one_message_share_its_bytes():
    ear = Ear("fume-cloud")
    rows = [{"mn": f"F{n}", "id": n, "dataTime": UTC_S * 1000, "fume": {"avg": n}} for n in range(3)]
    taken = ear.hear({"data": rows})
    assert [draft.device for draft in taken.drafts] == ["F0", "F1", "F2"]
    assert [draft.raw is not None for draft in taken.drafts] == [True, False, False]
    envelopes = [draft.data["envelope"] for draft in taken.drafts]
    assert [(one["part"], one["parts"]) for one in envelopes] == [(1, 3), (2, 3), (3, 3)]
    assert len({one["sha256"] for one in envelopes}) == 1
    assert {draft.data["period_s"] for draft in taken.drafts} == {60}
    more = ear.hear({"data": [*rows, {"mn": "F3", "id": 3, "dataTime": UTC_S * 1000, "fume": {"avg": 3}}]})
    assert (more.stored, more.repeated) == (1, 3)
    assert more.drafts[0].raw is not None


def test_a_part_that_names_nobody_is_told_and_lies_in_the_raw_bytes():
    taken = Ear("fume-cloud").hear({"data": [{"mn": "F0", "id": 1, "fume": {"avg": 1}}, {"id": 2, "fume": {"avg": 7}}]})
    reading, gap = taken.drafts
    assert b'"avg": 7' in reading.raw
    assert (gap.kind, gap.data["reason"]) == ("device.gap", "no-device")
    assert gap.data["detail"].startswith("1 of 2 readings: ")


@pytest.mark.parametrize(
    ("content", "result", "reason"),
    [
        (b"not json", "refused", "json"), (b'{"machine_id":"B","machine_id":"C"}', "refused", "duplicate-key"),
        (b"\xff", "refused", "encoding"), (b"[" * 5000, "refused", "depth"), (b"NaN", "refused", "json"),
        (b"1" * (BODY_MAX_BYTES + 1), "refused", "size"), (b"{}", "unread", "no-device"), (b"7", "unread", "no-device"),
        (b'{"machine_id":"B-1"}', "unread", "nothing-read"), (b'{"machine_id":[],"weight":{}}', "unread", "no-device"),
        (b'{"machine_id":null,"weight":1}', "unread", "no-device"),
    ],
)  # fmt: skip
def test_what_is_no_reading_is_a_gap(content, result, reason):
    taken = Ear().hear(content)
    (gap,) = taken.drafts
    assert (taken.result, gap.kind, gap.data["reason"]) == (result, "device.gap", reason)
    assert gap.data["size_bytes"] == len(content)
    assert len(gap.raw) <= RAW_MAX_BYTES


def test_the_same_gap_is_told_once_a_minute_with_its_count():
    ear = Ear()
    told = [len(ear.hear(b"no", later(second)).drafts) for second in range(50)]
    assert sum(told) == 1
    assert ear.session.due(later(59).mono_ns) == []
    (gap,) = ear.session.due(later(61).mono_ns)
    assert gap.data["count"] == 49
    ear.hear(b"no", later(62))
    assert [one.data["count"] for one in ear.session.close()] == [1]


def test_lists_that_are_none_or_too_long():
    ear = Ear("fume-cloud")
    assert ear.hear(b'{"data": {}}').detail == "no list at /data"
    assert "501 readings" in ear.hear(b'{"data": [' + b",".join([b"{}"] * 501) + b"]}").detail
    assert ear.hear(b'{"data": []}').result == "unread"


def test_the_topic_names_the_device_where_the_message_does_not():
    ear = Ear()
    said = delivery(1, machine_id=None, weight=1)
    assert ear.hear(said, device="bin-9").drafts[0].device == "bin-9"
    assert ear.hear(delivery(2, weight=1), device="bin-9").drafts[0].device == "B-1"


def test_who_is_not_listed_is_kept_and_marked():
    ear = Ear(listed=("B-2",))
    assert ear.hear(delivery(1, weight=1)).drafts[0].data["flags"] == "unlisted"


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("2026-03-02 08:30:00", ""), ("2026-03-02 08:31:00", ""), ("2026-03-02 08:40:00", "future"),
        ("2026-01-02 08:30:00", "stale"), ("1970-01-01 00:00:00", "no-time"), ("2026-13-02 08:30:00", "no-time"),
        ("yesterday", "no-time"), ("", "no-time"), ("2026-03-02T08:30:00Z", "no-time"),
    ],
)  # fmt: skip
def test_times_that_cannot_be(text, flags):
    data = Ear().hear(delivery(1, datetime=text, weight=1)).drafts[0].data
    assert data.get("flags", "") == flags


def test_weights_must_agree_within_the_step_of_the_scale():
    ear = Ear()
    pair = {"beforeWeight": 10, "afterWeight": 12}
    assert why(ear.hear(delivery(1, **pair, weight=2.02)), "weight") == ""
    assert why(ear.hear(delivery(2, **pair, weight="2.03")), "weight") == "weights-disagree"
    taken = ear.hear(delivery(3, beforeWeight=12, afterWeight=11, weight=-1))
    assert why(taken, "weight") == "lighter-after"
    derived = ear.hear(delivery(4, beforeWeight=11, afterWeight=12.5)).drafts[0].data["values"][-1]
    assert (derived["quantity"], derived["value_e6"], derived["code"], derived["text"]) == (
        "weight", 1_500_000, "after-before", "",
    )  # fmt: skip


@pytest.mark.parametrize("stable", [0, None, "no", False])
def test_a_scale_that_does_not_stand_still_weighs_nothing(stable):
    taken = Ear().hear(delivery(1, beforeWeight=10, afterWeight=12, weight=2, stable=stable))
    assert {one["why"] for one in taken.drafts[0].data["values"]} == {"unstable"}
    assert {one["quality"] for one in taken.drafts[0].data["values"]} == {"bad"}


def test_counts_only_rise_until_the_bin_is_cleared():
    ear = Ear()
    ear.hear(delivery(1, delivery_count=10, afterWeight=5))
    fell = ear.hear(delivery(2, delivery_count=9, beforeWeight=4, afterWeight=4.5))
    assert (why(fell, "count"), why(fell, "weight_before")) == ("count-fell", "weight-fell")
    ear.start()
    assert why(ear.hear(delivery(3, delivery_count=8)), "count") == "count-fell"
    ear.hear(delivery(4, event="clear", delivery_count=0))
    after = ear.hear(delivery(5, delivery_count=1, beforeWeight=0))
    assert (why(after, "count"), why(after, "weight_before")) == ("", "")
    other = ear.hear(delivery(6, delivery_count=0, hatchNo=2))
    assert why(other, "count") == ""


def test_late_readings_are_compared_with_nothing():
    ear = Ear()
    ear.hear(delivery(50, delivery_count=10))
    assert why(ear.hear(delivery(20, delivery_count=4)), "count") == ""
    assert why(ear.hear(delivery(51, delivery_count=9)), "count") == "count-fell"


def test_memory_of_devices_is_bounded(monkeypatch):
    monkeypatch.setattr(levels, "DEVICES_MAX", 3)
    ear = Ear()
    for number in range(6):
        ear.hear(delivery(number, machine_id=f"B-{number}", delivery_count=5))
    assert sorted(key for key in ear.memory if key.startswith(b"l")) == [b"lB-3", b"lB-4", b"lB-5"]
    ear.memory[b"lB-9"] = b"no json"
    ear.start()
    assert ear.hear(delivery(9, machine_id="B-9", delivery_count=1)).stored == 1


def test_what_a_device_writes_is_cleaned():
    data = Ear().hear(delivery(1, machine_id="B\u0000\u202e\nA\u0301" + "x" * 100, weight="\ud800")).drafts[0]
    assert data.device == "B\ufffd\ufffd\ufffdÁ" + "x" * 59
    assert data.data["values"][0]["text"] == "\ufffd"


def test_retained_messages_say_so():
    assert Ear().hear(delivery(1, weight=1), again=True, retained=True).drafts[0].data["envelope"]["retained"] is True


def test_the_largest_message_fits_into_a_record():
    large = body(**delivery(1, weight=1), note="x" * (BODY_MAX_BYTES - 400))
    (draft,) = Ear().hear(large).drafts
    assert len(encode_leaf(draft, NOW, 0, b"s" * 16)) < LEAF_SIZE_MAX_BYTES


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("machine_id", "seq", "datetime", "event", "hatchNo", "trash_id", "phone_num", "beforeWeight", "afterWeight",
          "weight", "stable", "delivery_count", "full_percent", "spill", "smoke", "cached")  # fmt: skip


@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8), min_size=1, max_size=3))
def test_wrong_types_everywhere_never_raise(messages):
    ear = Ear()
    for said in messages:
        taken = ear.hear(json.dumps({"machine_id": "B-1"} | said).encode(), device="B-1")  # checks every draft
        assert all(draft.kind in {kinds.READING, kinds.DEVICE_GAP} for draft in taken.drafts)


@pytest.mark.parametrize("number", ["1e999999999", "-1e-999999999", "0e999999999", "9" * 33, "1_0", "٣", "0x10", "inf"])
def test_numbers_that_would_take_for_ever(number):
    (value,) = Ear().hear(delivery(1, weight=number)).drafts[0].data["values"]
    assert value["quality"] == ("good" if number.startswith("0e") else "bad")


def test_no_phone_number_stays_anywhere():
    ear = Ear()
    taken = ear.hear(
        delivery(1, weight=1, user={"phone": "+86 139-0013-9000"}, memo=f"call {PHONE}"), topic=f"b/{PHONE}"
    )
    leaf = encode_leaf(taken.drafts[0], NOW, 0, b"s" * 16)
    for digits in (PHONE, "13900139000", "139-0013-9000"):
        assert digits.encode() not in taken.drafts[0].raw
        assert digits.encode() not in leaf
    assert PHONE not in repr(ear.memory)
