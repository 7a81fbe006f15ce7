"""Everything that belongs to one finding, as it lies in the log: what an export of it holds, and what its page draws.

The export is an ordinary bundle of single records, which every verifier takes (FORMAT.md allows no further file in
one). The page lies beside it and names it by its hash.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from gateway import report_fume
from gateway.core import kinds
from gateway.core.errors import IntegrityError
from gateway.core.fixes import Fix, fixes_of
from gateway.core.ports import Reader
from gateway.core.record import Record, parse_leaf
from gateway.drawing import Point
from gateway.findings import READ_RECORDS, Finding, revisions
from gateway.report import PHOTO_BYTES_MAX, PHOTO_TYPES, BundleFacts, Excerpt, Facts, Photo, Revision, Row, moment
from gateway.rules.book import unpack

MEDIA_MARGIN_S: Final = 300
"""Photos of the device so long before and after the event belong to the case."""
MEDIA_LATE_S: Final = 7 * 86_400
"""A photo may arrive so long after the event."""
MEDIA_MAX: Final = 50
CONTEXT_MARGIN_S: Final = 300
"""Positions so long before and after the event are drawn and disclosed with it, of devices whose track is open."""
CONTEXT_MAX: Final = 1_200
CLOCK_MARGIN_NS: Final = 660 * 10**9
CLOCK_MAX: Final = 40
S_NS: Final = 10**9


@dataclass(frozen=True, slots=True)
class Case:
    """All records that belong to one finding."""

    revisions: Sequence[Finding]
    inputs: Sequence[Record]
    expired: Sequence[int]
    """Cited records that retention has taken off this box; the platform that gave the receipt holds them."""
    books: Sequence[Record]
    media: Sequence[Record]
    context: Sequence[Record]
    clock: Sequence[Record]

    @property
    def newest(self) -> Finding:
        """What the case says."""
        return self.revisions[-1]

    @property
    def needed(self) -> list[int]:
        """Records without which there is no case: the finding, what it cites, the rules. Ascending."""
        groups = (self.inputs, self.books)
        return sorted({one.seq for one in self.revisions} | {one.seq for group in groups for one in group})

    @property
    def seqs(self) -> list[int]:
        """Every record of the case, ascending."""
        groups = (self.media, self.context, self.clock)
        return sorted({*self.needed, *(one.seq for group in groups for one in group)})

    def sealed(self, size: int) -> list[int]:
        """Records for a bundle, of a log that is sealed up to `size`."""
        return [seq for seq in self.seqs if seq < size]

    def unsealed(self, size: int) -> list[int]:
        """Needed records that no seal covers yet: no bundle can be made before."""
        return [seq for seq in self.needed if seq >= size]


def gather(reader: Reader, name: str) -> Case:
    """Everything about one finding, named by id or seq. Raises RejectedError where there is none. Blocks."""
    history = revisions(reader, name)
    newest = history[-1]
    cited = sorted({seq for one in history for seq in one.inputs})
    leaves = {seq: reader.leaf(seq) for seq in cited}
    inputs = [parse_leaf(leaf) for leaf in leaves.values() if leaf is not None]
    kept = {record.seq for record in inputs}
    start_s = newest.start_utc_s
    end_s = newest.end_utc_s or max([start_s, *(_time_of(record) or start_s for record in inputs)])
    return Case(
        history,
        inputs,
        [seq for seq, leaf in leaves.items() if leaf is None],
        _books(reader, history),
        _media(reader, newest, start_s, end_s),
        [one for one in _context(reader, newest, inputs, start_s, end_s) if one.seq not in kept],
        _clock(reader, inputs),
    )


def _books(reader: Reader, history: Sequence[Finding]) -> list[Record]:
    """The rule books that the revisions name, with all their parts."""
    found: dict[int, Record] = {}
    for one in history:
        book = one.judgement.get("book", {})
        first, digest = book.get("seq"), book.get("sha256")
        if not isinstance(first, int) or first < 0 or first in found:
            continue
        for seq, leaf in reader.records(kind=kinds.RULES_BOOK, after=first - 1, limit=READ_RECORDS):
            record = parse_leaf(leaf)
            if record.data.get("sha256") != digest:
                break
            found[seq] = record
            if record.data.get("part", 1) >= record.data.get("parts", 1):
                break
    return list(found.values())


def _media(reader: Reader, finding: Finding, start_s: int, end_s: int) -> list[Record]:
    """Photos that the device took around the event."""
    found: list[Record] = []
    low_s, high_s = start_s - MEDIA_MARGIN_S, end_s + MEDIA_MARGIN_S
    for record in _of_device(
        reader, finding, kinds.DEVICE_MEDIA, low_s * S_NS, (high_s + MEDIA_LATE_S) * S_NS, MEDIA_MAX * 20
    ):
        taken_s = _time_of(record)
        if low_s <= (record.instant.utc_ns // S_NS if taken_s is None else taken_s) <= high_s:
            found.append(record)
    return found[:MEDIA_MAX]


def _context(reader: Reader, finding: Finding, inputs: Sequence[Record], start_s: int, end_s: int) -> list[Record]:
    """Positions shortly before and after the event, also where they came later than they were; of officers nothing but
    what is cited."""
    if finding.privacy != "open":
        return []
    low_s, high_s = start_s - CONTEXT_MARGIN_S, end_s + CONTEXT_MARGIN_S
    arrivals_s = [record.instant.utc_ns // S_NS for record in inputs] or [start_s]
    from_s, to_s = min(low_s, arrivals_s[0] - CONTEXT_MARGIN_S), max(high_s, arrivals_s[-1] + CONTEXT_MARGIN_S)
    if arrivals_s[0] - CONTEXT_MARGIN_S > high_s:
        from_s = arrivals_s[0] - CONTEXT_MARGIN_S  # back-filled: what was just before came just before it
    found = []
    for record in _of_device(reader, finding, kinds.POSITION, from_s * S_NS, to_s * S_NS, 4 * CONTEXT_MAX):
        at_s = _time_of(record)
        if at_s is not None and (low_s <= at_s < start_s or end_s < at_s <= high_s):
            found.append(record)
    return found[:CONTEXT_MAX]


def _clock(reader: Reader, inputs: Sequence[Record]) -> list[Record]:
    """What the box knew of its clock while the inputs arrived."""
    if not inputs:
        return []
    first_ns, last_ns = inputs[0].instant.utc_ns, inputs[-1].instant.utc_ns
    rows = reader.records(
        kind=kinds.CLOCK_STATE,
        from_utc_ns=max(0, first_ns - CLOCK_MARGIN_NS),
        to_utc_ns=last_ns + CLOCK_MARGIN_NS,
        limit=CLOCK_MAX,
    )
    return [parse_leaf(leaf) for _, leaf in rows]


def _of_device(
    reader: Reader, finding: Finding, kind: str, from_utc_ns: int, to_utc_ns: int, limit: int
) -> Iterator[Record]:
    """At most `limit` records of the finding's device that arrived in a time."""
    after = -1
    while limit > 0 and (
        rows := reader.records(
            kind=kind,
            device=finding.device,
            from_utc_ns=max(0, from_utc_ns),
            to_utc_ns=to_utc_ns,
            after=after,
            limit=min(READ_RECORDS, limit),
        )
    ):
        for _, leaf in rows:
            record = parse_leaf(leaf)
            if record.source == finding.source:
                yield record
        limit -= len(rows)
        after = rows[-1][0]


