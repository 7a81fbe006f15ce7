"""Commands for those who hold or check evidence: verify, export, bundles, pull."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.commands.output import (
    NEGATIVE,
    colour,
    columns_of,
    config_argument,
    emit,
    json_option,
    progress,
    size_text,
    table,
)
from gateway.core.errors import RejectedError
from gateway.language import say

if TYPE_CHECKING:
    from gateway.ledger.trust import Trust
    from gateway.ledger.verify import Report

path_type = click.Path(path_type=Path)
existing = click.Path(exists=True, path_type=Path)


def trust_of(
    ca_files: tuple[Path, ...],
    fingerprints: tuple[str, ...],
    tsa_ca_files: tuple[Path, ...] = (),
    crl_files: tuple[Path, ...] = (),
) -> Trust:
    """Trust from files and fingerprints of the command line. Raises RejectedError with a line for a person."""
    from gateway.ledger import trust
    from gateway.ledger.grammar import FormatError

    def read(path: Path, load: Callable[[bytes], object]) -> bytes:
        content = path.read_bytes()
        try:
            load(content)
        except FormatError as error:
            raise RejectedError(f"{path}: {error}") from None
        return content

    try:
        return trust.Trust(
            ca_pems=[read(path, trust.load_certificates) for path in ca_files],
            ca_fingerprints=fingerprints,
            tsa_ca_pems=[read(path, trust.load_certificates) for path in tsa_ca_files],
            crl_pems=[read(path, trust.load_crls) for path in crl_files],
        )
    except FormatError as error:
        raise RejectedError(str(error)) from None


def utc_now() -> datetime:
    """The time of verification, from the one module that reads clocks."""
    from gateway.clock import SYSTEM

    return datetime.fromtimestamp(SYSTEM.realtime_ns() / 1e9, UTC)


@click.command()
@click.argument("path", type=existing, required=False)
@click.option("--ca", "ca_files", type=existing, multiple=True, help="Trusted authority, PEM; may be repeated.")
@click.option("--ca-sha256", "fingerprints", multiple=True, help="Or its SHA-256 fingerprint, as printed on paper.")
@click.option(
    "--tsa-ca",
    "tsa_ca_files",
    type=existing,
    multiple=True,
    help="Authority above the time stamps, PEM; default: --ca.",
)
@click.option(
    "--crl",
    "crl_files",
    type=existing,
    multiple=True,
    help="Revocation list of today, PEM; beside the one in the bundle.",
)
@click.option("--recipe", is_flag=True, help="Print the shell script that does the same with standard tools.")
@json_option
def verify(
    path: Path | None,
    ca_files: tuple[Path, ...],
    fingerprints: tuple[str, ...],
    tsa_ca_files: tuple[Path, ...],
    crl_files: tuple[Path, ...],
    recipe: bool,
    as_json: bool,
) -> None:
    """Check a bundle (folder or tar), offline. Exit 0: not altered since it was sealed; 1: that cannot be shown."""
    from gateway.ledger import verify as verifying

    if recipe:
        from gateway.ledger.recipe import recipe as script

        click.echo(script(), nl=False)
        return
    if path is None:
        raise click.UsageError("give the PATH of a bundle, a folder or a .tar")
    if not ca_files and not fingerprints:
        raise click.UsageError(
            "give the trusted authority with --ca FILE or --ca-sha256 HEX: the bundle cannot vouch for itself"
        )
    trust = trust_of(ca_files, fingerprints, tsa_ca_files, crl_files)
    with progress(say("verifying", "正在校验"), quiet=as_json) as show:
        report = verifying.verify(path, trust, now=utc_now(), progress=show)
    if as_json:
        emit({"path": str(path), **report.to_json()})
    else:
        show_report(report)
    if not report.ok:
        click.get_current_context().exit(NEGATIVE)


CHECKS_ZH: Final = {
    "structure": "结构完整",
    "packaging": "封装清单",
    "packaging-signature": "封装签名",
    "seal": "封存声明",
    "seal-signature": "封存签名",
    "stamp": "时间戳",
    "receipt": "平台回执",
    "log-start": "日志衔接",
    "records": "记录",
    "payload": "文件哈希",
    "root": "日志树根",
    "artifacts": "附件",
    "pointers": "时钟与信标",
    "revocation": "证书吊销",
    "export": "导出范围",
    "time": "时间界限",
}
"""Names of the checks for a clerk who reads Chinese; the sentence behind each stays as the ledger writes it."""
STATES: Final = {
    "ok": ("ok", "通过", "green"),
    "warning": ("note", "注意", "yellow"),
    "failed": ("FAILED", "失败", "red"),
}


def show_report(report: Report) -> None:
    """One line per check, the conclusion last."""
    rows = []
    for check in report.checks:
        english, chinese_word, shade = STATES[check.state]
        name, _, number = check.name.partition(" ")
        label = say(check.name, f"{CHECKS_ZH.get(name, name)} {number}".rstrip())
        rows.append((colour(say(english, chinese_word), shade), label, check.text))
    widths = [max(columns_of(click.unstyle(row[index])) for row in rows) for index in range(2)]
    for word, label, text in rows:
        left = word + " " * (widths[0] - columns_of(click.unstyle(word)))
        click.echo(f"{left}  {label}{' ' * (widths[1] - columns_of(label))}  {text}")
    click.echo(say(report.conclusion, _conclusion_zh(report)))


def _conclusion_zh(report: Report) -> str:
    """As Report.conclusion: it never says that content is true."""
    if not report.ok:
        failed = sum(not check.ok for check in report.checks)
        first = "" if report.first_wrong_seq is None else f"；首条有误的记录是 {report.first_wrong_seq}"
        return f"校验未通过：{failed} 项检查失败{first}"
    if report.not_later_than is None:
        return "校验通过：自封存之后未被改动；没有第三方证明封存时间"
    source = "时间戳" if report.vouched_by == "time stamp" else "平台回执"
    return f"校验通过：自 {report.not_later_than:%Y-%m-%d %H:%M:%S} UTC 起未被改动（时间依据：{source}）"


@click.command()
@config_argument
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only batches after this number.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many, the newest."
)
@click.option("--write", "number", type=click.IntRange(min=1), help="Write the bundle of this batch to --out.")
@click.option("--out", type=path_type, help="File for --write.")
@json_option
def bundles(config_file: Path, after: int, limit: int, number: int | None, out: Path | None, as_json: bool) -> None:
    """List the sealed batches of this box, or write one as a bundle."""
    from gateway import offline

    with offline.open_store(config_file) as store:
        if number is not None:
            if out is None:
                raise click.UsageError("--write needs --out FILE")
            size_bytes = asyncio.run(store.write_batch(number, out))
            emit({"n": number, "path": str(out), "size_bytes": size_bytes}) if as_json else click.echo(
                f"{out}  {size_text(size_bytes)}"
            )
            return
        rows = [offline.batch_summary(row) for row in store.newest_batches(after, limit)]
    if as_json:
        emit({"batches": rows})
        return
    head = [
        say(*pair)
        for pair in (
            ("batch", "批次"),
            ("records", "记录"),
            ("files", "文件"),
            ("size", "大小"),
            ("sealed", "封存时间"),
            ("stamped", "时间戳"),
            ("receipt", "回执"),
        )
    ]
    cells = [
        [
            str(row["n"]),
            str(row["records"]),
            str(row["artifacts"]),
            size_text(row["bytes"]),
            row["sealed_utc"],
            say("yes", "是") if row["stamped"] else say("no", "否"),
            row["receipt"],
        ]
        for row in rows
    ]
    for line in table(head, cells, right=(0, 1, 2, 3)):
        click.echo(line)


@click.command()
@config_argument
@click.option(
    "--seq",
    "seqs",
    type=click.IntRange(min=0),
    multiple=True,
    help="Record to disclose; may be repeated.",
)
@click.option("--finding", help="Or everything about one finding: its id, or the seq of one of its records.")
@click.option("--out", type=path_type, required=True, help="File to write (tar); the page of a finding lies beside it.")
@click.option("--without-artifacts", is_flag=True, help="Leave the files out; their hashes stay in the records.")
@json_option
def export(
    config_file: Path,
    seqs: tuple[int, ...],
    finding: str | None,
    out: Path,
    without_artifacts: bool,
    as_json: bool,
) -> None:
    """Disclose single records, or one finding, with inclusion proofs; nothing else of the log leaks."""
    from gateway import offline

    if bool(seqs) == (finding is not None):
        raise click.UsageError("give either --seq, once or more, or --finding")
    if finding is not None and out.suffix == ".html":
        raise click.UsageError("--out names the bundle, such as case.tar; the page case.html is written beside it")
    if finding is not None:
        with offline.open_store(config_file) as store:
            made = asyncio.run(store.write_case(finding, out, artifacts=not without_artifacts))
        if as_json:
            emit(
                {
                    "path": str(out),
                    "page": str(made.page),
                    "finding": made.id,
                    "sha256": made.sha256,
                    "size_bytes": made.size_bytes,
                    "seqs": list(made.seqs),
                }
            )
        else:
            click.echo(f"{out}  {size_text(made.size_bytes)}  sha256 {made.sha256}")
            click.echo(f"{made.page}")
        return
    with offline.open_store(config_file) as store:
        size_bytes = asyncio.run(store.write_export(list(seqs), out, artifacts=not without_artifacts))
    result: dict[str, Any] = {"path": str(out), "size_bytes": size_bytes, "seqs": sorted(seqs)}
    emit(result) if as_json else click.echo(f"{out}  {size_text(size_bytes)}")


@click.command()
@click.argument("url")
@click.option("--out", type=path_type, default=Path(), show_default=True, help="Folder for the bundles.")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only batches after this number.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many batches.")
@click.option("--tls-ca", type=existing, help="CA of the gateway's server certificate, PEM.")
@click.option("--token-file", type=existing, help="File with the bearer token.")
@click.option("--cert", type=existing, help="Client certificate, PEM.")
@click.option("--key", type=existing, help="Key of the client certificate, PEM.")
@click.option("--without-artifacts", is_flag=True, help="Only records and proofs; artifacts stay listed as pending.")
@click.option("--ca", "ca_files", type=existing, multiple=True, help="Trusted authority, PEM: verify what was pulled.")
@click.option("--ca-sha256", "fingerprints", multiple=True, help="Or its SHA-256 fingerprint.")
@json_option
def pull(
    url: str,
    out: Path,
    after: int,
    limit: int | None,
    tls_ca: Path | None,
    token_file: Path | None,
    cert: Path | None,
    key: Path | None,
    without_artifacts: bool,
    ca_files: tuple[Path, ...],
    fingerprints: tuple[str, ...],
    as_json: bool,
) -> None:
    """Fetch bundles from a gateway: https://host:port, or unix:PATH of the socket on the box. Resumes what was cut."""
    from uplink import pull_client

    access = pull_client.Access(
        url,
        ca_file=str(tls_ca or ""),
        token=token_file.read_text().strip() if token_file else "",
        certificate_file=str(cert or ""),
        key_file=str(key or ""),
    )
    trust = trust_of(ca_files, fingerprints) if ca_files or fingerprints else None
    with progress(say("pulling", "正在拉取"), quiet=as_json) as show:
        pulled = asyncio.run(
            pull_client.pull(
                access,
                out,
                now=utc_now(),
                after=after,
                limit=limit,
                artifacts=not without_artifacts,
                trust=trust,
                progress=lambda _name, done_bytes, total_bytes: show(done_bytes, total_bytes),
            )
        )
    bad = [item for item in pulled if item.report is not None and not item.report.ok]
    if as_json:
        emit({"bundles": [_pulled_json(item) for item in pulled], "ok": not bad})
    else:
        for item in pulled:
            verdict = "" if item.report is None else item.report.conclusion
            click.echo(f"{item.path}  {size_text(item.size_bytes)}  {verdict}")
        if not pulled:
            click.echo(say("nothing new to pull", "没有新的证据包"))
    if bad:
        click.get_current_context().exit(NEGATIVE)


def _pulled_json(item: Any) -> dict[str, Any]:
    verified = None if item.report is None else item.report.ok
    return {"n": item.n, "path": str(item.path), "size_bytes": item.size_bytes, "verified": verified}
