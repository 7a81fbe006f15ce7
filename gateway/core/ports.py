"""The seams between the parts: what each may ask of another, and the duty behind every call.

Packages below the supervisor (`drivers`, `buffers`, `uplink`, `gateway.ingest`, `gateway.sealer`, …) know one
another only through these protocols; `gateway.app` joins the concrete classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from gateway.core.instant import Instant
from gateway.core.record import Draft, StateChange

# ---------------------------------------------------------------- time and keys


class Clock(Protocol):
    """The only source of time."""

    def now(self) -> Instant:
        """Read the clocks. A step since the last reading starts a new epoch."""


class Signer(Protocol):
    """The gateway's key. The key itself never leaves the signer."""

    @property
    def certificate_pem(self) -> bytes:
        """The gateway's certificate."""

    @property
    def certificate_sha256(self) -> str:
        """Fingerprint: SHA-256 of the certificate's DER, lower-case hex."""

    def sign_cms(self, content: bytes) -> bytes:
        """CMS SignedData, DER, detached, one signer, ECDSA P-256 with SHA-256, certificate embedded."""


# ---------------------------------------------------------------- taking in


class Sink(Protocol):
    """Where drivers hand in records (implemented by gateway.ingest)."""

    async def append(self, drafts: Sequence[Draft], state: Sequence[StateChange] = ()) -> int:
        """Return the first seq once all drafts and state changes are on disk (fsync), in this order.

        A draft outside the profile is stored as `ingest.refused` in its place. Raises StoreFull with nothing written.
        """


class Journal(Protocol):
    """The append-only log of leaves (implemented by buffers)."""

    async def append(
        self,
        rows: Sequence[tuple[Draft, Instant]],
        state: Sequence[StateChange] = (),
        *,
        essential: bool = False,
    ) -> int:
        """Commit rows and state in one transaction; return the first seq after fsync.

        Group commit: calls that wait at the same time share one transaction. `essential` rows (alarms, clock,
        beacons, refusals) may use the reserve that ordinary rows may not. Raises StoreFull, nothing written.
        """


