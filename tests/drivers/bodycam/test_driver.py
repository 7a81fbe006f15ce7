"""The session as lists of events and commands: when a file is taken, and what its records say."""

from __future__ import annotations

import hashlib

import pytest

from drivers.bodycam.driver import (
    Probe,
    Probed,
    SetState,
    Take,
)
from tests.drivers.bodycam.session import DSJ, Bench, S, entry

# ------------------------------------------------------------------------------------- stable


def test_a_file_is_taken_after_two_equal_listings_and_the_stable_time():
    bench = Bench()
    bench.list(entry())
    assert bench.session.next(bench.now) is None
    assert bench.session.deadline_ns() == bench.now + 5 * S, "the second look comes when the file may be stable"
    bench.list(entry())
    assert bench.session.next(bench.now) == Probe(entry(), "mp4")
    bench.tell(Probed(entry().path, "closed"))
    assert bench.session.next(bench.now) == Take(entry(), "recording")


def test_what_is_ready_is_taken_before_the_place_is_listed_again_for_new_files():
    bench = Bench(poll_s=60, stable_s=5, probe=False)
    old, new = entry(b"old.jpg"), entry(b"new.jpg")
    bench.list(old)
    bench.list(old)
    bench.list(old, new)
    assert bench.session.next(bench.now) == Take(old, "photo")
    assert bench.session.deadline_ns() == bench.now + 60 * S, "a card with 200,000 files takes seconds to list"
    bench.take()
    assert bench.session.next(bench.now) is None
    assert bench.session.deadline_ns() == bench.now + 5 * S


def test_every_change_starts_the_wait_again():
    bench = Bench(poll_s=1, stable_s=3)
    for size in range(1, 6):
        bench.list(entry(size=size, version=f"v{size}"))
        assert bench.session.next(bench.now) is None
    changed = bench.now
    while bench.session.next(bench.now) is None:
        bench.list(entry(size=5, version="v5"))
    assert bench.now - changed == 3 * S
    assert isinstance(bench.session.next(bench.now), Probe)


def test_an_open_container_waits_for_the_quiet_time():
    bench = Bench()
    bench.settle(entry())
    bench.tell(Probed(entry().path, "open"))
    assert bench.session.next(bench.now) is None
    first = bench.now
    while bench.now - first < 290 * S:
        bench.list(entry())
        assert bench.session.next(bench.now) is None
    bench.list(entry())
    assert bench.session.next(bench.now) == Take(entry(), "recording")
    draft = bench.take()[0]
    assert draft.data["container"] == "open"


def test_an_open_container_that_is_closed_by_a_change_is_taken_soon():
    bench = Bench()
    bench.settle(entry())
    bench.tell(Probed(entry().path, "open"))
    bench.settle(entry(size=2, version="v2"))
    assert bench.session.next(bench.now) == Probe(entry(size=2, version="v2"), "mp4")


def test_a_declared_hash_needs_one_listing_only():
    bench = Bench(profile="generic-http", probe=False, stable_s=0)
    bench.list(entry(b"a.mp4", sha256="0" * 64, url="http://x/a"))
    assert isinstance(bench.session.next(bench.now), Take)


# ------------------------------------------------------------------------------------- records


def test_a_file_becomes_a_record_with_everything_in_it():
    bench = Bench()
    bench.settle(entry(mtime_ns=17, inode=3, links=2))
    (draft,) = bench.take(b"movie")
    assert (draft.kind, draft.source, draft.device) == ("station.file", "s1", "3301234")
    assert draft.device_time is not None
    assert (draft.device_time.text, draft.device_time.zone, draft.device_time.origin) == ("20250221030623", "", "name")
    artifact = draft.artifacts[0]
    assert (artifact.sha256, artifact.size_bytes) == (hashlib.sha256(b"movie").hexdigest(), 5)
    assert (artifact.media_type, bytes.fromhex(artifact.name_hex)) == ("video/mp4", DSJ + b".MP4")
    data = draft.data
    assert (data["mtime_ns"], data["inode"], data["links"], data["unstable"]) == ("17", "3", 2, False)
    assert data["fields"] == {"device": "3301234", "person": "060001", "model": "DSJ"}
    assert bench.state == SetState("ok")


