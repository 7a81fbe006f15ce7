"""What is kept of a fix: all that the rules look at, for any fix that a driver may write."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.fixes import FLAGS, UNUSABLE
from gateway.rules import track
from gateway.rules.track import FIX, MOMENT_SIZE, VOID, Moment, moments_of, pack, unpack

WORDS = st.sampled_from(["", "full", "open", "lifted", "main_power_lost antenna_cut", "weigher", "void", "fault", "?"])
NUMBERS = st.none() | st.integers(-(2**40), 2**40)
FIXES = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("time_utc_s", "lat_e7", "lon_e7", "speed_kmh_e1", "recorder_kmh_e1", "mileage_hm"), NUMBERS),
        **dict.fromkeys(("load", "cover", "lift", "alarms", "sensor_faults", "flags"), WORDS),
        "sigma_m": st.integers(-5, 10_000),
        "course_deg": NUMBERS,
        "acc": st.none() | st.booleans(),
    },
)


@given(st.lists(FIXES, max_size=4), st.integers(0, 2**62), st.integers(-5, 2**40), st.booleans())
def test_any_fix_is_kept_whole(fixes: list[dict[str, Any]], seq: int, arrival_s: int, backfill: bool) -> None:
    moments = moments_of(seq, arrival_s, {"fixes": fixes, "backfill": backfill}, 7, 3)
    assert [moment.place for moment in moments] == list(range(len(fixes)))
    packed = b"".join(map(pack, moments))
    assert len(packed) == MOMENT_SIZE * len(moments)
    assert list(unpack(packed)) == moments
    for moment in moments:
        assert moment.kind in (FIX, VOID)
        assert moment.kind == FIX or (moment.lat_e7, moment.lon_e7) == (0, 0)


@pytest.mark.parametrize("flag", sorted(FLAGS))
def test_flags_make_a_fix_void_or_leave_it(flag: str) -> None:
    fix = {"time_utc_s": 1000, "lat_e7": 1, "lon_e7": 2, "flags": flag}
    (moment,) = moments_of(1, 5000, fix, 0, 0)
    assert moment.kind == (VOID if flag in UNUSABLE else FIX)
    assert moment.time_s == (5000 if flag in {"no-time", "future", "stale"} else 1000)


def test_states_are_bits() -> None:
    fix = {
        "time_utc_s": 1,
        "lat_e7": 1,
        "lon_e7": 2,
        "load": "half",
        "cover": "closing",
        "lift": "lifted",
        "acc": False,
    }
    (moment,) = moments_of(1, 1, {**fix, "alarms": "main_power_lost sos", "sensor_faults": "lift_sensor x"}, 0, 0)
    assert track.load_of(moment.bits) == "half"
    assert track.cover_of(moment.bits) == "closing"
    assert moment.bits & track.LIFT_MASK == track.LIFTED
    assert moment.bits & track.ACC_MASK == track.ACC_OFF
    assert track.alarms_of(moment.bits) == "main_power_lost"
    assert bool(moment.bits & track.FAULTS)


def test_the_track_of_a_file_is_not_judged() -> None:
    assert moments_of(1, 1, {"columns": ["time_utc_s"], "rows": []}, 0, 0) == []


def test_order_is_time_then_seq_then_place() -> None:
    one = Moment(5, 9, 1, 0, 0, FIX, 1, 0, 0, 0, 0, 0, 0, 0, 0)
    assert sorted([one._replace(seq=10), one._replace(time_s=6, seq=1), one, one._replace(place=0)]) == [
        one._replace(place=0), one, one._replace(seq=10), one._replace(time_s=6, seq=1),
    ]  # fmt: skip
    assert one.key == (5, 9, 1)
