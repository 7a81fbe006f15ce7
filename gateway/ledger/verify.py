"""Verification of bundles: every step of FORMAT.md, "Verification", offline, each byte read once.

`verify` judges a folder or tar and never raises for what is in it: hostile input becomes a failed check.
`verify_light` is the platform's intake of a batch: it returns what was verified or raises BundleRefused.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Final

from gateway.core import kinds
from gateway.ledger import checkpoint, profile, proof, scan
from gateway.ledger.archive import Bag, open_bag
from gateway.ledger.grammar import EvidenceError, FormatError, UntrustedError, gateway_id_of, utc_text
from gateway.ledger.merkle import EMPTY_ROOT, Frontier, leaf_hash, verify_inclusion
from gateway.ledger.profile import BagInfo
from gateway.ledger.receipt import Receipt
from gateway.ledger.report import Check, Report, WrongRecord
from gateway.ledger.scan import Facts, Meter, Progress, Scanned
from gateway.ledger.seal import Seal
from gateway.ledger.stamp import Token
from gateway.ledger.trust import Trust
from gateway.ledger.verify_seal import Credentials, SealFindings, check_packaging, check_seal

LEAVES_SIZE_MAX_BYTES: Final = 1 << 30
SINGLE: Final = "data/record-"

__all__ = ["BundleRefused", "Check", "Report", "VerifiedBatch", "verify", "verify_light"]


@dataclass(slots=True)
class VerifiedBatch:
    """A batch bundle that passed every check. `records` reads from the bag, which must still be open."""

    seal: Seal
    seal_txt: bytes
    seal_p7s: bytes
    tsr: bytes | None
    token: Token | None
    receipt: Receipt | None
    frontier: tuple[bytes, ...]
    """Perfect-subtree hashes at `seal.first`."""
    frontier_after: tuple[bytes, ...]
    """The same at `seal.end`."""
    artifacts: dict[str, int]
    """Every artifact that the records name: size by sha256."""
    pending: dict[str, int]
    """Those that are not in the bundle."""
    texts: dict[str, bytes]
    """All tag files but proof/leaves, by name."""
    report: Report
    bag: Bag

    def records(self) -> Iterator[bytes]:
        """The leaves in order."""
        return scan.leaves_of(self.bag, profile.RECORDS)


class BundleRefused(UntrustedError):
    """A bundle that failed a check; `report` says which."""

    def __init__(self, report: Report) -> None:
        self.report = report
        failed = next(item for item in report.checks if not item.ok)
        super().__init__(f"bundle refused: {failed.name}: {failed.text}")


@dataclass(slots=True)
class _Work:
    """One verification under way."""

    bag: Bag
    trust: Trust
    now: datetime
    report: Report
    meter: Meter
    info: BagInfo
    texts: dict[str, bytes]
    credentials: Credentials
    leaves_sha256: str = ""
    """Of proof/leaves."""


def verify(path: Path, trust: Trust, *, now: datetime, progress: Progress | None = None) -> Report:
    """Check a bundle in a folder or tar. Raises OSError where it cannot be read, and nothing else."""
    report = Report(path=str(path))
    try:
        with open_bag(path) as bag:
            _verify_bag(bag, trust, now, report, progress)
    except EvidenceError as error:
        report.failed("structure", error)
    return report


def verify_light(bag: Bag, trust: Trust, now: datetime, progress: Progress | None = None) -> VerifiedBatch:
    """Check a batch bundle, artifacts inside or pending. Raises BundleRefused."""
    report = Report(path=bag.top or "")
    verified = None
    try:
        verified = _verify_bag(bag, trust, now, report, progress)
        if report.ok and verified is None:
            raise FormatError("an export of single records is not a batch")
    except EvidenceError as error:
        report.failed("structure", error)
    if verified is None or not report.ok:
        raise BundleRefused(report)
    return verified


def _verify_bag(
    bag: Bag, trust: Trust, now: datetime, report: Report, progress: Progress | None
) -> VerifiedBatch | None:
    report.size_bytes = bag.total_bytes
    opened = report.attempt("structure", lambda: _check_structure(bag))
    if opened is None:
        return None
    info, texts, credentials = opened
    report.bundle = info.bundle
    meter = Meter(bag.total_bytes, progress)
    meter.add(sum(map(len, texts.values())))
    work = _Work(bag, trust, now, report, meter, info, texts, credentials)
    report.attempt("packaging", lambda: _check_tag_hashes(work))
    if info.bundle == "batch":
        return _verify_batch(work)
    _verify_export(work)
    return None


# ---------------------------------------------------------------- both types


def _check_structure(bag: Bag) -> tuple[str, tuple[BagInfo, dict[str, bytes], Credentials]]:
    if profile.BAG_INFO not in bag.names:
        raise FormatError(f"{profile.BAG_INFO} is missing")
    info = BagInfo.parse(bag.read(profile.BAG_INFO))
    profile.check_names(bag.names, info.bundle)
    tags = [name for name in bag.names if not name.startswith("data/") and name != profile.LEAVES]
    if sum(map(bag.size, tags)) > profile.TAGS_MAX_BYTES:
        raise FormatError(f"its proofs are larger than {profile.TAGS_MAX_BYTES} bytes")
    texts = {name: bag.read(name) for name in tags}
    if texts[profile.BAGIT] != profile.BAGIT_TXT:
        raise FormatError(f"{profile.BAGIT}: is not that of BagIt 1.0 in UTF-8")
    if bag.top is not None and bag.mtime_s is not None:
        day = datetime.fromtimestamp(bag.mtime_s, UTC).date()
        if bag.top != info.name or day != info.bagging_date:
            raise FormatError("tar: its folder or its time is not that of bag-info.txt")
    return f"{len(bag.names)} files, nothing extra, no links", (info, texts, Credentials.read(texts))


def _check_tag_hashes(work: _Work) -> tuple[str, None]:
    expected = profile.parse_manifest(work.texts[profile.TAGMANIFEST], profile.TAGMANIFEST)
    digests = {name: sha256(content).hexdigest() for name, content in work.texts.items()}
    if profile.LEAVES in work.bag.names:
        if work.bag.size(profile.LEAVES) > LEAVES_SIZE_MAX_BYTES:
            raise FormatError(f"{profile.LEAVES}: more than {LEAVES_SIZE_MAX_BYTES} bytes")
        digests[profile.LEAVES] = work.leaves_sha256 = scan.file_sha256(work.bag, profile.LEAVES, work.meter)
    del digests[profile.TAGMANIFEST], digests[profile.TAGMANIFEST_P7S]
    _compare(expected, digests, profile.TAGMANIFEST)
    return f"{len(digests)} files are those of {profile.TAGMANIFEST}", None


def _compare(expected: dict[str, str], digests: dict[str, str], manifest: str) -> None:
    if expected.keys() != digests.keys():
        name = min(expected.keys() ^ digests.keys())
        raise FormatError(f"{manifest}: lists other files than there are: {name}")
    for name, digest in digests.items():
        if expected[name] != digest:
            raise FormatError(f"{name}: changed, its SHA-256 is not that of {manifest}")


def _check_payload(work: _Work, digests: dict[str, str]) -> tuple[str, None]:
    """Hash the artifacts; `digests` holds the records already."""
    for name in work.bag.names:
        if name.startswith(profile.ARTIFACTS):
            digests[name] = scan.file_sha256(work.bag, name, work.meter)
    if unread := [name for name in work.bag.names if name.startswith("data/") and name not in digests]:
        raise FormatError(f"{unread[0]}: was not read to its end, see records")
    expected = profile.parse_manifest(work.texts[profile.MANIFEST], profile.MANIFEST)
    _compare(expected, digests, profile.MANIFEST)
    sizes = [work.bag.size(name) for name in digests]
    if (sum(sizes), len(sizes)) != (work.info.payload_bytes, work.info.payload_files):
        raise FormatError(f"{profile.BAG_INFO}: Payload-Oxum does not fit the files in data")
    return f"{len(digests)} files are those of {profile.MANIFEST}", None


def _check_artifacts(work: _Work, facts: Facts, digests: dict[str, str]) -> tuple[str, dict[str, int]]:
    """Every artifact that a record names is inside and whole, or announced as pending; and no other."""
    inside: dict[str, int] = {}
    for name in work.bag.names:
        if name.startswith(profile.ARTIFACTS):
            digest = profile.artifact_of(name)
            if digest in inside or digest in work.info.pending:
                raise FormatError(f"{name}: the artifact is there twice, or is also announced as pending")
            inside[digest] = work.bag.size(name)
            if digest in facts.artifacts and digests.get(name) != digest:
                raise WrongRecord(facts.artifacts[digest][1], f"{name}: its content is not what its name says")
    there = inside | dict(work.info.pending)
    for digest, (size_bytes, seq) in facts.artifacts.items():
        if there.get(digest) != size_bytes:
            raise WrongRecord(seq, f"artifact {digest} of record {seq} is missing or has another size")
    if extra := sorted(there.keys() - facts.artifacts.keys()):
        raise FormatError(f"artifact {extra[0]} is named by no record")
    pending = dict(work.info.pending)
    return f"{len(inside)} inside, {len(pending)} to be fetched separately", pending


def _set_upper_bound(report: Report, findings: list[SealFindings]) -> None:
    """The moment by which everything is known to have existed: the latest of the seals' own bounds."""
    bounds = [found.bound for found in findings if found.bound is not None]
    if bounds and len(bounds) == len(findings):
        report.not_later_than, report.vouched_by = max(bounds)


