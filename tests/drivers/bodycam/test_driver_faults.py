"""The session when things go wrong: gaps, full stores, dead stations, hostile ones; and properties of any history."""

from __future__ import annotations

import hashlib
import tracemalloc
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from drivers.bodycam import driver
from drivers.bodycam.driver import (
    Event,
    List,
    Listed,
    ListFailed,
    Probe,
    SetState,
    Take,
    TakeFailed,
)
from drivers.files import Failure, ListingEnd, PeerClock, Refusal
from tests.drivers.bodycam.session import Bench, S, done, entry, fail

# ---------------------------------------------------------------------------- gaps and failures


def test_every_refusal_is_one_record_per_entry_and_reason():
    bench = Bench()
    refusals = (Refusal(b"l", "link", "text"), Refusal(b"p", "fifo"), Refusal(b"l", "permission-denied"))
    drafts = bench.list(refusals=refusals, complete=False)
    assert [(one.data["path"], one.data["reason"]) for one in drafts if one.kind == "station.gap"] == [
        ("l", "link"),
        ("p", "fifo"),
        ("l", "permission-denied"),
    ]
    assert bench.list(refusals=refusals) == []
    bench.start()
    assert [one.kind for one in bench.list(refusals=refusals)] == ["station.state"]


def test_too_big_and_ignored_files_stay_and_say_so():
    bench = Bench(file_max_bytes=100)
    drafts = bench.list(entry(size=101))
    assert [one.data.get("reason") for one in drafts if one.kind == "station.gap"] == ["too-big"]
    assert bench.list(entry(size=101)) == []
    bench.settle(entry(size=100, version="v2"))
    assert isinstance(bench.session.next(bench.now), Probe)


def test_a_file_that_vanishes_before_it_was_taken_is_a_gap():
    bench = Bench()
    bench.list(entry(inode=7))
    drafts = bench.list()
    assert [one.data["reason"] for one in drafts] == ["vanished"]


def test_a_rename_is_no_gap():
    bench = Bench()
    bench.list(entry(b"a.mp4.tmp", inode=7))
    assert bench.list(entry(b"a.mp4", inode=7)) == []


def test_an_incomplete_listing_vanishes_nothing():
    bench = Bench()
    bench.list(entry())
    assert bench.list(complete=False) == []


def test_what_cannot_be_listed_degrades_the_station_until_it_can():
    bench = Bench()
    limit = Refusal(b"z.jpg", "entries-limit", "more than 5 entries; raise entries_max")
    for refusals, complete, state in (
        ([Refusal(b"a", "link", "not opened"), limit], False, "degraded"),
        ([], True, "ok"),
        ([Refusal(b"a", "link", "not opened")], True, "ok"),
    ):
        bench.list(refusals=refusals, complete=complete)
        assert bench.state is not None
        assert bench.state.state == state
        assert ("raise entries_max" in bench.state.reason) == (not complete)


def test_transient_failures_are_tried_again_later_and_later_with_one_record():
    bench = Bench()
    bench.settle(entry())
    waits = []
    for turn in range(10):
        drafts = fail(bench, Failure("transient", "io-error", "read at 0: EIO"))
        assert [one.data["reason"] for one in drafts] == (["io-error"] if turn == 0 else [])
        assert bench.state is not None
        assert bench.state.state == "degraded"
        assert "read at 0: EIO" in bench.state.reason
        since = bench.now
        while bench.session.next(bench.now) in [None, List()]:
            bench.list(entry())
        waits.append(bench.now - since)
    assert waits == sorted(waits)
    assert waits[-1] <= 620 * S
    bench.take()
    assert bench.state == SetState("ok")


def test_permanent_failures_are_not_tried_again_in_this_version():
    bench = Bench()
    bench.settle(entry())
    (gap,) = fail(bench, Failure("permanent", "encoded", "gzip"))
    assert gap.data["retried"] is False
    bench.settle(entry())
    assert bench.session.next(bench.now) is None
    bench.settle(entry(version="v2"))
    assert isinstance(bench.session.next(bench.now), Probe)


def test_changed_before_the_copy_is_no_failure():
    bench = Bench()
    bench.settle(entry())
    assert fail(bench, Failure("transient", "changed", "")) == []
    assert bench.session.next(bench.now) is None


# -------------------------------------------------------------------------------- full, up, down


def test_a_full_spool_is_one_alarm_raised_and_one_cleared():
    bench = Bench()
    files = [entry(b"%d.jpg" % number) for number in range(5)]
    bench.settle(*files)
    full = Failure("full", "spool-full", "no room")
    for _ in range(3):
        fail(bench, full)
    assert bench.session.next(bench.now) is None, "after three refusals the whole station waits"
    assert bench.state is not None
    assert bench.state.state == "degraded"
    assert "no room" in bench.state.reason
    alarms = [draft.data["state"] for draft in bench.drafts if draft.kind == "alarm"]
    assert alarms == ["raised"]
    while bench.session.next(bench.now) in [None, List()]:
        bench.list(*files)
    for number in range(5):
        while bench.session.next(bench.now) in [None, List()]:
            bench.list(*files)
        bench.take(b"%d" % number)
    alarms = [draft.data["state"] for draft in bench.drafts if draft.kind == "alarm"]
    assert alarms == ["raised", "cleared"]
    assert bench.state == SetState("ok")


