"""The embedded main job on one machine: simulated stations, this gateway, the reference platform, all on loopback.

The same code as on a box: `fieldgate init`, enrolment over TLS, the daemon, uploads, receipts, a pull over the API.
Only the station is simulated, and the time-stamping authority is the platform's test one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import uvicorn

from drivers.bodycam.simulator import StationSimulator, Written, listing_app
from gateway import config as configuration
from gateway import enrolment, findings, log, setup
from gateway.app import Gateway
from gateway.clock import SYSTEM
from gateway.core import kinds
from gateway.core.record import parse_leaf
from gateway.demo_kitchens import Street
from gateway.demo_trucks import Yard
from gateway.language import say
from gateway.offline import open_store
from uplink import enrol_client, pull_client
from uplink.platform.config import PlatformConfig
from uplink.platform.platform import Platform, init_platform
from uplink.platform.server import run_platform

GATEWAY_ID: Final = "gw-demo"
SEED: Final = 20261122
SETTLE_LIMIT_S: Final = 60.0
"""How long after the end of the docking everything may take to be receipted."""
POLL_S: Final = 0.25
CA_NAME: Final = "ca.pem"
SHOWN_RULE: Final = "off-route"
"""Of this finding the demo writes the bundle and the page."""
API_TOKEN: Final = "demo-" + "0" * 27

CONFIGURATION: Final = """\
[gateway]
id = {id}
name = "demo"
[storage]
state_dir = {state}
reserve_bytes = 67108864
[keys]
key_file = {key}
certificate_file = {certificate}
ca_file = {ca}
crl_file = {crl}
[time]
tsa_url = {tsa}
tsa_ca_file = {tsa_ca}
[seal]
max_age_s = 2
[uplink]
url = {url}
ca_file = {ca}
token_file = {token}
stamp_grace_s = 2
[api]
listen = "127.0.0.1:0"
certificate_file = {api_certificate}
key_file = {api_key}
token_file = {api_token}
{sources}
"""


@dataclass(slots=True)
class Demo:
    """One run. Everything lies below `folder`, which goes away at the end; `kept` stays."""

    folder: Path
    kept: Path
    for_s: float | None
    station: Path | None
    talk: bool
    """Tell a person what happens."""
    simulators: list[StationSimulator] = field(default_factory=list)
    yard: Yard | None = None
    """The trucks; None where a folder of the user's is read."""
    street: Street | None = None
    """The restaurants, likewise."""

    def tell(self, english: str, chinese: str) -> None:
        """One line for the person who watches."""
        if self.talk:
            sys.stdout.write(say(english, chinese) + "\n")
            sys.stdout.flush()

    # ------------------------------------------------------------ setting up

    def platform_config(self) -> PlatformConfig:
        """A platform on loopback with the test time-stamping authority."""
        return PlatformConfig(
            data_dir=str(self.folder / "platform"),
            listen="127.0.0.1:0",
            name="Fieldgate demo platform",
            open_reading=True,
            tsa=True,
            reserve_bytes=67_108_864,
        )

    async def make_gateway(self, platform: Platform, url: str, sources: str) -> tuple[Gateway, Path]:
        """What an installer does: init, configuration, enrolment."""
        box = self.folder / "box"
        config_file, keys = box / "fieldgate.toml", box / "state" / "keys"
        setup.init(box / "init.toml", GATEWAY_ID, box / "state")
        certificate, key = platform.authority.issue_server(["127.0.0.1", "localhost"], utc_now())
        enrolment.keep(box / "api.token", API_TOKEN.encode() + b"\n", enrolment.PRIVATE_FILE)
        values = {
            "id": GATEWAY_ID,
            "state": str(box / "state"),
            "key": str(keys / setup.KEY_NAME),
            "certificate": str(keys / "gateway.pem"),
            "ca": str(keys / "ca.pem"),
            "crl": str(keys / "crl.pem"),
            "tsa": url + "/tsa",
            "tsa_ca": str(keys / "tsa-ca.pem"),
            "url": url,
            "token": str(keys / "platform.token"),
            "api_certificate": str(certificate),
            "api_key": str(key),
            "api_token": str(box / "api.token"),
        }
        quoted = {name: json.dumps(value) for name, value in values.items()}
        config_file.write_text(CONFIGURATION.format(**quoted, sources=sources))
        enrolment.keep(keys / "ca.pem", platform.authority.ca_pem.encode(), enrolment.PUBLIC_FILE)
        config = configuration.load(config_file)
        given = await enrol_client.enrol(
            url,
            GATEWAY_ID,
            enrolment.request_of(config),
            platform.new_enrolment_token(GATEWAY_ID),
            config.uplink.ca_file,
        )
        enrolment.keep_all(config, given)
        return Gateway.open(config), config_file

    @contextlib.asynccontextmanager
    async def stations(self, stop: asyncio.Event) -> Any:
        """The sources as configuration text; simulated ones write until `stop` is set."""
        if self.station is not None:
            yield _source(
                "station-1", {"type": "station-folder", "path": str(self.station.absolute()), "profile": "dsj"}
            )
            return
        folder, listing = self.folder / "station-1", self.folder / "station-2"
        self.simulators = [StationSimulator(folder, SEED), StationSimulator(listing, SEED + 1)]
        folder.mkdir()
        listing.mkdir()
        server = _QuietServer(uvicorn.Config(listing_app(listing), log_config=None, lifespan="off"))
        async with asyncio.TaskGroup() as group:
            with socket.create_server(("127.0.0.1", 0)) as bound:
                port = bound.getsockname()[1]
                serving = group.create_task(server.serve(sockets=[bound]))
                for simulator in self.simulators:
                    group.create_task(simulator.run(stop))
                self.yard = await asyncio.to_thread(
                    Yard.prepare, self.folder / "yard", int(utc_now().timestamp()), self.for_s
                )
                self.street = await asyncio.to_thread(
                    Street.prepare,
                    self.folder / "street",
                    self.folder / "yard" / "rules",
                    int(utc_now().timestamp()),
                    self.for_s,
                )
                yield (
                    self.yard.configuration()
                    + self.street.configuration()
                    + _source("station-1", {"type": "station-folder", "path": str(folder), "profile": "gat947"})
                    + _source(
                        "station-2",
                        {"type": "station-http", "url": f"http://127.0.0.1:{port}", "profile": "jingyi"},
                    )
                )
                stop.set()
                server.should_exit = True
                await serving

    # ------------------------------------------------------------ watching

    async def narrate(self, gateway: Gateway) -> None:
        """Tell what the log gains, until cancelled."""
        seen = gateway.reader.next_seq()
        told_batch = told_receipt = 0
        while True:
            for seq, leaf in gateway.reader.records(kind="station.file", after=seen - 1, limit=200):
                record = json.loads(leaf)
                name = record["artifacts"][0]["name"] if record["artifacts"] else "?"
                size = record["artifacts"][0]["size_bytes"] if record["artifacts"] else 0
                self.tell(
                    f"  {record['source']}  record {seq}  {name}  {size:,} bytes",
                    f"  {record['source']}  记录 {seq}  {name}  {size:,} 字节",
                )
                seen = seq + 1
            for row in gateway.reader.batches(told_batch, 100):
                self.tell(
                    f"  sealed    batch {row.n}: {row.end - row.first} records, {row.artifact_count} files",
                    f"  封存      第 {row.n} 批：{row.end - row.first} 条记录，{row.artifact_count} 个文件",
                )
                told_batch = row.n
            for row in gateway.reader.batches(told_receipt, 100):
                if not row.complete:
                    break
                stamped = say("stamped", "已加时间戳") if row.tsr else say("not stamped", "未加时间戳")
                self.tell(
                    f"  receipted batch {row.n}: the platform holds everything in it, {stamped}",
                    f"  回执      第 {row.n} 批：平台已核验全部文件，{stamped}",
                )
                told_receipt = row.n
            await asyncio.sleep(POLL_S)

    async def truth(self) -> list[Written]:
        """Every file that must arrive."""
        if self.station is not None:
            return await asyncio.to_thread(_hash_folder, self.station)
        return [item for simulator in self.simulators for item in simulator.truth]

    async def settle(self, gateway: Gateway, platform: Platform, wanted: list[Written]) -> int:
        """Wait until every file is at the platform and every batch is receipted and stamped; files still missing."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + SETTLE_LIMIT_S
        while True:
            missing = [item for item in wanted if not platform.evidence.artifact_path(GATEWAY_ID, item.sha256).exists()]
            backlog, pending = gateway.outbox.backlog(), gateway.seals.pending()
            rest = backlog.items + backlog.unstamped + (pending.oldest_evidence_utc_ns is not None)
            if (not missing and not rest) or loop.time() > end_s:
                return len(missing)
            await asyncio.sleep(POLL_S)

    async def pull_one(self, gateway: Gateway) -> tuple[Path | None, bool]:
        """Pull the newest batch with files over the API and verify it: (where it is, verified)."""
        rows = [row for row in gateway.reader.batches(0, 10_000) if row.artifact_count and row.complete]
        if not rows:
            return None, False
        url = next(address for address in gateway.addresses if address.startswith("https:"))
        config = gateway.config
        access = pull_client.Access(url, ca_file=config.keys.ca_file, token=API_TOKEN)
        pulled = await pull_client.pull(
            access, self.kept, now=utc_now(), after=rows[-1].n - 1, limit=1, trust=gateway.trust
        )
        report = pulled[0].report
        shutil.copy(config.keys.ca_file, self.kept / CA_NAME)
        return pulled[0].path, report is not None and report.ok

    # ------------------------------------------------------------ the whole

    async def run(self) -> dict[str, Any]:
        """Run everything; the result as `fieldgate demo --json` prints it."""
        init_platform(self.platform_config())
        stop_platform, stop_stations = asyncio.Event(), asyncio.Event()
        url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        with Platform(self.platform_config()) as platform:
            async with asyncio.TaskGroup() as group:
                group.create_task(run_platform(platform.config, stop_platform, url.set_result, platform=platform))
                try:
                    async with self.stations(stop_stations) as sources:
                        gateway, config_file = await self.make_gateway(platform, await url, sources)
                        try:
                            return await self._with_gateway(gateway, config_file, platform, stop_stations)
                        finally:
                            gateway.close()
                finally:
                    stop_platform.set()

    async def _with_gateway(
        self, gateway: Gateway, config_file: Path, platform: Platform, stop_stations: asyncio.Event
    ) -> dict[str, Any]:
        supervisor, stop_trucks = gateway.supervisor(), asyncio.Event()
        result: dict[str, Any] = {}
        async with asyncio.TaskGroup() as group:
            running = group.create_task(gateway.run(supervisor))
            telling = group.create_task(self.narrate(gateway))
            scenes = [scene for scene in (self.yard, self.street) if scene is not None]
            playing = [group.create_task(scene.drive(gateway, stop_trucks)) for scene in scenes]
            self._say_where(gateway, config_file)
            if self.for_s is not None:
                await asyncio.wait({running}, timeout=self.for_s)
            else:
                await running
            stop_stations.set()
            if not running.done():
                if playing:
                    await asyncio.wait(playing)
                for scene in scenes:
                    await scene.wait_for_findings(gateway)
                wanted = await self.truth()
                lost = await self.settle(gateway, platform, wanted)
                path, verified = await self.pull_one(gateway)
                result = self._count(gateway, lost, path, verified)
                if scenes:
                    result |= await self._judge(scenes, gateway, config_file, result)
                supervisor.stop("the demo is over")
            stop_trucks.set()
            code = await running
            telling.cancel()
        return result or {"stopped": True, "exit_code": code}

    async def _judge(
        self, scenes: Sequence[Yard | Street], gateway: Gateway, config_file: Path, result: dict[str, Any]
    ) -> dict[str, Any]:
        """What the rules found, and one finding as a clerk gets it."""
        counted: dict[str, Any] = {"planted": {}, "found": {}, "unexpected": [], "missing": []}
        lost = int(result["lost"])
        for scene in scenes:
            one = await asyncio.to_thread(scene.count, gateway)
            lost += await asyncio.to_thread(scene.lost, gateway)
            for name in ("planted", "found"):
                for rule, count in one[name].items():
                    counted[name][rule] = counted[name].get(rule, 0) + count
            counted["unexpected"] += one["unexpected"]
            counted["missing"] += one["missing"]
        first = next((one for one in findings.current(gateway.reader) if one.rule == SHOWN_RULE), None)
        if first is None:
            return {"findings": counted, "lost": lost, "finding_page": None}
        with open_store(config_file) as store:
            case = await store.write_case(first.id, self.kept / f"finding-{first.rule}.tar", artifacts=True)
        return {"findings": counted, "lost": lost, "finding_page": str(case.page)}

    def _say_where(self, gateway: Gateway, config_file: Path) -> None:
        config = gateway.config
        self.tell(
            f"gateway   {config_file}\nplatform  {config.uplink.url}/  (its certificate is of the demo's own CA)\n"
            f"look      ./dev status {config_file}\n          ./dev bundles {config_file}\nstop      Ctrl-C\n",
            f"网关      {config_file}\n平台      {config.uplink.url}/  （证书由演示 CA 签发）\n"
            f"查看      ./dev status {config_file}\n          ./dev bundles {config_file}\n停止      Ctrl-C\n",
        )

    def _count(self, gateway: Gateway, lost: int, path: Path | None, verified: bool) -> dict[str, Any]:
        rows = gateway.reader.batches(0, 10_000)
        artifacts = gateway.reader.artifacts_of(0, gateway.reader.next_seq())
        return {
            "records": gateway.reader.next_seq(),
            "artifacts": len(artifacts),
            "bytes": sum(item.size_bytes for item in artifacts),
            "seals": len(rows),
            "stamped": sum(row.tsr is not None for row in rows),
            "receipts": sum(row.receipt_txt is not None for row in rows),
            "lost": lost,
            "alarms": sorted(_alarms(gateway)),
            "verified": verified,
            "bundle": None if path is None else str(path),
            "ca": None if path is None else str(self.kept / CA_NAME),
        }


def main(*, for_s: float | None, station: Path | None, as_json: bool) -> int:
    """Run the demo; exit code 0 only if all is well."""
    with _folders() as (folder, kept), (folder / "gateway.log").open("w") as logged:
        log.configure(lambda: SYSTEM.monotonic_ns() / 1e9, stream=logged, pretty=False)
        demo = Demo(folder, kept, for_s, station, talk=not as_json)
        demo.tell(
            "Fieldgate demo: everything runs on this machine, on loopback.\n",
            "Fieldgate 演示：一切都在本机回环地址上运行。\n",
        )
        result = asyncio.run(demo.run())
        if "stopped" in result:
            demo.tell("stopped", "已停止")
            return int(result["exit_code"])
        good = well(result)
        if as_json:
            sys.stdout.write(json.dumps(result) + "\n")
        else:
            demo.tell(_summary(result, good), _summary(result, good))
        if station is not None and not result["artifacts"]:
            text = "no file in it was registered: is it empty, unreadable, or still being written?"
            sys.stderr.write(f"fieldgate: {station}: {text}\n")
        elif not good:
            _show_log(folder / "gateway.log")
    return 0 if good else 1


def well(result: dict[str, Any]) -> bool:
    """Whether nothing is lost, everything sealed was stamped and receipted, the pulled bundle verified, and the rules
    found what was planted and nothing else."""
    found = result.get("findings", {"missing": [], "unexpected": []})
    return bool(
        result["lost"] == 0
        and not found["missing"]
        and not found["unexpected"]
        and result["verified"]
        and result["artifacts"] > 0
        and result["seals"] == result["stamped"] == result["receipts"]
    )


def _summary(result: dict[str, Any], good: bool) -> str:
    verdict = say("all is well", "一切正常") if good else say("NOT well, see below", "存在问题，见下")
    counts = say(
        "{records} records, {artifacts} files ({bytes:,} bytes), {seals} seals, {stamped} stamped, "
        "{receipts} receipts, {lost} lost",
        "{records} 条记录，{artifacts} 个文件（{bytes:,} 字节），{seals} 次封存，{stamped} 个时间戳，"
        "{receipts} 份回执，丢失 {lost}",
    ).format(**result)
    check = (
        say("\nverify it yourself: ", "\n自行校验：") + f"./dev verify {result['bundle']} --ca {result['ca']}"
        if result["bundle"]
        else ""
    )
    return f"{verdict}: {counts}{_findings_summary(result)}{check}"


def _findings_summary(result: dict[str, Any]) -> str:
    found = result.get("findings")
    if found is None:
        return ""
    rules = ", ".join(f"{rule} {count}" for rule, count in found["found"].items())
    text = say(
        f"\nfindings: {rules}; {len(found['missing'])} planted and not found, {len(found['unexpected'])} not planted",
        f"\n线索与违规：{rules}；植入未发现 {len(found['missing'])}，非植入 {len(found['unexpected'])}",
    )
    page = result["finding_page"]
    return text + (say(f"\nlook at one: {page}", f"\n查看一例：{page}") if page else "")


def _show_log(path: Path) -> None:
    for line in path.read_text(errors="replace").splitlines()[-20:]:
        sys.stderr.write(line + "\n")


@contextlib.contextmanager
def _folders() -> Iterator[tuple[Path, Path]]:
    """A throw-away folder, and one for the pulled bundle that stays where something is in it."""
    folder, kept = Path(tempfile.mkdtemp(prefix="fieldgate-demo-")), Path(tempfile.mkdtemp(prefix="fieldgate-bundle-"))
    try:
        yield folder, kept
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            kept.rmdir()


class _QuietServer(uvicorn.Server):
    """uvicorn without signal handlers: the gateway's supervisor has them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals alone."""
        yield


def _source(name: str, values: dict[str, str]) -> str:
    rows = [f"{key} = {json.dumps(value)}" for key, value in {"name": name, **values}.items()]
    return "\n".join(["[[source]]", *rows, "poll_s = 1.0", "stable_s = 1.0"]) + "\n"


def _alarms(gateway: Gateway) -> set[str]:
    """Codes of the alarms that were raised."""
    leaves = [leaf for _, leaf in gateway.reader.records(kind=kinds.ALARM, limit=1000)]
    return {str(parse_leaf(leaf).data["code"]) for leaf in leaves}


def _hash_folder(folder: Path) -> list[Written]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            try:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                sys.stderr.write(f"fieldgate: {str(path)!r}: {error.strerror}; left out, the gateway records a gap\n")
                continue
            found.append(Written(str(path), digest, path.stat().st_size))
    return found


def utc_now() -> datetime:
    """The box's clock as a datetime."""
    return datetime.fromtimestamp(SYSTEM.realtime_ns() / 1e9, UTC)
