"""Muck trucks: frames per CPU-second through the whole daemon, acknowledgement times, memory, nothing lost by kill -9.

The daemon runs as it does on a box: TCP in, decode, commit with fsync, acknowledgement, and beside that the rules with
20 fences and a corridor of 200 segments for every truck, until all that was sent is judged. The yardstick is a bare
asyncio echo of the same frames from the same client in the same run. CPU is the server's, all threads.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figure import Figure, at_least, at_most
from tests.bench.load import phone, place_e6

TERMINALS = 500
FRAMES = 100
PAIRS = 3
SEGMENTS = 200
FENCES = 20
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def run() -> Iterator[Figure]:
    """All figures of DESIGN.md's lines for trackers."""
    with tempfile.TemporaryDirectory(prefix="fieldgate-bench-") as name:
        yield from throughput(Path(name))
    with tempfile.TemporaryDirectory(prefix="fieldgate-bench-") as name:
        yield from latency(Path(name))
    with tempfile.TemporaryDirectory(prefix="fieldgate-bench-") as name:
        yield from silent(Path(name))
    with tempfile.TemporaryDirectory(prefix="fieldgate-bench-") as name:
        yield from killed(Path(name))


# --------------------------------------------------------------------------------------------- figures


def throughput(base: Path) -> Iterator[Figure]:
    """500 connections, each with one frame unanswered at a time, against an echo of the same frames."""
    ours: list[float] = []
    ratios: list[float] = []
    with daemon(base, TERMINALS) as box:
        for _ in range(PAIRS):
            with echo() as bare:
                theirs = per_cpu_second(bare)
            mine = per_cpu_second(box)
            ours.append(mine)
            ratios.append(mine / theirs)
    rate = statistics.median(ours)
    spread = f"{min(ours):,.0f} to {max(ours):,.0f}; {TERMINALS} connections, 1 frame in flight each, judged to the end"
    yield at_least("tracker frames per CPU-second, rules and fsync", rate, 12_000, "/s", spread)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}, {PAIRS} pairs"
    yield at_least("the same / bare asyncio echo of the same frames", statistics.median(ratios), 0.35, "x", spread)


def latency(base: Path) -> Iterator[Figure]:
    """700 terminals at 1 Hz for 20 s; 60 routes among them, as 16 firms have."""
    with daemon(base, 700, routes=60) as box:
        before = cpu_s(box.pid)
        result = load(box.port, "--connections", "700", "--frames", "20", "--period", "1")
        share = (cpu_s(box.pid) - before) / float(result["seconds"])
        memory_mb = resident_mb(box.pid)
    detail = f"median {1000 * float(result['p50_s']):.0f} ms; {share:.0%} of a core"
    yield at_most(
        "frame -> acknowledgement, 700 terminals at 1 Hz, p99", 1000 * float(result["p99_s"]), 150, "ms", detail
    )
    yield at_most("resident memory, 700 trucks connected and judged", memory_mb, 80, "MB", "VmRSS of the daemon")


