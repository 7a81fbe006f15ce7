"""The trucks of the demo: a simulated fleet with planted violations, and whether exactly those were found."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from drivers.io.fleet_runner import run_fleet
from drivers.jt808.simulator import Terminal
from gateway import findings
from gateway.app import Gateway
from gateway.core import kinds
from gateway.core.fixes import fixes_of
from gateway.core.record import parse_leaf
from gateway.findings import Finding
from gateway.scenario import FOR_S, Expected, Scenario, scenario

SHARE: Final = 0.55
"""Part of the demo's time in which the trucks drive; the rest is for what they send late and for the last seals."""
SHORTEST_S: Final = 8.0
POLL_S: Final = 0.1
BOOK_LIMIT_S: Final = 30.0
FOUND_LIMIT_S: Final = 40.0
SLACK_S: Final = 120
"""A finding belongs to a planted event if it overlaps with it, give or take."""

NAME: Final = "trucks"
SOURCE: Final = """\
[rules]
path = {rules}
[[source]]
type = "jt808"
name = "trucks"
listen = "127.0.0.1:{port}"
devices_file = {devices}
frames_per_s_max = 1000
"""


@dataclass(slots=True)
class Yard:
    """The trucks of one demo."""

    folder: Path
    told: Scenario
    port: int
    terminals: list[Terminal] = field(default_factory=list)

    @classmethod
    def prepare(cls, folder: Path, now_utc_s: int, for_s: float | None) -> Yard:
        """Write the rule book and the devices file below `folder`; nothing drives yet."""
        drive_s = FOR_S if for_s is None else max(SHORTEST_S, min(FOR_S, SHARE * for_s))
        told = scenario(now_utc_s, for_s=drive_s)
        (folder / "rules").mkdir(parents=True)
        for name, content in told.files.items():
            (folder / "rules" / name).write_bytes(content)
        (folder / "devices.toml").write_text(told.devices_toml)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        return cls(folder, told, port)

    def configuration(self) -> str:
        """Tables of the gateway's configuration."""
        rules, devices = (json.dumps(str(self.folder / name)) for name in ("rules", "devices.toml"))
        return SOURCE.format(rules=rules, devices=devices, port=self.port)

    async def drive(self, gateway: Gateway, stop: asyncio.Event) -> None:
        """Once the rule book is in force, drive until everything is acknowledged, or until `stop`."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + BOOK_LIMIT_S
        while not gateway.reader.records(kind=kinds.RULES_BOOK, limit=1):
            if loop.time() > end_s:
                break
            await asyncio.sleep(POLL_S)
        self.terminals = self.told.terminals(loop.time())
        await run_fleet(self.terminals, ("127.0.0.1", self.port), stop=stop)

    async def wait_for_findings(self, gateway: Gateway) -> None:
        """Until everything planted is found and closed, or for a while."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + FOUND_LIMIT_S
        while loop.time() < end_s:
            missing, unexpected = self._compare(_of_trucks(gateway))
            if not missing and not unexpected:
                return
            await asyncio.sleep(POLL_S)

    def count(self, gateway: Gateway) -> dict[str, Any]:
        """`findings` of the demo's JSON: planted and found by rule, what was not planted, what was not found."""
        found = [one for one in _of_trucks(gateway) if one.state != "withdrawn"]
        missing, unexpected = self._compare(found)
        return {
            "planted": dict(sorted(Counter(one.rule for one in self.told.planted).items())),
            "found": dict(sorted(Counter(one.rule for one in found).items())),
            "unexpected": [one.summary() for one in unexpected],
            "missing": [one._asdict() for one in missing],
        }

    def lost(self, gateway: Gateway) -> int:
        """Fixes that were acknowledged and are not in the journal."""
        stored: Counter[str] = Counter()
        after = -1
        while rows := gateway.reader.records(kind=kinds.POSITION, after=after, limit=1000):
            for seq, leaf in rows:
                record = parse_leaf(leaf)
                stored[record.device] += sum(1 for _ in fixes_of(seq, record.instant.utc_ns, record.data))
                after = seq
        acknowledged: Counter[str] = Counter()
        for terminal in self.terminals:
            acknowledged[terminal.vehicle.identity] += len(terminal.truth.acknowledged)
        return sum(max(0, count - stored[device]) for device, count in acknowledged.items())

    def _compare(self, found: Sequence[Finding]) -> tuple[list[Expected], list[Finding]]:
        left = [one for one in found if one.state != "withdrawn"]
        missing: list[Expected] = []
        for wanted in self.told.planted:
            match = next((one for one in left if _is(wanted, one)), None)
            if match is None:
                missing.append(wanted)
            else:
                left.remove(match)
        return missing, left


def _of_trucks(gateway: Gateway) -> list[Finding]:
    return [one for one in findings.current(gateway.reader) if one.source == NAME]


def _is(wanted: Expected, found: Finding) -> bool:
    end_s = found.end_utc_s if found.end_utc_s is not None else found.start_utc_s
    return (
        found.rule == wanted.rule
        and found.device == wanted.device
        and found.start_utc_s <= wanted.end_utc_s + SLACK_S
        and end_s >= wanted.start_utc_s - SLACK_S
    )
