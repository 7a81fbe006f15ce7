"""Commands for the box itself: init, check, enrol, run, status, demo."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.commands import status_view
from gateway.commands.output import (
    CONFIG,
    DEFAULT_CONFIG,
    NEGATIVE,
    colour,
    config_argument,
    emit,
    json_option,
    lines_of,
)
from gateway.core import errors
from gateway.language import say

if TYPE_CHECKING:
    from gateway.app import Gateway

path_type = click.Path(path_type=Path)


@click.command()
@click.option("--id", "gateway_id", required=True, help="Identity of this box, such as gw-0001.yuhang.")
@click.option(
    "--config", "config_file", type=path_type, default=DEFAULT_CONFIG, show_default=True, help="Configuration to write."
)
@click.option("--dir", "state_dir", type=path_type, help="State folder; default: 'state' beside the configuration.")
@json_option
def init(gateway_id: str, config_file: Path, state_dir: Path | None, as_json: bool) -> None:
    """Make state folder, key, certificate request and a commented configuration. Never overwrites."""
    from gateway import setup

    steps = setup.init(config_file, gateway_id, state_dir)
    if as_json:
        emit(
            {
                "steps": [
                    {"path": str(step.path), "what": step.what, "made": step.made, "note": step.note} for step in steps
                ]
            }
        )
        return
    for step in steps:
        mark = say("made", "新建") if step.made else say("kept", "保留")
        click.echo(f"{mark}  {step.path}  ({step.what}){'  ' + step.note if step.note else ''}")
    click.echo(
        say(
            f"next: edit {config_file}, then: fieldgate check {config_file}",
            f"下一步：编辑 {config_file}，然后运行 fieldgate check {config_file}",
        )
    )


@click.command()
@config_argument
@json_option
def check(config_file: Path, as_json: bool) -> None:
    """Report every mistake of a configuration at once: file, line, key, what was expected."""
    from gateway import config as configuration
    from gateway import offline

    try:
        config = offline.load_config(config_file)
        offline.check_files(config)
    except errors.ConfigError as error:
        if as_json:
            emit({"ok": False, "problems": [_problem_json(item) for item in error.problems]})
        else:
            for line in lines_of(error):
                click.echo(line, err=True)
        click.get_current_context().exit(CONFIG)
    warnings = configuration.file_warnings(config)
    if as_json:
        emit({"ok": True, "warnings": [_problem_json(item) for item in warnings]})
        return
    for item in warnings:
        click.echo(colour(say("note", "提示"), "yellow") + f"  {item}")
    click.echo(
        say(
            f"ok: {config_file}, gateway {config.gateway.id}, {len(config.source)} sources",
            f"正确：{config_file}，网关 {config.gateway.id}，{len(config.source)} 个数据源",
        )
    )


def _problem_json(problem: errors.Problem) -> dict[str, Any]:
    return {"file": problem.file, "line": problem.line, "key": problem.key, "message": problem.message}


@click.command()
@config_argument
@click.option("--token", required=True, help="One-time token from the platform's operator.")
@click.option(
    "--tls-ca",
    type=click.Path(exists=True, path_type=Path),
    help="CA of the platform's server certificate, PEM; default: uplink.ca_file where it exists, else the system's.",
)
@json_option
def enrol(config_file: Path, token: str, tls_ca: Path | None, as_json: bool) -> None:
    """Have the platform sign this box's certificate request; the key never leaves the box."""
    from gateway import enrolment, offline
    from uplink import enrol_client

    config = offline.load_config(config_file)
    if not config.uplink.url:
        raise errors.ConfigError(
            [errors.Problem(str(config_file), 0, "uplink.url", "missing: the address of the platform")]
        )
    enrolment.files_of(config)  # says what is missing before the one-time token is spent
    request = enrolment.request_of(config)
    known_ca = config.uplink.ca_file if config.uplink.ca_file and Path(config.uplink.ca_file).exists() else ""
    given = asyncio.run(
        enrol_client.enrol(config.uplink.url, config.gateway.id, request, token, str(tls_ca or known_ca))
    )
    written = enrolment.keep_all(config, given)
    if as_json:
        emit({"gateway": config.gateway.id, "files": [str(path) for path in written]})
        return
    for path in written:
        click.echo(say("wrote", "写入") + f"  {path}")
    click.echo(
        say(
            f"{config.gateway.id} is enrolled; start it, or restart it where it runs: fieldgate run {config_file}",
            f"{config.gateway.id} 已注册；启动，已在运行则重启：fieldgate run {config_file}",
        )
    )


@click.command()
@config_argument
@click.option("--log-json", is_flag=True, help="JSON log lines also on a terminal.")
@json_option
def run(config_file: Path, log_json: bool, as_json: bool) -> None:
    """Run the gateway until it is stopped (SIGTERM, Ctrl-C). What systemd starts."""
    # The daemon prints no tables. Where rich is installed, structlog and httpx import it at start: 0.2 s and 10 MB.
    for name in ("rich", "pygments"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    from gateway import app, clock, log, offline

    config = offline.load_config(config_file)
    log.configure(lambda: clock.SYSTEM.monotonic_ns() / 1e9, pretty=False if log_json or as_json else None)

    def ready(gateway: Gateway) -> None:
        if not gateway.signer:
            log.get("app").warning("not_enrolled", to_do="records are stored, nothing is sealed; run: fieldgate enrol")

    code = app.run_gateway(config, ready)
    click.get_current_context().exit(code)


@click.command()
@config_argument
@json_option
def status(config_file: Path, as_json: bool) -> None:
    """How this box is doing, at a glance: sources, backlog, seals, receipts, clock, disk. Exit 1 when it is failing."""
    snapshot = status_view.snapshot(config_file)
    if as_json:
        emit(snapshot)
    else:
        for line in status_view.lines(snapshot):
            click.echo(line)
    if snapshot["status"] == "failing":
        click.get_current_context().exit(NEGATIVE)


@click.command()
@click.option(
    "--for", "for_s", type=click.FloatRange(min=1), help="Stop after so many seconds, pull one bundle, verify it."
)
@click.option(
    "--station",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Read this folder instead of a simulated station; it is never modified.",
)
@json_option
def demo(for_s: float | None, station: Path | None, as_json: bool) -> None:
    """The whole chain on this machine: stations, this gateway, a central platform; on loopback, then thrown away."""
    from gateway import demo as demonstration

    code = demonstration.main(for_s=for_s, station=station, as_json=as_json)
    sys.stdout.flush()
    click.get_current_context().exit(code)
