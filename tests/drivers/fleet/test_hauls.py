"""Tours: what is planted is in them, where it is said to be; nuisances too."""

import pytest

from drivers.fleet.hauls import NUISANCES, PLANTS, SPEEDING_KMH, tours
from drivers.fleet.journeys import Drive, Path, Place, moved
from drivers.fleet.vehicles import Vehicle
from tests.drivers.fleet.test_journeys import sphere_m

START: Place = (307_000_000, 1_210_200_000)
WAY = Path([START, moved(START, 700, 0), moved(START, 700, 900), moved(START, 2600, 900), moved(START, 2600, 2000)])
T0 = 1_790_000_000


def truck(plant: str | None) -> Vehicle:
    plan = tours(WAY, (plant,))
    return Vehicle("1", "浙F00001", plan.journey(), T0, troubles=tuple(plan.troubles))


def off_way_m(vehicle: Vehicle, s: float) -> float:
    """Distance from the way, by trying places of it."""
    here = vehicle.truth(T0 + s)[:2]
    return min(sphere_m(here, WAY.at(m)[:2]) for m in range(0, int(WAY.length_m), 5))


def test_a_tour_without_a_plant_loads_hauls_lifts_at_the_end_and_comes_back() -> None:
    vehicle = truck(None)
    total = int(vehicle.journey.for_s)
    lifted = [s for s in range(total) if vehicle.truth(T0 + s).state.lift == "lifted"]
    assert 30 <= len(lifted) <= 60
    assert all(sphere_m(vehicle.truth(T0 + s)[:2], WAY.points[-1]) < 1 for s in lifted)
    assert sphere_m(vehicle.truth(T0 + total)[:2], START) < 1
    assert max(off_way_m(vehicle, s) for s in range(0, total, 20)) < 5
    assert tours(WAY, (None,)).planted == []


@pytest.mark.parametrize("plant", PLANTS)
def test_every_plant_says_when_it_is_to_be_seen(plant: str) -> None:
    plan = tours(WAY, (None, plant))
    (planted,) = plan.planted
    assert planted.kind == plant
    assert plan.journey().for_s / 2 - 300 < planted.from_s < planted.to_s < plan.journey().for_s


def test_what_is_planted_can_be_measured() -> None:
    away = tours(WAY, ("off-route",)).planted[0]
    middle = (away.from_s + away.to_s) / 2
    assert off_way_m(truck("off-route"), middle) == pytest.approx(420, abs=25)
    fast = tours(WAY, ("speeding",)).planted[0]
    assert truck("speeding").truth(T0 + (fast.from_s + fast.to_s) / 2).speed_kmh == pytest.approx(SPEEDING_KMH)
    dump = truck("dumping")
    window = tours(WAY, ("dumping",)).planted[0]
    lifted = [s for s in range(int(window.from_s), int(window.to_s)) if dump.truth(T0 + s).state.lift == "lifted"]
    assert len(lifted) > 30
    assert all(sphere_m(dump.truth(T0 + s)[:2], WAY.points[-1]) > 1000 for s in lifted)
    assert dump.truth(T0 + window.to_s).state.load == "empty"
    lead = tours(WAY, ("dumping-lead",)).planted[0]
    assert lead.to_s - lead.from_s == pytest.approx(400)


def test_a_second_fault_lies_on_the_way_back() -> None:
    first, second = tours(WAY, ("antenna-cut+jammed",)).planted
    assert (first.kind, second.kind) == ("antenna-cut", "jammed")
    vehicle = truck("antenna-cut+jammed")
    assert vehicle.truth(T0 + first.from_s + 1).state.load == "full"
    assert vehicle.truth(T0 + second.from_s + 1).state.load == "empty"


def test_nuisances_are_no_plants() -> None:
    plan = tours(WAY, (None,), NUISANCES)
    assert plan.planted == []
    assert {trouble.kind for trouble in plan.troubles} == {"blind", "jump"}
    assert sum(len(step.stops) for step in plan.steps if isinstance(step, Drive)) == 2


def test_an_unknown_plant_is_refused() -> None:
    with pytest.raises(ValueError, match="no plant 'rocket'"):
        tours(WAY, ("rocket",))
