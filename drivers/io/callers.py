"""NMEA receivers that call in, over TCP and UDP: who they are, how many there may be, what becomes of strangers.

The address of a sender names its device, by `peers` or, where that is empty, by itself. One TCP connection per device:
another one takes its place only where it has been quiet. Who is not taken is counted and recorded, at a falling rate.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

from drivers.io import receiving
from drivers.io.receiving import Backlog, BackOff, Desk, commit, count, pause, pump, show, take
from drivers.io.surroundings import Surroundings
from drivers.nmea import drafts
from drivers.nmea.drafts import Author
from drivers.nmea.driver import GAP_MAX_NS, GAP_MIN_NS, Closed, Dropped, Limits, Opened, Session, SetState
from gateway.config import listen_address
from gateway.config_sources import NmeaListenConfig
from gateway.core.errors import LinkError
from gateway.core.record import Draft

READ_MAX_BYTES: Final = 4096
STREAM_LIMIT_BYTES: Final = 65_536
BACKLOG_STREAM_BYTES: Final = 65_536
"""Of one connection; it is held back above it."""
QUIET_NS: Final = 5_000_000_000
"""A connection that has sent nothing for so long gives way to a new one of the same device."""
REPLACE_TIMEOUT_S: Final = 5.0
FORGET_NS: Final = 3600 * 10**9
"""A device that is not in `peers` and has not sent for so long makes room for another."""
LOOK_S: Final = 0.25
STRANGERS_MAX: Final = 64
"""Named in one record; the rest is counted as "others"."""


async def read_stream(reader: asyncio.StreamReader) -> bytes:
    """Some bytes. Raises LinkError at the end of the connection."""
    try:
        chunk = await reader.read(READ_MAX_BYTES)
    except OSError as error:
        raise LinkError(f"the connection has failed: {error.strerror or error}") from error
    if not chunk:
        raise LinkError("the other side has closed the connection")
    return chunk


class _Strangers:
    """Who was not taken since it was last told."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._pause_ns = GAP_MIN_NS
        self._told_ns: int | None = None

    def add(self, address: str, reason: str) -> None:
        key = (
            (address, reason)
            if (address, reason) in self.counts or len(self.counts) < STRANGERS_MAX
            else ("", "others")
        )
        self.counts[key] += 1

    def take(self, now_ns: int) -> list[dict[str, Any]]:
        """What is to be told now: at once, after 60 s, then at double the time each, up to an hour."""
        if not self.counts or (self._told_ns is not None and now_ns - self._told_ns < self._pause_ns):
            return []
        calm = self._told_ns is None or now_ns - self._told_ns > 2 * self._pause_ns
        self._pause_ns = GAP_MIN_NS if calm else min(2 * self._pause_ns, GAP_MAX_NS)
        self._told_ns = now_ns
        rows = [
            {"address": address, "reason": reason, "count": number}
            for (address, reason), number in sorted(self.counts.items())
        ]
        self.counts.clear()
        return rows


class _Datagrams(asyncio.DatagramProtocol):
    """Hands datagrams on; there is nothing to hold back."""

    def __init__(self, take: Callable[[bytes, str], None]) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._take(data, str(addr[0]))