def test_a_name_that_no_grammar_fits_is_evidence_without_fields():
    bench = Bench()
    bench.settle(entry(b"holiday \xff.bin"))
    (draft,) = bench.take()
    assert (draft.device, draft.data["fields"], draft.data["grammar"], draft.device_time) == ("", {}, None, None)
    assert draft.data["use"] == "other"


def test_zeros_are_no_identity():
    bench = Bench()
    bench.settle(entry(b"DSJ_0000000_000000_20250221030623.JPG"))
    (draft,) = bench.take()
    assert draft.device == ""


def test_the_same_file_again_is_nothing():
    bench = Bench()
    bench.settle(entry())
    bench.take()
    for _ in range(3):
        assert bench.list(entry()) == []
        assert bench.session.next(bench.now) is None
    bench.start()
    bench.settle(entry())
    assert bench.session.next(bench.now) is None
    assert bench.kinds().count("station.file") == 1


def test_the_same_content_elsewhere_is_a_sighting():
    bench = Bench()
    bench.settle(entry())
    bench.take(b"movie")
    bench.settle(entry(), entry(b"copy/" + DSJ + b".MP4", version="v9"))
    (draft,) = bench.take(b"movie", already_there=True)
    assert (draft.kind, draft.artifacts, draft.device) == ("station.sighting", (), "3301234")
    assert bytes.fromhex(draft.data["first_path_hex"]) == DSJ + b".MP4"
    assert bench.list(entry(), entry(b"copy/" + DSJ + b".MP4", version="v9")) == []


def test_a_sighting_of_content_that_had_expired_names_the_artifact_again():
    bench = Bench()
    bench.settle(entry())
    bench.take(b"movie")
    bench.settle(entry(version="touched"))
    (draft,) = bench.take(b"movie", already_there=False)
    assert draft.kind == "station.sighting"
    assert len(draft.artifacts) == 1


def test_bytes_in_the_spool_without_a_record_of_ours_become_a_file_record():
    """A kill between the copy and the commit, or another station's copy of the same file."""
    bench = Bench()
    bench.settle(entry())
    (draft,) = bench.take(already_there=True)
    assert draft.kind == "station.file"
    assert draft.data["already_in_spool"] is True


def test_a_change_while_copying_is_kept_as_unstable_and_taken_again():
    bench = Bench()
    bench.settle(entry())
    (first,) = bench.take(b"hal", changed="size 3 to 4")
    assert (first.data["unstable"], first.data["changed"], first.data["taken"]) == (True, "size 3 to 4", 1)
    assert len(first.artifacts) == 1
    bench.settle(entry(size=4, version="v2"))
    bench.list(entry(size=4, version="v2"))
    (second,) = bench.take(b"half")
    assert (second.kind, second.data["unstable"], second.data["taken"]) == ("station.file", False, 2)
    bench.list(entry(size=4, version="v2"))
    assert bench.session.next(bench.now) is None


def test_the_same_bytes_after_a_change_are_a_stable_record_not_a_sighting():
    bench = Bench()
    bench.settle(entry())
    bench.take(b"same", changed="mtime_ns 1 to 2")
    bench.settle(entry(version="v2"))
    bench.list(entry(version="v2"))
    (again,) = bench.take(b"same", already_there=True)
    assert (again.kind, again.data["unstable"]) == ("station.file", False)


def test_a_file_that_always_says_it_changed_is_settled_by_the_same_bytes_twice():
    bench = Bench()
    bench.settle(entry())
    bench.take(b"same", changed="ctime")
    for _ in range(3):
        bench.list(entry())
    (again,) = bench.take(b"same", changed="ctime", already_there=True)
    assert again.data["unstable"] is True
    bench.list(entry())
    assert bench.session.next(bench.now) is None


def test_unstable_files_wait_longer_each_time():
    bench = Bench(poll_s=1, stable_s=1)
    waits = []
    bench.settle(entry())
    for turn in range(12):
        bench.take(b"%d" % turn, changed="size")
        since = bench.now
        bench.list(entry(version=f"v{turn}"))
        while bench.session.next(bench.now) is None:
            bench.list(entry(version=f"v{turn}"))
        waits.append(bench.now - since)
    assert waits == sorted(waits)
    assert 250 * S < waits[-1] < 310 * S, "up to the quiet time of the profile"