def _bound_text(found: SealFindings) -> str:
    if found.bound is None:
        return "no outside upper bound"
    source = "the time stamp" if found.bound.voucher == "time stamp" else "the platform's clock, in its receipt"
    return f"existed not later than {utc_text(found.bound.moment)}, by {source}"


def _clock_remark(found: SealFindings, facts: Facts) -> str | None:
    """A remark on the box's clock, or None."""
    limit = found.bound.moment if found.bound is not None else None
    if limit is None or facts.utc_max_ns // 10**9 <= int(limit.timestamp()):
        return None
    return f"the box's clock was ahead: a record says a time after {utc_text(limit)}"


def _check_revocation(work: _Work) -> None:
    """Say up to when revocations were known; the signers were judged by these lists already."""
    offered, crls = work.credentials.certificates, work.credentials.crls

    def step() -> tuple[str, datetime | None]:
        newest = work.trust.newest_list(offered, crls)
        if newest is None:
            return "", None
        return f"judged by the revocation list of {utc_text(newest)}; a later one can be given (--crl)", newest

    if work.report.attempt("revocation", step) is None and work.report.checks[-1].ok:
        text = (
            "not known whether a signer was revoked: no list came along; ask the authority for it and give it (--crl)"
        )
        work.report.checks[-1] = Check("revocation", ok=True, text=text, warning=True)


