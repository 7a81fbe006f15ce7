"""Packed digits and named bits, which more than one protocol uses."""

from __future__ import annotations

from collections.abc import Mapping


def is_bcd(digits: str) -> bool:
    """Whether the hexadecimal text of some bytes holds decimal digits only (8421 code)."""
    return digits.isdecimal()


def named_bits(value: int, names: Mapping[int, str]) -> frozenset[str]:
    """The names of the bits that are set; `bit<n>` for one without a name, so that none is lost."""
    found = []
    while value:
        lowest = value & -value
        bit = lowest.bit_length() - 1
        found.append(names.get(bit, f"bit{bit}"))
        value ^= lowest
    return frozenset(found)


def signed(value: int, bits: int) -> int:
    """Two's complement reading of an unsigned value."""
    return value - (1 << bits) if value >> (bits - 1) else value