class SourceMemory(Protocol):
    """What a driver remembered through StateChange."""

    def get(self, source: str, key: bytes) -> bytes | None:
        """The value as last committed."""

    def items(self, source: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All pairs of one source, by key."""


class SpoolWriter(Protocol):
    """One artifact on its way into the spool. Synchronous: used from a copying thread."""

    @property
    def offset(self) -> int:
        """Bytes already here, from an earlier attempt at the same key and identity; continue from there."""

    def write(self, chunk: memoryview | bytes) -> None:
        """Write and hash. Raises StoreFull when the disk or the quota is at its limit."""

    def finish(self) -> tuple[str, int, bool]:
        """fsync, rename to the content address, fsync the directory: (sha256, size_bytes, already_there)."""

    def suspend(self) -> None:
        """Keep what is here for a later resume."""

    def discard(self) -> None:
        """Forget what is here."""


class Spool(Protocol):
    """Content-addressed files (implemented by buffers)."""

    def open(self, key: str, identity: str, expected_bytes: int) -> SpoolWriter:
        """Begin or resume. `key` names the source file, `identity` its version (size, mtime, inode, etag):
        another identity under the same key starts from nothing. Raises StoreFull at the high-water mark."""

    def path(self, sha256: str) -> Path:
        """Where the artifact is, whether or not it exists."""


# ---------------------------------------------------------------- sealing


@dataclass(frozen=True, slots=True)
class Tail:
    """Where the sealed log ends: a tree size, its root, and the perfect-subtree hashes, largest first."""

    size: int
    root: bytes
    frontier: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Pending:
    """What lies behind the tail, durable but not sealed."""

    next_seq: int
    """One past the newest durable leaf."""
    oldest_evidence_utc_ns: int | None
    """Arrival of the oldest unsealed record that is not housekeeping; None where there is none."""
    oldest_utc_ns: int | None
    urgent: bool
    size_bytes: int = 0
    """Bytes of the unsealed leaves, at least up to one whole batch; a store may stop counting there."""


@dataclass(frozen=True, slots=True)
class ArtifactRow:
    """An artifact that a record names."""

    sha256: str
    size_bytes: int
    media_type: str
    state: Literal["present", "expired", "damaged"]


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A sealed batch: the half-open leaf range [first, end), its proofs and what came back for it."""

    n: int
    """1 for the first batch of the gateway."""
    first: int
    end: int
    prev_root: bytes
    root: bytes
    prev_frontier: tuple[bytes, ...]
    records_sha256: str
    records_bytes: int
    artifact_count: int
    artifact_bytes: int
    utc_min_ns: int
    utc_max_ns: int
    sealed_utc_ns: int
    seal_txt: bytes
    seal_p7s: bytes
    certificate_pem: bytes
    """The gateway certificate that signed."""
    tsr: bytes | None = None
    receipt_txt: bytes | None = None
    receipt_p7s: bytes | None = None
    receipt_artifacts: bytes | None = None
    """artifacts.txt of the receipt: what the platform re-hashed from its own disk."""
    complete: bool = False
    """The receipt names every artifact of the batch."""
    quarantined: str | None = None


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What the sealer hands to the store."""

    row: BatchRow
    tail_before: Tail
    tail_after: Tail
    subtrees: tuple[tuple[int, int, bytes], ...]
    """(level, index, hash) of perfect subtrees completed by this batch, at levels 8, 16, 24, …"""


class SealStore(Protocol):
    """What the sealer needs (implemented by buffers)."""

    def tail(self) -> Tail: ...
    def pending(self) -> Pending: ...

    def next_batch(self) -> int:
        """n of the next batch: 1 where nothing is sealed yet."""

    def leaves(self, first: int, end: int) -> Iterator[bytes]:
        """The stored bytes in order; raises IntegrityError at a hole."""

    def artifacts_of(self, first: int, end: int) -> list[ArtifactRow]:
        """Distinct artifacts that the records of the range name, sorted by sha256."""

    def newest(self, kind: str, below: int) -> int | None:
        """seq of the newest record of a kind with seq < below."""

    async def commit_seal(self, batch: NewBatch) -> None:
        """Compare-and-swap the tail, store the batch, queue it for delivery: one transaction.
        Raises IntegrityError when the stored tail is not `tail_before`."""


# ---------------------------------------------------------------- delivering


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """Something that the platform does not have yet. Ordered by (priority, id)."""

    id: int
    kind: Literal["alarm", "batch", "stamp", "artifact"]
    ref: str
    """seq of the alarm record, n of the batch (batch, stamp), or sha256 of the artifact."""
    priority: int
    """0 alarm, 1 batch and stamp, 2 artifact."""
    size_bytes: int
    attempts: int
    upload_url: str | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much waits."""

    items: int
    size_bytes: int
    oldest_utc_ns: int | None
    quarantined: int
    unstamped: int


class Outbox(Protocol):
    """The delivery queue on disk (implemented by buffers)."""

    def due(self, limit: int, kind: Literal["alarm", "batch", "stamp", "artifact"] | None = None) -> list[OutboxItem]:
        """The next items in delivery order; batches strictly in order of n. O(limit), whatever the backlog.

        Done and quarantined items are left out. With `kind` only items of that kind, so that a batch line that
        stands still (a refused batch) never hides the artifacts behind it.
        """

    async def set_upload(self, item_id: int, url: str | None) -> None: ...
    async def count_attempt(self, item_id: int, error: str) -> None: ...
    async def done(self, item_id: int) -> None: ...
    async def quarantine(self, item_id: int, reason: str) -> None: ...

    async def requeue(self, kind: Literal["alarm", "batch", "stamp", "artifact"], ref: str) -> OutboxItem | None:
        """Put something back into the queue in its old place, whatever became of it (done or quarantined).

        The item as it now waits, unchanged where it waited already; None for a ref that this gateway does not
        hold. Used where the platform was restored from its own backup or asks for one artifact.
        """

    async def release_quarantined(self) -> int:
        """Put every quarantined item back into the queue; how many. At start, daily, and by the operator."""

    async def store_receipt(self, n: int, text: bytes, p7s: bytes, artifacts: bytes, complete: bool) -> None:
        """Keep a verified receipt; a receipt that names fewer artifacts than the stored one is ignored."""

    def unstamped(self, limit: int) -> list[BatchRow]:
        """Oldest batches without a token."""

    async def store_stamp(self, n: int, tsr: bytes) -> None:
        """Keep a token; queues a `stamp` item where the batch itself was already delivered."""

    def backlog(self) -> Backlog: ...


# ---------------------------------------------------------------- reading


class Reader(Protocol):
    """Read-only view for the API, bundles, verification at start and tools (implemented by buffers)."""

    def tail(self) -> Tail: ...
    def next_seq(self) -> int: ...
    def batch(self, n: int) -> BatchRow | None: ...

    def batch_of(self, seq: int) -> BatchRow | None:
        """The batch whose range holds seq; None where it is not sealed yet."""

    def batches(self, after: int, limit: int) -> list[BatchRow]:
        """Batches with n > after, by n."""

    def leaves(self, first: int, end: int) -> Iterator[bytes]: ...
    def leaf(self, seq: int) -> bytes | None: ...
    def artifacts_of(self, first: int, end: int) -> list[ArtifactRow]: ...
    def artifact(self, sha256: str) -> ArtifactRow | None: ...

    def records(
        self,
        *,
        kind: str | None = None,
        device: str | None = None,
        from_utc_ns: int | None = None,
        to_utc_ns: int | None = None,
        after: int = -1,
        limit: int = 100,
    ) -> list[tuple[int, bytes]]:
        """(seq, leaf) with seq > after, by seq. Bounded work per call."""

    def node(self, level: int, index: int) -> bytes:
        """Hash of a perfect subtree of the sealed log: for inclusion proofs."""

    def bundle_signature(self, tagmanifest_sha256: str) -> bytes | None:
        """A signature made earlier over the same tagmanifest, so that a bundle's bytes stay the same."""


class SignatureCache(Protocol):
    """Keeps the signatures of served bundles."""

    async def keep_bundle_signature(self, tagmanifest_sha256: str, p7s: bytes) -> None: ...


# ---------------------------------------------------------------- bundles as byte streams


class ByteSource(Protocol):
    """Bytes of known length that can be read from any offset: a tar of a bundle, an artifact."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def etag(self) -> str:
        """Strong validator, without quotes: same etag, same bytes."""

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """Chunks of at most 256 KiB of [start, end)."""


class Bundles(Protocol):
    """Bundles of this gateway (implemented by gateway.bundles)."""

    async def batch(self, n: int, *, artifacts: bool) -> ByteSource:
        """A tar; without artifacts they are listed as pending. Raises KeyError for an unknown batch."""

    async def export(self, seqs: Sequence[int], *, artifacts: bool) -> ByteSource:
        """A tar of single records with inclusion proofs. Raises KeyError for unknown or unsealed records."""


# ---------------------------------------------------------------- live values and orders


@dataclass(frozen=True, slots=True)
class LiveItem:
    """The newest of something that is shown live. Never evidence: the journal is."""

    topic: Literal["position", "state", "finding"]
    key: str
    """What it replaces: `<source>/<device>`, or the id of a finding."""
    version: int
    """Rises by one with every change of the board."""
    device_class: str
    privacy: Literal["open", "process"]
    """`process`: only for roles that may see the tracks of officers."""
    values: Mapping[str, Any]
    """JSON values in the shape of uplink/WIRE.md."""


class Live(Protocol):
    """The board of newest values (implemented by gateway.live): conflated per key, bounded."""

    def changes(self, after: int, limit: int) -> list[LiveItem]:
        """Items with a version above `after`, by version: a slow reader skips what was replaced meanwhile."""

    def dropped(self) -> int:
        """Findings that left the board because it is full; positions are only ever replaced."""

    def class_of(self, source: str, device: str) -> str:
        """Class of a device that is on the board; "" where it is not."""

    async def wait(self, after: int) -> None:
        """Until something with a version above `after` is there."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a named person wants of a device."""

    source: str
    device: str
    action: str
    """Such as `locate`, `track`, `text`, `shoot`, `set`, `query`, `route`; each driver names its own."""
    parameters: Mapping[str, Any]
    actor: str
    """Who was authenticated: a role, the name in a client certificate, a user of the box."""
    key: str
    """Idempotency: the same key again gives the first outcome and does nothing."""
    claimed_by: str = ""
    """Who the sender says that it is; nobody checked it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an order."""

    state: Literal["done", "refused", "offline", "timeout", "unknown"]
    """refused: by the device or by its driver; offline: the device has no link; unknown: no such device or action."""
    detail: str
    """One line for a person."""
    result: Mapping[str, Any] = field(default_factory=dict)
    seq: int | None = None
    """The `operator.action` record of the order."""


class OrderTaker(Protocol):
    """A source that carries out orders."""

    async def take(self, order: Order, order_seq: int) -> Outcome:
        """Carry out an order whose record `order_seq` is on disk. Never raises for what a device does."""


class Orders(Protocol):
    """The desk of orders (implemented by gateway.orders): every order is a record before it is carried out."""

    async def submit(self, order: Order) -> Outcome:
        """Record, carry out, record the outcome (`device.reply`). Raises StoreFull with nothing done."""

    def serve(self, source: str, taker: OrderTaker | None) -> None:
        """A source is there to take orders; None: no longer."""


class TimeMarks(Protocol):
    """Where receivers tell what time satellites say (implemented by gateway.clock)."""

    def mark(self, source: str, utc_ns: int, mono_ns: int, uncertainty_ns: int) -> None:
        """At `mono_ns` of the Clock's monotonic axis (Instant.mono_ns) it was `utc_ns`, give or take."""


# ---------------------------------------------------------------- what people see


@dataclass(slots=True)
class UplinkStatus:
    """State of the uplink and of time-stamping, kept by uplink.runner, read by health and the API."""

    state: Literal["off", "starting", "ok", "waiting", "unreachable", "refused", "stopped"] = "off"
    """off: no platform configured; waiting: a batch was refused and its successors wait for the operator."""
    reason: str = ""
    """The last error, one line; kept after it is over."""
    since_utc_ns: int = 0
    connected: bool = False
    last_contact_utc_ns: int | None = None
    last_receipt_utc_ns: int | None = None
    """When the last new receipt was stored."""
    platform_size: int | None = None
    """Tree size that the platform holds; None until it was asked."""
    sent_bytes: int = 0
    resent_bytes: int = 0
    stamping_state: Literal["off", "starting", "ok", "unreachable", "refused"] = "off"
    stamping_reason: str = ""
    last_stamp_utc_ns: int | None = None
    counters: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class LiveStatus:
    """State of the live channel, kept by uplink.mqtt_client, read by health and the API."""

    state: Literal["off", "starting", "ok", "unreachable", "refused"] = "off"
    reason: str = ""
    """The last error, one line; kept after it is over."""
    since_utc_ns: int = 0
    published: int = 0
    dropped: int = 0
    """Findings that left the bounded queue before a broker took them; the journal has them."""


@dataclass(slots=True)
class SourceStatus:
    """State of one configured source, kept by its driver, read by health and the API."""

    name: str
    type: str
    state: Literal["starting", "ok", "degraded", "down", "disabled"] = "starting"
    reason: str = ""
    since_utc_ns: int = 0
    last_seen_utc_ns: int | None = None
    counters: dict[str, int] = field(default_factory=dict)
    addresses: list[str] = field(default_factory=list)
    """Where it listens, for sources that devices call: `tcp 0.0.0.0:6808`."""
