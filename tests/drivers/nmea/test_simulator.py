"""The simulated receiver: its own decoder reads back what the vehicle measured; what is damaged is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.fleet.journeys import Drive, Journey, Path, Stand, moved
from drivers.fleet.vehicles import Trouble, TroubleKind, Vehicle
from drivers.nmea.codec import parse
from drivers.nmea.framing import Decoder, Malformed, Sentence
from drivers.nmea.messages import Gga, Gsa, Gst, Gsv, Message, Rmc, Unknown, Vtg, Zda
from drivers.nmea.simulator import TALKERS, Receiver, damaged

T0 = 1_790_000_000
START = (307_000_000, 1_210_200_000)
JOURNEY = Journey([Stand(30), Drive(Path([START, moved(START, 4000, 3000)]), 45), Stand(60)])


def receiver(*troubles: Trouble, **more: object) -> Receiver:
    return Receiver(Vehicle("1", "", JOURNEY, T0, seed=5, troubles=troubles), **more)  # type: ignore[arg-type]


def read(data: bytes) -> Iterator[Message]:
    for found in Decoder().feed(data):
        assert isinstance(found, Sentence)
        message = parse(found)
        assert not isinstance(message, Malformed)
        assert isinstance(message, Unknown) or not message.odd
        yield message


@pytest.mark.parametrize("talker", TALKERS)
@pytest.mark.parametrize("second", [0, 29, 100, 300])
def test_an_epoch_says_what_the_vehicle_measured(talker: str, second: int) -> None:
    one = receiver(talker=talker)
    seen = one.vehicle.measure(T0 + second)
    assert seen is not None
    by_kind: dict[type, list[Message]] = {}
    for message in read(one.epoch(T0 + second)):
        by_kind.setdefault(type(message), []).append(message)
    assert set(by_kind) == {Rmc, Gga, Gsa, Gsv, Vtg, Zda, Gst}
    (rmc,), (gga,), (gst,), (zda,), (vtg,) = (by_kind[kind] for kind in (Rmc, Gga, Gst, Zda, Vtg))
    moment = datetime.fromtimestamp(T0 + second, UTC)
    for message in (rmc, gga):
        assert isinstance(message, Rmc | Gga)
        assert message.talker == talker
        assert message.valid
        assert message.lat_e7 == pytest.approx(seen.lat_e7, abs=2)
        assert message.lon_e7 == pytest.approx(seen.lon_e7, abs=2)
        assert message.time_ns == (T0 + second) % 86_400 * 10**9
    assert isinstance(rmc, Rmc)
    assert isinstance(gga, Gga)
    assert isinstance(zda, Zda)
    assert isinstance(gst, Gst)
    assert isinstance(vtg, Vtg)
    assert rmc.date == zda.date == moment.date()
    assert rmc.speed_mm_s == vtg.speed_mm_s == pytest.approx(seen.speed_kmh_e1 / 36 * 1000, abs=2)
    assert rmc.course_cdeg == (seen.course_deg * 100 if seen.speed_kmh_e1 else None)
    assert gga.satellites == seen.satellites == sum(len(one.satellites) for one in by_kind[Gsa])  # type: ignore[attr-defined]
    assert gga.hdop_e2 == seen.hdop_e2
    assert gst.lat_mm == 4000


@pytest.mark.parametrize("kind", ["jammed", "antenna-cut"])
def test_without_a_fix_every_sentence_is_void(kind: TroubleKind) -> None:
    one = receiver(Trouble(kind, 100, 200))
    messages = list(read(one.epoch(T0 + 150)))
    assert not any(message.valid for message in messages if isinstance(message, Rmc | Gga | Vtg))
    assert not any(message.lat_e7 for message in messages if isinstance(message, Rmc | Gga))
    assert {message.dimension for message in messages if isinstance(message, Gsa)} == {1}
    told = [message.fields[-1] for message in messages if isinstance(message, Unknown)]
    assert told == (["ANTSTATUS=OPEN"] if kind == "antenna-cut" else [])


def test_a_dead_receiver_says_nothing() -> None:
    assert receiver(Trouble("offline", 100, 200)).epoch(T0 + 150) == b""
    assert receiver().epoch(T0 - 1) == b""


@pytest.mark.parametrize("rate_hz", [5, 10])
def test_between_two_seconds_it_moves_as_the_vehicle_does(rate_hz: int) -> None:
    one = receiver(rate_hz=rate_hz)
    rows = [next(read(one.epoch((T0 + 100) * rate_hz + n))) for n in range(rate_hz)]
    lats = [row.lat_e7 for row in rows if isinstance(row, Rmc) and row.lat_e7 is not None]
    times = [row.time_ns for row in rows if isinstance(row, Rmc) and row.time_ns is not None]
    assert [time - times[0] for time in times] == [n * 10**9 // rate_hz for n in range(rate_hz)]
    steps = [after - before for before, after in pairwise(lats)]
    north_m_s = 45 / 3.6 * 0.8
    assert all(step == pytest.approx(north_m_s / rate_hz / 111_000 * 1e7, rel=0.1, abs=3) for step in steps)


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert receiver(damage_percent=20).epoch(T0 + 99) == receiver(damage_percent=20).epoch(T0 + 99)


def test_chosen_sentences_only_and_in_their_order() -> None:
    one = receiver(sentences=("GGA", "RMC"))
    assert [type(message) for message in read(one.epoch(T0 + 50))] == [Gga, Rmc]


def test_as_many_sentences_are_damaged_as_asked_for_and_the_others_survive() -> None:
    one, clean = receiver(damage_percent=20), receiver()
    stream, whole = b"".join(one.epoch(T0 + n) for n in range(200)), b"".join(clean.epoch(T0 + n) for n in range(200))
    good = [found.raw for found in Decoder().feed(stream) if isinstance(found, Sentence)]
    all_of_them = [found.raw for found in Decoder().feed(whole) if isinstance(found, Sentence)]
    assert set(good) <= set(all_of_them)
    assert len(good) == pytest.approx(0.8 * len(all_of_them), rel=0.05)


@given(st.integers(0, 2**64 - 1), st.integers(0, 600))
def test_a_damaged_sentence_is_none(bits: int, second: int) -> None:
    line = receiver().epoch(T0 + second).splitlines(keepends=True)[second % 5]
    assert not any(isinstance(found, Sentence) for found in Decoder().feed(damaged(line, bits) + b"\r\n"))
