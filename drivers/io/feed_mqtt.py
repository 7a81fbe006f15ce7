"""Messages from an MQTT broker: subscribed with QoS 1, acknowledged after the commit.

aiomqtt gives no manual acknowledgement, the paho client inside it does: its messages come to us as they are, and PUBACK
goes out when the record is on disk. Until then the broker keeps a message and sends it again after a break, marked as
sent again (DUP). Beyond `inflight_max` unacknowledged ones it sends nothing (receive maximum of MQTT 5). What a
publisher sends with QoS 0 nobody keeps: it is stored if it arrives.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections import deque
from collections.abc import Awaitable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import aiomqtt
from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from drivers.io.feeds import Desk
from drivers.io.receiving import BackOff, pause
from drivers.io.surroundings import Surroundings
from drivers.jsonfeed.codec import BODY_MAX_BYTES
from drivers.jsonfeed.driver import Arrived, Taken
from gateway.config_sources import JsonMqttConfig
from gateway.core.errors import ConfigError, LinkError, Problem

TIMEOUT_S: Final = 10.0
KEEPALIVE_S: Final = 30
SESSION_S: Final = 7 * 86_400
"""How long the broker keeps what comes while we are away, as far as it has room."""
PACKET_MAX_BYTES: Final = 4 * BODY_MAX_BYTES
"""The broker sends nothing larger (MQTT 5)."""
PASSWORD_MAX_BYTES: Final = 4096
T = TypeVar("T")
REFUSED_FROM: Final = 128
"""Reason codes of SUBACK from here on are refusals."""


class Client(aiomqtt.Client):
    """An aiomqtt client that acknowledges when it is told to, loses no cancellation, and leaves no socket open."""

    def __init__(self, take: Any, *args: Any, **kwargs: Any) -> None:
        """`take` is called with every message of paho."""
        super().__init__(*args, **kwargs)
        self._client.manual_ack_set(True)
        self._client.on_message = lambda _client, _userdata, message: take(message)

    def acknowledge(self, message: MQTTMessage) -> None:
        """PUBACK. On a connection that is gone it goes nowhere, and the message comes again."""
        self._client.ack(message.mid, message.qos)

    async def __aenter__(self) -> Self:
        """Connect; a thread that is still at it when we are cancelled finds its socket closed."""
        try:
            return await super().__aenter__()
        except BaseException:
            self._drop()
            raise

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Disconnect, with a word to the broker where that is possible."""
        try:
            await super().__aexit__(exc_type, exc, tb)
        finally:
            self._drop()

    def _drop(self) -> None:
        self._client.on_socket_open = lambda _client, _userdata, sock: sock.close()
        if self._client.socket() is not None:
            self._client._sock_close()  # noqa: SLF001  paho gives no other way without a word to the broker

    async def _wait_for(self, fut: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109  as in aiomqtt
        """asyncio.wait_for of Python 3.11, which aiomqtt uses, loses a cancellation that comes with the result."""
        seconds = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                return await fut
        except TimeoutError:
            raise aiomqtt.MqttError("no answer in time") from None


class Subscriber:
    """One source."""

    def __init__(
        self, config: JsonMqttConfig, around: Surroundings, desk: Desk, identifier: str, back_off: BackOff
    ) -> None:
        self._config, self._around, self._desk = config, around, desk
        self._identifier, self._back_off = identifier, back_off
        self._unanswered: deque[tuple[MQTTMessage, asyncio.Future[Taken]]] = deque()
        self._arrived = asyncio.Event()
        self._lost_one = False
        self._state = ""

    async def run(self) -> None:
        """For ever. Raises ConfigError where a file cannot be used."""
        while True:
            try:
                async with self._connect() as client:
                    await self._subscribe(client)
                    self._tell("online", "")
                    self._desk.show("ok", "")
                    self._back_off.reset()
                    await self._work(client)
            except* (aiomqtt.MqttError, LinkError) as group:
                reason = f"{self._config.url}: {_first(group)}"
                self._tell("offline", reason)
                self._desk.show("down", reason)
            await pause(self._around, self._back_off.next_s())

    def _tell(self, state: str, reason: str) -> None:
        if state != self._state:
            self._state = state
            self._desk.state(state, reason, self._config.url)

    # ---------------------------------------------------------------------------------- connection

    def _connect(self) -> Client:
        config = self._config
        address = urlsplit(config.url)
        secure = address.scheme == "mqtts"
        asked: dict[str, Any] = {"clean_session": False, "protocol": aiomqtt.ProtocolVersion.V311}
        if config.protocol == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_S
            properties.ReceiveMaximum = config.inflight_max
            properties.MaximumPacketSize = PACKET_MAX_BYTES
            asked = {"clean_start": False, "protocol": aiomqtt.ProtocolVersion.V5, "properties": properties}
        self._unanswered.clear()
        self._lost_one = False
        return Client(
            self._take,
            address.hostname or "",
            address.port or (8883 if secure else 1883),
            username=config.username or None,
            password=_password(config),
            identifier=self._identifier,
            timeout=TIMEOUT_S,
            keepalive=KEEPALIVE_S,
            tls_context=_tls(config) if secure else None,
            **asked,
        )

    async def _subscribe(self, client: Client) -> None:
        for topic in self._config.topics:
            if self._config.protocol == "5":
                # what the broker had kept of a topic comes once, not after every break
                options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
                codes = await client.subscribe(topic, options=options)
            else:
                codes = await client.subscribe(topic, qos=1)
            for code in codes:
                if getattr(code, "value", code) >= REFUSED_FROM:
                    raise LinkError(f"the broker refuses the topic {topic}: {code}; check the rights of this user")

    async def _work(self, client: Client) -> None:
        """While the connection lasts. Ends with MqttError or LinkError."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_until_lost(client))
            group.create_task(self._answer(client))

    # ------------------------------------------------------------------------------------ messages

    def _take(self, message: MQTTMessage) -> None:
        """Called by paho in the event loop."""
        topic = message._topic.decode("utf-8", "replace")  # noqa: SLF001  `topic` raises for bytes that are not UTF-8
        levels = topic.split("/")
        level = self._config.device_level
        named = levels[level - 1] if 0 < level <= len(levels) else ""
        again = bool(message.dup or message.retain)
        arrived = Arrived(
            bytes(message.payload), topic, named or self._config.device, again, retained=bool(message.retain)
        )
        done = self._desk.take(arrived)
        if done is None:
            self._lost_one = message.qos > 0 or self._lost_one
            self._arrived.set()
            return
        self._unanswered.append((message, done))
        self._arrived.set()

    async def _answer(self, client: Client) -> None:
        """Acknowledge in the order in which messages came: MQTT asks for it."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._unanswered:
                message, done = self._unanswered[0]
                await done
                self._unanswered.popleft()
                if message.qos > 0:
                    client.acknowledge(message)
            if self._lost_one:
                raise LinkError("the broker sent more than was asked for; what was not taken comes again")


async def _until_lost(client: Client) -> None:
    """Nothing comes here; the iterator ends with MqttError when the connection does."""
    async for _ in client.messages:
        continue


def _first(group: BaseExceptionGroup[Any]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _tls(config: JsonMqttConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.ca_file or None)
        if config.certificate_file:
            context.load_cert_chain(config.certificate_file, config.key_file)
    except (OSError, ssl.SSLError) as error:
        files = " ".join(filter(None, (config.ca_file, config.certificate_file, config.key_file)))
        text = f"not usable for TLS ({getattr(error, 'strerror', None) or error}); expected PEM"
        raise ConfigError([Problem(files or config.url, 0, "ca_file", text)]) from None
    return context


def _password(config: JsonMqttConfig) -> str | None:
    if not config.password_file:
        return None
    try:
        with Path(config.password_file).open("rb") as file:
            return file.read(PASSWORD_MAX_BYTES).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        text = f"cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}"
        raise ConfigError([Problem(config.password_file, 0, "password_file", text)]) from None
