"""Vehicles: the same answer whenever they are asked; noise of the size that was given; every trouble as described."""

import math
from itertools import pairwise
from statistics import pstdev

import pytest

from drivers.fleet.journeys import Drive, Journey, Path, Place, Stand, State, moved
from drivers.fleet.vehicles import DeviceClock, Trouble, TroubleKind, Vehicle, with_troubles
from tests.drivers.fleet.test_journeys import sphere_m

START: Place = (307_000_000, 1_210_200_000)
T0 = 1_790_000_000
WAY = Path([START, moved(START, 9000, 0), moved(START, 9000, 9000)])
JOURNEY = Journey([Stand(60), Drive(WAY, 45, State(load="full")), Stand(300)])


def vehicle(*troubles: Trouble, seed: int = 7, sigma_m: float = 4.0) -> Vehicle:
    return Vehicle("13800000001", "浙F00001", JOURNEY, T0, seed=seed, sigma_m=sigma_m, troubles=troubles)


def trouble(kind: TroubleKind, amount: float = 0, word: str = "") -> Trouble:
    return Trouble(kind, 200, 400, amount, word)


def test_the_same_second_says_the_same_in_any_order() -> None:
    forward = [vehicle().measure(T0 + s) for s in range(0, 900, 7)]
    backward = [vehicle().measure(T0 + s) for s in reversed(range(0, 900, 7))]
    assert forward == backward[::-1]
    assert forward != [vehicle(seed=8).measure(T0 + s) for s in range(0, 900, 7)]


@pytest.mark.parametrize("sigma_m", [1.0, 4.0, 12.0])
def test_the_error_has_the_given_deviation_and_wanders(sigma_m: float) -> None:
    one = vehicle(sigma_m=sigma_m)
    norths, easts, steps = [], [], []
    for s in range(0, 40_000, 10):
        seen, truth = one.measure(T0 + s), one.truth(T0 + s)
        assert seen is not None
        norths.append((seen.lat_e7 - truth.lat_e7) / 1e7 * 110_900)
        easts.append((seen.lon_e7 - truth.lon_e7) / 1e7 * 111_320 * math.cos(math.radians(30.7)))
        assert abs(norths[-1]) < 5 * sigma_m
    assert pstdev(norths) == pytest.approx(sigma_m, rel=0.15)
    assert pstdev(easts) == pytest.approx(sigma_m, rel=0.15)
    steps = [abs(b - a) for a, b in pairwise(norths)]
    assert sum(steps) / len(steps) < 0.8 * sigma_m  # white noise would have 1.13 sigma


def test_speed_course_mileage_and_satellites_are_those_of_the_way() -> None:
    seen = vehicle().measure(T0 + 300)
    assert seen is not None
    assert seen.speed_kmh_e1 == pytest.approx(450, abs=15)
    assert seen.recorder_kmh_e1 == 450
    assert seen.course_deg == 0
    assert 8 <= seen.satellites <= 15
    assert seen.mileage_hm == 1_234_560 + int(vehicle().truth(T0 + 300).travelled_m / 100)
    assert seen.state.load == "full"
    parked = vehicle().measure(T0 + 30)
    assert parked is not None
    assert parked.speed_kmh_e1 == 0


def test_it_is_measured_from_the_beginning_to_the_end_of_its_time_only() -> None:
    one = Vehicle("1", "", JOURNEY, T0, end_utc_s=T0 + 100)
    assert one.measure(T0 - 1) is None
    assert one.measure(T0) is not None
    assert one.measure(T0 + 99) is not None
    assert one.measure(T0 + 100) is None


def test_frozen_repeats_the_place_while_the_recorder_goes_on() -> None:
    one = vehicle(trouble("frozen"))
    held = [one.measure(T0 + s) for s in range(200, 400, 10)]
    assert len({(seen.lat_e7, seen.lon_e7, seen.speed_kmh_e1) for seen in held if seen}) == 1
    assert all(seen and seen.fixed and seen.recorder_kmh_e1 > 400 for seen in held)
    after = one.measure(T0 + 400)
    assert after == vehicle().measure(T0 + 400)


@pytest.mark.parametrize("kind", ["jammed", "antenna-cut"])
def test_without_satellites_there_is_no_fix_and_the_terminal_says_why(kind: TroubleKind) -> None:
    seen = vehicle(trouble(kind)).measure(T0 + 300)
    assert seen is not None
    assert not seen.fixed
    assert seen.satellites == 0
    assert seen.antenna_cut == (kind == "antenna-cut")
    assert seen.recorder_kmh_e1 == 450


def test_power_sensors_and_state_troubles_are_said() -> None:
    cut = vehicle(trouble("power-cut")).measure(T0 + 300)
    lost = vehicle(trouble("sensors-lost")).measure(T0 + 300)
    opened = vehicle(trouble("state", word="cover=open")).measure(T0 + 300)
    off = vehicle(trouble("state", word="acc=off")).measure(T0 + 300)
    assert cut is not None
    assert cut.power_lost
    assert lost is not None
    assert lost.sensors_lost
    assert opened is not None
    assert opened.state == State(load="full", cover="open")
    assert off is not None
    assert not off.state.acc


def test_an_odometer_that_counts_less_stays_behind_for_ever() -> None:
    one, honest = vehicle(trouble("odometer", amount=40)), vehicle()
    for s, missing_m in ((200, 0), (300, 0.6 * 1250), (400, 0.6 * 2500), (900, 0.6 * 2500)):
        mine, right = one.measure(T0 + s), honest.measure(T0 + s)
        assert mine is not None
        assert right is not None
        assert (right.mileage_hm - mine.mileage_hm) * 100 == pytest.approx(missing_m, abs=110)


def test_a_jump_is_as_far_as_it_was_asked_for() -> None:
    seen, usual = vehicle(trouble("jump", amount=900)).measure(T0 + 300), vehicle().measure(T0 + 300)
    assert seen is not None
    assert usual is not None
    assert sphere_m(seen[2:4], usual[2:4]) == pytest.approx(900, rel=0.01)


def test_a_blind_zone_measures_on_and_a_dead_terminal_does_not() -> None:
    blind, dead = vehicle(trouble("blind")), vehicle(trouble("offline"))
    assert blind.measure(T0 + 300) == vehicle().measure(T0 + 300)
    assert not blind.reaches(T0 + 300)
    assert dead.measure(T0 + 300) is None
    assert not dead.reaches(T0 + 300)
    assert dead.reaches(T0 + 400)
    assert dead.turns_s() == [T0 + 200, T0 + 400]
    assert with_troubles(vehicle(), [trouble("blind")]) == blind


def test_device_time_catches_up_and_is_never_ahead() -> None:
    clock = DeviceClock(1000.0, float(T0), span_s=2400, speed_up=96)
    assert clock.utc_s(1000) == T0 - 2400 + 25
    assert clock.utc_s(1010) == pytest.approx(T0 - 2400 + 25 + 960)
    assert clock.utc_s(1025) == pytest.approx(T0 + 25)
    assert clock.utc_s(1100) == pytest.approx(T0 + 100)
    for mono_s in (1000, 1003.5, 1024.9, 1025.5, 2000):
        assert clock.utc_s(mono_s) <= T0 + mono_s - 1000 + 1e-6
        assert clock.mono_s(clock.utc_s(mono_s)) == pytest.approx(mono_s, abs=1e-4)
    plain = DeviceClock(5.0, float(T0))
    assert plain.utc_s(65) == T0 + 60
