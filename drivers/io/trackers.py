"""A JT/T 808 source: the session of drivers.jt808 over TCP and UDP, one committer, one copier of photos.

The one rule: `ack` of an Emit is written after `sink.append` has returned. The records of all connections that wait go
into one append, so a fleet shares its fsyncs. While the store is full nothing is read: TCP holds the senders back,
datagrams are counted and dropped, and nothing was acknowledged that is not on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from typing import Final

from drivers.io.datagram import DatagramServer
from drivers.io.stream import StreamServer, room_for
from drivers.io.surroundings import Surroundings, pause
from drivers.jt808.acts import (
    Answer,
    BytesReceived,
    Close,
    Command,
    DatagramReceived,
    DevicesChanged,
    Emit,
    Event,
    Keep,
    Kept,
    LinkDown,
    LinkUp,
    Pause,
    Peer,
    Request,
    Resume,
    Send,
    Shutdown,
    StoreResumed,
    TimerFired,
)
from drivers.jt808.driver import Limits, Session
from gateway import metrics
from gateway.config import listen_address
from gateway.config_sources import Jt808Config
from gateway.core.errors import ConfigError, StoreFull
from gateway.core.ports import Order, Outcome
from gateway.core.record import Draft, StateChange
from gateway.devices import Watched

TICK_S: Final = 1.0
DEVICES_EVERY_S: Final = 5.0
STORE_RETRY_S: Final = 1.0
ROUND_MAX: Final = 2000
"""Records in one append."""
PENDING_MAX: Final = 10_000
"""Records that wait for the committer; above it nothing is read until there are half as many."""
LAST_COMMIT_S: Final = 5.0
ORDER_GRACE_S: Final = 130.0
"""Longer than any order waits: the session ends them by itself."""
FRAME_RESULTS: Final = {"good": "frames", "malformed": "malformed", "refused": "refused", "repeated": "repeated"}
"""Label of a metric → counter of the session."""
SECRET_KEY: Final = b"secret"


async def run_jt808(config: Jt808Config, around: Surroundings) -> None:
    """A jt808 source until stop."""
    watched = await _devices(config, around)
    if watched is None:
        return
    await TrackerRunner(config, around, watched, await _secret(config.name, around)).run()


async def _devices(config: Jt808Config, around: Surroundings) -> Watched | None:
    """The devices file; with a mistake in it the source waits until it is mended, and the others go on."""
    while not around.stop.is_set():
        around.tick()
        try:
            return Watched(config.devices_file, around.profile_dirs)
        except ConfigError as error:
            _show(around, "down", str(error))
        await pause(around.stop, TICK_S)
    return None


async def _secret(source: str, around: Surroundings) -> bytes:
    """What makes the authentication codes of this source: drawn once, kept with the store."""
    found = around.memory.get(source, SECRET_KEY)
    if found is not None:
        return found
    secret = os.urandom(32)
    while True:
        try:
            await around.sink.append([], [StateChange(source, SECRET_KEY, secret)])
            return secret
        except StoreFull as error:
            _show(around, "degraded", f"the store is full, nothing is taken: {error}")
            around.tick()
            await asyncio.sleep(STORE_RETRY_S)


def _show(around: Surroundings, state: str, reason: str) -> None:
    status = around.status
    if (status.state, status.reason) != (state, reason):
        if status.state != state:
            status.since_utc_ns = around.clock.now().utc_ns
        status.state, status.reason = state, reason  # type: ignore[assignment]


class TrackerRunner:
    """One source. Port `OrderTaker`."""

    def __init__(self, config: Jt808Config, around: Surroundings, watched: Watched, secret: bytes) -> None:
        self._config = config
        self._around = around
        self._watched = watched
        limits = Limits(config.silent_s, config.idle_s, config.frames_per_s_max)
        remembered = around.memory.items(config.name)
        self._session = Session(config.name, limits, watched.current, secret, remembered)
        self._stream = StreamServer(
            opened=self._opened,
            received=self._received,
            closed=self._closed,
            connections_max=room_for(config.connections_max),
            per_address_max=config.connections_per_address_max,
        )
        self._datagrams = DatagramServer(self._datagram)
        self._pending: list[Emit] = []
        self._pending_drafts = 0
        self._wake = asyncio.Event()
        self._photos: asyncio.Queue[Keep] = asyncio.Queue()  # bounded in bytes by the session
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns: int | None = None
        self._is_full = False
        self._has_ended = False
        self._counted: dict[str, int] = {}
        self._tickets: dict[int, asyncio.Future[Outcome]] = {}
        self._next_ticket = 0

    async def run(self) -> None:
        """Until stop or cancellation; the last records are stored on the way out. Raises LinkError where a port is
        taken, and what is not the devices' fault."""
        around = self._around
        try:
            await self._listen()
            if around.orders is not None:
                around.orders.serve(self._config.name, self)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work) for work in (self._commit(), self._copy(), self._watch())]
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
            self._stream.abort()
            self._datagrams.abort()
            around.status.addresses.clear()

    async def _listen(self) -> None:
        addresses = self._around.status.addresses
        addresses.clear()
        if self._config.listen:
            addresses.append("tcp " + await self._stream.listen(*listen_address(self._config.listen)))
        if self._config.listen_udp:
            addresses.append("udp " + await self._datagrams.listen(*listen_address(self._config.listen_udp)))

    # ---------------------------------------------------------------- events

    def _opened(self, link: int, host: str, port: int) -> None:
        self._feed(LinkUp(link, host, port))

    def _received(self, link: int, content: bytes) -> None:
        self._feed(BytesReceived(link, content))

    def _closed(self, link: int, reason: str) -> None:
        self._feed(LinkDown(link, reason))

    def _datagram(self, sender: tuple[str, int], content: bytes) -> None:
        self._feed(DatagramReceived(sender, content))

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
                    self._write(to, content)
                case Close(link):
                    self._stream.close(link)
                case Pause(link):
                    self._stream.hold(link, is_held=True)
                case Resume(link):
                    self._stream.hold(link, is_held=False)
                case Keep():
                    self._photos.put_nowait(command)
                case Answer(ticket, outcome):
                    waiting = self._tickets.pop(ticket, None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(outcome)

    def _hold(self, *, is_held: bool) -> None:
        self._stream.hold_all(is_held=is_held)
        self._datagrams.is_held = is_held

    def _write(self, to: Peer, content: bytes) -> None:
        if isinstance(to, int):
            self._stream.write(to, content)
        else:
            self._datagrams.write(to, content)

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
        answers: dict[Peer, bytes] = {}
        for emit in emits:
            if emit.ack and emit.to is not None:
                answers[emit.to] = answers.get(emit.to, b"") + emit.ack
        for to, content in answers.items():
            self._write(to, content)

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

    # ---------------------------------------------------------------- photos

    async def _copy(self) -> None:
        while True:
            keep = await self._photos.get()
            try:
                sha256, size_bytes = await asyncio.to_thread(self._spool, keep)
            except StoreFull as error:
                self._feed(Kept(keep.ticket, problem=str(error)))
                continue
            self._feed(Kept(keep.ticket, sha256, size_bytes))

    def _spool(self, keep: Keep) -> tuple[str, int]:
        writer = self._around.spool.open(keep.key, keep.identity, len(keep.content))
        try:
            if writer.offset:
                writer.discard()
                writer = self._around.spool.open(keep.key, keep.identity, len(keep.content))
            writer.write(keep.content)
            sha256, size_bytes, _ = writer.finish()
        except StoreFull:
            writer.discard()
            raise
        return sha256, size_bytes

    # ---------------------------------------------------------------- watching

    async def _watch(self) -> None:
        """The state of the source for people, and the devices file."""
        since_s = 0.0
        while True:
            self._around.tick()
            self._count()
            if since_s >= DEVICES_EVERY_S:
                since_s = 0.0
                if self._watched.refresh():
                    self._feed(DevicesChanged(self._watched.current))
            if not self._is_full:
                error = self._watched.error
                _show(self._around, "degraded" if error else "ok", error)
            await asyncio.sleep(TICK_S)
            since_s += TICK_S

    def _count(self) -> None:
        counters, found = self._around.status.counters, self._session.counters()
        for result, name in FRAME_RESULTS.items():
            metrics.FRAMES.labels(self._config.name, result).inc(found[name] - self._counted.get(name, 0))
        metrics.LINKS.labels(self._config.name).set(found["online"])
        self._counted = found
        counters.update(found)
        counters["connections"] = len(self._stream)
        counters["connections_refused"] = self._stream.refused
        counters["connections_not_reading"] = self._stream.not_reading
        counters["datagrams_dropped"] = self._datagrams.dropped
        counters["pending"] = self._pending_drafts

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
