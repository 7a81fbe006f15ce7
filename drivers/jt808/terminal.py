"""What a terminal says about itself (JT/T 808, chapter 8): 0001 to 0004, 0100, 0102, 0107, 0702, 0900.

Widths differ between editions; where a terminal sends the widths of another edition than its header says, the body
decides, because such terminals exist and their registration is otherwise lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from drivers.jt808.wire import NO_TEXT, BodyEnds, Reader, Text, Version, digits, fixed, text8, u8, u16

PLATE_COLOURS: Final = {0: "none", 1: "blue", 2: "yellow", 3: "black", 4: "white", 5: "green", 9: "other"}
"""0100; with `none` the plate field holds the VIN."""

_REGISTRATION: Final = {Version.V2011: (5, 8, 7), Version.V2013: (5, 20, 7), Version.V2019: (11, 30, 30)}
"""Widths of maker, model and terminal id (JT/T 808-2019, 8.8; 2011, 8.4)."""
_ATTRIBUTES: Final = {Version.V2011: (5, 20, 7), Version.V2013: (5, 20, 7), Version.V2019: (5, 30, 30)}
_IMEI_SIZE: Final = 15
_SOFTWARE_SIZE: Final = 20


@dataclass(frozen=True, slots=True)
class Empty:
    """A message without a body. Some terminals put bytes there all the same: they are kept."""

    MSG_ID: ClassVar[int]

    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, _version: Version) -> Self:
        """From a body."""
        return cls(reader.rest())

    def write(self, _version: Version) -> bytes:
        """As a body."""
        return self.tail


class Heartbeat(Empty):
    """0002."""

    __slots__ = ()
    MSG_ID = 0x0002


class LogOff(Empty):
    """0003: the terminal cancels its registration."""

    __slots__ = ()
    MSG_ID = 0x0003


class TimeQuery(Empty):
    """0004 (JT/T 808-2019, 8.4): answered with 8004."""

    __slots__ = ()
    MSG_ID = 0x0004


@dataclass(frozen=True, slots=True)
class GeneralReply:
    """8001, the platform's. Results: 0 done, 1 failed, 2 message wrong, 3 not supported, 4 alarm dealt with."""

    MSG_ID: ClassVar[int] = 0x8001

    reply_serial: int
    reply_id: int
    result: int = 0
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, _version: Version) -> Self:
        """From a body."""
        return cls(reader.u16(), reader.u16(), reader.u8(), reader.rest())

    def write(self, _version: Version) -> bytes:
        """As a body."""
        return u16(self.reply_serial) + u16(self.reply_id) + u8(self.result) + self.tail


class TerminalReply(GeneralReply):
    """0001, the terminal's. Results 0 to 3 as in 8001."""

    __slots__ = ()
    MSG_ID = 0x0001


@dataclass(frozen=True, slots=True)
class Registration:
    """0100."""

    MSG_ID: ClassVar[int] = 0x0100

    province: int
    city: int
    """GB/T 2260: the first two and the last four digits of the place."""
    maker: Text
    model: Text
    terminal_id: Text
    plate_colour: int
    plate: Text
    layout: Version = Version.V2013
    """Edition whose widths the body has: here 2011 and 2013 differ, and only here can a session learn which it is."""

    @classmethod
    def read(cls, reader: Reader, version: Version) -> Self:
        """From a body."""
        start = reader.at
        body = reader.rest()
        reader.back_to(start)
        layout = registration_layout(body, version)
        maker, model, terminal_id = _REGISTRATION[layout]
        return cls(
            province=reader.u16(),
            city=reader.u16(),
            maker=reader.text(maker),
            model=reader.text(model),
            terminal_id=reader.text(terminal_id),
            plate_colour=reader.u8(),
            plate=Text(reader.rest()),
            layout=layout,
        )

    def write(self, _version: Version) -> bytes:
        """As a body in the widths of `layout`."""
        maker, model, terminal_id = _REGISTRATION[self.layout]
        names = fixed(self.maker, maker) + fixed(self.model, model) + fixed(self.terminal_id, terminal_id)
        return u16(self.province) + u16(self.city) + names + u8(self.plate_colour) + self.plate.raw


def registration_layout(body: bytes, version: Version) -> Version:
    """Which widths a registration has. 2011 has its colour at offset 24, 2013 at 36: a body long enough for 2013 is one
    unless a colour stands only where 2011 has it (a VIN makes a registration of 2011 that long)."""
    colour_at = {layout: 4 + sum(widths) for layout, widths in _REGISTRATION.items()}
    if version is Version.V2019 and len(body) > colour_at[Version.V2019]:
        return version
    at_2011, at_2013 = colour_at[Version.V2011], colour_at[Version.V2013]
    if len(body) <= at_2013:
        return Version.V2011
    is_2011 = body[at_2011] in PLATE_COLOURS and body[at_2013] not in PLATE_COLOURS and any(body[at_2011 + 1 : at_2013])
    return Version.V2011 if is_2011 else Version.V2013