def _time_of(record: Record) -> int | None:
    """Device time of a record's newest fix, in seconds."""
    fix = record.data.get("fix")
    fixes = record.data.get("fixes") or [fix if isinstance(fix, dict) else record.data]
    times = [one["time_utc_s"] for one in fixes if type(one.get("time_utc_s")) is int]
    return max(times) if times else None


# ---------------------------------------------------------------------------------------------- its page

EXCERPT_LINES_MAX: Final = 60
TABLES: Final = {
    "no-entry": "fence",
    "no-permit": "hours",
    "dumping-lead": "dumping",
    "duplicate-identity": "duplicate",
    "power-cut": "offline",
    "antenna-cut": "offline",
    "jammed": "offline",
    "sensors-lost": "offline",
    "clock-back": "offline",
    **report_fume.TABLES,
}
"""Table of a rule set that a rule rests on, where it has another name."""
_TABLE: Final = re.compile(r"\[\[?([A-Za-z_][\w.-]*)\]\]?\s*(#.*)?")


def facts(
    case: Case, gateway: str, path_of: Callable[[str], Path], bundle: BundleFacts | None = None, sealed_size: int = 0
) -> Facts:
    """What the page shows. `path_of`: where an artifact lies. Blocks on the disk."""
    newest = case.newest
    cited = {record.seq for record in case.inputs}
    records = sorted((*case.inputs, *case.context), key=lambda record: record.seq)
    return Facts(
        gateway=gateway,
        id=newest.id,
        rule=newest.rule,
        state=newest.state,
        device_class=newest.device_class,
        judgement=newest.judgement,
        revisions=[Revision(one.seq, one.arrival_utc_ns, one.revision, one.state) for one in case.revisions],
        points=_points(records, cited, newest),
        rows=[_row(record, record.seq in cited) for record in records],
        expired=len(case.expired),
        excerpts=_excerpts(case),
        photos=[photo for record in case.media for photo in _pictures(record, path_of)],
        clock=_clock_text(case.clock),
        readings=report_fume.chart(
            [(one.seq, one.instant.utc_ns, one.data) for one in records if one.kind == kinds.READING], newest.judgement
        ),
        bundle=bundle,
        not_sealed=case.unsealed(sealed_size),
    )


