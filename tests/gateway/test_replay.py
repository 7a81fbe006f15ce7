"""Judging again what is stored: the same bytes every time, and the same as was told while it happened."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import findings, judge, replay
from gateway.core import kinds
from gateway.core.record import Draft
from gateway.judge import Around, JudgeService
from gateway.judges import judges
from gateway.known import digest_of
from gateway.replay import Stretch
from gateway.rule_files import Watched, read_folder
from gateway.rules.book import records_of
from gateway.scenario import scenario
from gateway.seen import read
from tests.gateway.test_judge import START_S, Site, _drive, settle
from tests.gateway.test_scenario import records
from tests.gateway.tiny_judge import TinyJudge

RULES = """format = "rules/v1"
id = "pinghu-2026"
title = "rules"
valid_from = 2026-01-01
classes = ["muck-truck"]

[speeding]
source = "Road Traffic Safety Law, article 42"
loaded_limit_kmh = 60

[stop]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(judge, "ASK_MIN_S", 0.0)
    monkeypatch.setattr(judge, "ASK_IDLE_S", 0.0)
    folder = tmp_path / "state"
    folder.mkdir()
    made = Site(folder)
    yield made
    made.database.close()


def whole(site: Site) -> Stretch:
    return Stretch.of(site.reader, 0, site.reader.next_seq())


@pytest.mark.parametrize("seed", range(3))
def test_what_was_told_over_crashes_is_what_a_replay_finds(
    seed: int, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "KEEP_RECORDS", 7)
    asyncio.run(_drive(site, seed, "before" if seed % 2 else "after"))
    shown: list[tuple[int, int]] = []
    found = replay.replay({"tiny": TinyJudge()}, site.reader, whole(site), None, lambda *at: shown.append(at))
    compared = replay.compare(site.reader, whole(site), found)
    assert compared.agrees, compared
    assert len(compared.same) == len(found) > 5
    assert replay.lines(found) == replay.lines(replay.replay({"tiny": TinyJudge()}, site.reader, whole(site)))
    assert shown[-1] == (site.reader.next_seq(), site.reader.next_seq())


