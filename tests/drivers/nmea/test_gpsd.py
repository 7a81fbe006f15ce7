"""Logs of real receivers against gpsd's own output: shared vectors, nmea/. The table below lists every deviation."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from drivers.nmea.codec import parse
from drivers.nmea.epochs import Epochs, Fix, utc_ns_of
from drivers.nmea.fields import DAY_NS
from drivers.nmea.framing import Decoder, Malformed, Sentence
from drivers.nmea.messages import Gga, Gll, Gns, Message, Rmc
from tests.drivers.nmea.lines import decoded, said

REFUSED = {
    # log, reason: how many and why
    ("com-1289", "checksum"): (1, "a GSV damaged on the wire"),
    ("firefly-II", "checksum"): (23, "GGA whose quality was taken out and the checksum left; gpsd refuses them too"),
    ("gp-320fw-2019-04-07-coldboot", "checksum"): (
        36,
        "sentences that ran into each other while the receiver restarted",
    ),
    ("st-teseo-liv4f", "checksum"): (1, "a GSV with a wrong checksum, so says the log"),
    ("eXplorist110", "field"): (11, "GLL with status N where A or V must stand; no fix in gpsd either"),
    ("gp-320fw-2019-04-07-coldboot", "field"): (2, "GSV damaged before the checksum was made: half a satellite"),
    ("iTrek", "fields"): (1, "GSA with six fields of seventeen, without a fix"),
}

VOID_HERE = {"tr737A+": 1}
"""gpsd gave a position from a GGA of quality 0 before any fix; void is void here."""

FINER_HERE = {"ac12": 7}
"""Epochs take GGA's five decimals; gpsd's last word of the same second was RMC's four: up to 9e-7 degrees apart."""

EXTRA = {"beidou-bd": 1, "isync": 1, "tomtom-mkII": 1, "gp-320fw-2019-04-07-coldboot": 8, "st-teseo-liv4f": 329}
"""Sentences that the index of the vectors does not count: behind other bytes on a line, and every line of the LIV4F,
which begins with two $."""

OTHER_ALTITUDE = {"garmin38": 5, "tn204": 3}
"""gpsd takes the altitude of Garmin's PGRMZ, in feet; here GGA's."""


def logs(vectors: Path) -> list[Path]:
    found = sorted((vectors / "nmea").glob("*.log"))
    assert len(found) == 51
    return found


def reports(log: Path) -> Iterator[tuple[list[bytes], dict[str, Any]]]:
    """gpsd's positions, each with the raw lines since the last one."""
    before: list[bytes] = []
    for row in (log.parent / f"{log.name}.chk").read_bytes().split(b"\n"):
        if not row.startswith(b'{"class"'):
            before.append(row + b"\n")
        elif row.startswith(b'{"class":"TPV"'):
            report = json.loads(row, parse_float=Decimal)
            if "lat" in report:
                yield before, report
                before = []


def off_e7(report: dict[str, Any], lat_e7: int | None, lon_e7: int | None) -> Decimal:
    assert lat_e7 is not None
    assert lon_e7 is not None
    return max(abs(report["lat"] * 10_000_000 - lat_e7), abs(report["lon"] * 10_000_000 - lon_e7))


def fixes_of_sentences(pairs: list[tuple[Sentence, Message]]) -> list[Fix]:
    epochs = Epochs()
    found = [epochs.push(*pair) for pair in pairs]
    return [fix for fix in (*found, epochs.flush()) if fix is not None]


def fixes(log: Path) -> list[Fix]:
    return fixes_of_sentences(said(log.read_bytes()))


def test_every_log_is_read_the_same_in_any_chunking(vectors: Path) -> None:
    draw = random.Random(3)
    for log in logs(vectors):
        raw = log.read_bytes()
        whole = decoded(raw)
        for longest in (1, 7, 100, 4096):
            decoder = Decoder()
            found: list[Sentence | Malformed] = []
            at = 0
            while at < len(raw):
                size = draw.randint(1, longest)
                found += decoder.feed(raw[at : at + size])
                at += size
            assert found + decoder.close() == whole, log.name