def silent(base: Path) -> Iterator[Figure]:
    """5,000 connections that say nothing but who they are."""
    with daemon(base, 5000, routes=60) as box:
        idle_mb = resident_mb(box.pid)
        words = [sys.executable, "-m", "tests.bench.load", str(box.port), "--connections", "5000", "--frames", "0"]
        with subprocess.Popen([*words, "--hold", "600"], stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "ready\n", "5,000 terminals could not connect"
            memory_mb = resident_mb(box.pid)
            client.kill()
    each = 1000 * (memory_mb - idle_mb) / 5000
    yield Figure("resident memory, 5,000 terminals connected", memory_mb, "MB", detail=f"{each:.1f} kB each")


def killed(base: Path) -> Iterator[Figure]:
    """kill -9 in the middle of full load, five times; every acknowledged frame must be in the store, once."""
    acknowledged = stored = twice = 0  # a terminal sends in order: as many as were acknowledged must be there
    for round_ in range(5):
        folder = base / str(round_)
        folder.mkdir()
        with daemon(folder, 100) as box:
            words = [sys.executable, "-m", "tests.bench.load", str(box.port), "--connections", "100", "--frames", "400"]
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as client:
                assert client.stdout is not None
                assert client.stdout.readline() == "ready\n"
                time.sleep(0.3 + 0.1 * round_)  # anywhere in the middle
                os.kill(box.pid, signal.SIGKILL)
                result = json.loads(client.stdout.readline())
        acknowledged += int(result["frames"])
        fixes = stored_fixes(folder / "s")
        stored += len(fixes)
        twice += len(fixes) - len(set(fixes))
    detail = f"{acknowledged:,} acknowledged, {stored:,} stored, {twice} twice, 5 kills"
    yield at_most("acknowledged fixes lost by kill -9", max(0, acknowledged - stored), 0, "", detail)
    yield at_most("fixes stored twice", twice, 0, "", detail)


# ---------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True, slots=True)
class Server:
    """A process that answers on a port."""

    pid: int
    port: int
    state: Path | None = None


def per_cpu_second(server: Server) -> float:
    """Frames that were answered (and judged) for each second of the server's CPU."""
    before = cpu_s(server.pid)
    result = load(server.port, "--connections", str(TERMINALS), "--frames", str(FRAMES), "--window", "1")
    if server.state is not None:
        wait_until_judged(server.state)
    return float(result["frames"]) / (cpu_s(server.pid) - before)


def load(port: int, *options: str) -> dict[str, float]:
    """One run of tests.bench.load."""
    words = [sys.executable, "-m", "tests.bench.load", str(port), *options]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, timeout=300)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def cpu_s(pid: int) -> float:
    """User and system time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def resident_mb(pid: int) -> float:
    """VmRSS."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1000


def wait_until_judged(state: Path) -> None:
    """Until the judge has passed over everything in the journal; its CPU belongs to the figure."""
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s:
        if backlog_of(state) == 0:
            return
        time.sleep(0.05)
    raise AssertionError("the judge did not come to the end of the journal in 120 s")


