"""What to send next: the delivery queue as a pure state machine with explicit time.

`next(now_s, work)` returns one command; the runner does it and reports with one of the methods below. Delivery is
at-least-once: a command may be repeated after any failure, a crash or a restart, and the platform recognises a
batch by its seal, an artifact by its digest and an alarm by its leaf. No state here has to survive: the outbox
holds what is left to do and the platform's checkpoint says where the log goes on.

Order. Alarms, then the next batch, then late stamps, then artifacts. The choice is made anew after every step,
and one step of an upload is one PATCH of about a second, so a video never delays an alarm or a batch by more than
that; the tus server keeps the video's place.

The batch line. Batches go strictly by tree size, because the platform accepts only the one that continues its log.
A batch refused for good therefore stops the line: its successors cannot be accepted, so they wait in the queue,
untouched and never skipped, while alarms, stamps and artifacts go on. The refusal is a record and an alarm. The
refused batch is tried again after every start (so after every new software version), once a day, and whenever
the operator releases it (`Outbox.release_quarantined`); when it is accepted the line goes on by itself.

A platform restored from its own backup holds less than was delivered. Its checkpoint is then one of our batch
boundaries with the same root, and the line goes back to it: everything from there is queued and sent again.

Failures are classed by what has to wait:

    link       nothing can be sent (no connection, 429, 502, 503, 504, 401, 403). All wait; then the checkpoint is
               asked first, so that items are not worn out by probing a dead link
    lane       this kind cannot be sent now (507 for artifacts must not stop batches)
    item       this item cannot be sent now (423, 500, a receipt that does not verify): others of its kind go on,
               except behind a batch
    refused    this item will be refused again: quarantine
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from gateway.core.errors import ForkError, UplinkRejected
from gateway.core.ports import OutboxItem
from uplink.pacing import Backoff, ChunkSize, retry_budget
from uplink.tus import Create, Head, Patch, TusUpload

CHECKPOINT_INTERVAL_S: Final = 600.0
"""How often an idle uplink asks for the checkpoint: it sees a fork or a dead link without having to send."""
REQUESTS_INTERVAL_S: Final = 60.0
RELEASE_INTERVAL_S: Final = 86_400.0
IDLE_S: Final = 1.0
HOLDS_MAX: Final = 256
"""Items that may wait for a time of their own; beyond it the oldest hold is forgotten (the item is tried early)."""

Key = tuple[str, str]
"""(kind, ref) of an outbox item."""


@dataclass(frozen=True, slots=True)
class BatchWork:
    """The oldest batch in the outbox."""

    item: OutboxItem
    n: int
    first: int
    end: int
    stamped: bool
    age_s: float
    """Since it was sealed, by the box's clock; negative where the clock was set back since."""


@dataclass(frozen=True, slots=True)
class Work:
    """What waits in the outbox, read anew before every decision."""

    alarms: Sequence[OutboxItem] = ()
    batch: BatchWork | None = None
    stamps: Sequence[OutboxItem] = ()
    artifacts: Sequence[OutboxItem] = ()


# ---------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done before `until_s`, unless something new arrives in the outbox."""

    until_s: float


@dataclass(frozen=True, slots=True)
class AskCheckpoint:
    """Ask how much of our log the platform holds; judge it with `judge_checkpoint`; report `checkpoint_is`."""


@dataclass(frozen=True, slots=True)
class AskRequests:
    """Ask which artifacts the platform wants; report `requests_read`."""


@dataclass(frozen=True, slots=True)
class ReleaseQuarantined:
    """Put quarantined items back into the queue; report `released`."""


@dataclass(frozen=True, slots=True)
class Rewind:
    """Queue again the batch that starts at `size`: the platform does not hold it any more. Report `rewound`."""

    size: int


@dataclass(frozen=True, slots=True)
class SendAlarm:
    """Send an advisory copy of an alarm's leaf; report `acked`."""

    item: OutboxItem


@dataclass(frozen=True, slots=True)
class PutStamp:
    """Send the late token of a batch; report `acked`."""

    item: OutboxItem


@dataclass(frozen=True, slots=True)
class OpenContent:
    """Open the bytes of a batch's bundle or of an artifact; report `opened`."""

    item: OutboxItem


