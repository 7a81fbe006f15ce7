"""Composes a station source: profile, session, place and runner from its configuration."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

import httpx

from drivers.bodycam import drafts
from drivers.bodycam.codec import NameCodec
from drivers.bodycam.drafts import Author
from drivers.bodycam.driver import Limits, Session
from drivers.io.folder import Folder
from drivers.io.http import Listings
from drivers.io.runner import TICK_S, Place, StationRunner
from drivers.io.surroundings import Surroundings, pause
from drivers.io.watched import StationCalls
from firmware_profiles.loader import LoadedProfile, load_station
from firmware_profiles.model import StationProfile
from gateway.config_sources import StationFolderConfig, StationHttpConfig
from gateway.core.errors import Problem, ProfileError
from gateway.core.record import ProfileRef

HANG_S: Final = 60.0
"""A call into a folder without any progress for so long means that the share is dead."""
TOKEN_MAX_BYTES: Final = 8192


async def run_folder(config: StationFolderConfig, around: Surroundings) -> None:
    """A station-folder source until stop."""
    loaded = await _profile(config, around)
    if loaded is None:
        return
    limits = Limits(config.poll_s, config.stable_s, config.file_max_bytes)
    session = _session(config, loaded, limits, config.path, around)
    calls = StationCalls(config.path, hang_s=HANG_S, stop=around.stop, tick=around.tick)
    place = Folder(
        config.path,
        calls,
        around.spool,
        source=config.name,
        depth_max=config.depth_max,
        entries_max=config.entries_max,
    )
    await _run(session, place, around)


async def run_http(config: StationHttpConfig, around: Surroundings) -> None:
    """A station-http source until stop."""
    loaded = await _profile(config, around)
    if loaded is None:
        return
    listing = loaded.profile.listing
    if listing is None:
        problem = Problem(str(loaded.path), 0, "listing", "missing; a station-http source needs it")
        await _disable(config, loaded.ref, ProfileError([problem]), around)
        return
    limits = Limits(config.poll_s, config.stable_s, config.file_max_bytes, probe=False)
    session = _session(config, loaded, limits, config.url, around)
    async with _client(config) as client:
        place = Listings(config, session.codec, listing, client, around)
        await _run(session, place, around)


def _client(config: StationHttpConfig) -> httpx.AsyncClient:
    headers = {"User-Agent": "fieldgate"}
    if config.token_file:
        with Path(config.token_file).open("rb") as file:
            headers["Authorization"] = "Bearer " + file.read(TOKEN_MAX_BYTES).decode("ascii", "replace").strip()
    tls = ssl.create_default_context(cafile=config.ca_file or None)
    timeout = httpx.Timeout(config.timeout_s)
    limits = httpx.Limits(max_connections=2, max_keepalive_connections=1)
    return httpx.AsyncClient(
        verify=tls, headers=headers, timeout=timeout, limits=limits, follow_redirects=False, trust_env=False
    )


def _session(
    config: StationFolderConfig | StationHttpConfig,
    loaded: LoadedProfile[StationProfile],
    limits: Limits,
    place: str,
    around: Surroundings,
) -> Session:
    name, memory = config.name, around.memory
    return Session(
        Author(name, config.station or name, loaded.ref),
        NameCodec(loaded.profile),
        limits,
        place=place,
        recall=lambda key: memory.get(name, key),
        remembered=(key for prefix in (b"f", b"g") for key, _ in memory.items(name, prefix)),
    )


async def _run(session: Session, place: Place, around: Surroundings) -> None:
    runner = StationRunner(
        session,
        place,
        sink=around.sink,
        spool=around.spool,
        clock=around.clock,
        status=around.status,
        stop=around.stop,
        tick=around.tick,
    )
    await runner.run()


async def _profile(
    config: StationFolderConfig | StationHttpConfig, around: Surroundings
) -> LoadedProfile[StationProfile] | None:
    """The profile; with an unusable one the source is disabled, says so, and waits for the end."""
    try:
        return load_station(config.profile, around.profile_dirs)
    except ProfileError as error:
        await _disable(config, ProfileRef(config.profile[:64], ""), error, around)
        return None


async def _disable(
    config: StationFolderConfig | StationHttpConfig,
    ref: ProfileRef,
    error: ProfileError,
    around: Surroundings,
) -> None:
    around.status.state, around.status.reason = "disabled", str(error)
    around.status.since_utc_ns = around.clock.now().utc_ns
    author = Author(config.name, config.station or config.name, ref)
    place = config.path if isinstance(config, StationFolderConfig) else config.url
    await around.sink.append([drafts.state_draft(author, "disabled", place, str(error))])
    while not around.stop.is_set():
        around.tick()
        await pause(around.stop, TICK_S)