def test_one_huge_file_does_not_keep_the_small_ones_out():
    bench = Bench()
    files = [entry(b"huge.bin", size=10**9), *(entry(b"%d.jpg" % number) for number in range(5))]
    bench.settle(*files)
    fail(bench, Failure("full", "spool-full", "no room"))
    for number in range(5):
        bench.take(b"%d" % number)
    assert [draft.data["state"] for draft in bench.drafts if draft.kind == "alarm"] == ["raised"]


def test_an_alarm_survives_a_restart_and_is_cleared_then():
    bench = Bench()
    bench.settle(entry())
    fail(bench, Failure("full", "spool-full", "no room"))
    bench.start()
    bench.settle(entry())
    bench.take()
    assert [draft.data["state"] for draft in bench.drafts if draft.kind == "alarm"] == ["raised", "cleared"]


def test_down_and_up_are_one_record_each():
    bench = Bench()
    bench.settle(entry())
    for _ in range(3):
        bench.now = bench.session.deadline_ns()
        assert bench.session.next(bench.now) == List()
        bench.tell(ListFailed("no route to host"))
    assert bench.state == SetState("down", "no route to host")
    assert bench.session.next(bench.now) is None, "nothing is taken from a station that is down"
    bench.settle(entry())
    states = [draft.data["state"] for draft in bench.drafts if draft.kind == "station.state"]
    assert states == ["up", "down", "up"]
    assert bench.take()[0].kind == "station.file"


def test_polls_of_a_dead_station_become_rare():
    bench = Bench()
    waits = []
    for _ in range(10):
        bench.now = max(bench.now, bench.session.deadline_ns())
        bench.session.next(bench.now)
        bench.tell(ListFailed("dead"))
        waits.append(bench.session.deadline_ns() - bench.now)
    assert waits == sorted(waits)
    assert waits[-1] == 60 * S


def test_a_link_failure_while_copying_is_down_and_loses_nothing():
    bench = Bench()
    bench.settle(entry())
    (down,) = fail(bench, Failure("link", "unreachable", "host is down"))
    assert down.data["state"] == "down"
    bench.list(entry())
    assert bench.take()[0].kind == "station.file"


def test_copies_that_break_off_for_ever_become_rare():
    bench = Bench()
    bench.settle(entry())
    waits = []
    for _ in range(15):
        fail(bench, Failure("link", "unreachable", "connection reset"))
        since = bench.now
        while bench.session.next(bench.now) in [None, List()]:
            bench.list(entry())
        waits.append(bench.now - since)
    assert waits[:5] == [10 * S] * 5
    assert 600 * S <= waits[-1] <= 620 * S
    assert bench.take()[0].kind == "station.file"
    assert bench.state == SetState("ok")


def test_files_that_left_the_station_are_forgotten_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(driver, "KNOWN_MAX", 5)
    bench = Bench()
    files = [entry(b"%d.bin" % number) for number in range(8)]
    bench.settle(*files)
    for one in files:
        bench.take(one.path)
    bench.list(*files[4:], complete=False)
    assert sum(key[:1] == b"f" for key in bench.memory) == 8, "an incomplete listing forgets nothing"
    bench.list(*files[4:])
    assert sum(key[:1] == b"f" for key in bench.memory) == 4
    bench.settle(*files)
    (again,) = bench.take(files[0].path, already_there=True)
    assert again.kind == "station.sighting"


def test_an_unmounted_folder_is_down_not_empty():
    bench = Bench()
    bench.list(entry(), mounted=True)
    drafts = bench.list(mounted=False)
    assert [(one.kind, one.data["state"]) for one in drafts] == [("station.state", "down")]
    bench.start()
    drafts = bench.list(mounted=False)
    assert [one.data["state"] for one in drafts] == ["down"], "remembered over a restart"
    assert not [draft for draft in bench.drafts if draft.kind == "station.gap"]


# ---------------------------------------------------------------------------------------- clocks


