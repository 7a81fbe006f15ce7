"""A real mosquitto of a test's own, and an independent subscriber (paho, its own thread)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

LIMIT_S = 10


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


class Broker:
    """mosquitto on 127.0.0.1; it can be killed and started again on the same port."""

    def __init__(self, folder: Path, *lines: str) -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        if program is None:
            pytest.skip("mosquitto is not installed: apt-get install mosquitto")
        self.program = program
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        auth = [] if any("password_file" in line for line in lines) else ["allow_anonymous true"]
        text = ["user root", f"listener {self.port} 127.0.0.1", *lines, *auth, "persistence false", "log_type all"]
        self.config.write_text("\n".join(text) + "\n")
        self.log = (folder / "mosquitto.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        command = [self.program, "-c", str(self.config)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        end_s = time.monotonic() + LIMIT_S
        while time.monotonic() < end_s:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            assert self.process.poll() is None, Path(self.log.name).read_text()
            threading.Event().wait(0.02)
        raise AssertionError("mosquitto does not listen")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(LIMIT_S)
            self.process = None

    def close(self) -> None:
        self.kill()
        self.log.close()

    def received(self) -> list[str]:
        """Topics of everything that a gateway has published here, in order, over all runs."""
        return re.findall(r"Received PUBLISH from fieldgate-\S+ \([^']*'([^']*)'", Path(self.log.name).read_text())

    def connections(self) -> int:
        """How often a client tried to log in."""
        return Path(self.log.name).read_text().count("New connection from")


class Subscriber:
    """Keeps everything that is published below a topic; connects again by itself."""

    def __init__(self, port: int, topic: str = "#", **tls: Any) -> None:
        self.messages: list[tuple[str, Any, bool, int]] = []
        self._change = threading.Condition()
        self._subscribed = 0
        self._topic = topic
        self.client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = self._on_message
        if tls:
            self.client.tls_set(**tls)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def __enter__(self) -> Self:
        self.until(lambda: self._subscribed > 0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_connect(self, client: Client, *_: Any) -> None:
        client.subscribe(self._topic, qos=1)

    def _on_subscribe(self, *_: Any) -> None:
        with self._change:
            self._subscribed += 1
            self._change.notify_all()

    def _on_message(self, _client: Client, _user: Any, message: MQTTMessage) -> None:
        with self._change:
            self.messages.append((message.topic, json.loads(message.payload), message.retain, message.qos))
            self._change.notify_all()

    def until(self, condition: Any) -> None:
        with self._change:
            assert self._change.wait_for(condition, LIMIT_S), self.messages[-20:]

    async def wait(self, condition: Any) -> None:
        await asyncio.to_thread(self.until, condition)

    def on(self, topic: str) -> list[Any]:
        """Payloads of a topic, in order."""
        return [payload for name, payload, _, _ in self.messages if name == topic]


@contextlib.contextmanager
def broker(folder: Path, *lines: str) -> Iterator[Broker]:
    made = Broker(folder, *lines)
    try:
        yield made.start()
    finally:
        made.close()
