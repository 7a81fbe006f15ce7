"""The fuzz targets run on sound frames, on damaged ones and on noise: what a fuzzer starts from must work."""

from __future__ import annotations

import random

import pytest

from drivers.hj212.framing import written
from drivers.jt808 import codec as jt808_codec
from drivers.modbus.codec import Request, reply_pdu, rtu_frame
from drivers.nmea.framing import encode
from tests.fuzz.targets import TARGETS

FRAMES = b"".join(
    frame
    for message in (
        jt808_codec.Heartbeat(),
        jt808_codec.Location(0, 2, 30_700_000, 121_020_000, 4, 300, 90, "261122120000"),
        jt808_codec.Transparent(0x41, bytes(range(256)) * 5),
    )
    for frame in jt808_codec.encode(message, jt808_codec.Address(jt808_codec.Version.V2013, bytes(6)), 7)
)
SENTENCES = encode("GNRMC", ("120000", "A", "3042.0000", "N", "12101.2000", "E", "1.0", "90.0", "221126", "", "", "A"))
SEEDS = {"jt808": b"\x07" + FRAMES, "jt808-body": b"\x02\x00" + FRAMES[13:60], "nmea": b"\x07" + SENTENCES}
SEEDS["nmea-fields"] = SENTENCES[1:-5]
SEEDS["modbus"] = b"\x07" + rtu_frame(1, reply_pdu(Request(3, 0, 4), (1, 2, 3, 4))) * 3
SEEDS["hj212"] = b"\x07" + 2 * written(
    b"QN=20261118120000123;ST=31;CN=2011;PW=123456;MN=0A10000000000000FD010001;Flag=7;PNUM=2;PNO=1;"
    b"CP=&&DataTime=20261118120000;a34041-Rtd=0.77,a34041-Flag=N;SB7-RS=1&&"
)


@pytest.mark.parametrize("name", TARGETS)
def test_target_takes_sound_damaged_and_random_bytes(name: str) -> None:
    dice = random.Random(808)
    target, seed = TARGETS[name], SEEDS[name]
    target(seed)
    for _ in range(300):
        damaged = bytearray(seed)
        for _ in range(dice.randrange(1, 6)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        target(bytes(damaged[: dice.randrange(len(damaged) + 1)]))
        target(dice.randbytes(dice.randrange(200)))