def test_all_sentences_with_a_good_checksum_are_read(vectors: Path) -> None:
    index = {row["file"]: row for row in map(json.loads, (vectors / "nmea/index.jsonl").read_text().splitlines())}
    refused: Counter[tuple[str, str]] = Counter()
    for log in logs(vectors):
        items = decoded(log.read_bytes())
        good = sum(isinstance(item, Sentence) for item in items)
        assert good == index[log.name]["checksum_ok"] + EXTRA.get(log.stem, 0), log.name
        for item in items:
            read = parse(item) if isinstance(item, Sentence) else item
            if isinstance(read, Malformed) and read.reason in ("checksum", "field", "fields"):
                refused[log.stem, read.reason] += 1
    assert refused == {key: count for key, (count, _) in REFUSED.items()}


def test_positions_of_sentences_agree_with_gpsd(vectors: Path) -> None:
    """Every position that gpsd reports is that of the last sentence with a fix, to 1e-7 degrees."""
    same = 0
    without: Counter[str] = Counter()
    for log in logs(vectors):
        place: tuple[int | None, int | None] | None = None
        for before, report in reports(log):
            for _, message in said(b"".join(before)):
                if isinstance(message, Rmc | Gga | Gns | Gll) and message.valid:
                    place = message.lat_e7, message.lon_e7
            if place is None:
                without[log.stem] += 1
            else:
                assert off_e7(report, *place) <= 1, (log.name, report)
                same += 1
    assert (same, without) == (1267, VOID_HERE)


def test_fixes_agree_with_gpsd(vectors: Path) -> None:
    same = no_time = 0
    finer_in: Counter[str] = Counter()
    altitudes: Counter[str] = Counter()
    other_altitudes: Counter[str] = Counter()
    for log in logs(vectors):
        by_utc: defaultdict[int | None, list[Fix]] = defaultdict(list)
        for fix in fixes(log):
            by_utc[fix.utc_ns].append(fix)
        for _, report in reports(log):
            if "time" not in report:
                no_time += 1
                continue
            moment = datetime.fromisoformat(report["time"]) - datetime(1970, 1, 1, tzinfo=UTC)
            found = [fix for fix in by_utc[moment // timedelta(microseconds=1) * 1000] if fix.valid]
            assert found, (log.name, report)
            if min(off_e7(report, fix.lat_e7, fix.lon_e7) for fix in found) <= 1:
                same += 1
            else:
                finer_in[log.stem] += 1
                assert min(off_e7(report, fix.lat_e7, fix.lon_e7) for fix in found) < 9
            heights = [fix.alt_mm for fix in found if fix.alt_mm is not None]
            if "altMSL" in report and heights:
                agrees = any(abs(report["altMSL"] * 1000 - height) <= 1 for height in heights)
                (altitudes if agrees else other_altitudes)[log.stem] += 1
    assert (same, no_time, finer_in) == (1199, 62, FINER_HERE)
    assert (sum(altitudes.values()), other_altitudes) == (1068, OTHER_ALTITUDE)


def test_the_spoofed_receiver_s_week_rollover_is_flagged(vectors: Path) -> None:
    log = vectors / "nmea" / "gp-320fw-2019-04-07-coldboot.log"
    epochs = Epochs()
    reference_ns = utc_ns_of(date(2019, 4, 7), DAY_NS // 2)
    found = [epochs.push(*pair, reference_ns) for pair in said(log.read_bytes())]
    flagged = {fix.date for fix in found if fix is not None and "week-rollover" in fix.flags}
    assert flagged == {date(1999, 8, 22)}


def test_a_simulating_receiver_is_no_evidence_of_place(vectors: Path) -> None:
    found = fixes(vectors / "nmea" / "GPSmap-76S.log")
    assert found
    assert not [fix for fix in found if fix.usable]
