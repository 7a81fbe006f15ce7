"""HJ 212 sources: the session of drivers.hj212 over TCP connections or one serial line, and one committer.

The one rule: `ack` of an Emit is written after `sink.append` has returned. The records of all monitors that wait go
into one append. While the store is full no connection is read; a serial line cannot be held back, so it is read on
until PENDING_MAX records wait. Nothing was acknowledged that is not on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from drivers.hj212.acts import (
    Answer,
    BytesReceived,
    Close,
    Command,
    DevicesChanged,
    Emit,
    Event,
    KeysChanged,
    LineFailed,
    LinkDown,
    LinkUp,
    Pause,
    Request,
    Resume,
    Send,
    Shutdown,
    StoreResumed,
    TimerFired,
)
from drivers.hj212.driver import Limits, Session
from drivers.hj212.keys import WatchedKeys
from drivers.io.stream import StreamServer, room_for
from drivers.io.surroundings import Surroundings, pause
from gateway.config import listen_address
from gateway.config_sources import Hj212Config, Hj212SerialConfig
from gateway.core.errors import ConfigError, StoreFull
from gateway.core.ports import Order, Outcome
from gateway.core.record import Draft, StateChange
from gateway.devices import Watched

if TYPE_CHECKING:
    from drivers.io.line import SerialLine

TICK_S: Final = 1.0
FILES_EVERY_S: Final = 5.0
STORE_RETRY_S: Final = 1.0
ROUND_MAX: Final = 1000
"""Records in one append."""
PENDING_MAX: Final = 4_000
"""Records that wait for the committer; above it nothing is read until there are half as many."""
LAST_COMMIT_S: Final = 5.0
ORDER_GRACE_S: Final = 130.0
"""Longer than any order waits: the session ends them by itself."""

AnyHj212 = Hj212Config | Hj212SerialConfig


class Carrier(Protocol):
    """What carries bytes: connections or a line."""

    def write(self, link: int, content: bytes) -> None:
        """Send; nothing where the link is gone."""

    def close(self, link: int) -> None:
        """End a link."""


async def run_hj212(config: Hj212Config, around: Surroundings) -> None:
    """An hj212 source until stop."""
    files = await _files(config, around)
    if files is not None:
        await MonitorRunner(config, around, *files).run()


async def run_hj212_serial(config: Hj212SerialConfig, around: Surroundings) -> None:
    """An hj212-serial source until stop."""
    files = await _files(config, around)
    if files is not None:
        await MonitorRunner(config, around, *files).run()


async def _files(config: AnyHj212, around: Surroundings) -> tuple[Watched, WatchedKeys] | None:
    """Devices and keys; with a mistake in them the source waits until it is mended, and the others go on."""
    while not around.stop.is_set():
        around.tick()
        try:
            return Watched(config.devices_file, around.profile_dirs, "hj212"), WatchedKeys(config.keys_file)
        except ConfigError as error:
            _show(around, "down", str(error))
        await pause(around.stop, TICK_S)
    return None


def _show(around: Surroundings, state: str, reason: str) -> None:
    status = around.status
    if (status.state, status.reason) != (state, reason):
        if status.state != state:
            status.since_utc_ns = around.clock.now().utc_ns
        status.state, status.reason = state, reason  # type: ignore[assignment]


class MonitorRunner:
    """One source. Port `OrderTaker`."""

    def __init__(self, config: AnyHj212, around: Surroundings, watched: Watched, keys: WatchedKeys) -> None:
        self._config = config
        self._around = around
        self._watched = watched
        self._keys = keys
        if isinstance(config, Hj212Config):
            limits = Limits(config.silent_s, config.idle_s, config.frames_per_s_max, config.unlisted_per_s_max)
        else:
            limits = Limits(idle_s=config.idle_s, unlisted_per_s_max=config.unlisted_per_s_max)
        self._session = Session(
            config.name,
            limits,
            watched.current,
            keys.current,
            config.crc,
            around.memory.items(config.name),
            around.clock.now().mono_ns,
        )
        self._stream: StreamServer | None = None
        self._line: SerialLine | None = None
        self._carrier: Carrier = self._make_carrier(config)
        self._trouble: str | None = "" if isinstance(config, Hj212Config) else None
        """Why the serial port cannot be used; None: it was not tried yet."""
        self._pending: list[Emit] = []
        self._pending_drafts = 0
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns: int | None = None
        self._is_full = False
        self._has_ended = False
        self._tickets: dict[int, asyncio.Future[Outcome]] = {}
        self._next_ticket = 0

    def _make_carrier(self, config: AnyHj212) -> Carrier:
        if isinstance(config, Hj212Config):
            self._stream = StreamServer(
                opened=self._connected,
                received=self._received,
                closed=self._closed,
                connections_max=room_for(config.connections_max),
                per_address_max=config.connections_per_address_max,
            )
            return self._stream
        from drivers.io.line import SerialLine  # pyserial is not needed by those that only listen
        from drivers.io.serial import Line

        line = Line(config.baud, 8, config.parity, 2 if config.stop_bits == 2 else 1)
        self._line = SerialLine(
            config.port,
            line,
            opened=self._plugged,
            received=self._received,
            closed=self._closed,
            failed=self._failed,
        )
        return self._line

    async def run(self) -> None:
        """Until stop or cancellation; the last records are stored on the way out. Raises LinkError where the port is
        taken, and what is not the devices' fault."""
        around = self._around
        try:
            await self._listen()
            if around.orders is not None:
                around.orders.serve(self._config.name, self)
            async with asyncio.TaskGroup() as group:
                works = [self._commit(), self._watch()]
                if self._line is not None:
                    works.append(self._line.run())
                tasks = [group.create_task(work) for work in works]
                await around.stop.wait()
                for task in tasks:
                    task.cancel()
            await self._end()
        except asyncio.CancelledError:
            await self._end()
            raise
        finally:
            if around.orders is not None:
                around.orders.serve(self._config.name, None)
            if self._timer is not None:
                self._timer.cancel()
            if self._stream is not None:
                self._stream.abort()
            around.status.addresses.clear()

    async def _listen(self) -> None:
        addresses = self._around.status.addresses
        addresses.clear()
        if self._stream is not None and isinstance(self._config, Hj212Config):
            addresses.append("tcp " + await self._stream.listen(*listen_address(self._config.listen)))
        self._arm()  # parts that an earlier run has left

    # ---------------------------------------------------------------- events

    def _connected(self, link: int, host: str, port: int) -> None:
        self._feed(LinkUp(link, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"))

    def _plugged(self, link: int) -> None:
        assert isinstance(self._config, Hj212SerialConfig)  # noqa: S101  only a line is plugged in
        self._trouble = ""
        self._feed(LinkUp(link, self._config.port, is_line=True))

    def _failed(self, reason: str) -> None:
        if reason != self._trouble:
            self._trouble = reason
            self._feed(LineFailed(reason))

    def _received(self, link: int, content: bytes) -> None:
        self._feed(BytesReceived(link, content))

    def _closed(self, link: int, reason: str) -> None:
        if self._line is not None:
            self._trouble = reason
        self._feed(LinkDown(link, reason))

    def _feed(self, event: Event) -> None:
        """Tell the session, and do what it says. Synchronous: events are handled in the order they came."""
        if self._has_ended:
            return
        commands = self._session.handle(event, self._around.clock.now())
        if commands:
            self._obey(commands)
        if self._session.deadline_ns() != self._timer_ns:
            self._arm()

    def _obey(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Emit():
                    self._pending.append(command)
                    self._pending_drafts += len(command.drafts)
                    self._wake.set()
                    if self._pending_drafts > PENDING_MAX:
                        self._hold(is_held=True)
                case Send(to, content):
                    self._carrier.write(to, content)
                case Close(link):
                    self._carrier.close(link)
                case Pause(link):
                    self._hold_one(link, is_held=True)
                case Resume(link):
                    self._hold_one(link, is_held=False)
                case Answer(ticket, outcome):
                    waiting = self._tickets.pop(ticket, None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(outcome)

    def _hold_one(self, link: int, *, is_held: bool) -> None:
        if self._stream is not None:
            self._stream.hold(link, is_held=is_held)

    def _hold(self, *, is_held: bool) -> None:
        if self._stream is not None:
            self._stream.hold_all(is_held=is_held)
        elif self._line is not None:
            self._line.hold(is_held=is_held and self._pending_drafts > PENDING_MAX)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_ns = at_ns = self._session.deadline_ns()
        if at_ns is not None:
            wait_s = max(0.0, (at_ns - self._around.clock.now().mono_ns) / 1e9)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._fire)

    def _fire(self) -> None:
        self._timer, self._timer_ns = None, None
        if not self._is_full:  # silence that we make ourselves is nobody's: StoreResumed sets the timer again
            self._feed(TimerFired())

    # ---------------------------------------------------------------- committing

    async def _commit(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                await self._commit_round(self._take_round())
                if self._pending_drafts <= PENDING_MAX // 2:
                    self._hold(is_held=False)

    def _take_round(self) -> list[Emit]:
        count = size = 0
        for emit in self._pending:
            size += len(emit.drafts)
            if count and size > ROUND_MAX:
                break
            count += 1
        taken, self._pending = self._pending[:count], self._pending[count:]
        self._pending_drafts -= sum(len(emit.drafts) for emit in taken)
        return taken

    async def _commit_round(self, emits: list[Emit]) -> None:
        """All of it, and only then the answers."""
        drafts = [draft for emit in emits for draft in emit.drafts]
        state = [change for emit in emits for change in emit.state]
        marks = b"".join([emit.marks for emit in emits])
        if marks:
            state.append(self._session.repeats.round(marks))
        if drafts or state:
            await self._append(drafts, state)
            self._around.status.last_seen_utc_ns = self._around.clock.now().utc_ns
        answers: dict[int, bytes] = {}
        for emit in emits:
            if emit.ack and emit.to is not None:
                answers[emit.to] = answers.get(emit.to, b"") + emit.ack
        for to, content in answers.items():
            self._carrier.write(to, content)

    async def _append(self, drafts: list[Draft], state: list[StateChange]) -> None:
        while True:
            try:
                await self._around.sink.append(drafts, state)
                break
            except StoreFull as error:
                self._is_full = True
                self._hold(is_held=True)
                _show(self._around, "degraded", f"the store is full, nothing is taken: {error}")
            await asyncio.sleep(STORE_RETRY_S)
        if self._is_full:
            self._is_full = False
            self._feed(StoreResumed())
            self._arm()
            self._hold(is_held=self._pending_drafts > PENDING_MAX)

    # ---------------------------------------------------------------- watching

    async def _watch(self) -> None:
        """The state of the source for people, and the files of devices and keys."""
        since_s = 0.0
        while True:
            self._around.tick()
            self._count()
            if since_s >= FILES_EVERY_S:
                since_s = 0.0
                if self._watched.refresh():
                    self._feed(DevicesChanged(self._watched.current))
                if self._keys.refresh():
                    self._feed(KeysChanged(self._keys.current))
            if not self._is_full and self._trouble is not None:
                error = self._watched.error or self._keys.error
                if self._trouble:
                    _show(self._around, "down", self._trouble)
                else:
                    _show(self._around, "degraded" if error else "ok", error)
            await asyncio.sleep(TICK_S)
            since_s += TICK_S

    def _count(self) -> None:
        counters = self._around.status.counters
        counters.update(self._session.counters())
        counters["pending"] = self._pending_drafts
        if self._stream is not None:
            counters["connections"] = len(self._stream)
            counters["connections_refused"] = self._stream.refused
            counters["connections_not_reading"] = self._stream.not_reading
        if self._line is not None:
            counters["answers_dropped_bytes"] = self._line.dropped_bytes

    # ---------------------------------------------------------------- orders

    async def take(self, order: Order, order_seq: int) -> Outcome:
        """See ports.OrderTaker."""
        self._next_ticket += 1
        ticket = self._next_ticket
        waiting = self._tickets[ticket] = asyncio.get_running_loop().create_future()
        try:
            self._feed(Request(ticket, order.device, order.action, order.parameters))
            async with asyncio.timeout(ORDER_GRACE_S):
                outcome = await waiting
        except TimeoutError:
            outcome = Outcome("timeout", "the device has not answered in time; it may have done it all the same")
        finally:
            self._tickets.pop(ticket, None)
        return Outcome(outcome.state, outcome.detail, outcome.result, order_seq)

    # ---------------------------------------------------------------- the end

    async def _end(self) -> None:
        """No new connections and no more bytes; what was taken is stored and answered."""
        if self._stream is not None:
            self._stream.stop_listening()
        self._hold(is_held=True)
        self._obey(self._session.handle(Shutdown(), self._around.clock.now()))
        self._has_ended = True
        for waiting in self._tickets.values():
            if not waiting.done():
                waiting.set_result(Outcome("offline", "the gateway ends"))
        with contextlib.suppress(StoreFull, TimeoutError):
            async with asyncio.timeout(LAST_COMMIT_S):
                while self._pending:
                    await self._commit_round(self._take_round())
        self._count()
