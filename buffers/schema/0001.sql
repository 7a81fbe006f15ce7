-- Store, version 1. buffers/STORE.md says what each table promises.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,       -- gateway_id, spool_id, fork, records_expired_below
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Kinds and devices, interned. last_block: the newest finished block that holds the name.
CREATE TABLE name (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE,
    last_block INTEGER
) STRICT;

-- One row per leaf; seq is its index in the gateway's log. No secondary index: see block.
CREATE TABLE record (
    seq INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    device INTEGER NOT NULL,
    utc_ns INTEGER NOT NULL,
    leaf BLOB NOT NULL
) STRICT;

-- The index: one row per 1024 records [n * 1024, (n + 1) * 1024), written when the block is full.
CREATE TABLE block (
    n INTEGER PRIMARY KEY,
    utc_min_ns INTEGER NOT NULL,
    utc_max_ns INTEGER NOT NULL,
    names TEXT NOT NULL         -- ",k<kind>,d<device>,k<kind>d<device>,…,"
) STRICT;

-- What the drivers remember, changed in the transaction of the records that it goes with.
CREATE TABLE state (
    source TEXT NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (source, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE artifact (
    id INTEGER PRIMARY KEY,
    sha256 TEXT NOT NULL UNIQUE,
    size_bytes INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('present', 'expired', 'damaged')),
    utc_ns INTEGER NOT NULL,    -- arrival of the copy that is here
    held_n INTEGER              -- a batch whose stored receipt names the artifact; NULL: never delete
) STRICT;
CREATE INDEX artifact_here ON artifact (size_bytes) WHERE state <> 'expired';
CREATE INDEX artifact_freeable ON artifact (utc_ns) WHERE held_n IS NOT NULL AND state <> 'expired';

CREATE TABLE artifact_ref (
    seq INTEGER NOT NULL,
    artifact INTEGER NOT NULL,
    PRIMARY KEY (seq, artifact)
) STRICT, WITHOUT ROWID;
CREATE INDEX artifact_ref_of ON artifact_ref (artifact, seq);

-- The end of the sealed log: one row.
CREATE TABLE checkpoint (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    frontier BLOB NOT NULL      -- perfect-subtree hashes, largest first, 32 bytes each
) STRICT;
INSERT INTO checkpoint VALUES (1, 0, x'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', x'');

CREATE TABLE certificate (
    id INTEGER PRIMARY KEY,
    pem BLOB NOT NULL UNIQUE
) STRICT;

CREATE TABLE batch (
    n INTEGER PRIMARY KEY,
    first_seq INTEGER NOT NULL,
    end_seq INTEGER NOT NULL UNIQUE,
    prev_root BLOB NOT NULL,
    root BLOB NOT NULL,
    prev_frontier BLOB NOT NULL,
    records_sha256 TEXT NOT NULL,
    records_bytes INTEGER NOT NULL,
    artifact_count INTEGER NOT NULL,
    artifact_bytes INTEGER NOT NULL,
    utc_min_ns INTEGER NOT NULL,
    utc_max_ns INTEGER NOT NULL,
    sealed_utc_ns INTEGER NOT NULL,
    certificate INTEGER NOT NULL,
    delivered INTEGER NOT NULL DEFAULT 0,
    complete INTEGER NOT NULL DEFAULT 0,
    seal_txt BLOB NOT NULL,
    seal_p7s BLOB NOT NULL,
    tsr BLOB,
    receipt_txt BLOB,
    receipt_p7s BLOB,
    receipt_artifacts BLOB
) STRICT;
CREATE INDEX batch_unstamped ON batch (n) WHERE tsr IS NULL;

-- Hashes of perfect subtrees of the sealed log at levels 8, 16, 24, …
CREATE TABLE subtree (
    level INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;

-- What the platform does not have yet. rank: seq of the alarm, n of the batch or stamp, id of the artifact.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('alarm', 'batch', 'stamp', 'artifact')),
    rank INTEGER NOT NULL,
    ref TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    utc_ns INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    upload_url TEXT
) STRICT;
CREATE UNIQUE INDEX outbox_order ON outbox (kind, rank);

-- What the platform, or a damaged disk, refused for good: out of the queue, kept with its reason.
CREATE TABLE quarantine (
    kind TEXT NOT NULL,
    rank INTEGER NOT NULL,
    ref TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    utc_ns INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (kind, rank)
) STRICT, WITHOUT ROWID;

-- Signatures of served bundles (ECDSA is randomised; a served bundle keeps its bytes).
CREATE TABLE bundle_signature (
    id INTEGER PRIMARY KEY,
    tagmanifest_sha256 TEXT NOT NULL UNIQUE,
    p7s BLOB NOT NULL
) STRICT;