def test_asking_more_often_finds_the_same(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(_drive(site, 5))
    once = replay.lines(replay.replay({"tiny": TinyJudge()}, site.reader, whole(site)))
    monkeypatch.setattr(replay, "ASK_RECORDS", 3)
    monkeypatch.setattr(replay, "CHUNK_RECORDS", 2)
    assert replay.lines(replay.replay({"tiny": TinyJudge()}, site.reader, whole(site))) == once


def test_differences_are_named_one_by_one(site: Site) -> None:
    asyncio.run(_drive(site, 1))
    found = replay.replay({"tiny": TinyJudge()}, site.reader, whole(site))
    first, second, *rest = found
    changed = type(second)(**{**{name: getattr(second, name) for name in second.__slots__}, "firm": "another"})
    extra = type(first)(**{**{name: getattr(first, name) for name in first.__slots__}, "start_utc_s": 7})
    compared = replay.compare(site.reader, whole(site), [extra, changed, *rest])
    assert (compared.missing, compared.differ, compared.extra) == ([first.id], [second.id], [extra.id])
    assert len(compared.same) == len(rest)
    assert not compared.agrees


def test_a_stretch_compares_only_what_lies_in_it(site: Site) -> None:
    asyncio.run(_drive(site, 2))
    middle = site.reader.next_seq() // 2
    stretch = Stretch.of(site.reader, middle, site.reader.next_seq())
    assert stretch.warm == 0, "two days of warm-up reach back to the begin of this log"
    found = replay.replay({"tiny": TinyJudge()}, site.reader, stretch)
    assert found
    assert all(one.inputs[-1] >= middle for one in found)
    assert replay.compare(site.reader, stretch, found).agrees
    assert replay.moment(site.reader, 0) == 0
    assert replay.moment(site.reader, 2**62) == site.reader.next_seq()


def test_what_if_judges_under_another_book(site: Site) -> None:
    asyncio.run(_drive(site, 1))
    lower = [Draft(kinds.RULES_BOOK, "gateway", "", {}, raw=b"100")]
    found = replay.replay({"tiny": TinyJudge()}, site.reader, whole(site), lower)
    compared = replay.compare(site.reader, whole(site), found, what_if=True)
    assert not compared.agrees
    slow = [seen for seen in read(site.reader, 0, 1000)[0] if seen.data.get("speed_kmh_e1") == 500]
    assert any(seen.seq in one.inputs for one in found for seen in slow), "slow fixes break the imagined limit"


# ---------------------------------------------------------------- with the judge of trucks


async def drive_fast(site: Site, folder: Path) -> None:
    """A loaded truck at 90 km/h for a minute between two minutes at 50, judged by the real rules."""
    rules = Watched(folder)
    around = Around(site.ingest, site.reader, site.memory, site.clock, site.ingest.alarms, site.recent, site.board)
    service = JudgeService(judges(), around, rules, reload_s=0)
    await service.begin()
    await settle(service)
    lat_e7 = 306995000
    for number in range(180):
        now = site.clock.instant
        site.clock.instant = now._replace(mono_ns=now.mono_ns + 10**9, utc_ns=(START_S + number) * 10**9 + 500_000_000)
        speed = 900 if 60 <= number < 120 else 500
        lat_e7 += speed * 5 // 2  # 1e-7 degrees of latitude are 11 mm: 0.1 km/h for a second is 2.5 of them
        fix = {
            "class": "muck-truck", "plate": "浙F12345", "datum": "WGS-84", "time_utc_s": START_S + number,
            "lat_e7": lat_e7, "lon_e7": 1210315000, "speed_kmh_e1": speed, "sigma_m": 5, "load": "full",
        }  # fmt: skip
        await site.ingest.append([Draft(kinds.POSITION, "trucks", "13800000017", fix)])
        if number % 20 == 0:
            await settle(service)
    await settle(service)


def test_a_speeding_truck_is_found_told_and_found_again(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "rules.toml").write_text(RULES)
    asyncio.run(drive_fast(site, folder))
    current = [one for one in findings.current(site.reader) if one.state != "withdrawn"]
    assert [(one.rule, one.state) for one in current] == [("speeding", "closed")]
    made = {name: make() for name, make in judges().items()}
    found = replay.replay(made, site.reader, whole(site))
    assert replay.compare(site.reader, whole(site), found).agrees
    (line,) = replay.lines(found)
    assert digest_of(json.loads(line)) == digest_of(current[0].judgement)
    (folder / "rules.toml").write_text(RULES.replace("60", "95"))
    milder = records_of(read_folder(folder))
    again = {name: make() for name, make in judges().items()}
    assert replay.replay(again, site.reader, whole(site), milder) == []


async def live_through(site: Site, folder: Path, now_utc_s: int, together: int) -> None:
    """The demo's trucks before a running judge, so many records between two looks of it; then it is quiet."""
    told = scenario(now_utc_s)
    for name, content in told.files.items():
        (folder / name).write_bytes(content)
    around = Around(site.ingest, site.reader, site.memory, site.clock, site.ingest.alarms, site.recent, site.board)
    service = JudgeService(judges(), around, Watched(folder), reload_s=0)

    def clock(utc_ns: int) -> None:
        now = site.clock.instant
        site.clock.instant = now._replace(mono_ns=now.mono_ns + max(0, utc_ns - now.utc_ns), utc_ns=utc_ns)

    clock(now_utc_s * 10**9)
    await service.begin()
    await settle(service)
    rows = [seen for seen in records(told) if seen.kind != kinds.RULES_BOOK]
    for place in range(0, len(rows), together):
        some = rows[place : place + together]
        clock(some[-1].arrival_utc_ns)
        await site.ingest.append([Draft(seen.kind, seen.source, seen.device, seen.data) for seen in some])
        await settle(service)
    for _ in range(30):
        clock(site.clock.instant.utc_ns + 2 * 10**9)
        await service.step()
        await settle(service)


@pytest.mark.parametrize("together", [5, 400])
def test_the_demo_is_judged_the_same_however_often_judges_are_asked(
    together: int, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    asyncio.run(live_through(site, folder, 1_795_318_000, together))
    stored = {one.id: digest_of(one.judgement) for one in findings.current(site.reader) if one.state != "withdrawn"}
    assert len(stored) >= 16
    said = []
    for every in (1, 7, replay.ASK_RECORDS):
        monkeypatch.setattr(replay, "ASK_RECORDS", every)
        monkeypatch.setattr(replay, "CHUNK_RECORDS", min(every, 2_000))
        made = {name: make() for name, make in judges().items()}
        found = replay.replay(made, site.reader, whole(site))
        assert {one.id: digest_of(one.to_json()) for one in found} == stored
        assert replay.compare(site.reader, whole(site), found).agrees
        said.append(replay.lines(found))
    assert said[0] == said[1] == said[2]
    middle = Stretch(0, site.reader.next_seq() * 4 // 5, 0)
    cut = []
    for every in (1, 4_000):
        monkeypatch.setattr(replay, "ASK_RECORDS", every)
        monkeypatch.setattr(replay, "CHUNK_RECORDS", min(every, 2_000))
        made = {name: make() for name, make in judges().items()}
        cut.append(replay.lines(replay.replay(made, site.reader, middle)))
    assert cut[0] == cut[1], "a log that ends while a truck is still sending what it had stored"
