"""JSON feeds as sources: messages from an MQTT broker, or posted here over HTTP.

The session (drivers.jsonfeed.driver) reads a message; one task commits what came of all that wait; only then they are
answered, in the order in which they came. While the store has no room nothing is answered: the broker keeps what is
not acknowledged, and a poster is told to come again.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, NamedTuple

from drivers.io import surroundings
from drivers.io.receiving import BackOff, show
from drivers.io.surroundings import Surroundings
from drivers.jsonfeed import decode, drafts
from drivers.jsonfeed.drafts import Author
from drivers.jsonfeed.driver import SECRET_BYTES, SECRET_KEY, Arrived, Session, Taken
from firmware_profiles.feed_model import FeedProfile
from firmware_profiles.loader import LoadedProfile, load_feed
from gateway.config_sources import JsonHttpConfig, JsonMqttConfig
from gateway.core.errors import ConfigError, ProfileError, StoreFull
from gateway.core.record import Draft, StateChange

TICK_S: Final = 1.0
STORE_RETRY_S: Final = 2.0
WAITING_MAX: Final = 1000
WAITING_MAX_BYTES: Final = 16 << 20
"""Messages that wait for the store; more are not taken."""
ROUND_MAX: Final = 200
"""Messages in one commit."""
FILES_RETRY_S: Final = 5.0
LAST_COMMIT_S: Final = 5.0
CLIENT_KEY: Final = b"client"
FeedConfig = JsonMqttConfig | JsonHttpConfig
Fraction = Callable[[], float]
LinkState = Literal["ok", "down"]


class _Waiting(NamedTuple):
    taken: Taken
    done: asyncio.Future[Taken] | None
    size_bytes: int


class Desk:
    """One source between its link and the store."""

    def __init__(self, session: Session, around: Surroundings) -> None:
        self._session = session
        self._around = around
        self._waiting: deque[_Waiting] = deque()
        self._size_bytes = 0
        self._wake = asyncio.Event()
        self._is_ending = False
        self._link: tuple[LinkState, str] = ("down", "not connected yet")
        self.is_full = False
        """The store has no room: nothing is answered."""
        self.not_taken = 0
        """Messages that found too many others waiting."""

    @property
    def has_room(self) -> bool:
        """Whether another message may come."""
        return not self.is_full and len(self._waiting) < WAITING_MAX and self._size_bytes < WAITING_MAX_BYTES

    def take(self, arrived: Arrived) -> asyncio.Future[Taken] | None:
        """Read a message; the future is done when everything of it is on disk. None: there is no room for it, and it
        must not be answered. Messages are read in the order of these calls."""
        if len(self._waiting) >= WAITING_MAX or self._size_bytes >= WAITING_MAX_BYTES:
            self.not_taken += 1
            return None
        taken = self._session.take(arrived, self._around.clock.now())
        done: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._put(taken, done, len(arrived.body))
        return done

    def tell(self, found: Sequence[Draft]) -> None:
        """Records that nobody waits for."""
        if found:
            self._put(Taken(drafts=list(found)), None, 0)

    def state(self, state: str, reason: str, address: str) -> None:
        """device.state of the broker or of a sender."""
        self.tell(self._session.state(state, reason, address, self._around.clock.now()))

    def show(self, state: LinkState, reason: str) -> None:
        """How the link is, for people; a full store comes first."""
        self._link = (state, reason)
        if not self.is_full:
            show(self._around, state, reason)

    def _put(self, taken: Taken, done: asyncio.Future[Taken] | None, size_bytes: int) -> None:
        self._waiting.append(_Waiting(taken, done, size_bytes))
        self._size_bytes += size_bytes
        self._wake.set()

    async def commit(self) -> None:
        """Store what waits, until `end`."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._round()
            if self._is_ending:
                return

    async def _round(self) -> None:
        """What waits goes into one commit, and only then is it done."""
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), ROUND_MAX))]
        found = [draft for one in batch for draft in one.taken.drafts]
        state = [change for one in batch for change in one.taken.state]
        marks = b"".join([one.taken.marks for one in batch])
        if marks:
            state.append(self._session.round(marks))
        if found or state:
            await self._append(found, state)
            self._around.status.last_seen_utc_ns = self._around.clock.now().utc_ns
        for one in batch:
            self._size_bytes -= one.size_bytes
            if one.done is not None and not one.done.done():
                one.done.set_result(one.taken)

    async def _append(self, found: Sequence[Draft], state: Sequence[StateChange]) -> None:
        while True:
            try:
                await self._around.sink.append(found, state)
                break
            except StoreFull as error:
                self.is_full = True
                show(self._around, "degraded", f"the store is full, nothing is answered: {error}")
            await asyncio.sleep(STORE_RETRY_S)
        if self.is_full:
            self.is_full = False
            self.show(*self._link)

    async def watch(self) -> None:
        """What was counted in silence is told; the watchdog is fed; people see counters."""
        while True:
            self._around.tick()
            self.tell(self._session.due(self._around.clock.now().mono_ns))
            self.count()
            await asyncio.sleep(TICK_S)

    def count(self) -> None:
        """Show the counters."""
        counters = self._around.status.counters
        counters.update(self._session.counts)
        counters["waiting"] = len(self._waiting)
        counters["not_taken"] = self.not_taken

    def end(self) -> None:
        """Nothing more comes: `commit` ends when everything is stored."""
        self.tell(self._session.close())
        self._is_ending = True
        self._wake.set()


