"""sd_notify over a real datagram socket."""

import os
import socket
from pathlib import Path

import pytest

from gateway.notify import notify, watchdog_interval_s


@pytest.mark.parametrize("abstract", [False, True])
def test_a_state_arrives(tmp_path: Path, abstract: bool) -> None:
    path = str(tmp_path / "notify")
    name = f"@fieldgate-test-{os.getpid()}" if abstract else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name[1:] if abstract else path)
        systemd.settimeout(5)
        assert notify("READY=1", {"NOTIFY_SOCKET": name})
        assert systemd.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", [None, "", "vsock:2:1", "/nonexistent/notify"])
def test_without_a_listener_it_says_so(address: str | None) -> None:
    assert not notify("READY=1", {} if address is None else {"NOTIFY_SOCKET": address})


def test_a_full_socket_does_not_block(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        sent = [notify("WATCHDOG=1", {"NOTIFY_SOCKET": path}) for _ in range(5000)]
        assert sent[0]
        assert not sent[-1]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval(environ: dict[str, str], expected: float | None) -> None:
    assert watchdog_interval_s(environ, pid=42) == expected