def _check_packer(work: _Work, expected_name: str, origin: str, at: datetime) -> tuple[str, object]:
    if work.info.name != expected_name:
        raise FormatError(f"{profile.BAG_INFO}: its identifier is {work.info.name}, not {expected_name}")
    return check_packaging(work.texts, origin, work.credentials, work.trust, at)


# ---------------------------------------------------------------- batch


def _verify_batch(work: _Work) -> VerifiedBatch | None:
    report, texts = work.report, work.texts
    found = check_seal(report, texts, "", work.credentials, work.trust, work.now)
    seal = found.seal
    if seal is None:
        return None
    report.origin, report.first, report.end = seal.origin, seal.first, seal.end
    _set_upper_bound(report, [found])
    at, name = found.at or work.now, f"{gateway_id_of(seal.origin)}_batch_{seal.first}-{seal.end}"
    report.attempt("packaging-signature", lambda: _check_packer(work, name, seal.origin, at))
    start = report.attempt("log-start", lambda: _check_start(work, seal))
    tree = Frontier(seal.first, start) if start is not None else Frontier()
    digests: dict[str, str] = {}
    scanned = report.attempt("records", lambda: _check_records(work, seal, tree, digests))
    report.attempt("payload", lambda: _check_payload(work, digests))
    if start is None or scanned is None:
        return None
    facts = scanned.facts
    report.records = seal.end - seal.first
    report.attempt("root", lambda: _check_root(work, seal, tree, scanned))
    pending = report.attempt("artifacts", lambda: _check_batch_artifacts(work, seal, found, facts, digests))
    report.attempt("pointers", lambda: _check_pointers(seal, facts))
    _check_revocation(work)
    remark = _clock_remark(found, facts)
    text = "; ".join(filter(None, (_bound_text(found), _lower_bound_text(seal, facts), remark)))
    report.passed("time", text, warning=remark is not None)
    return VerifiedBatch(
        seal=seal,
        seal_txt=texts["proof/seal.txt"],
        seal_p7s=texts["proof/seal.txt.p7s"],
        tsr=texts.get("proof/seal.txt.p7s.tsr"),
        token=found.token,
        receipt=found.receipt,
        frontier=start,
        frontier_after=tree.hashes,
        artifacts={digest: size_bytes for digest, (size_bytes, _) in facts.artifacts.items()},
        pending=pending or {},
        texts=texts,
        report=report,
        bag=work.bag,
    )