async def run_mqtt(config: JsonMqttConfig, around: Surroundings, fraction: Fraction = random.random) -> None:
    """A json-mqtt source until stop. `fraction` gives numbers in [0, 1) for the back-off."""
    from drivers.io.feed_mqtt import Subscriber

    desk = await _desk(config, around)
    if desk is not None:
        client = (await _remembered(config.name, CLIENT_KEY, 6, around)).hex()
        subscriber = Subscriber(config, around, desk, f"fieldgate-{client}", BackOff(fraction))
        await _run(desk, around, subscriber.run)


async def run_http(config: JsonHttpConfig, around: Surroundings) -> None:
    """A json-http source until stop."""
    from drivers.io.feed_http import Listener

    desk = await _desk(config, around)
    if desk is not None:
        await _run(desk, around, Listener(config, around, desk).run)


async def _run(desk: Desk, around: Surroundings, work: Callable[[], Awaitable[None]]) -> None:
    """Until stop; then what was taken is stored, and answered by nobody: it comes again, and is known."""

    async def again() -> None:
        while True:
            try:
                await work()
            except ConfigError as error:  # a file or an address that cannot be used now
                desk.show("down", str(error))
            await asyncio.sleep(FILES_RETRY_S)

    async with asyncio.TaskGroup() as group:
        committer = group.create_task(desk.commit())
        others = [group.create_task(one) for one in (desk.watch(), again())]
        await around.stop.wait()
        for task in others:
            task.cancel()
        desk.end()
        await asyncio.wait([committer], timeout=LAST_COMMIT_S)
        committer.cancel()
    desk.count()


async def _desk(config: FeedConfig, around: Surroundings) -> Desk | None:
    """With an unusable profile the source is disabled, says so, and waits for the end."""
    try:
        loaded = load_feed(config.profile, around.profile_dirs)
    except ProfileError as error:
        show(around, "disabled", str(error))
        await _store(around, [drafts.disabled_draft(config.name, config.profile, str(error))], [])
        while not await surroundings.pause(around.stop, TICK_S):
            around.tick()
        return None
    secret = await _remembered(config.name, SECRET_KEY, SECRET_BYTES, around)
    return Desk(_session(config, loaded, secret, around), around)


def _session(config: FeedConfig, loaded: LoadedProfile[FeedProfile], secret: bytes, around: Surroundings) -> Session:
    profile = loaded.profile
    author = Author(config.name, config.device_class, loaded.ref, profile.period_s, bool(profile.time))
    feed = decode.compile(profile, loaded.ref)
    return Session(author, feed, secret, config.devices, around.memory.items(config.name))


async def _remembered(source: str, key: bytes, size_bytes: int, around: Surroundings) -> bytes:
    """Random bytes that stay the same for the life of this store."""
    found = around.memory.get(source, key)
    if found is None:
        found = os.urandom(size_bytes)
        await _store(around, [], [StateChange(source, key, found)])
    return found


async def _store(around: Surroundings, found: Sequence[Draft], state: Sequence[StateChange]) -> None:
    while True:
        try:
            await around.sink.append(found, state)
            return
        except StoreFull as error:
            show(around, "degraded", f"the store is full, nothing is taken: {error}")
        around.tick()
        await asyncio.sleep(STORE_RETRY_S)
