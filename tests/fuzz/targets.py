"""What is fuzzed: one function per codec that takes any bytes. tests/fuzz/test_targets.py runs each on the vectors and
on damaged copies of them, so that the targets themselves cannot rot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from drivers.hj212 import codec as hj212_codec
from drivers.hj212.framing import HELD_MAX_BYTES as HJ212_HELD_MAX_BYTES
from drivers.jt808 import codec as jt808_codec
from drivers.modbus import codec as modbus_codec
from drivers.modbus import driver as modbus_driver
from drivers.modbus.blocks import Block, Decoded, DevicePlan
from drivers.modbus.events import Event, Opened, Received, Send, Sent, Timer
from drivers.modbus.framing import Rtu, serial_wire
from drivers.nmea import codec as nmea_codec
from drivers.nmea.epochs import Epochs, Skies
from drivers.nmea.framing import Decoder as NmeaDecoder
from drivers.nmea.framing import Malformed as NmeaMalformed
from drivers.nmea.framing import Sentence
from drivers.nmea.framing import checksum as nmea_checksum
from drivers.nmea.messages import Gsv
from gateway.core.instant import Instant

HELD_MAX_BYTES: Final = 8192
SECOND_NS: Final = 10**9


def _cuts(data: bytes) -> tuple[bytes, list[bytes]]:
    """The stream, and a way to cut it that the first byte chooses."""
    if not data:
        return b"", []
    step, stream = data[0] % 61 + 1, data[1:]
    return stream, [stream[at : at + step] for at in range(0, len(stream), step)]


def jt808(data: bytes) -> None:
    """Frames, bodies of every edition, packets of long messages."""
    stream, chunks = _cuts(data)
    whole, cut = jt808_codec.Decoder(), jt808_codec.Decoder()
    found = [*whole.feed(stream), *whole.finish()]
    pieces: list[object] = []
    for chunk in chunks:
        pieces += cut.feed(chunk)
        assert cut.held_bytes <= HELD_MAX_BYTES
    pieces += cut.finish()
    assert pieces == found
    parts = jt808_codec.Reassembler(jt808_codec.PartLimits())
    now_ns = 0
    for frame in found:
        if isinstance(frame, jt808_codec.Malformed):
            continue
        for version in jt808_codec.Version:
            message = jt808_codec.parse(frame, version)
            body = message.write(version) if isinstance(message, jt808_codec.Opaque) else b""
            assert not body or body == frame.body
        now_ns += SECOND_NS
        results: list[object] = []
        if frame.total:
            results += parts.add(frame, now_ns)
        results += parts.due(now_ns)
        for result in results:
            if isinstance(result, jt808_codec.Assembled):
                jt808_codec.parse_body(result.frames[0].msg_id, result.body, jt808_codec.Version.V2019)
    parts.close()
    assert parts.held_bytes == 0


def nmea(data: bytes) -> None:
    """Sentences, epochs, satellites in view."""
    stream, chunks = _cuts(data)
    whole, cut = NmeaDecoder(), NmeaDecoder()
    found = [*whole.feed(stream), *whole.close()]
    pieces: list[object] = []
    for chunk in chunks:
        pieces += cut.feed(chunk)
        assert cut.pending_bytes <= HELD_MAX_BYTES
    pieces += cut.close()
    assert [one for one in pieces if isinstance(one, Sentence)] == [one for one in found if isinstance(one, Sentence)]
    _join([one for one in found if isinstance(one, Sentence)])


def nmea_fields(data: bytes) -> None:
    """Lines of any fields with the right checksum: a fuzzer would guess one in 256."""
    decoder = NmeaDecoder()
    found = []
    for line in data.split(b"\n")[:64]:
        body = line.replace(b"$", b"").replace(b"*", b"")
        found += decoder.feed(b"$%b*%02X\r\n" % (body, nmea_checksum(body)))
    _join([one for one in found if isinstance(one, Sentence)])


def _join(sentences: list[Sentence]) -> None:
    epochs, skies = Epochs(), Skies()
    fixes = []
    for one in sentences:
        message = nmea_codec.parse(one)
        if isinstance(message, NmeaMalformed):
            continue
        fixes.append(epochs.push(one, message))
        if isinstance(message, Gsv):
            skies.push(message)
    fixes.append(epochs.flush())
    for fix in fixes:
        if fix is not None and fix.lat_e7 is not None and fix.lon_e7 is not None:
            assert abs(fix.lat_e7) <= 900_000_000
            assert abs(fix.lon_e7) <= 1_800_000_000


def jt808_body(data: bytes) -> None:
    """Bodies of every message in every edition; what was read can be written, and reads the same again."""
    msg_id, body = int.from_bytes(data[:2], "big"), data[2:]
    for version in jt808_codec.Version:
        message = jt808_codec.parse_body(msg_id, body, version)
        try:
            written = message.write(version)
        except jt808_codec.EncodeError:
            continue  # digits above 9, a text too long for its field: it was sent, and cannot be sent by us
        assert jt808_codec.parse_body(msg_id, written, version).write(version) == written


def modbus(data: bytes) -> None:
    """A line that says anything: while a question is open, while none is; and the same bytes as Modbus TCP."""
    stream, chunks = _cuts(data)
    request = modbus_codec.Request(3, 0, 4)
    for asked in (request, modbus_codec.Request(6, 7, 1, (9,))):
        whole = modbus_codec.RtuReader(1, asked).feed(stream)
        if isinstance(whole, modbus_codec.Found):
            frame = whole.response[-whole.frame_bytes :]
            assert modbus_codec.is_sealed(frame)
            assert frame[0] == 1
    tcp = modbus_codec.TcpReader()
    cut = [adu for chunk in chunks for adu in tcp.feed(chunk)]
    assert cut == modbus_codec.TcpReader().feed(stream)
    assert tcp.held_bytes <= HELD_MAX_BYTES
    plan = DevicePlan(1, "device", (Block(3, 0, 4),), lambda _: Decoded(()), interval_s=0.1, fence=False)
    session = modbus_driver.Session("bus", [plan], Rtu(serial_wire(9600)))
    now_ns = SECOND_NS
    events: list[Event] = [Opened("line")]
    for chunk in chunks:
        events += [Timer(), Received(chunk)]
    for event in events:
        for command in session.handle(event, Instant("0" * 32, 1, now_ns, now_ns)):
            if isinstance(command, Send) and session.is_sending:
                session.handle(Sent(), Instant("0" * 32, 1, now_ns, now_ns))
        now_ns = max(now_ns, session.deadline_ns() or 0) if len(stream) % 2 else now_ns + SECOND_NS // 50


def hj212(data: bytes) -> None:
    """Frames, segments, and each message written and read again."""
    stream, chunks = _cuts(data)
    whole, cut = hj212_codec.Decoder(), hj212_codec.Decoder()
    found = [*whole.feed(stream), *whole.finish()]
    pieces: list[object] = []
    for chunk in chunks:
        pieces += cut.feed(chunk)
        assert cut.held_bytes <= HJ212_HELD_MAX_BYTES
    pieces += cut.finish()
    assert pieces == found
    segments = [stream, *(one.segment for one in found if isinstance(one, hj212_codec.Frame))]
    for segment in segments:
        message = hj212_codec.parse(segment)
        assert message.deviations <= set(hj212_codec.DEVIATIONS)
        written = hj212_codec.segment_of(message)
        again = hj212_codec.parse(written)
        assert (again.mn, again.flag, again.factors) == (message.mn, message.flag, message.factors) or (
            message.deviations - {"mn-form", "qn-form", "st-unknown"}
        )
        if len(written) <= 9999:
            (frame,) = hj212_codec.Decoder().feed(hj212_codec.encode(message))
            assert isinstance(frame, hj212_codec.Frame)
            assert frame.segment == written


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "jt808": jt808,
    "jt808-body": jt808_body,
    "nmea": nmea,
    "nmea-fields": nmea_fields,
    "modbus": modbus,
    "hj212": hj212,
}
