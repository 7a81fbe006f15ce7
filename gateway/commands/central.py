"""`fieldgate platform …`: run the reference central platform."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.commands.output import emit, json_option
from gateway.core.errors import ConfigError, Problem, RejectedError
from gateway.language import say

if TYPE_CHECKING:
    from uplink.platform.config import PlatformConfig

folder_option = click.option(
    "--dir",
    "data_dir",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the platform: keys, evidence, index.",
)
listen_option = click.option(
    "--listen", default="127.0.0.1:8443", show_default=True, help="address:port of the TLS listener."
)
name_option = click.option(
    "--public-name", "public_names", multiple=True, help="Further name or address for the server certificate."
)
tsa_option = click.option(
    "--test-tsa", is_flag=True, help="Offer a TEST time-stamping authority; worth nothing in court."
)


@click.group()
def platform() -> None:
    """The reference central platform: enrols gateways, receives, verifies and receipts their evidence."""


def platform_config(data_dir: Path, listen: str, public_names: tuple[str, ...], test_tsa: bool) -> PlatformConfig:
    """Settings from the command line. Raises ConfigError."""
    from uplink.platform.config import PlatformConfig

    config = PlatformConfig(data_dir=str(data_dir), listen=listen, public_names=list(public_names), tsa=test_tsa)
    try:
        config.check()
    except ValueError as error:
        raise ConfigError([Problem("command line", 0, "", str(error))]) from None
    return config


@platform.command("init")
@folder_option
@json_option
def init_command(data_dir: Path, as_json: bool) -> None:
    """Make the authority and the keys; never overwrites."""
    from uplink.platform.platform import init_platform

    init_platform(platform_config(data_dir, "127.0.0.1:8443", (), test_tsa=False))
    if as_json:
        emit({"dir": str(data_dir)})
    else:
        click.echo(say(f"ready: {data_dir}", f"已就绪：{data_dir}"))


@platform.command()
@folder_option
@click.argument("gateway_id")
@json_option
def token(data_dir: Path, gateway_id: str, as_json: bool) -> None:
    """Make a one-time enrolment token for a gateway."""
    from gateway.ledger.grammar import FormatError
    from uplink.platform.platform import enrolment_token

    try:
        text = enrolment_token(platform_config(data_dir, "127.0.0.1:8443", (), test_tsa=False), gateway_id)
    except FormatError as error:
        raise ConfigError([Problem("command line", 0, "GATEWAY_ID", str(error))]) from None
    emit({"gateway": gateway_id, "token": text}) if as_json else click.echo(text)


@platform.command()
@folder_option
@click.argument("gateway_id")
@json_option
def revoke(data_dir: Path, gateway_id: str, as_json: bool) -> None:
    """Refuse a gateway from now on and put its certificates on the CRL. Not while the platform runs."""
    from uplink.platform.platform import Platform

    with Platform(platform_config(data_dir, "127.0.0.1:8443", (), test_tsa=False)) as opened:
        try:
            opened.revoke(gateway_id)
        except KeyError:
            raise RejectedError(f"gateway {gateway_id} is not enrolled here") from None
    emit({"gateway": gateway_id, "revoked": True}) if as_json else click.echo(
        say(f"{gateway_id} is revoked", f"{gateway_id} 已吊销")
    )


@platform.command()
@folder_option
@click.argument("gateway_id")
@click.argument("url")
@click.option(
    "--tls-ca", type=click.Path(exists=True, path_type=Path), help="CA of the gateway's server certificate, PEM."
)
@click.option(
    "--token-file",
    type=click.Path(exists=True, path_type=Path),
    help="File with the bearer token of the gateway's API.",
)
@click.option(
    "--tsa-ca",
    "tsa_cas",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="Root of a time-stamping authority that the gateway uses.",
)
@json_option
def pull(
    data_dir: Path,
    gateway_id: str,
    url: str,
    tls_ca: Path | None,
    token_file: Path | None,
    tsa_cas: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Fetch everything new from a gateway's API, receive it, hand the receipts back. Not while the platform runs."""
    from uplink.platform.config import PlatformConfig
    from uplink.platform.platform import Platform
    from uplink.platform.problems import Refusal
    from uplink.platform.pull import pull_gateway
    from uplink.pull_client import Access

    access = Access(url, ca_file=str(tls_ca or ""), token=token_file.read_text().strip() if token_file else "")
    config = PlatformConfig(data_dir=str(data_dir), tsa_ca_files=[str(path) for path in tsa_cas], tsa=not tsa_cas)
    with Platform(config) as opened:
        try:
            count = asyncio.run(pull_gateway(opened, gateway_id, access))
        except Refusal as refusal:
            raise RejectedError(f"batch of {gateway_id} refused: {refusal.detail}") from None
    emit({"gateway": gateway_id, "batches": count}) if as_json else click.echo(
        say(f"{count} batches received", f"已接收 {count} 批")
    )


@platform.command()
@folder_option
@listen_option
@name_option
@tsa_option
@json_option
def run(data_dir: Path, listen: str, public_names: tuple[str, ...], test_tsa: bool, as_json: bool) -> None:
    """Serve until Ctrl-C."""
    from uplink.platform.server import run_platform

    config = platform_config(data_dir, listen, public_names, test_tsa)

    def ready(url: str) -> None:
        emit({"url": url}) if as_json else click.echo(say(f"platform at {url}", f"平台地址 {url}"))

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await run_platform(config, stop, ready)

    asyncio.run(serve())
