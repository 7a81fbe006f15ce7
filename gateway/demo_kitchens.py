"""The restaurants of the demo: simulated monitors with planted events, and whether exactly those were found."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from drivers.hj212.simulator import Monitor
from drivers.io.bus_simulator import run_bus
from drivers.io.fleet_runner import run_fleet
from drivers.io.surroundings import pause
from drivers.modbus.simulator import Bus
from gateway import findings
from gateway.app import Gateway
from gateway.core import kinds
from gateway.core.record import parse_leaf
from gateway.findings import Finding
from gateway.scenario import Expected
from gateway.scenario_kitchens import BUS_SOURCE, FOR_S, SOURCE, KitchenScenario, kitchens_scenario

SHARE: Final = 0.55
"""Part of the demo's time in which the monitors report; the rest is for what they send late and for the last seals."""
SHORTEST_S: Final = 8.0
POLL_S: Final = 0.1
BOOK_LIMIT_S: Final = 30.0
FOUND_LIMIT_S: Final = 40.0
SLACK_S: Final = 120
"""A finding belongs to a planted event if it overlaps with it, give or take."""
MOMENT: Final = "2011"


@dataclass(slots=True)
class Street:
    """The restaurants of one demo."""

    folder: Path
    told: KitchenScenario
    port: int
    monitors: list[Monitor] = field(default_factory=list)
    bus: Bus | None = None

    @classmethod
    def prepare(cls, folder: Path, rules: Path, now_utc_s: int, for_s: float | None) -> Street:
        """Write the files for the rule book into `rules`, which others may use too, and the devices file below
        `folder`; nothing reports yet."""
        report_s = FOR_S if for_s is None else max(SHORTEST_S, min(FOR_S, SHARE * for_s))
        told = kitchens_scenario(now_utc_s, for_s=report_s)
        folder.mkdir(parents=True)
        rules.mkdir(parents=True, exist_ok=True)
        for name, content in told.files.items():
            (rules / name).write_bytes(content)
        (folder / "devices.toml").write_text(told.devices_toml)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        return cls(folder, told, port)

    def configuration(self) -> str:
        """Tables of the gateway's configuration, without `[rules]`."""
        return self.told.config(f"127.0.0.1:{self.port}", str(self.folder / "devices.toml"), str(self.folder / "bus"))

    async def drive(self, gateway: Gateway, stop: asyncio.Event) -> None:
        """Once the rule book is in force, report until everything is acknowledged and the time is over, or until
        `stop`."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + BOOK_LIMIT_S
        while loop.time() < end_s and not gateway.reader.records(kind=kinds.RULES_BOOK, limit=1):
            await pause(stop, POLL_S)
        begin_s = loop.time()
        self.monitors = self.told.monitors(begin_s)
        self.bus = self.told.bus(begin_s)
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(run_bus(self.bus, self._plug_in, over))
            await run_fleet(self.monitors, ("127.0.0.1", self.port), stop=stop)
            await pause(stop, max(0.0, begin_s + self.told.for_s - loop.time()))
            over.set()

    def _plug_in(self, path: str) -> None:
        """The name that the configuration has for the serial port, as udev would make it."""
        (self.folder / "bus").symlink_to(path)

    async def wait_for_findings(self, gateway: Gateway) -> None:
        """Until everything planted is found and closed, or for a while."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + FOUND_LIMIT_S
        while loop.time() < end_s:
            found = self._own(gateway)
            missing, unexpected = self._compare(found)
            if not missing and not unexpected and all(one.state != "open" for one in found):
                return
            await asyncio.sleep(POLL_S)

    def count(self, gateway: Gateway) -> dict[str, Any]:
        """Planted and found by rule, what was not planted, what was not found: as `demo_trucks.Yard.count`."""
        found = self._own(gateway)
        missing, unexpected = self._compare(found)
        return {
            "planted": dict(sorted(Counter(one.rule for one in self.told.planted).items())),
            "found": dict(sorted(Counter(one.rule for one in found).items())),
            "unexpected": [one.summary() for one in unexpected],
            "missing": [one._asdict() for one in missing],
        }

    def lost(self, gateway: Gateway) -> int:
        """Measurements that were acknowledged and are not in the journal."""
        stored: set[tuple[str, int]] = set()
        after = -1
        while rows := gateway.reader.records(kind=kinds.READING, after=after, limit=1000):
            for seq, leaf in rows:
                after = seq
                record = parse_leaf(leaf)
                if record.source == SOURCE and record.data.get("message") == MOMENT:
                    stored.add((record.device, record.data.get("taken_utc_s", 0)))
        acknowledged = {(one.kitchen.identity, utc_s) for one in self.monitors for utc_s in one.truth.acknowledged}
        return len(acknowledged - stored)

    def _own(self, gateway: Gateway) -> list[Finding]:
        return [
            one
            for one in findings.current(gateway.reader)
            if one.source in (SOURCE, BUS_SOURCE) and one.state != "withdrawn"
        ]

    def _compare(self, found: Sequence[Finding]) -> tuple[list[Expected], list[Finding]]:
        left = list(found)
        missing: list[Expected] = []
        for wanted in self.told.planted:
            match = next((one for one in left if _is(wanted, one)), None)
            if match is None:
                missing.append(wanted)
            else:
                left.remove(match)
        return missing, left


def _is(wanted: Expected, found: Finding) -> bool:
    end_s = found.end_utc_s if found.end_utc_s is not None else found.start_utc_s
    return (
        found.rule == wanted.rule
        and found.device == wanted.device
        and found.start_utc_s <= wanted.end_utc_s + SLACK_S
        and end_s >= wanted.start_utc_s - SLACK_S
    )
