"""Pages of an HTTP listing: JSON by the profile's pointers to items. Pure; never raises for any bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from drivers.bodycam.codec import Malformed, NameCodec
from drivers.bodycam.sidecars import as_text, point, read_json
from drivers.times import ReadTime, read_time
from firmware_profiles.model import Listing

ITEMS_MAX: Final = 10_000
NAME_MAX_BYTES: Final = 1024
URL_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Item:
    """One file that the station offers. `path` is the name's bytes; nothing in it is trusted."""

    path: bytes
    url: str
    size_bytes: int | None
    version: str
    """Changes when the file changes."""
    sha256: str
    """As declared; "" where none is."""
    fields: dict[str, str] = field(default_factory=dict)
    time: ReadTime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What a page holds. `refused` are (display name, reason) of items that cannot be used."""

    items: tuple[Item, ...]
    refused: tuple[tuple[bytes, str], ...]
    next_url: str
    full: bool
    """As many items as a page holds: by a page parameter there may be another one."""


def read_page(raw: bytes, listing: Listing, codec: NameCodec) -> Page | Malformed:
    """Read one page."""
    root = read_json(raw)
    if isinstance(root, Malformed):
        return root
    rows = point(root, listing.items)
    parent, _, key = listing.items.rpartition("/")
    if rows is None and isinstance(point(root, parent), dict) and key in point(root, parent):
        rows = []  # null for an empty page; a missing key is another kind of answer, such as an error
    if not isinstance(rows, list):
        return Malformed(f"no array at {listing.items or 'the root'}")
    if len(rows) > ITEMS_MAX:
        return Malformed(f"more than {ITEMS_MAX} items in a page")
    items: list[Item] = []
    refused: list[tuple[bytes, str]] = []
    for index, row in enumerate(rows):
        item = _item(row, listing, codec)
        if isinstance(item, Item):
            items.append(item)
        else:
            name = point(row, listing.name)
            raw_name = name.encode("utf-8", "surrogatepass") if isinstance(name, str) else b""
            refused.append((raw_name[:NAME_MAX_BYTES] or b"item %d" % index, item.reason))
    next_url = as_text(point(root, listing.next)) if listing.next else ""
    return Page(tuple(items), tuple(refused), next_url[:URL_MAX], len(rows) >= listing.page_size)


def _item(row: Any, listing: Listing, codec: NameCodec) -> Item | Malformed:
    name, url = point(row, listing.name), point(row, listing.url)
    if not isinstance(name, str) or not name:
        return Malformed("no-name")
    path = name.encode("utf-8", "surrogatepass")
    if len(path) > NAME_MAX_BYTES:
        return Malformed("name-too-long")
    if not isinstance(url, str) or not 0 < len(url) <= URL_MAX or not url.isprintable():
        return Malformed("no-url")
    size = _size(point(row, listing.size)) if listing.size else None
    if isinstance(size, Malformed):
        return size
    declared = as_text(point(row, listing.sha256)).strip().lower() if listing.sha256 else ""
    if declared and not re.fullmatch(r"[0-9a-f]{64}", declared):
        return Malformed("bad-sha256")
    changed = as_text(point(row, listing.mtime)) if listing.mtime else ""
    time_text = as_text(point(row, listing.time)) if listing.time else ""
    return Item(
        path,
        url,
        size,
        f"{changed[:128]} {declared}".strip(),
        declared,
        codec.clean_fields((key, as_text(point(row, pointer))) for key, pointer in listing.fields.items()),
        read_time(time_text, listing.time_format, listing.zone) if time_text else None,
    )


def _size(value: Any) -> int | Malformed | None:
    text = as_text(value)
    if value is None or text == "":
        return None
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else Malformed("bad-size")
