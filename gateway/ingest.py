"""Taking in: the one `Sink`. Checks every draft, stamps the time, keeps the order, hands over to the journal.

A draft that cannot be a leaf (outside the canonical profile, or too large) is not dropped: `ingest.refused` is stored
in its place, with the reason and what can be kept of it. Steps of the clock are stored before the records of the
epoch that they began. When the store is full nothing is written, StoreFull goes to the caller (back-pressure), and
one alarm is stored from the reserve; it is cleared by the first append that succeeds after it.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Any, Final, Protocol

from gateway import log, metrics
from gateway.core import canonical, kinds
from gateway.core.alarms import Alarms
from gateway.core.canonical import CanonicalError
from gateway.core.errors import FieldgateError, StoreFull
from gateway.core.instant import Instant
from gateway.core.ports import Clock, Journal, SourceMemory
from gateway.core.record import (
    LEAF_SIZE_MAX_BYTES,
    Artifact,
    Draft,
    StateChange,
    check_draft,
    encode_leaf,
)
from gateway.recent import Recent

ESSENTIAL: Final = frozenset(
    {
        kinds.GATEWAY_START,
        kinds.GATEWAY_STOP,
        kinds.CLOCK_STATE,
        kinds.CLOCK_STEP,
        kinds.CLOCK_MAP,
        kinds.BEACON,
        kinds.ALARM,
        kinds.OPERATOR_ACTION,
        kinds.RETENTION_EXPIRE,
        kinds.SCRUB_DAMAGE,
        kinds.UPLINK_QUARANTINE,
        kinds.UPLINK_FORK,
    }
)
"""Kinds that may use the reserve of a full store. A refusal takes the class of the draft that it stands for: else a
device that sends rubbish could eat the reserve."""
REFUSED_RAW_MAX_BYTES: Final = 65_536
REFUSED_TEXT_MAX: Final = 255
REFUSED_ALARM_COUNT: Final = 10
"""So many refusals of one source without a good record between them raise an alarm; a good record clears it."""
SEQ_WIDEST: Final = 2**53 - 1
SALT_WIDEST: Final = b"\xff" * 16
SMALL_TEXT: Final = 128
SMALL_ITEMS: Final = 64
SMALL_RAW_BYTES: Final = 16_384


class StepClock(Clock, Protocol):
    """A clock that tells its steps (gateway.clock.SystemClock)."""

    def take_steps(self) -> list[tuple[Draft, Instant]]:
        """Steps found and not yet stored, in order."""

    def put_back_steps(self, steps: list[tuple[Draft, Instant]]) -> None:
        """Return what could not be stored."""


class Ingest:
    """Port `Sink` over a journal. `memory` tells which alarms an earlier run left open, `recent` is given what was
    committed, for who follows the journal."""

    def __init__(
        self,
        journal: Journal,
        clock: StepClock,
        memory: SourceMemory | None = None,
        recent: Recent | None = None,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._recent = recent
        self._refusals: dict[str, int] = {}
        self._log = log.get("ingest")
        self.alarms: Final = Alarms(self, memory)
        """The open alarms; health raises and clears its own through them."""

    async def append(self, drafts: Sequence[Draft], state: Sequence[StateChange] = ()) -> int:
        """See ports.Sink. No `await` stands between reading the clock and handing over, so that records lie in the
        journal in the order of their times."""
        now = await self._now_after_steps()
        rows = [(_checked(draft, now), now) for draft in drafts]
        essential = bool(drafts) and all(draft.kind in ESSENTIAL for draft in drafts)
        try:
            first = await self._journal.append(rows, state, essential=essential)
        except StoreFull as full:
            metrics.STORE_FULL.inc()
            if not essential:
                await self._alarm_full(full)
            raise
        if self._recent is not None and rows:
            self._recent.put(first, rows)
        await self._count(drafts, rows, essential=essential)
        return first

    async def _now_after_steps(self) -> Instant:
        """The time of the next rows, once every step of the clock up to it is stored."""
        while True:
            now = self._clock.now()
            steps = self._clock.take_steps()
            if not steps:
                return now
            self._log.warning("clock_stepped", steps=len(steps), epoch=now.epoch)
            try:
                await self._journal.append(steps, essential=True)
            except FieldgateError:  # a cancelled append is stored all the same: the journal has it already
                self._clock.put_back_steps(steps)
                raise

    async def _alarm_full(self, full: StoreFull) -> None:
        try:
            await self.alarms.raise_alarm("store.full", str(full))
        except StoreFull:
            self._log.error("store_full_to_the_reserve", reason=str(full))

    async def _count(self, drafts: Sequence[Draft], rows: Sequence[tuple[Draft, Instant]], *, essential: bool) -> None:
        for draft, (stored, _) in zip(drafts, rows, strict=True):
            source = draft.source
            metrics.RECORDS.labels(source).inc()
            if stored is not draft:
                await self._count_refused(source, stored)
            elif source in self._refusals:
                del self._refusals[source]
                await self.alarms.clear("ingest.refused", f"{source} sends good records again", source)
        if not essential:
            await self.alarms.clear("store.full", "there is room again")

    async def _count_refused(self, source: str, stored: Draft) -> None:
        metrics.RECORDS_REFUSED.labels(source).inc()
        reason = stored.data["reason"]
        self._log.warning("record_refused", key=source, source=source, reason=reason)
        self._refusals[source] = self._refusals.get(source, 0) + 1
        if self._refusals[source] == REFUSED_ALARM_COUNT:
            text = f"{source}: {REFUSED_ALARM_COUNT} records in a row refused, the last for: {reason}"
            await self.alarms.raise_alarm("ingest.refused", text, source)


def _checked(draft: Draft, now: Instant) -> Draft:
    """The draft itself, or the refusal that is stored in its place."""
    is_flat = canonical.is_flat(draft.data)
    try:
        check_draft(draft, now, but_data=is_flat)
    except CanonicalError as error:
        return refusal(draft, now, f"outside the canonical profile: {error}")
    if (
        is_flat
        and len(draft.data) <= SMALL_ITEMS
        and (draft.raw is None or len(draft.raw) <= SMALL_RAW_BYTES)
        and not draft.artifacts
        and len(draft.device) <= SMALL_TEXT
    ):
        return draft  # surely far below the limit: the common case
    size_bytes = len(encode_leaf(draft, now, SEQ_WIDEST, SALT_WIDEST))
    if size_bytes <= LEAF_SIZE_MAX_BYTES:
        return draft
    return refusal(draft, now, f"{size_bytes} bytes as a leaf, the limit is {LEAF_SIZE_MAX_BYTES}")


def refusal(draft: Draft, now: Instant, reason: str) -> Draft:
    """`ingest.refused` for a draft that cannot be stored: its reason, kind, artifacts where they are sound, and the
    first 64 KiB of its raw bytes, or of the written form of its data where there were none."""
    raw = draft.raw
    whole = repr(dict(draft.data)).encode("utf-8", "backslashreplace") if raw is None else raw
    data: dict[str, Any] = {
        "reason": _clean(reason),
        "kind": _clean(draft.kind),
        "raw_of": "data" if raw is None else "raw",
        "raw_size_bytes": len(whole),
        "raw_sha256": hashlib.sha256(whole).hexdigest(),
    }
    kept = Draft(
        kinds.INGEST_REFUSED,
        _clean(draft.source),
        _clean(draft.device),
        data,
        raw=whole[:REFUSED_RAW_MAX_BYTES],
        artifacts=tuple(_clean_artifact(item) for item in draft.artifacts[:SMALL_ITEMS]),
    )
    check_draft(kept, now)  # our own bug where it raises: everything in it was made here
    return kept


def _clean_artifact(item: Artifact) -> Artifact:
    return Artifact(
        item.sha256, item.size_bytes, _clean(item.media_type), _clean(item.name), item.name_hex[: 2 * REFUSED_TEXT_MAX]
    )


def _clean(text: str) -> str:
    """Text that the canonical profile takes: NFC, no lone surrogates, at most 255 characters."""
    valid = str(text).encode("utf-8", "backslashreplace").decode()
    return unicodedata.normalize("NFC", valid[:REFUSED_TEXT_MAX])
