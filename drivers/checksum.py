"""Check values that more than one protocol uses."""

from __future__ import annotations


def xor8(data: bytes) -> int:
    """XOR of all bytes; 0 for none. One big integer is halved again and again, cheaper than a loop over bytes."""
    left = len(data)
    value = int.from_bytes(data, "big")
    while left > 1:
        half_bits = (left + 1) // 2 * 8
        value = (value >> half_bits) ^ (value & ((1 << half_bits) - 1))
        left = half_bits // 8
    return value
