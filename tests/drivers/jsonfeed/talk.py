"""Messages of bins, and a session that hears them."""

from __future__ import annotations

import json
from typing import Any

from drivers.jsonfeed import decode
from drivers.jsonfeed.drafts import Author
from drivers.jsonfeed.driver import Arrived, Session, Taken
from firmware_profiles.loader import load_feed
from gateway.core.instant import Instant
from gateway.core.record import StateChange, check_draft

UTC_S = 1_772_411_400
NOW = Instant("0" * 32, 1, 10**12, (UTC_S + 5) * 10**9)
SECRET = b"k" * 32
PHONE = "13800138000"


def later(seconds: float) -> Instant:
    return NOW._replace(mono_ns=NOW.mono_ns + int(seconds * 1e9), utc_ns=NOW.utc_ns + int(seconds * 1e9))


def delivery(seq: int = 1, **more: Any) -> dict[str, Any]:
    said: dict[str, Any] = {
        "machine_id": "B-1", "seq": seq, "datetime": f"2026-03-02 08:{30 + seq // 60 % 30:02}:{seq % 60:02}",
        "event": "deliver", "hatchNo": 1, "phone_num": PHONE, "stable": 1,
    }  # fmt: skip
    return {name: value for name, value in (said | more).items() if value is not None}


def body(**said: Any) -> bytes:
    return json.dumps(said).encode()


class Ear:
    """A session whose commits are kept, as the store would keep them."""

    def __init__(self, profile: str = "smart-bin", listed: tuple[str, ...] = (), secret: bytes = SECRET) -> None:
        self.feed = decode.compile(load_feed(profile).profile, load_feed(profile).ref)
        self.memory: dict[bytes, bytes] = {}
        self.listed, self.secret = listed, secret
        self.session = self.start()

    def start(self) -> Session:
        """As after a restart: only what was committed is known."""
        author = Author("bins", "sensor", self.feed.ref, self.feed.period_s, bool(self.feed.profile.time))
        self.session = Session(author, self.feed, self.secret, self.listed, self.memory.items())
        return self.session

    def hear(
        self, content: bytes | dict[str, Any], now: Instant = NOW, *, commit: bool = True, **arrived: Any
    ) -> Taken:
        content = content if isinstance(content, bytes) else body(**content)
        taken = self.session.take(Arrived(content, **arrived), now)
        for draft in taken.drafts:
            check_draft(draft, now)
        if commit:
            state = [*taken.state, *([self.session.round(taken.marks)] if taken.marks else [])]
            self.keep(state)
        return taken

    def keep(self, state: list[StateChange]) -> None:
        for change in state:
            if change.value is None:
                self.memory.pop(change.key, None)
            else:
                self.memory[change.key] = change.value


def why(taken: Taken, quantity: str) -> str:
    """What speaks against a value of the first reading; "" for good."""
    (value,) = [one for one in taken.drafts[0].data["values"] if one["quantity"] == quantity]
    return str(value.get("why", ""))
