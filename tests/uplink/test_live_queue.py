"""What goes over the live channel next: findings until acknowledged, positions only the newest, all of it bounded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.core.ports import LiveItem
from uplink import live_queue
from uplink.live_queue import WINDOW, LiveQueue


def item(topic: Any, key: str, version: int, privacy: Any = "open") -> LiveItem:
    return LiveItem(topic, key, version, "muck-truck", privacy, {"seq": version})


def queue(findings_max: int = 10, *, include_process: bool = False) -> LiveQueue:
    return LiveQueue(findings_max=findings_max, include_process=include_process)


def test_findings_stay_until_acknowledged_and_go_again_after_a_break() -> None:
    made = queue()
    first, second = item("finding", "a", 1), item("finding", "b", 2)
    made.offer([first, second])
    assert made.findings() == [first, second]
    assert made.findings() == [], "they are in flight"
    made.acknowledged(first)
    made.connected([])
    assert made.findings() == [second]
    made.acknowledged(second)
    assert len(made) == 0


def test_a_newer_revision_takes_the_place_and_an_old_acknowledgement_does_not_end_it() -> None:
    made = queue()
    old, new = item("finding", "a", 1), item("finding", "a", 5)
    made.offer([old])
    made.findings()
    made.offer([new])
    assert made.findings() == [], "one revision in flight at a time"
    made.acknowledged(old)
    assert made.findings() == [new]
    made.acknowledged(new)
    assert len(made) == 0


def test_no_more_than_the_window_is_in_flight() -> None:
    made = queue(100)
    made.offer(item("finding", str(number), number) for number in range(1, 50))
    first = made.findings()
    assert len(first) == WINDOW
    made.acknowledged(first[3])
    assert [one.key for one in made.findings()] == [str(WINDOW + 1)]


def test_a_full_queue_drops_the_oldest_finding_and_counts_it() -> None:
    made = queue(2)
    made.offer(item("finding", str(number), number) for number in range(1, 6))
    assert [one.key for one in made.findings()] == ["4", "5"]
    assert made.dropped == 3


def test_devices_that_come_and_go_while_the_broker_is_away_hold_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_queue, "NEWEST_MAX", 3)
    made = queue()
    made.offer(item("position", str(number), number) for number in range(1, 10))
    assert [one.key for one in made.newest(10)] == ["7", "8", "9"]
    assert made.dropped == 0, "only findings are counted: a position is on the board, or was replaced there"


def test_positions_are_the_newest_of_each_device_longest_waiting_first() -> None:
    made = queue()
    made.offer([item("position", "a", 1), item("position", "b", 2), item("state", "a", 3), item("position", "a", 4)])
    assert [(one.topic, one.key, one.version) for one in made.newest(2)] == [("position", "b", 2), ("state", "a", 3)]
    assert [one.version for one in made.newest(10)] == [4]
    assert made.newest(10) == []


def test_a_new_connection_gets_every_position_again_and_misses_no_finding() -> None:
    made = queue()
    shown = [item("position", "a", 1), item("finding", "f", 2), item("state", "b", 3)]
    made.offer(shown[:1])
    made.newest(10)
    made.connected(shown)
    assert [one.key for one in made.newest(10)] == ["a", "b"]
    assert made.version == 1, "the finding is still to be taken from the board"
    made.offer(shown[1:])
    assert [one.key for one in made.findings()] == ["f"]


def test_what_is_private_stays_here_unless_the_configuration_says_otherwise() -> None:
    private = [item("position", "a", 1, "process"), item("finding", "f", 2, "process")]
    closed, opened = queue(), queue(include_process=True)
    for made in (closed, opened):
        made.offer(private)
        made.connected(private)
    assert (len(closed), closed.version) == (0, 2)
    assert len(opened) == 2


class Broker(RuleBasedStateMachine):
    """Any order of news, publishes, acknowledgements and breaks: the newest revision of each finding arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = queue(1000)
        self.version = 0
        self.newest: dict[str, int] = {}
        self.arrived: dict[str, int] = {}
        self.in_flight: list[LiveItem] = []

    @rule(key=st.sampled_from("abcd"))
    def news(self, key: str) -> None:
        self.version += 1
        self.newest[key] = self.version
        self.queue.offer([item("finding", key, self.version)])

    @rule()
    def publish(self) -> None:
        self.in_flight += self.queue.findings()

    @rule(at=st.integers(0, 3))
    def acknowledge(self, at: int) -> None:
        if self.in_flight:
            one = self.in_flight.pop(at % len(self.in_flight))
            self.arrived[one.key] = max(self.arrived.get(one.key, 0), one.version)
            self.queue.acknowledged(one)

    @rule()
    def breaks(self) -> None:
        self.in_flight.clear()
        self.queue.connected([])

    @invariant()
    def the_rest_brings_everything(self) -> None:
        waiting = {key: version for key, version in self.newest.items() if self.arrived.get(key, 0) < version}
        assert len(self.queue) == len(waiting)


TestBroker = Broker.TestCase
TestBroker.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