class Callers:
    """One nmea-listen source."""

    def __init__(
        self,
        config: NmeaListenConfig,
        around: Surroundings,
        author: Callable[[str], Author],
        back_off: BackOff,
    ) -> None:
        self._config = config
        self._around = around
        self._author = author
        self._back_off = back_off
        self._peers = {_plain(address): device for address, device in config.peers.items()}
        self._desks: dict[tuple[str, str], Desk] = {}
        """(tcp or udp, device) → its session."""
        self._states: dict[tuple[str, str], SetState] = {}
        self._connected: dict[str, tuple[Backlog, asyncio.Event]] = {}
        """Device → its connection's backlog, and the event of its end."""
        self._strangers = _Strangers()
        self._backlog = Backlog()
        """All datagrams."""
        self._where = ""
        self._told_deaf = False

    async def serve(self) -> None:
        """Listen for ever; where the address cannot be had, try again."""
        while True:
            reason = await self._listen()
            show(self._around, "down", reason)
            if not self._told_deaf:
                self._told_deaf = True
                values = {"address": f"{self._config.listen} {self._config.listen_udp}".strip()}
                await self._store(drafts.state_draft(self._author(""), "offline", reason, values))
            await pause(self._around, self._back_off.next_s())

    async def finish(self) -> None:
        """Store what is unfinished of every session."""
        for desk in self._desks.values():
            await desk.finish()

    async def _store(self, draft: Draft) -> None:
        await commit(self._around, [draft], lambda state: show(self._around, state.state, state.reason))

    async def _listen(self) -> str:
        """Listen and work for ever, or say why not."""
        async with asyncio.TaskGroup() as group, AsyncExitStack() as opened:
            try:
                await self._bind(group, opened)
            except OSError as error:
                return f"cannot listen: {error.strerror or error}; is the address another program's?"
            self._told_deaf = False
            self._back_off.reset()
            self._show()
            await self._work()
        return "stopped"

    async def _bind(self, group: asyncio.TaskGroup, opened: AsyncExitStack) -> None:
        """Raises OSError where an address cannot be had."""
        config, bound = self._config, []
        if config.listen:
            host, port = listen_address(config.listen)
            server = await asyncio.start_server(partial(self._accept, group), host, port, limit=STREAM_LIMIT_BYTES)
            opened.callback(server.close)
            bound.append(f"tcp {_bound(server.sockets[0].getsockname())}")
        if config.listen_udp:
            host, port = listen_address(config.listen_udp)
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Datagrams(self._datagram), local_addr=(host, port)
            )
            opened.callback(transport.abort)
            bound.append(f"udp {_bound(transport.get_extra_info('sockname'))}")
        self._where = "listens on " + ", ".join(bound)

    async def _work(self) -> None:
        """Datagrams, and what is due of sessions that have no connection just now."""
        loop = asyncio.get_running_loop()
        look_s = loop.time()
        while True:
            found = await self._backlog.get(max(look_s - loop.time(), 0.001))
            if found is not None:
                await self._take_datagram(found[0], found)
            if loop.time() < look_s:
                continue
            self._around.tick()
            for key, desk in list(self._desks.items()):
                if key[0] == "udp" or key[1] not in self._connected:  # the others look after themselves
                    reason = await desk.timer()
                    if reason is not None:
                        await desk.handle(Closed(reason))
            if found is None:
                await self._tell_dropped()
            await self._tell_strangers()
            look_s = loop.time() + LOOK_S

    async def _tell_dropped(self) -> None:
        """Of senders that have not come again since; the others were told before their next datagram."""
        for sender, size_bytes in list(self._backlog.dropped.items()):
            device, _, address = sender.partition("\0")
            desk = self._desks.get(("udp", device))
            if desk is None:
                self._refuse(address, "store full")
            else:
                await desk.handle(Dropped(size_bytes))
            del self._backlog.dropped[sender]

    async def _tell_strangers(self) -> None:
        rows = self._strangers.take(self._around.clock.now().mono_ns)
        if rows:
            total = sum(row["count"] for row in rows)
            values = {"count": total, "senders": rows}
            text = f"{total} connections or datagrams were not taken"
            await self._store(drafts.state_draft(self._author(""), "refused", text, values))

    # --------------------------------------------------------------------------------------- devices

    def _device(self, address: str) -> str | None:
        """The identity behind an address; None for a stranger."""
        plain = _plain(address)
        return self._peers.get(plain) if self._peers else plain

    def _refuse(self, address: str, reason: str) -> None:
        count(self._around, "refused")
        self._strangers.add(_plain(address), reason)

    def _desk(self, link: str, device: str) -> Desk | None:
        """The desk of a device; None where there is no room for another."""
        key = (link, device)
        if key not in self._desks:
            if len(self._desks) >= self._config.connections_max and not self._forget_one():
                return None
            config = self._config
            limits = Limits(
                config.interval_s,
                config.silent_s,
                flush_s=receiving.FLUSH_NETWORK_S,
                datagrams=link == "udp",
                listens=True,
                hint="the sender speaks something else",
            )

            def tell(state: SetState) -> None:
                if self._states.get(key) != state:
                    self._states[key] = state
                    self._show()

            self._desks[key] = Desk(Session(self._author(device), limits), self._around, tell)
        return self._desks[key]

    def _forget_one(self) -> bool:
        """Make room: the session that has been silent for longest, if long enough."""
        now_ns = self._around.clock.now().mono_ns
        silent = [
            (desk.session.quiet_ns(now_ns), key)
            for key, desk in self._desks.items()
            if not desk.session.is_open
            and desk.session.deadline_ns() is None
            and (not desk.session.known or desk.session.quiet_ns(now_ns) >= FORGET_NS)
        ]
        if not silent:
            return False
        _, key = max(silent)
        del self._desks[key]
        self._states.pop(key, None)
        return True

    def _show(self) -> None:
        """The source is well while it listens; a receiver that is not has its own records, and is named here."""
        heard = sum(desk.session.heard for desk in self._desks.values())
        self._around.status.counters["receivers_online"] = heard
        for (_, device), state in self._states.items():
            if state.state == "degraded":
                show(self._around, "degraded", f"{device}: {state.reason}")
                return
        show(self._around, "ok", self._where)

    # ------------------------------------------------------------------------------------------ UDP

    def _datagram(self, data: bytes, address: str) -> None:
        device = self._device(address)
        if device is None:
            self._refuse(address, "unknown address")
        else:
            self._backlog.put(f"{device}\0{_plain(address)}", data, self._around.clock.now())

    async def _take_datagram(self, sender: str, found: tuple[str, bytes, Any]) -> None:
        device, _, address = sender.partition("\0")
        desk = self._desk("udp", device)
        if desk is None:
            self._refuse(address, "too many devices")
            return
        if not desk.session.is_open:
            await desk.handle(Opened(f"udp {address}"), found[2])
        await take(desk, self._around, self._backlog, found)

    # ------------------------------------------------------------------------------------------ TCP

    def _accept(self, group: asyncio.TaskGroup, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Called by the server for each connection; the task belongs to our group, so that its errors are ours."""
        peer = writer.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        device = self._device(address)
        if device is None:
            self._refuse(address, "unknown address")
        elif len(self._connected) >= self._config.connections_max:
            self._refuse(address, "too many connections")
        else:
            group.create_task(self._connection(device, address, reader, writer))
            return
        writer.transport.abort()

    async def _connection(
        self, device: str, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            if not await self._make_way(device):
                self._refuse(address, "a second connection of a device that sends")
                return
            desk = self._desk("tcp", device)
            if desk is None:
                self._refuse(address, "too many devices")
                return
            backlog, ended = Backlog(BACKLOG_STREAM_BYTES), asyncio.Event()
            self._connected[device] = backlog, ended
            try:
                await desk.handle(Opened(f"tcp {address}"))
                reason = await pump(desk, partial(read_stream, reader), self._around, backlog, waits=True)
                await desk.handle(Closed(reason))
            finally:
                del self._connected[device]
                ended.set()
                self._show()
        finally:
            writer.transport.abort()

    async def _make_way(self, device: str) -> bool:
        """Whether a new connection of this device may begin; an old one that is quiet is ended for it."""
        if device not in self._connected:
            return True
        backlog, ended = self._connected[device]
        if backlog.ended is not None:
            return False  # another new one waits already
        if self._desks["tcp", device].session.quiet_ns(self._around.clock.now().mono_ns) < QUIET_NS:
            return False
        backlog.end(LinkError("the device has opened another connection"))
        try:
            async with asyncio.timeout(REPLACE_TIMEOUT_S):
                await ended.wait()
        except TimeoutError:
            return False
        return device not in self._connected


def _plain(address: str) -> str:
    """An address in its one form: IPv4 also where it came in the clothes of IPv6, without a zone."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def _bound(name: tuple[Any, ...]) -> str:
    return f"[{name[0]}]:{name[1]}" if ":" in str(name[0]) else f"{name[0]}:{name[1]}"
