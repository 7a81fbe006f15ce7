"""The board of newest values: one item of each key, bounded, private where a class is."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.core import kinds
from gateway.core.ports import LiveItem
from gateway.core.record import Draft
from gateway.live import Board, Privacy
from gateway.rules.judging import Seen


def privacy_of(device_class: str) -> Privacy:
    return "open" if device_class == "muck-truck" else "process"


def seen(seq: int, device: str = "1", kind: str = kinds.POSITION, **data: Any) -> Seen:
    return Seen(seq, kind, "trucks", device, 1_795_500_000_000_000_000 + seq, {"class": "muck-truck", **data})


def fix(time_utc_s: int, **more: Any) -> dict[str, Any]:
    return {"time_utc_s": time_utc_s, "lat_e7": 300_000_000 + time_utc_s, "lon_e7": 1_210_000_000, **more}


def finding(name: str, revision: int = 1, **data: Any) -> Draft:
    judgement = {"rule": "off-route", "source": "trucks", "device": "1", "plate": "浙F12345", "start_utc_s": 5}
    shape = {"id": name, "state": "open", "revision": revision, "class": "muck-truck", "privacy": "open"}
    return Draft(kinds.FINDING, "gateway", "1", {**shape, "judgement": judgement, **data})


def board(**limits: int) -> Board:
    return Board(privacy_of, **limits)


def items(found: Board, after: int = 0) -> list[LiveItem]:
    return found.changes(after, 1000)


def test_a_reader_gets_what_is_new_and_of_each_key_the_newest() -> None:
    made = board()
    made.position(seen(1, "1", **fix(10)))
    made.position(seen(2, "2", **fix(10)))
    first = items(made)
    assert [item.key for item in first] == ["trucks/1", "trucks/2"]
    made.position(seen(3, "1", **fix(20)))
    made.position(seen(4, "1", **fix(30)))
    later = items(made, first[-1].version)
    assert [(item.key, item.values["time_utc_s"], item.values["seq"]) for item in later] == [("trucks/1", 30, 4)]
    assert items(made, made.version) == []
    assert [item.key for item in made.changes(0, 1)] == ["trucks/2"], "the oldest first, none is skipped"
    assert (made.version, made.dropped()) == (4, 0)


def test_late_fixes_are_the_past() -> None:
    made = board()
    made.position(seen(1, **fix(100)))
    made.position(seen(2, backfill=True, fixes=[fix(10), fix(50)]))
    assert [item.values["seq"] for item in items(made)] == [1]
    made.position(seen(3, fixes=[fix(110), fix(120), fix(115)]))
    assert [item.values["time_utc_s"] for item in items(made)] == [120]
    made.position(seen(4, columns="time_utc_s lat_e7", fixes=[]))
    assert [item.values["seq"] for item in items(made)] == [3], "the track of a file is no live position"


def test_a_void_fix_changes_only_the_flags() -> None:
    made = board()
    made.position(seen(1, **fix(100, speed_kmh_e1=123, acc=True)))
    made.position(seen(2, time_utc_s=110, flags="void", acc=False))
    (item,) = items(made)
    assert item.values["flags"] == "void"
    assert (item.values["lat_e7"], item.values["time_utc_s"], item.values["acc"]) == (300_000_100, 100, True)
    made.position(seen(3, backfill=True, time_utc_s=90, flags="void"))
    assert items(made, item.version) == []
    made.position(seen(4, **fix(120)))
    assert "flags" not in items(made)[0].values
    made.position(seen(5, **fix(10**10, flags="future")))
    assert items(made)[0].values["time_utc_s"] == 120, "a clock that runs ahead must not hold the place for years"


def test_a_device_without_any_fix_is_shown_without_place() -> None:
    made = board()
    made.position(seen(1, flags="void", time_utc_s=5))
    (item,) = items(made)
    assert item.values["flags"] == "void"
    assert "lat_e7" not in item.values
    made.position(seen(2, **fix(3)))
    assert items(made)[0].values["lat_e7"] == 300_000_003
    made.position(seen(3, "2", fixes=[]))
    assert len(items(made)) == 1, "an empty batch says nothing"


def test_states_and_positions_stand_beside_each_other_and_know_the_class() -> None:
    made = board()
    made.position(seen(1, **fix(1)))
    state = Seen(2, kinds.DEVICE_STATE, "trucks", "1", 9, {"state": "offline", "reason": "silent", "secret": "x"})
    made.position(state)
    shown = {item.topic: item for item in items(made)}
    assert shown["state"].values == {
        "source": "trucks", "device": "1", "class": "muck-truck", "plate": "", "seq": 2, "arrival_utc_ns": "9",
        "state": "offline", "reason": "silent",
    }  # fmt: skip
    assert made.class_of("trucks", "1") == "muck-truck"
    assert made.class_of("trucks", "2") == ""


def test_what_nobody_knows_is_private_and_the_stricter_word_counts() -> None:
    made = board()
    made.position(Seen(1, kinds.POSITION, "trucks", "7", 1, {"class": "officer", **fix(1)}))
    made.position(Seen(2, kinds.DEVICE_STATE, "trucks", "8", 1, {"state": "registered"}))
    made.finding(3, finding("a" * 32))
    made.finding(4, finding("b" * 32, privacy="process"))
    made.finding(5, finding("c" * 32, 1, **{"class": "officer"}))
    assert {item.key[:8]: item.privacy for item in items(made)} == {
        "trucks/7": "process",
        "trucks/8": "process",
        "a" * 8: "open",
        "b" * 8: "process",
        "c" * 8: "process",
    }


def state(seq: int, device: str, state: str, **data: Any) -> Seen:
    return Seen(seq, kinds.DEVICE_STATE, "trucks", device, seq, {"state": state, **data})


def test_identities_that_are_never_let_in_push_nobody_off_the_board() -> None:
    made = board(devices_max=2)
    for device in ("1", "2"):
        made.position(state(1, device, "online", **{"class": "muck-truck"}))
    for number in range(50):
        made.position(state(2, f"made-up-{number}", "refused", reason="not listed"))
    assert [item.key for item in items(made)] == ["trucks/1", "trucks/2"]


def test_a_stranger_with_the_identity_of_a_device_does_not_hide_that_it_is_online() -> None:
    made = board()
    made.position(state(1, "1", "online", **{"class": "muck-truck"}))
    made.position(state(2, "1", "refused", reason="wrong code"))
    assert [item.values["state"] for item in items(made)] == ["online"]
    made.position(state(3, "1", "offline", **{"class": "muck-truck"}))
    made.position(state(4, "1", "refused", reason="wrong code"))
    assert [(item.values["state"], item.device_class) for item in items(made)] == [("refused", "muck-truck")]


def test_a_finding_is_its_newest_revision() -> None:
    made = board()
    made.finding(10, finding("a" * 32))
    made.finding(12, finding("a" * 32, 2, state="closed"))
    (item,) = items(made)
    assert (item.topic, item.values["revision"], item.values["state"], item.values["seq"]) == (
        "finding", 2, "closed", 12,
    )  # fmt: skip
    assert item.values["plate"] == "浙F12345"


def test_the_board_is_bounded_and_counts_findings_that_fall_off() -> None:
    made = board(devices_max=3, findings_max=2)
    for number in range(5):
        made.position(seen(number, str(number), **fix(1)))
        made.position(seen(number, str(number), kinds.DEVICE_STATE, state="online"))
        made.finding(number, finding(f"{number:032x}"))
    shown = items(made)
    assert [item.key for item in shown if item.topic == "position"] == ["trucks/2", "trucks/3", "trucks/4"]
    assert [item.key for item in shown if item.topic == "state"] == ["trucks/2", "trucks/3", "trucks/4"]
    assert [item.key[-1] for item in shown if item.topic == "finding"] == ["3", "4"]
    assert made.dropped() == 3
    assert [item.version for item in shown] == sorted(item.version for item in shown)


def test_every_waiter_is_woken() -> None:
    made = board()

    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(made.wait(0)) for _ in range(3)]
            await asyncio.sleep(0)
            assert not any(task.done() for task in waiting)
            made.position(seen(1, **fix(1)))
        await made.wait(0)

    asyncio.run(asyncio.wait_for(scenario(), 5))