def backlog_of(state: Path) -> int:
    """`gateway_judge_backlog_records` of /metrics, over the local socket."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(state / "run" / "api.sock"))
        link.sendall(b"GET /metrics HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: link.recv(65_536), b""))
    for line in answer.decode().splitlines():
        if line.startswith("gateway_judge_backlog_records "):
            return int(float(line.split()[1]))
    raise AssertionError("no gateway_judge_backlog_records in /metrics")


def stored_fixes(state: Path) -> list[tuple[str, int]]:
    """(device, device time) of every position record, read from the store as it lies there after the kill."""
    with sqlite3.connect(f"file:{next(state.glob('*.db'))}?mode=ro", uri=True) as conn:
        leaves = [json.loads(leaf) for (leaf,) in conn.execute("SELECT leaf FROM record")]
    return [(leaf["device"], leaf["data"]["time_utc_s"]) for leaf in leaves if leaf["kind"] == "position"]


# ----------------------------------------------------------------------------------------- processes


@contextmanager
def echo() -> Iterator[Server]:
    """tests.bench.echo while the block lasts."""
    words = [sys.executable, "-m", "tests.bench.echo"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Server(process.pid, int(process.stdout.readline()))
        finally:
            process.kill()


@contextmanager
def daemon(base: Path, terminals: int, routes: int = TERMINALS) -> Iterator[Server]:
    """The gateway with one jt808 source, its devices and rules, while the block lasts."""
    port = free_port()
    words = [sys.executable, "-m", "gateway.cli"]
    config = base / "fieldgate.toml"
    made = [*words, "init", "--id", "gw-bench", "--config", str(config), "--dir", str(base / "s")]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
    write_devices(base / "devices.toml", terminals)
    (base / "rules").mkdir()
    write_rules(base / "rules", min(terminals, 700), routes)
    config.write_text(config.read_text().replace('# path = "rules"', 'path = "rules"'))
    with config.open("a") as file:
        file.write(
            f'\n[[source]]\ntype = "jt808"\nname = "trucks"\nlisten = "127.0.0.1:{port}"\n'
            'devices_file = "devices.toml"\nconnections_per_address_max = 10000\nsilent_s = 600.0\n'
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, (base / "log").open("w") as log:
        told.bind(str(base / "notify"))
        told.settimeout(60)
        environment = {**os.environ, "NOTIFY_SOCKET": str(base / "notify")}
        with subprocess.Popen([*words, "run", str(config)], env=environment, stderr=log) as process:
            try:
                while told.recv(4096) != b"READY=1":
                    continue
                wait_for_port(port)
                yield Server(process.pid, port, base / "s")
            finally:
                process.kill()


def free_port() -> int:
    """A port that nobody uses just now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Until somebody listens."""
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the source does not listen")


def write_devices(path: Path, count: int) -> None:
    """So many trucks that need no authentication."""
    rows = ['format = "devices/v1"\n\n[[class]]\nid = "muck-truck"\ntitle = "渣土车"\n']
    rows += [
        f'[[device]]\nid = "{phone(n)}"\nclass = "muck-truck"\nplate = "浙F{n:05}"\nfirm = "firm"\ncode = "*"\n'
        for n in range(count)
    ]
    path.write_text("\n".join(rows))


def write_rules(folder: Path, count: int, routes: int = TERMINALS) -> None:
    """A permit for every truck, so many corridors of 200 segments, 20 fences for all."""
    features = []
    for n in range(FENCES):
        lat, lon = 30.7005 + 0.005 * n, 121.002 + 0.0018 * n
        ring = [[lon, lat], [lon + 0.001, lat], [lon + 0.001, lat + 0.001], [lon, lat + 0.001], [lon, lat]]
        kind = ("site", "ground", "zone", "no-entry")[n % 4]
        properties: dict[str, object] = {"id": f"place-{n}", "kind": kind, "name": f"place {n}"}
        if kind == "zone":
            properties["speed_kmh"] = 70
        features.append(_feature(properties, "Polygon", [[[round(x, 6), round(y, 6)] for x, y in ring]]))
    _write_features(folder / "places.geojson", features)
    for first in range(0, routes, 100):
        features = []
        for n in range(first, min(first + 100, routes)):
            lat = place_e6(n, 0)[0]
            line = [[(120_999_000 + 210 * k) / 1e6, (lat + (-1) ** k * 40) / 1e6] for k in range(SEGMENTS + 1)]
            features.append(_feature({"id": f"route-{n}", "kind": "route", "name": f"street {n}"}, "LineString", line))
        _write_features(folder / f"routes-{first}.geojson", features)
    permits = ['format = "permits/v1"\n']
    permits += [
        f'[[permit]]\nnumber = "permit-{n}"\nfirm = "firm"\nvehicles = ["浙F{n:05}"]\nroute = "route-{n % routes}"\n'
        f'width_m = 50\nsites = ["place-0"]\ngrounds = ["place-1"]\nvalid_from = 2020-01-01\nvalid_to = 2099-12-31\n'
        for n in range(count)
    ]
    (folder / "permits.toml").write_text("\n".join(permits))
    sourced = ("off_route", "hours", "speeding", "fence", "dumping", "uncovered", "offline")
    sources = dict.fromkeys(sourced, 'source = "bench"\n')
    tables = [f"[{name}]\n{sources.get(name, '')}" for name in (*sources, "stop", "frozen_gnss", "mileage", "jump")]
    head = 'format = "rules/v1"\nid = "bench"\ntitle = "bench"\nvalid_from = 2020-01-01\nclasses = ["muck-truck"]\n\n'
    (folder / "rules.toml").write_text(head + "\n".join(tables))


def _feature(properties: dict[str, object], kind: str, coordinates: object) -> dict[str, object]:
    return {"type": "Feature", "properties": properties, "geometry": {"type": kind, "coordinates": coordinates}}


def _write_features(path: Path, features: list[dict[str, object]]) -> None:
    collection = {"type": "FeatureCollection", "datum": "WGS-84", "features": features}
    path.write_text(json.dumps(collection, separators=(",", ":")))
