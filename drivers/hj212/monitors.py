"""The monitors of one source: who each is, what its codes mean, where it is heard, how far its clock is off. Pure."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

from drivers.hj212 import dialect
from drivers.hj212.dialect import Dialect
from drivers.hj212.framing import Variant
from gateway.core.record import StateChange
from gateway.devices import UNLISTED, Devices

PLAIN: Final = "hj212"
UNLISTED_MAX: Final = 4096
"""Monitors on no list that are remembered; the one heard longest ago makes room."""
LOOKED_AT_MAX: Final = 64
"""Of them looked at in search of one that is not connected."""
STATES_BURST: Final = 10
STATE_EVERY_NS: Final = 60_000_000_000
"""States of one monitor: so many at once, then one per minute; the newest is never left out for good."""
PERIOD_PREFIX: Final = b"m"
PW_USUAL: Final = "123456"

CLOCK_OFF_S: Final = 120
"""As in gateway.core.readings: a moment later than this after arrival is `future`."""
CLOCK_AGREES_S: Final = 5
"""Back-filled messages come with old times, so an offset counts only once CLOCK_SEEN of them in a row agree so well."""
CLOCK_SEEN: Final = 3
CLOCK_MOVED_S: Final = 60
"""An offset that has changed by less is told no second time."""
CLOCK_EVERY_NS: Final = 600_000_000_000

_MN: Final = re.compile(rb"MN\s*=\s*([^;,&\s]{1,64})", re.IGNORECASE)


class DeviceClock:
    """How far the clock of one monitor is off, by the times at which it says it sent."""

    __slots__ = ("_last_s", "_seen", "_told_ns", "_told_s", "offset_s")

    def __init__(self) -> None:
        self.offset_s: int | None = None
        """Device minus gateway; None until it is known."""
        self._last_s = 0
        self._seen = 0
        self._told_s: int | None = None
        self._told_ns: int | None = None

    @property
    def is_off(self) -> bool:
        """Whether it is known to be wrong."""
        return self.offset_s is not None and abs(self.offset_s) > CLOCK_OFF_S

    def note(self, offset_s: int) -> None:
        """A message arrived that was sent at this offset, give or take its way."""
        self._seen = self._seen + 1 if abs(offset_s - self._last_s) <= CLOCK_AGREES_S else 1
        self._last_s = offset_s
        if self._seen >= CLOCK_SEEN:
            self.offset_s = offset_s

    def news(self, now_ns: int) -> int | None:
        """The offset, where it is to be told now: it went wrong, moved, or is right again."""
        if self.offset_s is None:
            return None
        told_s = self._told_s
        if told_s is None:
            is_new = self.is_off
        else:
            is_new = (abs(told_s) > CLOCK_OFF_S) is not self.is_off or (
                self.is_off and abs(self.offset_s - told_s) > CLOCK_MOVED_S
            )
        if not is_new or (self._told_ns is not None and now_ns - self._told_ns < CLOCK_EVERY_NS):
            return None
        self._told_s, self._told_ns = self.offset_s, now_ns
        return self.offset_s


class Monitor:
    """One MN. Small: thousands may be remembered."""

    __slots__ = (
        "_states", "_states_ns", "clock", "crc", "dialect", "head", "heard_ns", "is_listed", "left_out", "link",
        "minute_s", "mn", "previous", "pw", "pw_set", "quarantine", "repeated", "st", "state", "told", "version",
    )  # fmt: skip

    def __init__(self, mn: str) -> None:
        self.mn = mn
        self.head: dict[str, str] = {}
        """`class` and `site` of its records."""
        self.is_listed = False
        self.quarantine = ""
        """`unlisted` where no list takes it."""
        self.dialect: Dialect
        self.crc: Variant = "hj212"
        """That of its last message: orders have the same."""
        self.pw_set = ""
        """PW that orders carry, where the devices file says one."""
        self.pw = ""
        """As it sends it itself."""
        self.st = ""
        self.version = 1
        self.link: int | None = None
        self.previous: int | None = None
        self.heard_ns = 0
        self.clock = DeviceClock()
        self.minute_s = 0
        """Period of its minute data, where an order has read or set it; 0: as the profile says."""
        self.repeated = 0
        """Messages in a row that were here already."""
        self.state = ("", "", "")
        """State, reason and address as they are."""
        self.told = ("", "", "")
        """The same as last recorded."""
        self.left_out = 0
        self._states = float(STATES_BURST)
        self._states_ns = 0

    def may_tell(self, now_ns: int) -> bool:
        """Take one of its places for a record of state, if there is one."""
        earned = (now_ns - self._states_ns) / STATE_EVERY_NS
        self._states = min(self._states + max(earned, 0.0), STATES_BURST)
        self._states_ns = now_ns
        if self._states < 1:
            return False
        self._states -= 1
        return True

    @property
    def period_s(self) -> int:
        """Of its minute data."""
        return self.minute_s or self.dialect.minute_s

    @property
    def password(self) -> str:
        """PW of orders and answers."""
        return self.pw_set or self.pw or PW_USUAL


class Monitors:
    """All monitors of one source that were heard."""

    def __init__(
        self, source: str, devices: Devices, crc: Variant, remembered: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """`crc`: for monitors of which the devices file says nothing; `remembered`: pairs of `keep_period`."""
        self._source = source
        self._devices = devices
        self._crc: Variant = crc
        self._dialects: dict[str, Dialect] = {}
        self._listed: dict[str, Monitor] = {}
        self._others: OrderedDict[str, Monitor] = OrderedDict()
        self._periods = {
            key[len(PERIOD_PREFIX) :].decode("utf-8", "replace"): int(value)
            for key, value in remembered
            if key[: len(PERIOD_PREFIX)] == PERIOD_PREFIX and value.isdigit()
        }

    def __iter__(self) -> Iterator[Monitor]:
        yield from self._listed.values()
        yield from self._others.values()

    @property
    def has_list(self) -> bool:
        """Whether a devices file says who is known."""
        return bool(self._devices.sha256)

    def get(self, mn: str) -> Monitor | None:
        """One that was heard, or is listed."""
        found = self._listed.get(mn) or self._others.get(mn)
        if found is None and self._devices.find(mn) is not None:
            return self.meet(mn)
        return found

    def meet(self, mn: str) -> Monitor | None:
        """The monitor of an MN; None where there are too many that nobody has listed."""
        found = self._listed.get(mn)
        if found is not None:
            return found
        found = self._others.get(mn)
        if found is not None:
            self._others.move_to_end(mn)
            return found
        monitor = Monitor(mn)
        self._place(monitor)
        if monitor.is_listed:
            self._listed[mn] = monitor
            return monitor
        if len(self._others) >= UNLISTED_MAX and not self._make_room():
            return None
        self._others[mn] = monitor
        return monitor

    def passing(self, mn: str) -> Monitor:
        """The monitor of an MN, remembered or not: for what an earlier run has left."""
        found = self.meet(mn)
        if found is None:
            found = Monitor(mn)
            self._place(found)
        return found

    def use(self, devices: Devices) -> None:
        """Another devices file is in force."""
        self._devices = devices
        self._dialects.clear()
        everyone = list(self)
        self._listed.clear()
        self._others.clear()
        for monitor in everyone:
            self._place(monitor)
            (self._listed if monitor.is_listed else self._others)[monitor.mn] = monitor

    def crc_of(self, segment: bytes) -> Variant:
        """Which CRC beside the standard's a segment may have, by the MN in it."""
        found = _MN.search(segment)
        device = self._devices.find(found[1].decode("ascii", "replace")) if found is not None else None
        if device is not None and device.crc:
            return "modbus_low_byte_first" if device.crc == "modbus_low_byte_first" else "hj212"
        return self._crc

    def keep_period(self, monitor: Monitor, minute_s: int) -> StateChange:
        """Its minute data are of this length from now on; what to store so that it is known after a restart."""
        monitor.minute_s = self._periods[monitor.mn] = minute_s
        return StateChange(self._source, PERIOD_PREFIX + monitor.mn.encode(), str(minute_s).encode())

    def _make_room(self) -> bool:
        for number, monitor in enumerate(self._others.values()):
            if monitor.link is None:
                del self._others[monitor.mn]
                return True
            if number >= LOOKED_AT_MAX:
                break
        return False

    def _place(self, monitor: Monitor) -> None:
        """Class, site and dialect by the devices file in force."""
        devices = self._devices
        device = devices.find(monitor.mn)
        kind = devices.class_of(device.device_class) if device is not None else devices.open_class("", monitor.mn)
        monitor.is_listed = device is not None
        is_taken = kind is not None and (self.has_list or kind.id != UNLISTED)
        monitor.quarantine = "" if is_taken else "unlisted"
        monitor.head = {"class": kind.id if kind else UNLISTED, "site": device.site if device else ""}
        monitor.dialect = self._dialect(devices.profile_of(device, kind) if kind else PLAIN)
        monitor.pw_set = device.code if device else ""
        monitor.minute_s = self._periods.get(monitor.mn, 0)

    def _dialect(self, profile_id: str) -> Dialect:
        found = self._dialects.get(profile_id)
        if found is None:
            loaded = self._devices.monitors[profile_id]
            found = self._dialects[profile_id] = dialect.compile(loaded.profile, loaded.ref)
        return found
