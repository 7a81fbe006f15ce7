"""Readings in a real store: judged by the service, replayed byte for byte, a learnt band too; a case has its figure."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gateway import case, findings, replay, report
from gateway.core import kinds
from gateway.core.record import Draft
from gateway.judge import Around, JudgeService
from gateway.judges import judges
from gateway.replay import Stretch
from gateway.rule_files import Watched
from tests.gateway.test_judge import SECOND, Site, settle
from tests.gateway.test_replay import site as made_site
from tests.rules.fume_days import DAY, KITCHEN, MIDNIGHT, H, files, reading, rules, wobble

site = made_site
CURRENTS = (1.0, 1.0, 1.0, 0.5)


def days() -> list[dict[str, Any]]:
    """Two hours of each of four days, of which the last has too little current and ten minutes without purifier."""
    return [
        reading(
            day * DAY + time_s,
            wobble(time_s),
            purifier="off" if day == 3 and 12 * H <= time_s < 12 * H + 600 else "on",
            current=round(current * (1 + (time_s // 60 % 9 - 4) / 100), 3),
        )
        for day, current in enumerate(CURRENTS)
        for time_s in range(11 * H, 13 * H, 60)
    ]


async def drive(site: Site, folder: Path) -> None:
    for name, content in files(rules("purifier_off", "purifier_current"), KITCHEN).items():
        (folder / name).write_bytes(content)
    around = Around(site.ingest, site.reader, site.memory, site.clock, site.ingest.alarms, site.recent, site.board)
    service = JudgeService(judges(), around, Watched(folder), reload_s=0)

    def clock(utc_s: int) -> None:
        now, utc_ns = site.clock.instant, utc_s * SECOND
        site.clock.instant = now._replace(mono_ns=now.mono_ns + max(0, utc_ns - now.utc_ns), utc_ns=utc_ns)

    clock(MIDNIGHT)
    await service.begin()
    await settle(service)
    for one in days():
        clock(one["taken_utc_s"] + 1)
        await site.ingest.append([Draft(kinds.READING, "hj", "M1", one)])
        if one["taken_utc_s"] % 600 == 0:
            await settle(service)
    await settle(service)


def test_a_learnt_band_is_replayed_from_the_days_before(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    asyncio.run(drive(site, folder))
    told = findings.current(site.reader)
    assert sorted({one.rule for one in told}) == ["purifier-current", "purifier-off"]
    last_day = replay.moment(site.reader, (MIDNIGHT + 3 * DAY) * SECOND)
    stretch = Stretch.of(site.reader, last_day, site.reader.next_seq())
    assert stretch.warm <= 3
    found = replay.replay({name: make() for name, make in judges().items()}, site.reader, stretch)
    compared = replay.compare(site.reader, stretch, found)
    assert compared.agrees, compared
    assert len(compared.same) == len(list(findings.current(site.reader)))


def test_the_page_of_a_case_has_the_figure_and_the_table(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    asyncio.run(drive(site, folder))
    off = next(one for one in findings.current(site.reader) if one.rule == "purifier-off")
    text = report.page(case.facts(case.gather(site.reader, off.id), "gw-1", lambda _sha256: tmp_path)).decode()
    assert text.count("<svg") == 1
    assert "风机运行而净化器未运行" in text
    assert "[purifier_off]" in text
    assert "fume 0.3" in text
