"""Topics and payloads of the live channel (WIRE.md, "Live channel")."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote

from gateway.core.ports import LiveItem

ONLINE: Final = b'{"state":"online"}'
OFFLINE: Final = b'{"state":"offline"}'
SAFE: Final = " !$&'()*,-.:;<=>?@[]^_`{|}~"
"""Signs that may stand in a level as they are beside letters and digits: not `+`, `#`, `/`, `%`, no control signs."""


def level(text: str) -> str:
    """A text as one level of a topic: what MQTT gives a meaning is percent-encoded, an empty text is `-`."""
    return quote(text, safe=SAFE) or "-"


def status_topic(prefix: str, gateway_id: str) -> str:
    """Birth and will."""
    return f"{prefix}/{level(gateway_id)}/status"


def topic_of(prefix: str, gateway_id: str, item: LiveItem) -> str:
    """`<prefix>/<gateway>/position/<source>/<device>`, `…/state/<source>/<device>`, `…/finding/<id>`."""
    levels = [item.key] if item.topic == "finding" else item.key.split("/", 1)
    return "/".join([prefix, level(gateway_id), item.topic, *map(level, levels)])


def payload_of(item: LiveItem) -> bytes:
    """JSON of the item's values, keys in order."""
    return json.dumps(dict(item.values), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