def bundle_facts(reader: Reader, seqs: Sequence[int], file: str, digest: str, size_bytes: int) -> BundleFacts:
    """What the page says of the bundle that belongs to it."""
    seals: dict[int, str] = {}
    for seq in seqs:
        row = reader.batch_of(seq)
        if row is not None and row.n not in seals:
            sealed = datetime.fromtimestamp(row.sealed_utc_ns // S_NS, UTC)
            stamped = "时间戳 time stamp" if row.tsr is not None else "无时间戳 no time stamp"
            receipted = "平台回执 receipt" if row.receipt_txt is not None else "无回执 no receipt"
            seals[row.n] = f"{row.first} – {row.end - 1}, {sealed:%Y-%m-%dT%H:%M:%SZ}, {stamped}, {receipted}"
    return BundleFacts(file, digest, size_bytes, len(seqs), list(seals.values()))


def _points(records: Sequence[Record], cited: set[int], finding: Finding) -> list[Point]:
    """Usable fixes in the order of their time."""
    end_s = finding.end_utc_s
    found: dict[tuple[int, int, int], Point] = {}
    for fix in (fix for record in records for fix in _fixes(record)):
        if fix.usable and fix.time_utc_s is not None:
            during = finding.start_utc_s <= fix.time_utc_s and (end_s is None or fix.time_utc_s <= end_s)
            found[fix.time_utc_s, fix.seq, fix.index] = Point(
                fix.time_utc_s, fix.lat_e7, fix.lon_e7, fix.speed_kmh_e1, fix.recorder_kmh_e1,
                fix.seq in cited and during, fix.state,
            )  # fmt: skip
    return [found[key] for key in sorted(found)]


def _fixes(record: Record) -> Iterator[Fix]:
    if record.kind == kinds.POSITION:
        yield from fixes_of(record.seq, record.instant.utc_ns, record.data)


def _row(record: Record, cited: bool) -> Row:
    fixes = list(_fixes(record))
    times = [fix.time_utc_s for fix in fixes if fix.time_utc_s is not None]
    if times:
        device_time = moment(times[0])[5:] + ("" if len(times) == 1 else f" … {moment(times[-1])[11:]}")
    else:
        device_time = "" if record.device_time is None else record.device_time.text
    value = f"{len(fixes)} 个定位 fixes: " if len(fixes) > 1 else ""
    if record.kind == kinds.READING:
        value = report_fume.row_text(record.seq, record.instant.utc_ns, record.data)
    else:
        value += _fix_text(fixes[0]) if fixes else _data_text(record.data)
    return Row(record.seq, record.kind, record.instant.utc_ns, device_time, value, cited)


def _fix_text(fix: Fix) -> str:
    words = []
    if fix.lat_e7 is not None and fix.lon_e7 is not None:
        words.append(f"{fix.lat_e7 / 1e7:.6f}, {fix.lon_e7 / 1e7:.6f} ±{fix.sigma_m} m")
    speed, recorder = (
        "—" if value is None else f"{value / 10:.1f}" for value in (fix.speed_kmh_e1, fix.recorder_kmh_e1)
    )
    words.append(f"{speed} km/h" + ("" if fix.recorder_kmh_e1 is None else f"（{recorder}）"))
    words += [f"{key} {fix.state[key]}" for key in ("load", "cover", "lift", "alarms") if fix.state.get(key)]
    if fix.backfill:
        words.append("补传 back-filled")
    if fix.flags:
        words.append(f"[{fix.flags}]")
    return " · ".join(words)


def _data_text(data: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in data.items() if not isinstance(value, (dict, list)))[:200]


def _pictures(record: Record, path_of: Callable[[str], Path]) -> Iterator[Photo]:
    taken_s = _time_of(record)
    taken = moment(record.instant.utc_ns // S_NS if taken_s is None else taken_s)
    for item in record.artifacts:
        content: bytes | None = None
        if item.media_type in PHOTO_TYPES and item.size_bytes <= PHOTO_BYTES_MAX:
            try:
                content = path_of(item.sha256).read_bytes()
            except OSError:
                content = None  # expired or damaged: its hash and size stand on the page all the same
        if content is not None and sha256(content).hexdigest() != item.sha256:
            content = None
        yield Photo(record.seq, item.sha256, item.media_type, item.size_bytes, taken, content)


def _clock_text(clock: Sequence[Record]) -> str:
    if not clock:
        return ""
    record = clock[-1]
    good = "已同步 synchronised" if record.data.get("synchronised") is True else "未同步 not synchronised"
    return f"{record.data.get('source', '')} {good}（记录 record {record.seq}）".strip()


def _excerpts(case: Case) -> list[Excerpt]:
    """The permit and the rule's table, verbatim, out of the sealed rule book of the newest revision."""
    judgement = case.newest.judgement
    digest = judgement.get("book", {}).get("sha256")
    parts = [record.raw or b"" for record in case.books if record.data.get("sha256") == digest]
    try:
        files = unpack(b"".join(parts))
    except IntegrityError:
        return []  # the records are in the bundle all the same, for whoever can read them
    found: list[Excerpt] = []
    for name, content in files.items():
        if not name.endswith(".toml"):
            continue
        try:
            text = content.decode()
            values = tomllib.loads(text)
        except ValueError:
            continue
        first, wanted = _wanted(text, values, case.newest.rule, judgement)
        if wanted:
            title = "核准 permit" if values.get("format") == "permits/v1" else "规则集 rule set"
            found.append(Excerpt(title, name, sha256(content).hexdigest(), first, wanted[:EXCERPT_LINES_MAX]))
    return found


def _wanted(text: str, values: dict[str, Any], rule: str, judgement: Any) -> tuple[int, list[str]]:
    """(number of the first line, lines) of the table of a file that the finding rests on; none of another file."""
    tables = _tables(text)
    if values.get("format") == "permits/v1":
        permits = values.get("permit", [])
        numbers = [item.get("number") for item in permits if isinstance(item, dict)] if judgement.get("permit") else []
        headers = [table for table in tables if table[0] == "permit"]
        if judgement.get("permit") in numbers and len(headers) == len(numbers):
            _, first, lines = headers[numbers.index(judgement["permit"])]
            return first, lines
    elif values.get("id") == judgement.get("book", {}).get("rule_set"):
        name = TABLES.get(rule, rule.replace("-", "_"))
        for table, first, lines in tables:
            if table == name:
                return first, lines
    return 0, []


def _tables(text: str) -> list[tuple[str, int, list[str]]]:
    """(name, number of the header's line, lines without empty ones at the end) of the tables of a TOML file."""
    found: list[tuple[str, int, list[str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        header = _TABLE.fullmatch(line.rstrip())
        if header is not None:
            found.append((header[1], number, []))
        if found:
            found[-1][2].append(line.rstrip())
    for _, _, lines in found:
        while lines and not lines[-1]:
            lines.pop()
    return found
