"""NMEA receivers as sources: on a serial port, behind a TCP address, or calling in (drivers.io.callers).

Each runner opens its link, pumps it (drivers.io.receiving) and opens it again: after a pause that grows while it fails,
and for serial ports as soon as something near their name changes.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Final

from drivers.io import receiving, surroundings
from drivers.io.callers import Callers, read_stream
from drivers.io.receiving import TICK_S, Backlog, BackOff, Desk, commit, pump, show
from drivers.io.serial import Line, SerialPort, nearby
from drivers.io.surroundings import Surroundings
from drivers.nmea import drafts
from drivers.nmea.drafts import Author
from drivers.nmea.driver import BAUDS, Closed, Limits, Opened, Session, SetState
from firmware_profiles.loader import LoadedProfile, load_tracker
from firmware_profiles.tracker_model import TrackerProfile
from gateway.config_sources import NmeaListenConfig, NmeaSerialConfig, NmeaTcpConfig
from gateway.core.errors import LinkError, Problem, ProfileError
from gateway.core.record import ProfileRef

SERIAL_BACK_OFF_S: Final = 10.0
"""Longest: a port that another program gives back tells nobody."""
CONNECT_TIMEOUT_S: Final = 10.0
LATE_SERIAL_NS: Final = 500_000_000
"""A sentence names a moment that is over by tens to hundreds of milliseconds: the receiver reckons, then the line takes
its time. Only a pulse per second would tell how many."""
LATE_NETWORK_NS: Final = 1_000_000_000

NmeaConfig = NmeaSerialConfig | NmeaTcpConfig | NmeaListenConfig
Fraction = Callable[[], float]


async def run_serial(config: NmeaSerialConfig, around: Surroundings, fraction: Fraction = random.random) -> None:
    """An nmea-serial source until stop. `fraction` gives numbers in [0, 1) for the back-off."""
    loaded = await _profile(config, around)
    if loaded is not None:
        limits = Limits(
            config.interval_s,
            config.silent_s,
            hint=f"check the speed (baud is {config.baud}; usual are {BAUDS})",
            mark_uncertainty_ns=LATE_SERIAL_NS if config.time_source else None,
        )
        desk = _desk(config, loaded, limits, around)
        await _until_stop(around, _serial(config, desk, around, BackOff(fraction, SERIAL_BACK_OFF_S)), desk.finish)


async def run_tcp(config: NmeaTcpConfig, around: Surroundings, fraction: Fraction = random.random) -> None:
    """An nmea-tcp source until stop. `fraction` gives numbers in [0, 1) for the back-off."""
    loaded = await _profile(config, around)
    if loaded is not None:
        limits = Limits(
            config.interval_s,
            config.silent_s,
            flush_s=receiving.FLUSH_NETWORK_S,
            mark_uncertainty_ns=LATE_NETWORK_NS if config.time_source else None,
        )
        desk = _desk(config, loaded, limits, around)
        await _until_stop(around, _tcp(config, desk, around, BackOff(fraction)), desk.finish)


async def run_listen(config: NmeaListenConfig, around: Surroundings, fraction: Fraction = random.random) -> None:
    """An nmea-listen source until stop. `fraction` gives numbers in [0, 1) for the back-off."""
    loaded = await _profile(config, around)
    if loaded is not None:
        callers = Callers(config, around, partial(_author, config, loaded), BackOff(fraction))
        await _until_stop(around, callers.serve(), callers.finish)


async def _until_stop(
    around: Surroundings, work: Coroutine[None, None, None], finish: Callable[[], Awaitable[None]]
) -> None:
    """Run `work`, which never ends by itself, until stop or until it is cancelled; then `finish`."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            await around.stop.wait()
            task.cancel()
    except asyncio.CancelledError:
        await finish()
        raise
    await finish()


def _author(config: NmeaConfig, loaded: LoadedProfile[TrackerProfile], device: str) -> Author:
    return Author(config.name, device, config.device_class, loaded.profile.datum, loaded.ref)


def _desk(
    config: NmeaSerialConfig | NmeaTcpConfig,
    loaded: LoadedProfile[TrackerProfile],
    limits: Limits,
    around: Surroundings,
) -> Desk:
    def tell(state: SetState) -> None:
        show(around, state.state, state.reason)

    return Desk(Session(_author(config, loaded, config.device or config.name), limits), around, tell)


async def _profile(config: NmeaConfig, around: Surroundings) -> LoadedProfile[TrackerProfile] | None:
    """The profile; with an unusable one the source is disabled, says so, and waits for the end."""
    try:
        loaded = load_tracker(config.profile, around.profile_dirs)
        if loaded.profile.protocol == "nmea":
            return loaded
        problem = Problem(str(loaded.path), 0, "protocol", f"is {loaded.profile.protocol}; this source needs nmea")
        error = ProfileError([problem])
    except ProfileError as caught:
        error = caught
    show(around, "disabled", str(error))
    device = "" if isinstance(config, NmeaListenConfig) else config.device or config.name
    author = Author(config.name, device, config.device_class, profile=ProfileRef(config.profile[:64], ""))
    draft = drafts.state_draft(author, "disabled", str(error), {"address": ""})
    await commit(around, [draft], lambda _: None)
    while not await surroundings.pause(around.stop, TICK_S):
        around.tick()
    return None


async def _nothing(at_most_s: float) -> bool:
    await asyncio.sleep(at_most_s)
    return False


async def _wait(
    desk: Desk, around: Surroundings, seconds: float, change: Callable[[float], Awaitable[bool]] = _nothing
) -> bool:
    """Wait for a change, at most so long; whether there was one. What the session still has to tell is told."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + seconds
    while (left_s := end_s - loop.time()) > 0:
        around.tick()
        if await change(min(left_s, desk.due_s())):
            return True
        await desk.timer()
    return False


# ---------------------------------------------------------------------------------------------- serial


async def _serial(config: NmeaSerialConfig, desk: Desk, around: Surroundings, back_off: BackOff) -> None:
    while True:
        around.tick()
        with nearby(config.port) as near:
            try:
                port = await SerialPort.open(config.port, Line(config.baud))
            except LinkError as error:
                await desk.handle(Closed(str(error), config.port))
                if await _wait(desk, around, back_off.next_s(), near.change):
                    back_off.reset()
                continue
        with port:
            await desk.handle(Opened(config.port))
            reason = await pump(desk, port.read, around, Backlog(), waits=False)
        await desk.handle(Closed(reason))
        if desk.session.worked:
            back_off.reset()
        else:
            await _wait(desk, around, back_off.next_s())


# ------------------------------------------------------------------------------------------------- TCP


async def _tcp(config: NmeaTcpConfig, desk: Desk, around: Surroundings, back_off: BackOff) -> None:
    host, _, port = config.address.rpartition(":")
    while True:
        around.tick()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except (OSError, ValueError, OverflowError) as error:  # a time-out is an OSError, with nothing to say
            reason = getattr(error, "strerror", None) or str(error) or f"no answer for {CONNECT_TIMEOUT_S:g} s"
            await desk.handle(Closed(f"{config.address}: {reason}; check address and network", config.address))
        else:
            try:
                _keep_alive(writer)
                await desk.handle(Opened(config.address))
                reason = await pump(desk, partial(read_stream, reader), around, Backlog(), waits=True)
                if desk.session.worked:
                    back_off.reset()
            finally:
                writer.transport.abort()
            await desk.handle(Closed(reason))
        await _wait(desk, around, back_off.next_s())


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """A second guard beside silent_s: the kernel notices a peer that is gone while we only listen."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