# ------------------------------------------------------------------------- sidecars and tracks

XML = b"""<MediaFile><Device><IDCode>3301234</IDCode></Device><KeyFile>1</KeyFile><Sync>
<DeviceTime>2025-02-21 09:00:03</DeviceTime><StationTime>2025-02-21 09:00:00</StationTime></Sync></MediaFile>"""
GPX = b"<gpx><trk><trkseg>%s</trkseg></trk></gpx>" % (
    b'<trkpt lat="30.1" lon="120.2"><time>2025-02-20T19:06:30Z</time></trkpt>' * 1201
)


@pytest.mark.parametrize("sidecar_first", [True, False])
def test_a_sidecar_and_its_recording_find_each_other_in_any_order(sidecar_first):
    bench = Bench()
    movie, sidecar = entry(b"d/REC1.MP4"), entry(b"d/rec1.XML")
    order = [(sidecar, XML), (movie, b"movie")] if sidecar_first else [(movie, b"movie"), (sidecar, XML)]
    for one, content in order:
        bench.settle(one)
        bench.take(content)
    first, second = bench.drafts[1], bench.drafts[-2 if not sidecar_first else -1]
    key = "sidecars" if sidecar_first else "recordings"
    assert second.data[key] == [
        {
            "path": order[0][0].path.decode(),
            "path_hex": order[0][0].path.hex(),
            "sha256": first.artifacts[0].sha256,
            "use": "sidecar" if sidecar_first else "recording",
        }
    ]
    if sidecar_first:
        assert (second.device, second.data["device_origin"]) == ("3301234", "sidecar")


def test_what_a_sidecar_says_is_in_its_record_and_the_offset_in_one_of_its_own():
    bench = Bench()
    bench.settle(entry(DSJ + b".xml"))
    file, offset = bench.take(XML)
    assert file.data["content"]["key_file"] is True
    assert (offset.kind, offset.device) == ("station.clock_offset", "3301234")
    assert (offset.data["offset_ms"], offset.data["how"], offset.data["reference"]) == (3000, "sidecar-sync", "station")


def test_a_broken_sidecar_is_still_evidence():
    bench = Bench()
    bench.settle(entry(DSJ + b".xml"))
    (file,) = bench.take(b"<nonsense")
    assert "not XML" in file.data["content"]["malformed"]


def test_a_track_becomes_positions_in_batches():
    bench = Bench()
    bench.settle(entry(DSJ + b".gpx"))
    file, *positions = bench.take(GPX)
    assert file.data["content"]["points"] == 1201
    assert [(draft.kind, len(draft.data["points"]), draft.data["first"]) for draft in positions] == [
        ("position", 500, 0),
        ("position", 500, 500),
        ("position", 201, 1000),
    ]
    assert {draft.device for draft in positions} == {"3301234"}
    row = dict(zip(positions[0].data["columns"], positions[0].data["points"][0], strict=True))
    assert (row["lat_e7"], row["lon_e7"], row["time"], row["time_zone"]) == (
        301_000_000,
        1_202_000_000,
        "2025-02-20T19:06:30",
        "Z",
    )
    assert (positions[0].data["datum"], positions[0].data["datum_input"]) == ("WGS-84", "WGS-84")


def test_gcj_rows_keep_the_values_of_the_file():
    bench = Bench(profile="intercom-gps")
    bench.settle(entry(b"TX5-3301A0077-1102-20260302-083000.csv"))
    _, position, offset = bench.take(b"time,latitude,longitude\n2026-03-02 08:30:04,30.2,120.2\n")
    assert (position.data["datum"], position.data["datum_input"]) == ("WGS-84", "GCJ-02")
    row = dict(zip(position.data["columns"], position.data["points"][0], strict=True))
    assert (row["raw_lat_e7"], row["raw_lon_e7"]) == (302_000_000, 1_202_000_000)
    assert 10_000 < abs(row["lat_e7"] - row["raw_lat_e7"]) < 100_000
    assert (offset.data["how"], offset.data["offset_ms"], offset.data["bound"]) == ("gps-track", -4000, "lower")
