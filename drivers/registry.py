"""Which code runs a source of which type: one explicit table. Modules load only when a source needs them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import Any, Final

from drivers.io.surroundings import Surroundings
from gateway.config_sources import SourceConfig
from gateway.core.ports import Clock, Orders, Sink, SourceMemory, SourceStatus, Spool, TimeMarks

SOURCES: Final = {
    "station-folder": "drivers.io.station:run_folder",
    "station-http": "drivers.io.station:run_http",
    "jt808": "drivers.io.trackers:run_jt808",
    "nmea-serial": "drivers.io.receivers:run_serial",
    "nmea-tcp": "drivers.io.receivers:run_tcp",
    "nmea-listen": "drivers.io.receivers:run_listen",
    "modbus-serial": "drivers.io.bus:run_serial",
    "modbus-tcp": "drivers.io.bus:run_tcp",
    "hj212": "drivers.io.monitors:run_hj212",
    "hj212-serial": "drivers.io.monitors:run_hj212_serial",
    "json-mqtt": "drivers.io.feeds:run_mqtt",
    "json-http": "drivers.io.feeds:run_http",
}
"""Value of `type` in the configuration → function (config, surroundings)."""


async def run_source(  # noqa: PLR0913  every port by name
    config: SourceConfig,
    *,
    sink: Sink,
    memory: SourceMemory,
    spool: Spool,
    clock: Clock,
    profile_dirs: Sequence[str],
    status: SourceStatus,
    stop: asyncio.Event,
    tick: Callable[[], None],
    orders: Orders | None = None,
    time_marks: TimeMarks | None = None,
) -> None:
    """Run one source until `stop`. `tick` is called at least every 5 s, for the watchdog.

    An unusable profile disables the source (status and a station.state record) and does not raise. What raises
    is not the device's fault: IntegrityError, a broken disk of ours, a bug.
    """
    module, _, function = SOURCES[str(type(config).__struct_config__.tag)].partition(":")
    run: Callable[[Any, Surroundings], Awaitable[None]] = getattr(import_module(module), function)
    await run(config, Surroundings(sink, memory, spool, clock, profile_dirs, status, stop, tick, orders, time_marks))
