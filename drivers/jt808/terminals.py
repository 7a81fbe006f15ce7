"""The terminals of a source: what each is, by which code it is known, and how it is answered. Pure.

A `Terminal` exists for every device that was let in since the start: a listed one, or one of an open class that has
registered. Others leave nothing behind.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from drivers.checksum import xor8
from drivers.jt808 import dialect
from drivers.jt808.codec import Address, EncodeError, Frame, Message, Version, encode
from drivers.jt808.dialect import Held, Said
from drivers.jt808.reports import FixReader
from gateway.core.record import ProfileRef
from gateway.devices import Device, DeviceClass, Devices

if TYPE_CHECKING:
    from drivers.jt808.links import Link

OPEN_TERMINALS_MAX: Final = 20_000
"""Terminals of open classes; listed ones are as many as are listed."""
PREFIX: Final = b"t"
NO_CODE: Final = "*"
"""Code of a device that need not authenticate."""
CODE_DIGITS: Final = 16
SENT_MESSAGES_MAX: Final = 4
"""Downlinks in several packets that can be sent again when the terminal asks (0005)."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a terminal said of itself when it registered."""

    maker: str = ""
    model: str = ""
    terminal_id: str = ""
    plate: str = ""
    layout: int = 0
    """Edition of its registration: the only place where 2011 shows."""


class Terminal:
    """One device. Its head stands beside every fix; its serial number counts every frame sent to it."""

    __slots__ = (
        "address", "answer_head", "answer_xor", "device", "device_class", "enrolment", "free_at_ns", "head",
        "held", "identity", "left_out", "link", "messages", "plate", "reader", "recorded_ns", "ref", "sent", "serial",
        "untold",
    )  # fmt: skip

    def __init__(self, identity: str, enrolment: Enrolment) -> None:
        self.identity = identity
        self.enrolment = enrolment
        self.link: Link | None = None
        """Where it is online."""
        self.serial = 0
        self.address: Address | None = None
        self.sent: OrderedDict[int, tuple[bytes, ...]] | None = None
        self.held: Held | None = None
        self.recorded_ns = 0
        self.free_at_ns = 0
        """States: a leaky bucket, as the time at which it is empty."""
        self.left_out = 0
        self.untold: dict[str, Any] | None = None

    def become(self, device: Device | None, device_class: DeviceClass, reader: FixReader) -> None:
        """What the devices file makes of it; again when the file has changed."""
        self.device, self.device_class, self.reader = device, device_class, reader
        self.plate = device.plate if device else ""
        self.head = {"class": device_class.id, "plate": self.plate, **reader.dialect.datum_keys}
        self.ref: ProfileRef | None = reader.dialect.ref
        self.messages = reader.dialect.messages
        self.held = None

    def meet(self, frame: Frame) -> Address:
        """Answer from now on as this frame was sent: its edition and its very phone field."""
        version = Version.V2011 if self.enrolment.layout == Version.V2011 else frame.version
        version = frame.version if frame.version is Version.V2019 else version
        self.address = address = Address.of_frame(frame, version)
        protocol = bytes((address.protocol,)) if version is Version.V2019 else b""
        properties = 5 | (1 << 14 if version is Version.V2019 else 0)
        self.answer_head = b"\x80\x01" + properties.to_bytes(2, "big") + protocol + address.phone_field
        self.answer_xor = xor8(self.answer_head)
        return address

    def answer(self, serial: int, msg_id: int, result: int) -> bytes:
        """8001, ready to send: written by hand because there is one for nearly every frame."""
        own = self.serial
        self.serial = (own + 1) & 0xFFFF
        body = own << 40 | serial << 24 | msg_id << 8 | result
        content = body.to_bytes(7, "big")
        check = self.answer_xor ^ xor8(content)
        content = self.answer_head + content + bytes((check,))
        if 0x7D in content or 0x7E in content:
            content = content.replace(b"\x7d", b"\x7d\x01").replace(b"\x7e", b"\x7d\x02")
        return b"\x7e" + content + b"\x7e"

    def write(self, message: Message) -> tuple[range, bytes]:
        """Another message: the serial numbers (before they wrap) and bytes of its frames. Raises EncodeError."""
        if self.address is None:
            raise EncodeError("the device has not been met yet: nobody knows which edition it speaks")
        first = self.serial
        frames = encode(message, self.address, first)
        self.serial = (first + len(frames)) & 0xFFFF
        if len(frames) > 1:
            self.sent = self.sent if self.sent is not None else OrderedDict()
            self.sent[first] = frames
            while len(self.sent) > SENT_MESSAGES_MAX:
                self.sent.popitem(last=False)
        return range(first, first + len(frames)), b"".join(frames)

    def again(self, first_serial: int, parts: tuple[int, ...]) -> bytes:
        """Packets of a message sent before, the very bytes; nothing for one that is forgotten."""
        frames = self.sent.get(first_serial, ()) if self.sent is not None else ()
        return b"".join(frames[part - 1] for part in dict.fromkeys(parts) if 1 <= part <= len(frames))

    def hold(self, said: Said, now_ns: int) -> None:
        """Remember what a message of its own said, for the fixes that follow."""
        if self.held is None:
            self.held = Held(self.reader.dialect.hold_s)
        self.held.take(said, now_ns)