@dataclass(frozen=True, slots=True)
class Authentication:
    """0102: in 2011 and 2013 the code alone, in 2019 the code, the IMEI and the software version."""

    MSG_ID: ClassVar[int] = 0x0102

    code: Text
    imei: Text | None = None
    software: Text | None = None
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, version: Version) -> Self:
        """From a body. A 2019 header before a body of 2013 occurs: the length byte then does not fit."""
        if version is Version.V2019:
            start = reader.at
            try:
                return cls(reader.text8(), reader.text(_IMEI_SIZE), reader.text(_SOFTWARE_SIZE), reader.rest())
            except BodyEnds:
                reader.back_to(start)
        return cls(Text(reader.rest()))

    def write(self, version: Version) -> bytes:
        """As a body."""
        if version is not Version.V2019 or self.imei is None:
            return self.code.raw
        software = fixed(self.software or NO_TEXT, _SOFTWARE_SIZE)
        return text8(self.code) + fixed(self.imei, _IMEI_SIZE) + software + self.tail


@dataclass(frozen=True, slots=True)
class Attributes:
    """0107: the answer to 8107 (not in 2011)."""

    MSG_ID: ClassVar[int] = 0x0107

    kind_bits: int
    maker: Text
    model: Text
    terminal_id: Text
    iccid: str
    """BCD[10]."""
    hardware: Text
    firmware: Text
    gnss_bits: int
    communication_bits: int
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, version: Version) -> Self:
        """From a body."""
        maker, model, terminal_id = _ATTRIBUTES[version]
        return cls(
            kind_bits=reader.u16(),
            maker=reader.text(maker),
            model=reader.text(model),
            terminal_id=reader.text(terminal_id),
            iccid=reader.digits(10),
            hardware=reader.text8(),
            firmware=reader.text8(),
            gnss_bits=reader.u8(),
            communication_bits=reader.u8(),
            tail=reader.rest(),
        )

    def write(self, version: Version) -> bytes:
        """As a body."""
        maker, model, terminal_id = _ATTRIBUTES[version]
        names = fixed(self.maker, maker) + fixed(self.model, model) + fixed(self.terminal_id, terminal_id)
        software = text8(self.hardware) + text8(self.firmware)
        bits = u8(self.gnss_bits) + u8(self.communication_bits)
        return u16(self.kind_bits) + names + digits(self.iccid, 10) + software + bits + self.tail


@dataclass(frozen=True, slots=True)
class Driver:
    """Who drives: the part of 0702 that is there when the card could be read."""

    name: Text
    licence: Text
    """Code of the qualification certificate."""
    issuer: Text
    valid_until: str
    """BCD[4] YYYYMMDD; empty in 2011, which has none."""
    id_number: Text = NO_TEXT
    """Identity card: 2019 and 2011."""


@dataclass(frozen=True, slots=True)
class DriverReport:
    """0702: a driver's card was put in (1) or pulled out (2). In 2011 only the driver is sent."""

    MSG_ID: ClassVar[int] = 0x0702
    INSERTED: ClassVar[int] = 1

    status: int
    time_bcd: str
    result: int | None
    """0 read, 1 authentication failed, 2 locked, 3 pulled out, 4 check failed; None where it is not sent."""
    driver: Driver | None
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, version: Version) -> Self:
        """From a body."""
        if version is Version.V2011:
            name, id_number, licence, issuer = reader.text8(), reader.text(20), reader.text(40), reader.text8()
            return cls(0, "", None, Driver(name, licence, issuer, "", id_number), reader.rest())
        status, time = reader.u8(), reader.digits(6)
        result = reader.u8() if reader.left else None
        start = reader.at
        driver = None
        try:
            name, licence, issuer, valid = reader.text8(), reader.text(20), reader.text8(), reader.digits(4)
            driver = Driver(name, licence, issuer, valid, reader.text(20) if version is Version.V2019 else NO_TEXT)
        except BodyEnds:
            reader.back_to(start)
        return cls(status, time, result, driver, reader.rest())

    def write(self, version: Version) -> bytes:
        """As a body."""
        driver = self.driver
        if version is Version.V2011 and driver:
            people = text8(driver.name) + fixed(driver.id_number, 20) + fixed(driver.licence, 40)
            return people + text8(driver.issuer) + self.tail
        head = u8(self.status) + digits(self.time_bcd, 6) + (b"" if self.result is None else u8(self.result))
        if driver is None:
            return head + self.tail
        people = text8(driver.name) + fixed(driver.licence, 20) + text8(driver.issuer) + digits(driver.valid_until, 4)
        return head + people + (fixed(driver.id_number, 20) if version is Version.V2019 else b"") + self.tail


@dataclass(frozen=True, slots=True)
class Transparent:
    """0900: a block that only its vendor knows, after its kind (0x00 GNSS, 0x0B IC card, 0x41/0x42 serial ports, …)."""

    MSG_ID: ClassVar[int] = 0x0900

    kind: int
    payload: bytes

    @classmethod
    def read(cls, reader: Reader, _version: Version) -> Self:
        """From a body."""
        return cls(reader.u8(), reader.rest())

    def write(self, _version: Version) -> bytes:
        """As a body."""
        return u8(self.kind) + self.payload
