"""Frames by the hundred thousand, for benches: what many terminals send over their route, encoded once, fast. Pure.

Every terminal drives the same closed line, each from another place of it, one fix per `interval_s`. The frames are
those that `codec.encode` writes for the same reports (a test compares them); here they are packed directly.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from drivers.checksum import xor8
from drivers.fleet.journeys import Journey
from drivers.jt808.framing import FLAG, Address, escape
from drivers.jt808.simulated import bcd_time
from drivers.jt808.wire import Version

FIRST_PHONE: Final = 13_900_000_000
BATCH: Final = 15
"""Fixes of one back-fill: as many as fit into one frame."""

_STATUS: Final = 1 << 0 | 1 << 1 | 3 << 8 | 1 << 18 | 1 << 19
"""Ignition on, fixed, loaded, GPS and BeiDou used."""
_BODY: Final = struct.Struct(">IIIIHHH6sBBIBBHBBB")
_HEAD: Final = struct.Struct(">HH6sH")
_HEAD_2019: Final = struct.Struct(">HHB10sH")
_BATCHED: Final = struct.Struct(">HB")
_MILEAGE_HM: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """Who drives, and where."""

    journey: Journey
    """Repeats; its length in seconds is the length of the table that is made of it."""
    terminals: int
    start_utc_s: int
    interval_s: int = 1
    version: Version = Version.V2013

    def phone(self, terminal: int) -> str:
        """Phone number: the identity of a terminal."""
        return str(FIRST_PHONE + terminal)

    def frames(self, fixes: int, first_serial: int = 1) -> Iterator[tuple[int, bytes]]:
        """(terminal, 0200) for fix after fix, of all terminals in turn."""
        table, heads = self._table(), self._phones()
        for number in range(fixes):
            time = self._time(number)
            serial = (first_serial + number) & 0xFFFF
            for terminal, phone in enumerate(heads):
                yield terminal, self._frame(0x0200, self._body(table, terminal, number, time), phone, serial)

    def backfill(self, fixes: int, first_serial: int = 1, per_batch: int = BATCH) -> Iterator[tuple[int, bytes]]:
        """(terminal, 0704 of type 1): the same fixes as stored ones, terminal after terminal."""
        table, phones = self._table(), self._phones()
        times = [self._time(number) for number in range(fixes)]
        for terminal, phone in enumerate(phones):
            for place, begin in enumerate(range(0, fixes, per_batch)):
                numbers = range(begin, min(begin + per_batch, fixes))
                bodies = (self._body(table, terminal, number, times[number]) for number in numbers)
                batch = b"".join(len(body).to_bytes(2, "big") + body for body in bodies)
                serial = (first_serial + place) & 0xFFFF
                yield terminal, self._frame(0x0704, _BATCHED.pack(len(numbers), 1) + batch, phone, serial)

    def _phones(self) -> list[bytes]:
        return [Address.of(self.phone(terminal), self.version).phone_field for terminal in range(self.terminals)]

    def _time(self, number: int) -> bytes:
        return bytes.fromhex(bcd_time(self.start_utc_s + number * self.interval_s))

    def _table(self) -> list[tuple[int, int, int, int, int]]:
        """Latitude and longitude in 1e-6 degree, speed, course and travelled hectometres, for every second."""
        rows = []
        for second in range(max(int(self.journey.for_s), 1)):
            moment = self.journey.at(second)
            place = round(moment.lat_e7 / 10), round(moment.lon_e7 / 10)
            motion = round(moment.speed_kmh * 10), round(moment.course_deg) % 360, int(moment.travelled_m / 100)
            rows.append((*place, *motion))
        return rows

    def _body(self, table: list[tuple[int, int, int, int, int]], terminal: int, number: int, time: bytes) -> bytes:
        second = terminal * 37 + number * self.interval_s
        laps, place = divmod(second, len(table))
        lat, lon, speed, course, hm = table[place]
        mileage = _MILEAGE_HM + hm + int(laps * self.journey.length_m / 100)
        return _BODY.pack(
            0, _STATUS, lat, lon, 6, speed, course, time, 0x01, 4, mileage, 0x03, 2, speed, 0x31, 1, 11
        )  # fmt: skip

    def _frame(self, msg_id: int, body: bytes, phone: bytes, serial: int) -> bytes:
        if self.version is Version.V2019:
            content = _HEAD_2019.pack(msg_id, len(body) | 1 << 14, 1, phone, serial) + body
        else:
            content = _HEAD.pack(msg_id, len(body), phone, serial) + body
        return FLAG + escape(content + bytes((xor8(content),))) + FLAG