class Terminals:
    """All of one source."""

    def __init__(self, devices: Devices, secret: bytes, remembered: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """`secret` makes the authentication codes; `remembered`: what `enrol` gave in earlier runs."""
        self._secret = secret
        self._terminals: dict[str, Terminal] = {}
        self._enrolments: dict[str, Enrolment] = {}
        for key, value in remembered:
            if (found := _enrolment(value)) is not None:
                self._enrolments[key[len(PREFIX) :].decode("utf-8", "replace")] = found
        self._use(devices)

    def __len__(self) -> int:
        return len(self._terminals)

    def __iter__(self) -> Iterator[Terminal]:
        return iter(self._terminals.values())

    def get(self, identity: str) -> Terminal | None:
        """One that was let in."""
        return self._terminals.get(identity)

    def takes(self, identity: str, enrolment: Enrolment | None = None) -> bool:
        """Whether the devices file has a place for it, as it registers, or as it registered before."""
        known = self._enrolments.get(identity)
        if self._devices.find(identity) is not None:
            return True
        if known is None and (enrolment is None or len(self._enrolments) >= OPEN_TERMINALS_MAX):
            return False
        said = enrolment or known or Enrolment()
        return self._devices.open_class(said.maker, said.model) is not None

    def enrol(self, identity: str, enrolment: Enrolment) -> tuple[bytes, bytes] | None:
        """Keep what it says when it registers; key and value that bring it back in the next run, None where it is
        known. It counts from the next authentication on: who registers has shown nothing yet."""
        if self._enrolments.get(identity) == enrolment:
            return None
        self._enrolments[identity] = enrolment
        return PREFIX + identity.encode(), json.dumps(asdict(enrolment)).encode()

    def code_of(self, identity: str) -> str:
        """Its authentication code: the fixed one of the devices file, or one that needs no memory and that nobody
        can make without the secret."""
        device = self._devices.find(identity)
        if device is not None and device.code:
            return device.code
        return hmac.new(self._secret, identity.encode(), hashlib.sha256).hexdigest()[:CODE_DIGITS]

    def has_fixed_code(self, identity: str) -> bool:
        """Whether the devices file gives it a code: a secret, which is not told to who registers under its number."""
        device = self._devices.find(identity)
        return device is not None and device.code not in ("", NO_CODE)

    def is_code(self, identity: str, code: str) -> bool:
        """Whether it is the right one; any is for a device that needs none."""
        wanted = self.code_of(identity)
        return wanted == NO_CODE or hmac.compare_digest(code.encode(), wanted.encode())

    def needs_code(self, identity: str) -> bool:
        """Whether it must authenticate before anything of it is taken."""
        device = self._devices.find(identity)
        return device is None or device.code != NO_CODE

    def let_in(self, identity: str) -> Terminal | None:
        """The terminal of an identity that has authenticated; None where the devices file has no place for it."""
        enrolment = self._enrolments.get(identity) or Enrolment()
        terminal = self._terminals.get(identity)
        if terminal is not None and enrolment == terminal.enrolment:
            return terminal
        terminal = terminal or Terminal(identity, enrolment)
        terminal.enrolment = enrolment
        if not self._place(terminal):
            return None
        self._terminals[identity] = terminal
        return terminal

    def use(self, devices: Devices) -> list[Terminal]:
        """Another devices file is in force: those that have no place in it any more. They are forgotten."""
        self._use(devices)
        gone = [terminal for terminal in self._terminals.values() if not self._place(terminal)]
        for terminal in gone:
            del self._terminals[terminal.identity]
        return gone

    def _use(self, devices: Devices) -> None:
        self._devices = devices
        loaded = devices.profiles.items()
        self._dialects = {key: dialect.compile(one.profile, one.ref) for key, one in loaded}
        self._readers = {key: FixReader(self._dialects[key], one.profile) for key, one in loaded}

    def _place(self, terminal: Terminal) -> bool:
        enrolment = terminal.enrolment
        device = self._devices.find(terminal.identity)
        if device is not None:
            device_class = self._devices.class_of(device.device_class)
        else:
            found = self._devices.open_class(enrolment.maker, enrolment.model)
            if found is None:
                return False
            device_class = found
        profile = self._devices.profile_of(device, device_class)
        chosen = dialect.choose(self._dialects, profile, enrolment.maker, enrolment.model)
        terminal.become(device, device_class, self._readers[chosen.id])
        return True


def _enrolment(value: bytes) -> Enrolment | None:
    try:
        found = Enrolment(**json.loads(value))
    except (ValueError, TypeError):
        return None
    texts = (found.maker, found.model, found.terminal_id, found.plate)
    return found if all(isinstance(text, str) for text in texts) and isinstance(found.layout, int) else None