def _check_start(work: _Work, seal: Seal) -> tuple[str, tuple[bytes, ...]]:
    """checkpoint says what the seal says, and the frontier gives the sealed root at `first`."""
    if work.texts[profile.CHECKPOINT] != checkpoint.encode(seal.origin, seal.end, seal.root):
        raise FormatError(f"{profile.CHECKPOINT}: is not the one of the seal")
    hashes = checkpoint.parse_frontier(work.texts[profile.FRONTIER])
    if Frontier(seal.first, hashes).root() != seal.prev_root:
        raise UntrustedError(f"{profile.FRONTIER}: does not give the sealed root of the log at {seal.first}")
    kind = "the log begins here" if seal.prev_root == EMPTY_ROOT else f"continues the log at {seal.first}"
    return kind, hashes


def _check_records(work: _Work, seal: Seal, tree: Frontier, digests: dict[str, str]) -> tuple[str, Scanned]:
    before = tree.size
    scanned = scan.scan_records(work.bag, profile.RECORDS, seal.first, tree, work.meter)
    digest, facts = scanned.sha256, scanned.facts
    digests[profile.RECORDS] = digest
    count = tree.size - before
    if digest != seal.records_sha256:
        _locate(work, seal)
    if facts.problem is not None:
        seq, text = facts.problem
        raise WrongRecord(seq, f"record {seq}: {text}")
    if digest != seal.records_sha256:
        raise UntrustedError(f"{profile.RECORDS}: changed; which record cannot be told, {profile.LEAVES} changed too")
    if count != seal.end - seal.first:
        raise UntrustedError(f"{count} records where the seal covers {seal.end - seal.first}")
    return f"{count} records, {seal.first} to {seal.end - 1}, none missing, exactly the sealed bytes", scanned


def _locate(work: _Work, seal: Seal) -> None:
    """Raise WrongRecord for the first record whose hash is not the sealed one, where proof/leaves can tell.

    proof/leaves is believed only after it has given the sealed root.
    """
    size_bytes = work.bag.size(profile.LEAVES)
    if size_bytes != 32 * (seal.end - seal.first):
        return
    tree = Frontier(seal.first, checkpoint.parse_frontier(work.texts[profile.FRONTIER]))
    wrong: int | None = None
    leaves = scan.leaves_of(work.bag, profile.RECORDS)
    with work.bag.open(profile.LEAVES) as source:
        for seq in range(seal.first, seal.end):
            sealed = source.read(32)
            tree.append(sealed)
            if wrong is None and _next_hash(leaves) != sealed:
                wrong = seq
    if tree.root() == seal.root:
        seq = seal.end if wrong is None else wrong
        raise WrongRecord(seq, f"record {seq}: is not what was sealed: changed, missing or put in")


def _next_hash(leaves: Iterator[bytes]) -> bytes | None:
    try:
        return leaf_hash(next(leaves))
    except (StopIteration, FormatError):
        return None


def _check_root(work: _Work, seal: Seal, tree: Frontier, scanned: Scanned) -> tuple[str, None]:
    if tree.root() != seal.root:
        raise UntrustedError(f"the records do not give the sealed root of the log at {seal.end}")
    if work.leaves_sha256 != scanned.leaves_sha256:
        raise UntrustedError(f"{profile.LEAVES}: is not the leaf hashes of the records")
    return f"the log root at {seal.end} is recomputed from the records", None


def _check_batch_artifacts(
    work: _Work, seal: Seal, found: SealFindings, facts: Facts, digests: dict[str, str]
) -> tuple[str, dict[str, int]]:
    named = {digest: size_bytes for digest, (size_bytes, _) in facts.artifacts.items()}
    if (len(named), sum(named.values())) != (seal.artifact_count, seal.artifact_bytes):
        raise UntrustedError("the records name other artifacts than the seal counts")
    if not found.held.items() <= named.items():
        raise UntrustedError("the receipt names artifacts that are not of this batch")
    return _check_artifacts(work, facts, digests)


def _check_pointers(seal: Seal, facts: Facts) -> tuple[str, None]:
    for name, kind, pointer in (
        ("beacon", kinds.BEACON, seal.beacon),
        ("clock", kinds.CLOCK_STATE, seal.clock),
    ):
        newest = facts.newest.get(kind)
        if newest is None and (pointer is None or pointer < seal.first):
            continue
        if newest != pointer:
            raise UntrustedError(f"{name} of the seal is {pointer}, the newest such record here is {newest}")
    return "beacon and clock point to the newest records of their kinds", None


def _lower_bound_text(seal: Seal, facts: Facts) -> str:
    """What would show the earliest moment: the receipt that the beacon repeats is not in this bundle."""
    if seal.beacon is None:
        return "no lower bound: the log has no beacon yet"
    nonce = f"nonce {facts.nonce}" if facts.nonce is not None else f"the nonce in record {seal.beacon}"
    return f"not earlier, after record {seal.beacon}, than the platform's receipt with {nonce}: ask the platform for it"


