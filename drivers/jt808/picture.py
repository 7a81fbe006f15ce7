"""A small photo made of numbers alone: a baseline JPEG (ITU-T T.81) in grey, one shade for each block of 8 x 8.

Every viewer opens it. It exists so that a simulated terminal has something to send in packets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

WIDTH: Final = 640
HEIGHT: Final = 480

_HEAD: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_SHADES: Final = b"\xff\xdb\x00\x43\x00" + bytes([8]) + bytes([1]) * 63
"""One step of the first coefficient is one shade: it is eight times the mean of a block."""
_DC_CODES: Final = ("00", "010", "011", "100", "101", "110", "1110", "11110", "111110")
"""Annex K.3, table K.3: the code of each number of bits of a difference."""
_DC_TABLE: Final = b"\xff\xc4\x00\x1f\x00" + bytes([0, 1, 5, 1, 1, 1, 1, 1, 1, *[0] * 7]) + bytes(range(12))
_AC_TABLE: Final = b"\xff\xc4\x00\x14\x10" + bytes([1, *[0] * 15]) + b"\x00"
"""One code only, a single 0 bit: the block ends here."""
_SCAN: Final = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"


def jpeg(shade: Callable[[int, int], int], width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A picture of `shade(column, row)`, 0 to 255, of each block; sizes are multiples of 8."""
    bits, before = [], 0
    for row in range(height // 8):
        for column in range(width // 8):
            level = min(max(shade(column, row), 0), 255) - 128
            step, before = level - before, level
            size = abs(step).bit_length()
            number = step if step > 0 else step + (1 << size) - 1
            bits.append(_DC_CODES[size] + (f"{number:0{size}b}" if size else "") + "0")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")
    frame = b"\xff\xc0\x00\x0b\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + b"\x01\x01\x11\x00"
    return _HEAD + _SHADES + frame + _DC_TABLE + _AC_TABLE + _SCAN + scan + b"\xff\xd9"
