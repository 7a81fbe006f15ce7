"""The uplink's loop: asks `delivery` what to do, does it with the client, and reports back what came of it.

It only joins: order, waiting and retrying are decided in `uplink.delivery`, requests are made in
`uplink.https_client`, receipts are judged in `uplink.receipts`. Errors of the platform end here; ForkError,
IntegrityError and errors of the store propagate.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Final, Literal

from gateway import metrics
from gateway.config import Config
from gateway.core.alarms import Alarms
from gateway.core.errors import ForkError, IntegrityError, StoreFull, UplinkRejected
from gateway.core.ports import (
    Bundles,
    ByteSource,
    Clock,
    Outbox,
    OutboxItem,
    Reader,
    Sink,
    Spool,
    UplinkStatus,
)
from gateway.ledger.merkle import EMPTY_ROOT
from gateway.ledger.trust import Trust
from uplink import notices as codes
from uplink import receipts
from uplink.answers import Conflict, OffsetDiffers, ReceiptParts, Refused, TooLarge, Unavailable, UploadGone
from uplink.content import SpoolFile, digest_of
from uplink.credentials import utc_of
from uplink.delivery import (
    AskCheckpoint,
    AskRequests,
    BatchWork,
    Command,
    Commit,
    CreateUpload,
    Delivery,
    Failure,
    FindOffset,
    OpenContent,
    PutStamp,
    ReleaseQuarantined,
    Rewind,
    SendAlarm,
    SendChunk,
    Wait,
    Work,
    judge_checkpoint,
)
from uplink.https_client import PlatformClient
from uplink.notices import Notices

LOOK_AHEAD: Final = 8
"""Items of each kind read from the outbox before a decision, beyond those that wait for a time of their own."""
TICK_S: Final = 1.0
STALLED_COUNT: Final = 5
BAD_RECEIPTS_COUNT: Final = 3
DIFFERS_MAX: Final = 3
"""Uploads of one item that the platform found damaged on the way, before it is refused."""
FORGOTTEN_RETRY_S: Final = 600.0
"""After a failure that is not the link's, requests for artifacts are asked for less often."""


@dataclass(frozen=True, slots=True)
class UplinkParts:
    """What the loop works on; `alarms` is shared with the other alarm raisers of the process."""

    outbox: Outbox
    reader: Reader
    bundles: Bundles
    sink: Sink
    spool: Spool
    clock: Clock
    alarms: Alarms


UplinkState = Literal["off", "starting", "ok", "waiting", "unreachable", "refused", "stopped"]