def test_the_clock_of_an_http_station_is_recorded_once_and_when_it_moves():
    bench = Bench(poll_s=600)

    def clock(ahead_s: int) -> PeerClock:
        return PeerClock("date", 1000 * S + ahead_s * S, 1000 * S, 1000 * S + S // 5)

    (_, offset) = bench.list(peer_clock=clock(7))
    assert (offset.kind, offset.device, offset.data["how"]) == ("station.clock_offset", "station one", "http-date")
    assert (offset.data["offset_ms"], offset.data["uncertainty_ms"]) == (7400, 601)
    assert bench.list(peer_clock=clock(8)) == []
    assert len(bench.list(peer_clock=clock(12))) == 1
    bench.now += 3600 * S
    assert len(bench.list(peer_clock=clock(12))) == 1


# ---------------------------------------------------------------------------------- declared, odd


def test_what_a_listing_declares_is_compared_and_never_corrected():
    bench = Bench(profile="generic-http", probe=False, stable_s=0)
    bench.list(entry(b"a.mp4", size=9, sha256="ab" * 32, url="http://x/a", fields={"device": "77"}))
    file, *gaps = bench.take(b"x")
    assert file.data["declared"] == {"sha256": "ab" * 32, "size_bytes": 9, "sha256_holds": False, "size_holds": False}
    assert (file.device, file.data["device_origin"]) == ("77", "listing")
    assert [one.data["reason"] for one in gaps] == ["sha256-mismatch", "size-mismatch"]


def test_hostile_stations_cannot_fill_the_log_with_gaps(monkeypatch):
    monkeypatch.setattr(driver, "GAPS_MAX", 10)
    bench = Bench()
    bench.list(refusals=tuple(Refusal(b"l%d" % number, "link") for number in range(30)))
    assert bench.kinds().count("station.gap") == 10
    assert [draft.data["code"] for draft in bench.drafts if draft.kind == "alarm"] == ["gap-limit"]
    assert bench.counts["gaps_beyond_limit"] == 20


def test_more_files_than_candidates_are_all_taken_in_the_end(monkeypatch):
    monkeypatch.setattr(driver, "CANDIDATES_MAX", 7)
    bench = Bench()
    files = [entry(b"%d.bin" % number) for number in range(30)]
    for _ in range(40):
        bench.list(*files)
        while isinstance(bench.session.next(bench.now), Take):
            bench.take(b"%d" % len(bench.drafts))
    taken = [draft.data["path"] for draft in bench.drafts if draft.kind == "station.file"]
    assert sorted(taken) == sorted(one.path.decode() for one in files)
    assert "station.gap" not in bench.kinds()


def test_a_slow_listing_makes_polls_rarer():
    bench = Bench(poll_s=1)
    assert bench.session.next(bench.now) == List()
    bench.now += 6 * S
    bench.tell(Listed(ListingEnd(complete=True)))
    assert bench.session.deadline_ns() == bench.now + 60 * S


def test_a_hint_lists_early_but_not_always():
    bench = Bench()
    bench.list()
    assert bench.session.deadline_ns() == bench.now + 10 * S
    bench.session.wake(bench.now)
    assert bench.session.deadline_ns() == bench.now + 1 * S


# ------------------------------------------------------------------------------------- properties


@dataclass
class History:
    """Four files that change, and a runner that does what the letters say."""

    bench: Bench = field(default_factory=lambda: Bench(poll_s=1, stable_s=0))
    versions: list[int] = field(default_factory=lambda: [0, 0, 0, 0])

    def content(self, number: int) -> bytes:
        return b"%d %d" % (number, self.versions[number])

    def list(self) -> None:
        self.bench.list(*(entry(b"%d.bin" % at, version=f"v{version}") for at, version in enumerate(self.versions)))

    def act(self, letter: str, number: int) -> None:
        match letter:
            case "l":
                self.list()
            case "m":
                self.versions[number] += 1
            case "r":
                self.bench.start()
            case "d":
                self.bench.tell(ListFailed("gone"))
            case _:
                self.work(letter, number)

    def work(self, letter: str, number: int = 0) -> bool:
        """Do what is due; False where that is no Take."""
        due = self.bench.session.next(self.bench.now)
        if not isinstance(due, Take):
            return False
        which = int(due.entry.path[:1])
        if due.entry.version != f"v{self.versions[which]}":
            event: Event = TakeFailed(due.entry, Failure("transient", "changed", ""))
        elif letter == "t":
            event = done(due.entry, self.content(which), self.bench.codec)
        elif letter == "x":
            event = done(due.entry, b"partial %d" % number, self.bench.codec, changed="size")
        else:
            event = TakeFailed(due.entry, Failure("transient" if letter == "f" else "full", "reason", ""))
        self.bench.tell(event)
        return True

    def stable(self) -> list[str]:
        files = [draft for draft in self.bench.drafts if draft.kind == "station.file" and not draft.data["unstable"]]
        return [draft.artifacts[0].sha256 for draft in files]


@given(st.lists(st.tuples(st.sampled_from("lmtfxrdu"), st.integers(0, 3)), max_size=60))
def test_any_history_gives_each_version_one_record_and_forgets_nothing(letters):
    """l: list, m: modify, t: take, f: fail, x: change while copying, r: restart, d: down, u: full."""
    history = History()
    for letter, number in letters:
        history.act(letter, number)
    expected = {hashlib.sha256(history.content(number)).hexdigest() for number in range(4)}
    for _ in range(2000):
        if not history.work("t"):
            history.list()
        if expected <= set(history.stable()):
            break
    stable = history.stable()
    assert expected <= set(stable), "a file was never taken"
    assert len(set(stable)) == len(stable), "no content has two stable records"


def test_entries_of_a_station_with_200_000_files_are_remembered_in_little_memory():
    memory = {b"f" + hashlib.blake2b(b"%d" % number, digest_size=16).digest(): b"" for number in range(200_000)}
    bench = Bench(memory=memory)
    tracemalloc.start()
    bench.start()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 32_000_000