# ---------------------------------------------------------------- export


def _verify_export(work: _Work) -> None:
    report, texts = work.report, work.texts
    suffixes = sorted(
        (name.removeprefix("proof/seal").removesuffix(".txt") for name in texts if _is_seal(name)),
        key=lambda suffix: int(suffix[1:]),
    )
    findings = [check_seal(report, texts, suffix, work.credentials, work.trust, work.now) for suffix in suffixes]
    seals = [found.seal for found in findings if found.seal is not None]
    origins = {seal.origin for seal in seals}
    if len(origins) != 1 or len(seals) != len(findings):
        report.failed("export", FormatError("the seals cannot be read, or are not all of one gateway"))
        return
    report.origin = origins.pop()
    _set_upper_bound(report, findings)
    origin, at = report.origin, max(found.at or work.now for found in findings)
    seqs = sorted(_seq_of(name) for name in work.bag.names if name.startswith(SINGLE))
    name = f"{gateway_id_of(origin)}_records_{seqs[0]}-{seqs[-1]}_{len(seqs)}" if seqs else ""
    report.attempt("packaging-signature", lambda: _check_packer(work, name, origin, at))
    digests: dict[str, str] = {}
    facts = report.attempt("records", lambda: _check_single_records(work, seals, suffixes, digests))
    report.attempt("payload", lambda: _check_payload(work, digests))
    if facts is not None:
        report.attempt("artifacts", lambda: _check_artifacts(work, facts, digests))
    _check_revocation(work)
    bounds = [f"records below {seal.end}: {_bound_text(found)}" for seal, found in zip(seals, findings, strict=True)]
    report.passed("time", "; ".join(bounds))


def _seq_of(name: str) -> int:
    return int(name[len(SINGLE) : -len(".json")])


def _is_seal(name: str) -> bool:
    return name.startswith("proof/seal") and name.endswith(".txt")


def _check_single_records(
    work: _Work, seals: list[Seal], suffixes: list[str], digests: dict[str, str]
) -> tuple[str, Facts]:
    if [f"-{seal.end}" for seal in seals] != suffixes:
        raise FormatError("a seal file is not named by the end of its range")
    facts = Facts()
    used: set[int] = set()
    wrong: WrongRecord | None = None
    names = sorted((name for name in work.bag.names if name.startswith(SINGLE)), key=_seq_of)
    for name in names:
        seq = _seq_of(name)
        leaf = work.bag.read(name)
        work.meter.add(len(leaf))
        digests[name] = sha256(leaf).hexdigest()
        facts.add(seq, leaf)
        try:
            used.add(_check_inclusion(work, seals, seq, leaf))
        except EvidenceError as error:
            wrong = wrong or WrongRecord(seq, f"record {seq}: {error}")
    if wrong is not None:
        raise wrong
    if facts.problem is not None:
        seq, text = facts.problem
        raise WrongRecord(seq, f"record {seq}: {text}")
    _check_one_history(seals)
    proofs = sum(name.endswith(".tlog-proof") for name in work.texts)
    if used != {seal.end for seal in seals} or proofs != len(names):
        raise FormatError("a seal or a proof belongs to none of the records")
    work.report.records = len(names)
    return f"{len(names)} records are leaves of the sealed log", facts


def _check_one_history(seals: list[Seal]) -> None:
    """Seals of one log do not overlap, and where two meet they agree on the root between them."""
    for before, after in pairwise(seals):
        if after.first < before.end or (after.first == before.end and after.prev_root != before.root):
            raise UntrustedError(f"the seals at {before.end} and {after.end} are of two histories: the log has forked")


def _check_inclusion(work: _Work, seals: list[Seal], seq: int, leaf: bytes) -> int:
    """The end of the seal that covers the record."""
    text = work.texts.get(f"proof/record-{seq}.tlog-proof")
    if text is None:
        raise FormatError("its inclusion proof is missing")
    given = proof.parse(text)
    at = bisect_right(seals, seq, key=lambda item: item.end)
    seal = seals[at] if at < len(seals) and seals[at].first <= seq else None
    if seal is None or given.leaf_index != seq or given.checkpoint != (seal.origin, seal.end, seal.root):
        raise UntrustedError("its proof does not lead to the seal that covers it")
    if not verify_inclusion(leaf_hash(leaf), seq, seal.end, given.path, seal.root):
        raise UntrustedError("is not what was sealed under this number")
    return seal.end
