"""kill -9 of a gateway that judges, again and again: no finding twice, none lost, and a replay finds the same."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import replay
from tests.conftest import ROOT
from tests.gateway.test_judge import Site, _check_revisions
from tests.gateway.tiny_judge import TinyJudge

ROUNDS = 50
KILLS = 5


@pytest.mark.slow
def test_over_kills_every_event_is_told_exactly_once(tmp_path: Path) -> None:
    chance = random.Random(8)
    command = [sys.executable, "-m", "tests.faults.judge_child", str(tmp_path), str(ROUNDS)]
    kills = 0
    while True:
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            if kills < KILLS:
                for _ in range(chance.randrange(1, 9)):
                    child.stdout.readline()
                child.kill()
                kills += 1
                continue
            child.stdout.read()
        assert child.returncode == 0
        break
    site = Site(tmp_path)
    _check_revisions(site)
    stretch = replay.Stretch.of(site.reader, 0, site.reader.next_seq())
    found = replay.replay({"tiny": TinyJudge()}, site.reader, stretch)
    compared = replay.compare(site.reader, stretch, found)
    assert compared.agrees, compared
    assert len(compared.same) > 20
    site.database.close()