@dataclass(frozen=True, slots=True)
class CreateUpload:
    """Make a new upload; report `created`."""

    item: OutboxItem
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FindOffset:
    """HEAD; report `found` or `gone`."""

    item: OutboxItem
    url: str


@dataclass(frozen=True, slots=True)
class SendChunk:
    """PATCH; report `handed_out`, then `patched`, `lost_place`, `too_large` or `gone`."""

    item: OutboxItem
    url: str
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Commit:
    """All bytes are there: have the platform check them; report `committing`, then `acked`.

    The platform reads an artifact from its own disk for this, which takes long for a video: the runner does it
    beside the other commands.
    """

    item: OutboxItem
    url: str


Command = (
    Wait
    | AskCheckpoint
    | AskRequests
    | ReleaseQuarantined
    | Rewind
    | SendAlarm
    | PutStamp
    | OpenContent
    | CreateUpload
    | FindOffset
    | SendChunk
    | Commit
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a command did not work, by what has to wait."""

    scope: Literal["link", "lane", "item", "refused"]
    reason: str
    retry_after_s: float | None = None


class Delivery:
    """The state of delivery between two commands."""

    def __init__(self, *, retry_min_s: float, retry_max_s: float, stamp_grace_s: float) -> None:
        self._retry_min_s = retry_min_s
        self._retry_max_s = retry_max_s
        self._stamp_grace_s = stamp_grace_s
        self.link = Backoff(retry_min_s, retry_max_s, retry_budget())
        self.position: int | None = None
        """Tree size that the platform holds; None: ask."""
        self.blocked: int | None = None
        """n of the refused batch at which the line stands."""
        self.stuck = False
        """The platform needs batches that have expired here: the line stands, everything else goes on."""
        self.uploads: dict[str, TusUpload] = {}
        """The upload in progress of each kind; another one of its kind takes its place."""
        self._upload_refs: dict[str, str] = {}
        self._chunk = ChunkSize()
        self._holds: dict[Key, Backoff] = {}
        self._lanes: dict[str, Backoff] = {}
        self._committing: Key | None = None
        self._waits_for_stamp: tuple[int, float] | None = None
        """(n, when first seen unstamped): bounds the wait where the box's clock is set back."""
        self._checkpoint_at_s = 0.0
        self._requests_at_s: float | None = None
        self._release_at_s: float | None = None

    # ------------------------------------------------------------ deciding

    def next(self, now_s: float, work: Work) -> Command:
        """The one thing to do now."""
        if self._release_at_s is None or now_s >= self._release_at_s:
            return ReleaseQuarantined()
        if now_s < self.link.until_s:
            return Wait(self.link.until_s)
        if self.position is None or now_s >= self._checkpoint_at_s + CHECKPOINT_INTERVAL_S:
            return AskCheckpoint()
        for alarm in self._free(work.alarms, now_s):
            return SendAlarm(alarm)
        ready, wake_s = self._batch_ready(now_s, work.batch)
        if work.batch is not None and ready:
            if work.batch.first > self.position:
                return Rewind(self.position)
            return self._upload_step(work.batch.item)
        for stamp in self._free(work.stamps, now_s):
            return PutStamp(stamp)
        if self._requests_at_s is None or now_s >= self._requests_at_s:
            return AskRequests()
        for artifact in self._free(work.artifacts, now_s):
            if self._committing is None:
                return self._upload_step(artifact)
        return Wait(min([wake_s, now_s + IDLE_S, *self._ends_of_holds(now_s)]))

    def _ends_of_holds(self, now_s: float) -> list[float]:
        holds = [*self._holds.values(), *self._lanes.values()]
        return [hold.until_s for hold in holds if hold.until_s > now_s]

    def _batch_ready(self, now_s: float, batch: BatchWork | None) -> tuple[bool, float]:
        """Whether the line may move now; if not, a time at which it may."""
        wake_s = now_s + IDLE_S
        if batch is None or self.stuck or (self.blocked is not None and batch.n > self.blocked):
            return False, wake_s
        if not self._free([batch.item], now_s):
            return False, wake_s
        if batch.stamped or batch.age_s >= self._stamp_grace_s:
            return True, wake_s
        if self._waits_for_stamp is None or self._waits_for_stamp[0] != batch.n:
            self._waits_for_stamp = (batch.n, now_s)
        wait_s = self._stamp_grace_s - max(0.0, batch.age_s)
        until_s = min(now_s + wait_s, self._waits_for_stamp[1] + self._stamp_grace_s)
        return until_s <= now_s, until_s

    def _free(self, items: Sequence[OutboxItem], now_s: float) -> list[OutboxItem]:
        return [
            item
            for item in items
            if not self._held(self._lanes.get(item.kind), now_s)
            and not self._held(self._holds.get((item.kind, item.ref)), now_s)
        ]

    @staticmethod
    def _held(hold: Backoff | None, now_s: float) -> bool:
        return hold is not None and now_s < hold.until_s

    def _upload_step(self, item: OutboxItem) -> Command:
        upload = self.uploads.get(item.kind)
        if upload is None or self._upload_refs.get(item.kind) != item.ref:
            return OpenContent(item)
        match upload.next():
            case Create():
                return CreateUpload(item, upload.size_bytes, upload.sha256)
            case Head(url):
                return FindOffset(item, url)
            case Patch(url, offset, size_bytes):
                return SendChunk(item, url, offset, size_bytes)
            case finished:
                return Commit(item, finished.url)

    @property
    def hold_count(self) -> int:
        """How many items wait for a time of their own: the runner looks that much further into the queue."""
        return len(self._holds)

    # ------------------------------------------------------------ results: line

    def checkpoint_is(self, size: int, now_s: float, *, stuck: bool = False) -> None:
        """The platform holds `size` leaves of our log; `stuck` where we cannot continue from there any more."""
        self.position = size
        self.stuck = stuck
        self._checkpoint_at_s = now_s
        self.link.worked()

    def rewound(self) -> None:
        """The batch at `position` waits in the outbox again."""
        self.uploads.pop("batch", None)

    def released(self, now_s: float) -> None:
        """Quarantined items are back in the queue."""
        self._release_at_s = now_s + RELEASE_INTERVAL_S

    def requests_read(self, now_s: float) -> None:
        """The list of wanted artifacts was read, or could not be: ask again later."""
        self._requests_at_s = now_s + REQUESTS_INTERVAL_S

    # ------------------------------------------------------------ results: uploads

    def opened(self, item: OutboxItem, size_bytes: int, sha256: str) -> None:
        """The content is at hand: continue the upload that the outbox remembers, if any."""
        self.uploads[item.kind] = TusUpload(size_bytes, sha256, item.upload_url, self._chunk)
        self._upload_refs[item.kind] = item.ref

    def created(self, item: OutboxItem, url: str, offset: int) -> None:
        """The upload exists at `url` and holds `offset` bytes already."""
        self._upload(item).created(url, offset)

    def found(self, item: OutboxItem, offset: int, length: int | None, sha256: str | None) -> None:
        """Answer to FindOffset."""
        self._progress(item, self._upload(item).found(offset, length, sha256))

    def patched(self, item: OutboxItem, offset: int, seconds: float) -> None:
        """SendChunk worked: the platform has `offset` bytes."""
        self._progress(item, self._upload(item).patched(offset, seconds))

    def handed_out(self, item: OutboxItem, offset: int, size_bytes: int) -> int:
        """A piece of SendChunk went to the network; how many of its bytes had been there before."""
        return self._upload(item).handed_out(offset, size_bytes)

    def lost_place(self, item: OutboxItem) -> None:
        """409 to SendChunk or Commit: ask for the offset."""
        self._upload(item).lost_place()

    def too_large(self, item: OutboxItem) -> bool:
        """413 to SendChunk. False when chunks cannot get smaller: the item is refused."""
        return self._upload(item).too_large()

    def gone(self, item: OutboxItem) -> None:
        """The platform does not know the upload any more: a new one."""
        self._upload(item).gone()

    def _upload(self, item: OutboxItem) -> TusUpload:
        return self.uploads[item.kind]

    def _progress(self, item: OutboxItem, progressed: bool) -> None:
        if progressed:
            self.link.progressed()
            self._holds.pop((item.kind, item.ref), None)

    def committing(self, item: OutboxItem) -> None:
        """The platform is checking an artifact; no other artifact is begun meanwhile."""
        self._committing = (item.kind, item.ref)

    # ------------------------------------------------------------ results: ends

    def acked(self, item: OutboxItem, end: int | None = None) -> None:
        """The item is delivered. For a batch `end` is its tree size, which the platform now holds."""
        self._forget(item)
        if end is not None:
            self.position = max(end, self.position or 0)
            self.blocked = None

    def quarantined(self, item: OutboxItem) -> None:
        """The item is refused for good and out of the queue; behind a batch the line stands."""
        self._forget(item)
        if item.kind == "batch":
            self.blocked = int(item.ref)

    def failed(self, item: OutboxItem | None, failure: Failure, now_s: float, fraction: float) -> None:
        """A command did not work; `item` is what it was about. Not for scope "refused": see `quarantined`."""
        if item is not None:
            if self._committing == (item.kind, item.ref):
                self._committing = None
            upload = self.uploads.get(item.kind)
            if upload is not None and self._upload_refs.get(item.kind) == item.ref:
                upload.broke_off()
        if failure.scope == "link" or item is None:
            self.position = None
            self.link.failed(now_s, fraction, failure.retry_after_s)
            self._wear(item, now_s, fraction)
        elif failure.scope == "lane":
            lane = self._lanes.setdefault(item.kind, Backoff(self._retry_min_s, self._retry_max_s))
            lane.failed(now_s, fraction, failure.retry_after_s)
        else:
            self._hold(item).failed(now_s, fraction, failure.retry_after_s)

    def _wear(self, item: OutboxItem | None, now_s: float, fraction: float) -> None:
        """An item that breaks a link which then answers for others must not be the next to be tried for ever."""
        if item is None or self.link.failures > 1:
            return
        self._hold(item).failed(now_s, fraction)

    def _hold(self, item: OutboxItem) -> Backoff:
        key = (item.kind, item.ref)
        hold = self._holds.pop(key, None) or Backoff(self._retry_min_s, self._retry_max_s)
        self._holds[key] = hold
        if len(self._holds) > HOLDS_MAX:
            self._holds.pop(next(iter(self._holds)))
        return hold

    def _forget(self, item: OutboxItem) -> None:
        key = (item.kind, item.ref)
        self._holds.pop(key, None)
        self._lanes.pop(item.kind, None)
        if self._upload_refs.get(item.kind) == item.ref:
            self.uploads.pop(item.kind, None)
            self._upload_refs.pop(item.kind, None)
        if self._committing == key:
            self._committing = None


# ---------------------------------------------------------------- the platform's checkpoint


def judge_checkpoint(
    size: int, root: bytes, our_size: int, oldest: int, root_at: Callable[[int], bytes | None]
) -> None:
    """Return if the platform's (size, root) is a boundary of our own log; otherwise say what it is.

    `our_size` is our sealed tree size, `oldest` the first leaf of the oldest batch that we still hold, `root_at`
    the root at one of our batch boundaries (None for a size that is none). Raises ForkError when the platform holds
    more than we sealed, another root, or a size that we never sealed: then this store is an older copy of the
    log, or another box uses this gateway's key, and nothing may be overwritten. Raises UplinkRejected when the
    platform is further behind than what we still hold.
    """
    if size > our_size:
        raise ForkError(
            f"FORK: the platform holds {size} records of this gateway, this store only {our_size}; "
            "the store is an older copy or another box uses this key: stop and call the platform's operator"
        )
    if size < oldest:
        raise UplinkRejected(
            f"the platform holds only {size} records and the batches before {oldest} have expired here; "
            "restore the platform from a newer backup"
        )
    ours = root_at(size)
    if ours != root:
        which = "never sealed here" if ours is None else "sealed here with another root"
        raise ForkError(
            f"FORK: the platform holds {size} records of this gateway, a tree size {which}; "
            "another box uses this key or the store was changed: stop and call the platform's operator"
        )
