"""The synthetic photo is a JPEG that a decoder, written here from the standard, reads back to the same shades."""

from collections.abc import Iterator

import pytest

from drivers.jt808.picture import jpeg


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, content) of every segment; the last is the scan with its bytes behind."""
    assert data[:2] == b"\xff\xd8"
    at = 2
    while True:
        assert data[at] == 0xFF
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        content = data[at + 4 : at + 2 + size]
        at += 2 + size
        if marker == 0xDA:
            yield marker, data[at:]
            return
        yield marker, content


def huffman(content: bytes) -> dict[str, int]:
    """Annex C: codes from the numbers of codes of each length."""
    codes: dict[str, int] = {}
    code, at = 0, 17
    for length in range(1, 17):
        for _ in range(content[length]):
            codes[f"{code:0{length}b}"] = content[at]
            code, at = code + 1, at + 1
        code <<= 1
    return codes


def decoded(data: bytes) -> tuple[int, int, list[int]]:
    """Width, height, the mean of each block."""
    tables: dict[int, dict[str, int]] = {}
    quantum = width = height = 0
    bits = ""
    for marker, content in segments(data):
        if marker == 0xDB:
            quantum = content[1]
        elif marker == 0xC0:
            assert content[0] == 8
            height, width = int.from_bytes(content[1:3], "big"), int.from_bytes(content[3:5], "big")
        elif marker == 0xC4:
            tables[content[0]] = huffman(content)
        elif marker == 0xDA:
            assert content[-2:] == b"\xff\xd9"
            bits = "".join(f"{byte:08b}" for byte in content[:-2].replace(b"\xff\x00", b"\xff"))
    at, level, blocks = 0, 0, []

    def symbol(table: dict[str, int]) -> int:
        nonlocal at
        end = next(end for end in range(at + 1, at + 17) if bits[at:end] in table)
        at, found = end, table[bits[at:end]]
        return found

    for _ in range(width // 8 * (height // 8)):
        size = symbol(tables[0x00])
        raw = int(bits[at : at + size] or "0", 2)
        at += size
        level += raw if not size or raw >> (size - 1) else raw - (1 << size) + 1
        assert symbol(tables[0x10]) == 0
        blocks.append(level * quantum // 8 + 128)
    assert len(bits) - at < 8
    assert set(bits[at:]) <= {"1"}
    return width, height, blocks


@pytest.mark.parametrize(
    ("width", "height", "shade"),
    [
        (640, 480, lambda column, row: (column * 3 + row * 7) % 256),
        (8, 8, lambda _column, _row: 255),
        (64, 16, lambda column, row: 255 * ((column + row) % 2)),
        (32, 32, lambda column, _row: -50 if column % 2 else 400),
    ],
)
def test_every_shade_comes_back(width: int, height: int, shade: object) -> None:
    found = decoded(jpeg(shade, width, height))  # type: ignore[arg-type]
    wanted = [min(max(shade(c, r), 0), 255) for r in range(height // 8) for c in range(width // 8)]  # type: ignore[operator]
    assert found == (width, height, wanted)
