"""The live channel over MQTT 5: connects, publishes what the queue says, comes back after a break. WIRE.md has topics.

aiomqtt does not reconnect, and what is in flight dies with its client, so every connection is a new client and the
queue is ours. A broker that swallows everything shows by a publish that is not acknowledged within TIMEOUT_S, one that
does not take a message (no right to the topic, quota) by the reason code of its acknowledgement.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlsplit

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway import log
from gateway.config import Config, LiveConfig
from gateway.core.errors import ConfigError, Problem
from gateway.core.ports import Clock, LiveItem, LiveStatus
from uplink import topics
from uplink.https_client import tls_context
from uplink.live_queue import LiveQueue
from uplink.pacing import Backoff

T = TypeVar("T")

TIMEOUT_S: Final = 10.0
KEEPALIVE_S: Final = 30
RETRY_MIN_S: Final = 1.0
RETRY_MAX_S: Final = 120.0
STEADY_S: Final = 30.0
"""Only a connection that held for so long makes the next attempt early: a broker that lets us in and refuses what we
say, or two gateways with one identifier, would else go on at once for ever."""
TICK_S: Final = 2.0
NEWEST_AT_ONCE: Final = 200
"""Positions and states published before findings are looked for again."""
CHANGES_AT_ONCE: Final = 100_000
"""More than a board holds."""
GOODBYE_S: Final = 2.0
PAUSE_S: Final = 0.2
"""Between two rounds: what changes several times within it goes out once."""
POSITION_EXPIRY_S: Final = 3600
"""A retained position is forgotten by the broker after this."""
PASSWORD_MAX_BYTES: Final = 4096
UNSPECIFIED: Final = 128
"""Reason code that paho makes up where the broker gave none."""
LOST: Final = "the connection was lost"
_REFUSALS: Final = frozenset({134, 135, 140})
"""CONNACK reason codes: bad user name or password, not authorised, bad authentication method."""


class Board(Protocol):
    """What is published (gateway.live)."""

    def changes(self, after: int, limit: int) -> list[LiveItem]: ...
    async def wait(self, after: int) -> None: ...


class RefusedError(aiomqtt.MqttError):
    """The broker acknowledged a message with a reason why it did not take it."""


class Client(aiomqtt.Client):
    """Keeps what aiomqtt drops: the reason code of an acknowledgement, and a cancellation that comes with it."""

    refusal: ReasonCode | None = None

    def _on_publish(
        self, client: Any, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        if reason_code.is_failure:
            self.refusal = reason_code
        super()._on_publish(client, userdata, mid, reason_code, properties)

    async def _wait_for(self, fut: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109  aiomqtt's signature
        """In Python 3.11 `asyncio.wait_for` swallows a cancellation in the moment in which the wait is over anyway: the
        channel would go on, and hold up the end of the process."""
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout):
                return await fut
        except TimeoutError:
            raise aiomqtt.MqttError("Operation timed out") from None

    async def deliver(self, topic: str, payload: bytes, *, retain: bool, properties: Properties | None = None) -> None:
        """Publish with QoS 1. Raises RefusedError where the broker does not take it, or another one meanwhile."""
        await self.publish(topic, payload, qos=1, retain=retain, properties=properties)
        if self.refusal is not None:
            raise RefusedError(f"the broker does not take {topic}: {self.refusal}")


async def run_live(
    config: Config,
    board: Board,
    clock: Clock,
    *,
    tick: Callable[[], None],
    fraction: Callable[[], float],
    status: LiveStatus,
) -> None:
    """Publish for ever. `fraction` draws jitter, 0 <= f < 1. Raises ConfigError for files that cannot be read."""
    await Channel(config, board, clock, tick, fraction, status).run()


class Channel:
    """One broker."""

    def __init__(
        self,
        config: Config,
        board: Board,
        clock: Clock,
        tick: Callable[[], None],
        fraction: Callable[[], float],
        status: LiveStatus,
    ) -> None:
        self._live = config.live
        self._gateway_id = config.gateway.id
        self._board = board
        self._clock = clock
        self._tick = tick
        self._fraction = fraction
        self._status = status
        self._log = log.get("live")
        self._queue = LiveQueue(findings_max=config.live.queue_max, include_process=config.live.include_process)

    async def run(self) -> None:
        """See run_live."""
        self._tell("starting", "")
        backoff = Backoff(RETRY_MIN_S, RETRY_MAX_S)
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with self._client() as client:
                    await self._session(client, backoff)
            except* aiomqtt.MqttError as group:
                refused, reason = _why(group, self._live.url)
                self._tell("refused" if refused else "unreachable", reason)
            until_s = backoff.failed(loop.time(), self._fraction())
            while (left_s := until_s - loop.time()) > 0:
                self._take()
                self._tick()
                await asyncio.sleep(min(left_s, TICK_S))

    def _client(self) -> Client:
        live = self._live
        address = urlsplit(live.url)
        secure = address.scheme == "mqtts"
        return Client(
            address.hostname or "",
            address.port or (8883 if secure else 1883),
            username=live.username or None,
            password=_password(live),
            identifier=f"fieldgate-{self._gateway_id}",
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            will=aiomqtt.Will(self._status_topic, topics.OFFLINE, qos=1, retain=True),
            timeout=TIMEOUT_S,
            keepalive=KEEPALIVE_S,
            tls_context=_tls(live) if secure else None,
        )

    @property
    def _status_topic(self) -> str:
        return topics.status_topic(self._live.topic_prefix, self._gateway_id)

    async def _session(self, client: Client, backoff: Backoff) -> None:
        """While the connection lasts. Ends with MqttError."""
        steady_s = asyncio.get_running_loop().time() + STEADY_S
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_until_lost(client))
                group.create_task(self._pump(client))
        except asyncio.CancelledError:
            await self._say_goodbye(client)
            raise
        except ExceptionGroup as errors:
            if errors.subgroup(RefusedError) is not None:
                await self._say_goodbye(client)
            raise
        finally:
            if asyncio.get_running_loop().time() >= steady_s:
                backoff.worked()

    async def _say_goodbye(self, client: Client) -> None:
        """A proper end of the connection makes the broker drop the will, so we say ourselves that we are gone."""
        with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await client.publish(self._status_topic, topics.OFFLINE, qos=1, retain=True)

    async def _pump(self, client: Client) -> None:
        await client.deliver(self._status_topic, topics.ONLINE, retain=True)
        self._queue.connected(self._board.changes(0, CHANGES_AT_ONCE))
        self._tell("ok", self._status.reason)
        while True:
            self._tick()
            self._take()
            findings = self._queue.findings()
            if findings:
                async with asyncio.TaskGroup() as group:
                    for item in findings:
                        group.create_task(self._publish_finding(client, item))
            for item in self._queue.newest(NEWEST_AT_ONCE):
                await self._publish(client, item)
            if not len(self._queue):
                await _pause(self._board.wait(self._queue.version), TICK_S)
            await asyncio.sleep(PAUSE_S)

    async def _publish_finding(self, client: Client, item: LiveItem) -> None:
        await self._publish(client, item)
        self._queue.acknowledged(item)

    async def _publish(self, client: Client, item: LiveItem) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = "application/json"
        properties.PayloadFormatIndicator = 1
        properties.UserProperty = [("seq", str(item.values.get("seq", "")))]
        topic, payload = topics.topic_of(self._live.topic_prefix, self._gateway_id, item), topics.payload_of(item)
        if item.topic == "finding":
            await client.deliver(topic, payload, retain=False, properties=properties)
        else:
            properties.MessageExpiryInterval = POSITION_EXPIRY_S
            await client.publish(topic, payload, qos=0, retain=True, properties=properties)
        self._status.published += 1

    def _take(self) -> None:
        """Bring the queue up to the board; also while the broker is away, so that findings wait here in order."""
        self._queue.offer(self._board.changes(self._queue.version, CHANGES_AT_ONCE))
        self._status.dropped = self._queue.dropped

    def _tell(self, state: str, reason: str) -> None:
        if state != self._status.state:
            self._status.since_utc_ns = self._clock.now().utc_ns
            tell = self._log.info if state in ("starting", "ok") else self._log.warning
            tell("live_" + state, key=state, url=self._live.url, reason="" if state == "ok" else reason)
        self._status.state, self._status.reason = state, reason  # type: ignore[assignment]


async def _until_lost(client: aiomqtt.Client) -> None:
    """Nothing is subscribed; the iterator ends with MqttError when the connection does."""
    async for _ in client.messages:
        continue


async def _pause(work: asyncio.Future[None] | object, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await work  # type: ignore[misc]
    except TimeoutError:
        return


def _why(group: BaseExceptionGroup, url: str) -> tuple[bool, str]:
    """(refused for good until somebody changes something, one line)."""
    error = group.exceptions[0]
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, aiomqtt.MqttError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why the connection was lost, not what we were doing
    code = getattr(error, "rc", None)
    value = getattr(code, "value", code)
    refused = isinstance(error, RefusedError) or (isinstance(value, int) and value in _REFUSALS)
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    text = LOST if value == UNSPECIFIED else text
    to_do = "; check user name, password and certificate, and its rights at the broker" if refused else ""
    return refused, f"{url}: {text}{to_do}"


def _tls(live: LiveConfig) -> ssl.SSLContext:
    try:
        return tls_context(live.ca_file, live.certificate_file, live.key_file)
    except (OSError, ssl.SSLError) as error:
        files = " ".join(filter(None, (live.ca_file, live.certificate_file, live.key_file)))
        text = f"not usable for TLS ({getattr(error, 'strerror', None) or error}); expected PEM"
        raise ConfigError([Problem(files or "live", 0, "live.ca_file", text)]) from None


def _password(live: LiveConfig) -> str | None:
    if not live.password_file:
        return None
    try:
        with Path(live.password_file).open("rb") as file:
            return file.read(PASSWORD_MAX_BYTES).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        text = f"cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}"
        raise ConfigError([Problem(live.password_file, 0, "live.password_file", text)]) from None
