"""The session of a Modbus bus: rounds, states, records and orders, as lists of events."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from drivers.modbus.blocks import Block, Identity, Writable
from drivers.modbus.codec import Request, rtu_frame
from drivers.modbus.driver import BABBLE_BYTES, ORDERS_MAX, SILENT_MAX
from drivers.modbus.events import Cancel, Closed, Ended, Hold, Opened, Received, Sent, Wish
from drivers.modbus.framing import Tcp, serial_wire
from tests.drivers.modbus.line import MS, SECOND, Asked, Line, healthy, plan, refusing, replied, tcp

PUMP = Writable("pump", 6, 40, minimum=0, maximum=3)
SWITCH = Writable("switch", 5, 3)
BOTH = Writable("both", 23, 40, 2, read=Block(3, 50, 2))


def test_a_round_is_one_record_with_every_byte_of_the_wire() -> None:
    line = Line([plan(7, Block(3, 0, 2), Block(4, 10, 1), site="kitchen-1", device_class="fume")], [healthy(7)])
    line.run(0.5)
    [draft] = line.readings()
    assert (draft.source, draft.device, draft.device_time) == ("bus-1", "device-7", None)
    data = draft.data
    assert (data["class"], data["site"], data["unit"]) == ("fume", "kitchen-1", 7)
    assert "taken_utc_s" not in data
    first, second = data["round"]
    assert first == {
        "function": 3,
        "address": 0,
        "count": 2,
        "request_bytes": 8,
        "response_bytes": 9,
        "sent_mono_ns": str(line.asked[0].at_ns),
        "received_mono_ns": str(line.asked[0].at_ns + 5 * MS),
    }
    assert (second["request_bytes"], second["response_bytes"]) == (8, 7)
    wanted = b"".join(one.frame + rtu_frame(7, replied(7, one.request)) for one in line.asked)
    assert draft.raw == wanted
    assert not line.wrong()


def test_the_line_is_silent_for_three_and_a_half_characters_and_longer_after_it_was_opened() -> None:
    line = Line([plan(1, response_max_ms=400), plan(2)], [healthy(1), healthy(2)])
    opened_ns = line.now_ns
    line.run(3)
    wire = serial_wire(9600)
    assert wire.gap_ns == pytest.approx(3.65 * MS, rel=0.01)
    assert line.asked[0].at_ns - opened_ns >= 400 * MS
    for before, after in pairwise(line.asked):
        assert after.at_ns >= before.at_ns + 5 * MS + wire.gap_ns


@pytest.mark.parametrize(
    ("baud", "parity", "stop_bits", "gap_us"), [(1200, "N", 1, 29_167), (9600, "E", 1, 4010), (115_200, "N", 1, 1750)]
)
def test_the_silence_follows_the_speed(baud: int, parity: str, stop_bits: int, gap_us: int) -> None:
    assert round(serial_wire(baud, parity, stop_bits).gap_ns / 1000) == gap_us


def test_a_device_that_wants_a_rest_gets_it_and_the_others_go_on() -> None:
    slow = plan(1, Block(3, 0, 2), Block(3, 9, 3), min_interval_ms=400)
    line = Line([slow, plan(2, interval_s=0.1)], [healthy(1), healthy(2)])
    line.run(4)
    ours = [one.at_ns for one in line.asked if one.unit == 1]
    assert all(after - before >= 405 * MS for before, after in pairwise(ours))
    assert len(line.readings("device-2")) > 30
    assert len(line.readings("device-1")) == 4


def test_bits_and_registers_of_every_reading_function() -> None:
    line = Line([plan(3, Block(1, 0, 9), Block(2, 5, 1), Block(3, 0, 125), Block(4, 1, 1))], [healthy(3)])
    line.run(0.6)
    assert len(line.readings()) == 1
    assert len(line.readings()[0].data["values"]) == 9 + 1 + 125 + 1
    assert not line.wrong()


# ------------------------------------------------------------------------------------------- states


def test_states_are_told_once_and_a_dead_device_backs_off() -> None:
    line = Line([plan(1), plan(2)], [healthy(1)])
    line.run(600)
    assert line.told() == [("", "online"), ("device-1", "online"), ("device-2", "offline")]
    assert "check power, wiring, unit 2" in line.of("device.state", "device-2")[0].data["reason"]
    assert line.states[-1].state == "degraded"
    assert "1 of 2 devices give no readings: device-2" in line.states[-1].reason
    tries = [one.at_ns for one in line.asked if one.unit == 2]
    pauses = [(after - before) / SECOND for before, after in pairwise(tries)]
    assert pauses[0] < 2
    assert pauses == sorted(pauses)
    assert 59 < pauses[-1] < 62
    assert len(line.readings("device-1")) >= 595


def test_a_device_that_comes_back_is_told_and_read_at_once() -> None:
    line = Line([plan(1)])
    line.run(20)
    line.slaves = [healthy(1)]
    line.run(70)
    assert line.told("device-1") == [("device-1", "offline"), ("device-1", "online")]
    assert not line.wrong()
    assert line.states[-1].state == "ok"


def test_many_dead_devices_never_hold_the_bus_for_the_others() -> None:
    dead = [plan(unit, timeout_ms=1000, response_max_ms=1000) for unit in range(2, 22)]
    line = Line([plan(1), *dead], [healthy(1)])
    line.run(120)
    line.drafts.clear()
    line.run(120)
    assert len(line.readings("device-1")) > 100
    waits = [one.at_ns for one in line.asked if one.unit == 1]
    assert max(after - before for before, after in pairwise(waits)) < 23 * SECOND
    late = [one.at_ns for one in line.asked if one.unit == 1 and one.at_ns > line.now_ns - 120 * SECOND]
    assert max(after - before for before, after in pairwise(late)) < 4 * SECOND


def test_a_busy_bus_is_shared_by_weight_and_time() -> None:
    """Each wants ten times what the line has; the slow one may not take more than the quick ones."""
    plans = [plan(1, interval_s=0.01, weight=3), plan(2, interval_s=0.01), plan(3, interval_s=0.01)]
    line = Line(plans, [healthy(1, 20), healthy(2, 20), healthy(3, 100)])
    line.run(60)
    counts = [len(line.readings(f"device-{unit}")) for unit in (1, 2, 3)]
    assert counts[0] == pytest.approx(3 * counts[1], rel=0.1)
    assert counts[1] == pytest.approx(5 * counts[2], rel=0.25)
    assert line.counts["rounds_skipped"] > 100


def test_an_exception_is_no_silence() -> None:
    line = Line([plan(1), plan(2)], [refusing(1, 2), healthy(2)])
    line.run(30)
    assert line.told("device-1") == [("device-1", "exception")]
    state = line.of("device.state", "device-1")[0]
    assert state.data["reason"] == "illegal data address (2) for function 3 address 0 count 4; check profile and unit"
    assert state.raw == line.asked[0].frame + bytes.fromhex("018302c0f1")
    assert all(one.request.count == 4 for one in line.asked)  # no fence: nothing is owed
    assert len(line.readings("device-2")) >= 28


def test_a_gateway_that_says_its_device_is_away_is_believed() -> None:
    line = Line([plan(1)], [refusing(1, 11)])
    line.run(10)
    assert line.told("device-1") == [("device-1", "offline")]
    assert "gateway target device failed to respond" in line.of("device.state", "device-1")[0].data["reason"]


@pytest.mark.parametrize("register", [0, 100])
def test_a_wrong_device_gives_no_values(register: int) -> None:
    """In a block, and beside the blocks."""
    identity = Identity(Block(3, register, 2), (0x4711, None))
    line = Line([plan(1, identity=(identity,))], [healthy(1)])
    line.run(30)
    assert not line.readings()
    assert line.told("device-1") == [("device-1", "wrong-identity")]
    state = line.of("device.state", "device-1")[0]
    assert "another device answers" in state.data["reason"]
    assert "expected 0x4711 any" in state.data["reason"]
    assert state.raw
    assert line.states[-1].state == "degraded"


def test_identity_beside_the_blocks_is_read_first_and_again_after_every_absence() -> None:
    right = Identity(Block(4, 100, 1), ((4099 + 100 * 257) & 0xFFFF,))
    line = Line([plan(1, identity=(right,))], [healthy(1)])
    line.run(5)
    assert [one.request.function for one in line.asked] == [4] + [3] * 6
    first = line.readings()[0].data["round"]
    assert [one.get("purpose", "") for one in first] == ["identity", ""]
    line.slaves = []
    line.run(3)
    line.slaves = [healthy(1)]
    asked = len(line.asked)
    line.run(30)
    kinds = [(one.request.function, one.request.count) for one in line.asked[asked:]]
    assert (4, 1) in kinds
    assert kinds.index((4, 1)) < kinds.index((3, 4))
    line.run(2 * 3600)
    assert 3 <= sum(one.request.function == 4 for one in line.asked) <= 5


def test_a_state_that_wavers_is_told_seldom() -> None:
    line = Line([plan(1)])
    for turn in range(200):
        line.slaves = [healthy(1)] if turn % 2 else []
        line.run(12)
    assert 10 < len(line.told("device-1")) < 100
    line.run(300)
    assert line.told("device-1")[-1] == ("device-1", "online")


# -------------------------------------------------------------------------------------------- links


def test_a_line_that_goes_takes_its_devices_with_it() -> None:
    line = Line([plan(1), plan(2)], [healthy(1), healthy(2)])
    line.run(3)
    line.cut("unplugged")
    line.run(5)
    assert line.told() == [
        ("", "online"), ("device-1", "online"), ("device-2", "online"),
        ("", "offline"), ("device-1", "offline"), ("device-2", "offline"),
    ]  # fmt: skip
    assert line.states[-1].state == "down"
    before = len(line.asked)
    line.handle(Opened("/dev/bus"))
    line.run(3)
    assert len(line.asked) > before
    assert line.told()[-2:] == [("device-1", "online"), ("device-2", "online")]


def test_a_port_that_never_opens_is_told_once() -> None:
    line = Line([plan(1)], opened=False)
    for _ in range(50):
        line.handle(Closed("/dev/bus is not there", "/dev/bus"))
        line.run(10)
    assert line.told() == [("", "offline")]
    assert line.states == [line.states[0]]


def test_nothing_new_is_asked_while_the_store_is_full() -> None:
    line = Line([plan(1)], [healthy(1)])
    line.run(2)
    line.handle(Hold(is_held=True))
    asked = len(line.asked)
    line.run(60)
    assert len(line.asked) == asked
    line.handle(Hold(is_held=False))
    line.run(1)
    assert len(line.asked) > asked


def test_a_line_that_babbles_is_opened_anew() -> None:
    line = Line([plan(1, interval_s=60)], [healthy(1)])
    line.run(2)
    for _ in range(BABBLE_BYTES // 100 + 1):
        line.handle(Received(b"\x55" * 100))
    assert len(line.closes) == 1
    assert "8200 bytes that nobody asked for: check baud and parity" in line.closes[0]
    asked = len(line.asked)
    line.run(120)
    assert len(line.asked) == asked


def test_a_line_without_silence_is_opened_anew() -> None:
    line = Line([plan(1)], [healthy(1)])
    line.run(2)
    for _ in range(4000):
        line.handle(Received(b"\x55"))
        line.run(0.002)
    assert "no silence" in line.closes[0]
    gap = line.of("device.gap", "")
    assert not gap or gap[0].data["reason"] == "unasked"


def test_another_client_on_the_bus_is_named() -> None:
    line = Line([plan(1, interval_s=60)], [healthy(1)])
    line.run(2)
    line.handle(Received(rtu_frame(9, b"\x03\x02\x00\x01")))
    line.run(1)
    [gap] = line.of("device.gap", "")
    assert "a frame of unit 9: another client asks on this bus" in gap.data["detail"]
    assert gap.raw == rtu_frame(9, b"\x03\x02\x00\x01")


def test_two_devices_with_one_unit_are_named() -> None:
    line = Line([plan(1)], [healthy(1), healthy(1, 30)])
    line.run(3)
    [gap] = line.of("device.gap", "device-1")
    assert "two devices with unit 1" in gap.data["detail"]


# ---------------------------------------------------------------------------------------------- TCP


class TcpLine(Line):
    """Modbus TCP: what a test wants answered it says itself."""

    frames: list[bytes]
    answers = True
    delay_ms = 5

    def _send(self, frame: bytes) -> None:
        self.frames = [*getattr(self, "frames", []), frame]
        inner = Asked(
            frame[6], Request(frame[7], *(int.from_bytes(frame[n : n + 2], "big") for n in (8, 10))), 0, frame
        )
        self.handle(Sent())
        inner.at_ns = self.now_ns
        self.asked.append(inner)
        if self.answers:
            number = int.from_bytes(frame[:2], "big")
            self.say(self.delay_ms * MS, tcp(number, inner.unit, replied(inner.unit, inner.request)))


def test_tcp_reads_and_keeps_its_headers() -> None:
    line = TcpLine([plan(1), plan(2)], framing=Tcp())
    line.run(3)
    assert len(line.readings()) >= 6
    assert not line.wrong()
    draft = line.readings()[0]
    assert draft.raw is not None
    assert draft.raw[:12] == line.frames[0]
    assert draft.data["round"][0]["response_bytes"] == 9 + 8


def test_tcp_drops_what_is_late_and_asks_on() -> None:
    line = TcpLine([plan(1, Block(3, 0, 4), Block(3, 30, 4))], framing=Tcp())
    line.delay_ms = 300
    line.run(60)
    assert line.counts["late_dropped"] > 5
    assert not line.readings()
    line.delay_ms = 5
    line.handle(Opened("plc:502"))
    line.run(20)
    assert line.readings()
    assert not line.wrong()


def test_tcp_that_is_silent_is_connected_anew() -> None:
    line = TcpLine([plan(1)], framing=Tcp())
    line.answers = False
    line.run(30)
    assert len(line.frames) == 1 + SILENT_MAX  # the first one was answered
    assert "is connected and does not answer" in line.closes[0]


@pytest.mark.parametrize(
    ("unit", "pdu", "reason"),
    [
        (2, b"\x03\x08" + bytes(8), "wrong-unit"),
        (1, b"\x03\x06" + bytes(6), "wrong-count"),
        (1, b"\x04\x08" + bytes(8), "wrong-function"),
    ],
)
def test_tcp_answers_that_do_not_fit_are_refused(unit: int, pdu: bytes, reason: str) -> None:
    line = TcpLine([plan(1)], framing=Tcp())
    line.answers = False
    line.run(0)
    line.handle(Received(tcp(int.from_bytes(line.frames[0][:2], "big"), unit, pdu)))
    line.run(0.1)
    assert not line.readings()
    assert line.of("device.gap")[0].data["first_reason"] == reason


def test_tcp_nonsense_ends_the_connection() -> None:
    line = TcpLine([plan(1)], framing=Tcp())
    line.answers = False
    line.run(0)
    line.handle(Received(b"HTTP/1.1 400 Bad Request\r\n"))
    assert "is not of Modbus TCP; check address and framing" in line.closes[0]


# ------------------------------------------------------------------------------------------- orders


def wished(line: Line, ticket: int, device: str = "device-1", action: str = "write", **parameters: object) -> None:
    line.handle(Wish(ticket, device, action, parameters))


def accepting(asked: Asked) -> Sequence[tuple[int, bytes]]:
    if asked.request.function in {1, 2, 3, 4, 23}:
        return healthy(asked.unit)(asked)
    return [(5 * MS, rtu_frame(asked.unit, asked.request.pdu()[:5]))]


def orderly() -> Line:
    writable = {one.name: one for one in (PUMP, SWITCH, BOTH)}
    line = Line([plan(1, writable=writable, interval_s=10)], [accepting])
    line.run(1)
    return line


def test_an_order_writes_what_the_profile_names() -> None:
    line = orderly()
    wished(line, 1, name="pump", value=2)
    wished(line, 2, name="switch", values=[1])
    wished(line, 3, name="both", values=[7, 8])
    line.run(1)
    assert [line.outcomes[n].state for n in (1, 2, 3)] == ["done"] * 3
    assert line.asked[1].request == Request(6, 40, 1, (2,))
    assert line.asked[2].request == Request(5, 3, 1, (1,))
    assert line.asked[3].request == Request(23, 50, 2, (7, 8), 40)
    assert line.outcomes[1].result["request_hex"] == line.asked[1].frame.hex()
    assert len(line.outcomes[3].result["registers"]) == 2


@pytest.mark.parametrize(
    ("change", "state", "detail"),
    [
        ({"action": "reboot"}, "unknown", "know the action write"),
        ({"device": "device-9"}, "unknown", "no device 'device-9'"),
        ({"name": "heater"}, "refused", "lets both, pump, switch be written, not 'heater'"),
        ({"value": 4}, "refused", "from 0 to 3"),
        ({"value": True}, "refused", "whole numbers"),
        ({"values": [1, 2], "value": 1}, "refused", "takes 1 number"),
        ({"speed": 4}, "refused", "unknown parameters: speed"),
    ],
)
def test_other_orders_are_refused_with_the_reason(change: dict[str, object], state: str, detail: str) -> None:
    line = orderly()
    given: dict[str, object] = {"name": "pump", "value": 1, **change}
    wished(line, 1, str(given.pop("device", "device-1")), str(given.pop("action", "write")), **given)
    line.run(1)
    assert (line.outcomes[1].state, detail in line.outcomes[1].detail) == (state, True)
    assert all(one.request.function == 3 for one in line.asked)


def test_an_order_to_a_device_that_is_away_is_not_sent() -> None:
    line = orderly()
    line.slaves = []
    line.run(30)
    wished(line, 1, name="pump", value=2)
    assert line.outcomes[1].state == "offline"
    line.cut()
    wished(line, 2, name="pump", value=2)
    assert line.outcomes[2].state == "offline"
    assert not [one for one in line.asked if one.request.function == 6]


def test_an_order_without_an_answer_is_never_repeated() -> None:
    line = orderly()
    line.slaves = []
    wished(line, 1, name="pump", value=2)
    wished(line, 2, name="pump", value=3)
    line.run(20)
    assert line.outcomes[1].state == "timeout"
    assert line.outcomes[2].state == "offline"
    assert sum(one.request.function == 6 for one in line.asked) == 1


def test_a_device_may_refuse() -> None:
    line = orderly()
    line.slaves = [refusing(1, 3)]
    wished(line, 1, name="pump", value=2)
    line.run(0.5)
    assert line.outcomes[1].state == "refused"
    assert "illegal data value (3)" in line.outcomes[1].detail


def test_a_cancelled_order_keeps_the_line_until_its_answer_has_come() -> None:
    line = orderly()
    wished(line, 1, name="pump", value=2)
    wished(line, 2, name="pump", value=3)
    line.handle(Cancel(1))
    line.handle(Cancel(2))
    line.run(0.5)
    assert not line.outcomes
    assert sum(one.request.function == 6 for one in line.asked) == 1
    line.run(10)
    assert len(line.readings()) == 2
    assert not line.wrong()


def test_orders_are_bounded_and_answered_when_the_line_or_the_gateway_ends() -> None:
    line = orderly()
    for ticket in range(1, ORDERS_MAX + 3):
        wished(line, ticket, name="pump", value=1)
    assert line.outcomes[ORDERS_MAX + 2].state == "refused"
    line.cut()
    assert line.outcomes[1].state == "timeout"
    assert all(line.outcomes[n].state == "offline" for n in range(2, ORDERS_MAX + 1))
    again = orderly()
    wished(again, 1, name="pump", value=1)
    again.handle(Ended())
    assert again.outcomes[1].state == "timeout"


def test_an_echoing_line_does_not_confirm_a_write() -> None:
    def echo(asked: Asked) -> Sequence[tuple[int, bytes]]:
        answers = accepting(asked) if asked.request.function != 6 else ()
        return [(MS, asked.frame), *answers]

    line = Line([plan(1, writable={"pump": PUMP}, interval_s=10)], [echo])
    line.run(1)
    assert line.counts["echoes"] == 1
    assert line.readings()[0].data["round"][0]["frame_bytes"] == 13
    wished(line, 1, name="pump", value=2)
    line.run(1)
    assert line.outcomes[1].state == "timeout"