class Uplink:
    """One run of the loop."""

    def __init__(
        self,
        config: Config,
        parts: UplinkParts,
        trust: Trust,
        client: PlatformClient,
        delivery: Delivery,
        fraction: Callable[[], float],
        status: UplinkStatus,
    ) -> None:
        self._push = config.uplink.artifacts == "push"
        self._origin = f"{config.gateway.id}/evidence"
        self._parts = parts
        self._outbox = parts.outbox
        self._reader = parts.reader
        self._trust = trust
        self._client = client
        self._delivery = delivery
        self._fraction = fraction
        self._status = status
        self._notices = Notices(parts.sink, parts.alarms)
        self._sources: dict[str, ByteSource] = {}
        self._wanted: dict[str, OutboxItem] = {}
        """Artifacts that the platform asked for, oldest request first."""
        self._streaks: dict[str, int] = {}
        """Failures in a row of each kind while the link works."""
        self._bad_receipts = 0
        self._differs: dict[tuple[str, str], int] = {}
        self._group: asyncio.TaskGroup
        self._check: asyncio.Task[None] | None = None
        """The platform's check of an artifact, which goes on beside everything else."""

    # ------------------------------------------------------------ the loop

    async def run(self, stop: asyncio.Event, tick: Callable[[], None]) -> None:
        """Deliver until `stop`."""
        self._enter("starting", "")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as self._group:
                stopping = self._group.create_task(stop.wait())
                while not stop.is_set():
                    tick()
                    await self._notices.pay(loop.time())
                    command = self._delivery.next(loop.time(), self._work())
                    if isinstance(command, Wait):
                        await self._wait(command.until_s - loop.time(), stopping)
                    else:
                        await attend(self._group.create_task(self._attempt(command)), stopping, tick)
                if self._check is not None:
                    self._check.cancel()
        except BaseExceptionGroup as group:
            raise gravest(group) from None
        finally:
            self._status.connected = False
        self._enter("stopped", "")

    async def _wait(self, seconds: float, stopping: asyncio.Task[Literal[True]]) -> None:
        waits: set[asyncio.Task[Literal[True]] | asyncio.Task[None]] = {stopping}
        if self._check is not None and not self._check.done():
            waits.add(self._check)
        await asyncio.wait(waits, timeout=min(max(seconds, 0.0), TICK_S), return_when=asyncio.FIRST_COMPLETED)

    def _work(self) -> Work:
        limit = LOOK_AHEAD + self._delivery.hold_count
        due = self._outbox.due
        artifacts = [*self._wanted.values(), *(due(limit, "artifact") if self._push else ())]
        return Work(due(limit, "alarm"), self._head(), due(limit, "stamp"), artifacts)

    def _head(self) -> BatchWork | None:
        for item in self._outbox.due(1, "batch"):
            row = self._reader.batch(int(item.ref))
            if row is None:
                raise IntegrityError(f"batch {item.ref} waits for delivery but is not in the store")
            age_s = (self._parts.clock.now().utc_ns - row.sealed_utc_ns) / 1e9
            return BatchWork(item, row.n, row.first, row.end, row.tsr is not None, age_s)
        return None

    # ------------------------------------------------------------ one command

    async def _attempt(self, command: Command) -> None:
        """Do a command; what the platform does wrong ends here."""
        item = getattr(command, "item", None)
        try:
            await self._do(command)
        except Refused as error:
            await self._refused(item, error)
        except Unavailable as error:
            await self._failed(item, error.failure, denied=error.denied)
        except StoreFull as error:
            await self._failed(item, Failure("item", str(error)))

    async def _do(self, command: Command) -> None:
        match command:
            case AskCheckpoint():
                await self._ask_checkpoint()
            case AskRequests():
                await self._ask_requests()
            case ReleaseQuarantined():
                await self._outbox.release_quarantined()
                self._delivery.released(self._now_s())
            case Rewind(size):
                await self._rewind(size)
            case SendAlarm(item):
                await self._send_alarm(item)
            case PutStamp(item):
                await self._put_stamp(item)
            case OpenContent(item):
                await self._open(item)
            case CreateUpload() | FindOffset() | SendChunk():
                await self._upload_step(command)
            case Commit(item, url) if item.kind == "artifact":
                self._delivery.committing(item)
                self._check = self._group.create_task(self._check_artifact(item, url))
            case Commit(item, url):
                await self._gone_is_new(item, self._commit_batch(item, url))
            case Wait():
                return

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def _send_alarm(self, item: OutboxItem) -> None:
        metrics.UPLINK_ATTEMPTS.labels(item.kind).inc()
        leaf = self._reader.leaf(int(item.ref))
        if leaf is not None:
            await self._client.send_alarm(leaf)
        await self._acked(item)

    async def _put_stamp(self, item: OutboxItem) -> None:
        metrics.UPLINK_ATTEMPTS.labels(item.kind).inc()
        row = self._reader.batch(int(item.ref))
        if row is not None and row.tsr is not None:
            await self._client.put_stamp(row.end, row.tsr)
        await self._acked(item)

    async def _ask_requests(self) -> None:
        now_s = self._now_s()
        try:
            wanted = await self._client.requests()
        except (Unavailable, Refused) as error:
            if isinstance(error, Unavailable) and error.failure.scope == "link":
                raise
            self._count("requests_failed")
            self._delivery.requests_read(now_s + FORGOTTEN_RETRY_S)
            return
        for sha256 in wanted:
            row = self._reader.artifact(sha256)
            if sha256 not in self._wanted and row is not None and row.state == "present":
                item = await self._outbox.requeue("artifact", sha256)
                if item is not None:
                    self._wanted[sha256] = item
        for sha256 in self._wanted.keys() - set(wanted):
            del self._wanted[sha256]
        self._delivery.requests_read(now_s)

    # ------------------------------------------------------------ the line

    async def _ask_checkpoint(self) -> None:
        theirs = await self._client.checkpoint()
        stuck = await self._judge(theirs.size, theirs.root)
        await self._notices.clear_alarm(codes.ALARM_DENIED, "the platform accepts our credentials again")
        self._delivery.checkpoint_is(theirs.size, self._now_s(), stuck=stuck)
        self._contact(theirs.size)

    async def _judge(self, size: int, root: bytes) -> bool:
        """Whether the line cannot go on from the platform's checkpoint. Raises ForkError, after recording it."""
        oldest = next((row.first for row in self._reader.batches(0, 1)), 0)
        our_size = self._reader.tail().size
        try:
            judge_checkpoint(size, root, our_size, oldest, self._root_at)
        except ForkError:
            await self._record_fork(size, root)
            raise
        except UplinkRejected as error:
            self._enter("waiting", str(error))
            await self._notices.raise_alarm(codes.ALARM_BEHIND, str(error))
            return True
        await self._notices.clear_alarm(codes.ALARM_BEHIND, "the platform holds enough again")
        return False

    def _root_at(self, size: int) -> bytes | None:
        """Root at one of our batch boundaries."""
        if size == 0:
            return EMPTY_ROOT
        below = self._reader.batch_of(size - 1)
        if below is not None:
            return below.root if below.end == size else None
        above = self._reader.batch_of(size)
        return above.prev_root if above is not None and above.first == size else None

    async def _record_fork(self, size: int, root: bytes) -> None:
        tail = self._reader.tail()
        await self._notices.fork(
            {"size": tail.size, "root": base64.b64encode(tail.root).decode()},
            {"size": size, "root": base64.b64encode(root).decode()},
        )

    async def _rewind(self, size: int) -> None:
        row = self._reader.batch_of(size)
        item = None
        if row is not None and row.first == size:
            item = await self._outbox.requeue("batch", str(row.n))
        if item is None:
            raise IntegrityError(f"no batch begins at {size}, though the root there is known")
        self._count("batches_resent")
        self._delivery.rewound()

    async def _commit_batch(self, item: OutboxItem, url: str) -> None:
        row = self._reader.batch(int(item.ref))
        if row is None:
            raise IntegrityError(f"batch {item.ref} was sent but is not in the store")
        try:
            parts = await self._client.commit_batch(row.end, url)
        except Conflict as conflict:
            await self._conflict(conflict, row.first)
            return
        verified = self._verify(parts, None)
        await self._keep(verified)
        for sha256 in verified.lost:
            if await self._outbox.requeue("artifact", sha256) is not None:
                self._count("artifacts_resent")
        await self._acked(item, row.end)
        self._contact(row.end)

    async def _conflict(self, conflict: Conflict, first: int) -> None:
        """409: the platform holds another size than the batch continues."""
        if conflict.fork:
            await self._record_fork(conflict.size, conflict.root)
            raise ForkError(f"FORK: {conflict}; stop and call the platform's operator")
        stuck = await self._judge(conflict.size, conflict.root)
        if conflict.size >= first and not stuck:
            raise Unavailable(Failure("item", f"{conflict}, though the batch continues what it holds"))
        self._delivery.checkpoint_is(conflict.size, self._now_s(), stuck=stuck)

    # ------------------------------------------------------------ uploads

    async def _open(self, item: OutboxItem) -> None:
        metrics.UPLINK_ATTEMPTS.labels(item.kind).inc()
        if item.kind == "batch":
            source = await self._parts.bundles.batch(int(item.ref), artifacts=False)
            digest = await asyncio.to_thread(digest_of, source)
        else:
            source, digest = self._spool_file(item.ref), item.ref
        self._sources[item.kind] = source
        self._delivery.opened(item, source.size_bytes, digest)

    def _spool_file(self, sha256: str) -> SpoolFile:
        row = self._reader.artifact(sha256)
        try:
            source = SpoolFile(self._parts.spool.path(sha256), sha256)
        except OSError as error:
            raise Refused(f"artifact {sha256[:12]} is not in the spool: {error.strerror}") from None
        if row is None or row.size_bytes != source.size_bytes:
            raise Refused(f"artifact {sha256[:12]} has another size in the spool than its record says")
        return source

    async def _upload_step(self, command: CreateUpload | FindOffset | SendChunk) -> None:
        item, delivery = command.item, self._delivery
        match command:
            case CreateUpload():
                url, offset = await self._client.create_upload(
                    "bundle" if item.kind == "batch" else "artifact", command.sha256, command.size_bytes
                )
                await self._set_upload(item, url)
                delivery.created(item, url, offset)
            case FindOffset():
                await self._gone_is_new(item, self._find_offset(item, command.url))
            case SendChunk():
                await self._gone_is_new(item, self._send_chunk(command))

    async def _find_offset(self, item: OutboxItem, url: str) -> None:
        state = await self._client.find_offset(url)
        self._delivery.found(item, state.offset, state.length, state.sha256)

    async def _send_chunk(self, command: SendChunk) -> None:
        item, delivery = command.item, self._delivery
        started_s = self._now_s()
        try:
            offset = await self._client.send_chunk(
                command.url,
                self._sources[item.kind],
                command.offset,
                command.size_bytes,
                lambda at, size_bytes: self._handed_out(item, at, size_bytes),
            )
        except TooLarge as error:
            if error.failure.retry_after_s is None and not delivery.too_large(item):
                raise Refused(str(error)) from None
            raise
        delivery.patched(item, offset, self._now_s() - started_s)
        self._contact(None)

    def _handed_out(self, item: OutboxItem, offset: int, size_bytes: int) -> None:
        resent_bytes = self._delivery.handed_out(item, offset, size_bytes)
        self._status.sent_bytes += size_bytes
        self._status.resent_bytes += resent_bytes
        metrics.UPLINK_RESENT_BYTES.inc(resent_bytes)
        metrics.UPLINK_BYTES.inc(size_bytes)

    async def _gone_is_new(self, item: OutboxItem, step: Coroutine[None, None, None]) -> None:
        """Run a step of an upload; an upload that is gone is forgotten, one that lost its place is asked about."""
        try:
            await step
        except UploadGone:
            await self._set_upload(item, None)
            self._delivery.gone(item)
            raise
        except OffsetDiffers:
            self._delivery.lost_place(item)
            raise

    async def _set_upload(self, item: OutboxItem, url: str | None) -> None:
        await self._outbox.set_upload(item.id, url)
        if item.ref in self._wanted:
            self._wanted[item.ref] = replace(self._wanted[item.ref], upload_url=url)

    async def _check_artifact(self, item: OutboxItem, url: str) -> None:
        """Have the platform check an artifact, beside the loop."""
        try:
            await self._gone_is_new(item, self._commit_artifact(item, url))
        except Refused as error:
            await self._refused(item, error)
        except Unavailable as error:
            await self._failed(item, error.failure, denied=error.denied)
        except StoreFull as error:
            await self._failed(item, Failure("item", str(error)))

    async def _commit_artifact(self, item: OutboxItem, url: str) -> None:
        answers = await self._client.commit_artifact(item.ref, item.size_bytes, url)
        if not answers:
            raise receipts.BadReceipt("no receipt names the artifact")
        for verified in [self._verify(parts, item.ref) for parts in answers]:
            await self._keep(verified)
        await self._acked(item)

    # ------------------------------------------------------------ receipts

    def _verify(self, parts: ReceiptParts, must_name: str | None) -> receipts.Verified:
        return receipts.judge(
            parts,
            self._reader,
            origin=self._origin,
            trust=self._trust,
            now=utc_of(self._parts.clock.now().utc_ns),
            must_name=must_name,
        )

    async def _keep(self, verified: receipts.Verified) -> None:
        """Store a receipt that says something new, and put its nonce into the log."""
        self._bad_receipts = 0
        await self._notices.clear_alarm(codes.ALARM_RECEIPT, "a receipt was verified")
        if not verified.new:
            self._count("receipts_repeated")
            return
        parts = verified.parts
        await self._outbox.store_receipt(verified.batch.n, parts.text, parts.p7s, parts.artifacts, verified.complete)
        metrics.RECEIPTS.inc()
        self._status.last_receipt_utc_ns = self._parts.clock.now().utc_ns
        now_s = asyncio.get_running_loop().time()
        await self._notices.beacon(verified.receipt.nonce, verified.text_sha256, verified.batch.end, now_s)

    # ------------------------------------------------------------ ends

    async def _acked(self, item: OutboxItem, end: int | None = None) -> None:
        await self._outbox.done(item.id)
        self._delivery.acked(item, end)
        self._forget(item)
        self._streaks.pop(item.kind, None)
        self._count(f"delivered_{item.kind}")
        text = f"delivery of {item.kind} items works again"
        await self._notices.clear_alarm(codes.ALARM_STALLED, text, item.kind)
        await self._notices.clear_alarm(codes.ALARM_NO_ROOM, text, item.kind)
        if item.kind == "batch" or (
            self._parts.alarms.is_open(codes.ALARM_REFUSED, item.kind) and not self._outbox.backlog().quarantined
        ):
            await self._notices.clear_alarm(codes.ALARM_REFUSED, text, item.kind)

    def _forget(self, item: OutboxItem) -> None:
        self._sources.pop(item.kind, None)
        self._differs.pop((item.kind, item.ref), None)
        if item.kind == "artifact":
            self._wanted.pop(item.ref, None)

    async def _refused(self, item: OutboxItem | None, error: Refused) -> None:
        """Refused for good: a record, an alarm, out of the queue."""
        if item is None:
            await self._failed(None, Failure("link", str(error)))
            return
        if error.hash_differs and await self._worth_another(item):
            await self._failed(item, Failure("item", str(error)))
            return
        try:
            await self._notices.quarantine(item.kind, item.ref, str(error))
            await self._outbox.quarantine(item.id, str(error))
        except StoreFull as full:
            await self._failed(item, Failure("item", str(full)))
            return
        self._delivery.quarantined(item)
        self._forget(item)
        metrics.QUARANTINED_ITEMS.inc()
        self._count(f"refused_{item.kind}")
        if item.kind == "batch":
            self._enter("waiting", f"batch {item.ref} refused: {error}")
        if item.kind != "alarm":
            # a refused alarm raises no alarm: its notice would be refused too, for ever
            await self._notices.raise_alarm(codes.ALARM_REFUSED, f"{item.kind} {item.ref}: {error}", item.kind)

    async def _worth_another(self, item: OutboxItem) -> bool:
        """The platform got other bytes than were announced: send them again if ours are right."""
        source = self._sources.get(item.kind)
        count = self._differs[item.kind, item.ref] = self._differs.get((item.kind, item.ref), 0) + 1
        if source is None or count >= DIFFERS_MAX:
            return False
        try:
            digest = await asyncio.to_thread(digest_of, source)
        except OSError:
            return False
        if item.kind == "artifact" and digest != item.ref:
            return False
        await self._set_upload(item, None)
        self._delivery.gone(item)
        return True

    async def _failed(self, item: OutboxItem | None, failure: Failure, *, denied: bool = False) -> None:
        """Try again later; alarms where only a person can help."""
        self._delivery.failed(item, failure, self._now_s(), self._fraction())
        metrics.UPLINK_ERRORS.labels(item.kind if item else "link").inc()
        self._status.reason = failure.reason
        self._count(f"failed_{failure.scope}")
        if item is not None:
            await self._outbox.count_attempt(item.id, failure.reason)
        if failure.scope == "link" or item is None:
            self._status.connected = False
            self._enter("refused" if denied else "unreachable", failure.reason)
            if denied:
                await self._notices.raise_alarm(codes.ALARM_DENIED, failure.reason)
            return
        if failure.scope == "lane":
            await self._notices.raise_alarm(codes.ALARM_NO_ROOM, failure.reason, item.kind)
            return
        if failure.reason.startswith(receipts.REFUSED):
            self._bad_receipts += 1
            metrics.RECEIPTS_REFUSED.inc()
            if self._bad_receipts >= BAD_RECEIPTS_COUNT:
                await self._notices.raise_alarm(codes.ALARM_RECEIPT, failure.reason)
        streak = self._streaks[item.kind] = self._streaks.get(item.kind, 0) + 1
        if streak >= STALLED_COUNT:
            await self._notices.raise_alarm(codes.ALARM_STALLED, failure.reason, item.kind)

    # ------------------------------------------------------------ status

    def _contact(self, size: int | None) -> None:
        self._status.connected = True
        self._status.last_contact_utc_ns = self._parts.clock.now().utc_ns
        if size is not None:
            self._status.platform_size = size
        waiting = self._delivery.blocked is not None or self._delivery.stuck
        self._enter("waiting" if waiting else "ok", self._status.reason)

    def _enter(self, state: UplinkState, reason: str) -> None:
        if self._status.state != state:
            self._status.since_utc_ns = self._parts.clock.now().utc_ns
        self._status.state = state
        self._status.reason = reason

    def _count(self, name: str) -> None:
        self._status.counters[name] = self._status.counters.get(name, 0) + 1


async def attend(task: asyncio.Task[None], stopping: asyncio.Task[Literal[True]], tick: Callable[[], None]) -> None:
    """Let one step finish, ticking meanwhile; every step has a deadline of its own. A stop cancels it."""
    while not task.done():
        await asyncio.wait({task, stopping}, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
        tick()
        if stopping.done() and not task.done():
            task.cancel()
            await asyncio.wait({task})


def gravest(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error to report for a group: a stop for good before anything else."""
    found = [gravest(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    return next((error for error in found if isinstance(error, IntegrityError)), found[0])
