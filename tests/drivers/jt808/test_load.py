"""Frames for benches: fast, and exactly those that the codec writes for the same reports."""

from itertools import pairwise

import pytest

from drivers.fleet.journeys import Drive, Journey, Path, moved
from drivers.jt808 import codec
from drivers.jt808.load import Load

START = (307_000_000, 1_210_200_000)
WAY = Path([START, moved(START, 800, 0), moved(START, 800, 1100)])
JOURNEY = Journey([Drive(WAY, 45), Drive(WAY.reversed(), 45)], repeats=True)


@pytest.mark.parametrize("version", [codec.Version.V2013, codec.Version.V2019])
def test_frames_are_those_of_the_codec(version: codec.Version) -> None:
    load = Load(JOURNEY, 3, 1_790_000_000, interval_s=7, version=version)
    sent = list(load.frames(60, first_serial=65_530))
    assert [terminal for terminal, _ in sent] == [0, 1, 2] * 60
    for place, (terminal, raw) in enumerate(sent):
        (frame,) = codec.read_datagram(raw)
        assert isinstance(frame, codec.Frame)
        location = codec.parse(frame)
        assert isinstance(location, codec.Location)
        assert not location.problems
        assert frame.identity == load.phone(terminal)
        assert frame.serial == (65_530 + place // 3) & 0xFFFF
        address = codec.Address.of(load.phone(terminal), version)
        assert codec.encode(location, address, frame.serial) == (raw,)


def test_back_fill_holds_the_same_fixes_in_whole_batches() -> None:
    load = Load(JOURNEY, 2, 1_790_000_000)
    live: dict[int, list[codec.Location]] = {0: [], 1: []}
    stored: dict[int, list[codec.Location]] = {0: [], 1: []}
    for terminal, raw in load.frames(100):
        (frame,) = codec.read_datagram(raw)
        assert isinstance(frame, codec.Frame)
        live[terminal].append(codec.parse(frame))  # type: ignore[arg-type]
    for terminal, raw in load.backfill(100):
        (frame,) = codec.read_datagram(raw)
        assert isinstance(frame, codec.Frame)
        batch = codec.parse(frame)
        assert isinstance(batch, codec.LocationBatch)
        assert batch.backfill
        assert not batch.problems
        stored[terminal] += batch.locations
    assert stored == live


def test_trucks_drive_on_lap_after_lap_without_leaps() -> None:
    load = Load(JOURNEY, 1, 1_790_000_000)
    rows = [codec.parse(codec.read_datagram(raw)[0]) for _, raw in load.frames(int(2.5 * JOURNEY.for_s))]  # type: ignore[arg-type]
    for before, after in pairwise(rows):
        assert isinstance(before, codec.Location)
        assert isinstance(after, codec.Location)
        assert abs(after.lat_e6 - before.lat_e6) < 150
        assert abs(after.lon_e6 - before.lon_e6) < 150
        miles = before.item(0x01), after.item(0x01)
        assert miles[0] is not None
        assert miles[1] is not None
        assert 0 <= miles[1].value - miles[0].value <= 1  # type: ignore[operator]
