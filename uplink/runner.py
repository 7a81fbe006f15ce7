"""The two loops that `gateway.app` starts: delivery to the platform, and time-stamping of seals. They only join."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway import metrics
from gateway.config import Config
from gateway.core.errors import StoreFull
from gateway.core.ports import BatchRow, UplinkStatus
from gateway.ledger import stamp
from gateway.ledger.grammar import EvidenceError
from gateway.ledger.trust import Trust
from uplink import notices as codes
from uplink.answers import Refused, Unavailable, foreign
from uplink.credentials import CredentialFiles, read_token, tls_of, tls_of_authority
from uplink.delivery import Delivery
from uplink.https_client import HttpsLink, PlatformClient
from uplink.loop import TICK_S, Uplink, UplinkParts, attend, gravest
from uplink.notices import Notices
from uplink.pacing import TokenBucket
from uplink.stamp_client import StampClient
from uplink.stamping import Stamping

REFUSED_COUNT: Final = 3
"""Refused tokens in a row that raise an alarm."""
STAMP_RETRY_MIN_S: Final = 1.0


async def run_uplink(
    config: Config,
    parts: UplinkParts,
    trust: Trust,
    *,
    stop: asyncio.Event,
    tick: Callable[[], None],
    fraction: Callable[[], float],
    status: UplinkStatus,
) -> None:
    """Deliver until `stop`. Returns at once where no platform is configured. Where enrolment brings another token or
    certificate, the loop goes on with those: a platform that refused the old ones is asked again at once.

    `trust` holds the CA of receipt certificates; `fraction` draws jitter, 0 <= f < 1; `tick` is called at least
    once a second. Raises ConfigError for files that cannot be read, ForkError, IntegrityError.
    """
    if not config.uplink.url:
        return
    bucket = TokenBucket(float(config.uplink.bandwidth_bytes_per_s))
    while not stop.is_set():
        files = CredentialFiles(config)
        link = HttpsLink(
            config.uplink.url,
            tls_of(config),
            timeout_s=config.uplink.timeout_s,
            token=read_token(config.uplink.token_file, "uplink.token_file"),
        )
        end = asyncio.Event()

        def look(files: CredentialFiles = files, end: asyncio.Event = end) -> None:
            tick()
            if stop.is_set() or files.renewed():
                end.set()

        async with link:
            client = PlatformClient(link, config.gateway.id, bucket)
            delivery = Delivery(
                retry_min_s=config.uplink.retry_min_s,
                retry_max_s=config.uplink.retry_max_s,
                stamp_grace_s=config.uplink.stamp_grace_s if config.time.tsa_url else 0,
            )
            await Uplink(config, parts, trust, client, delivery, fraction, status).run(end, look)


async def run_stamping(
    config: Config,
    parts: UplinkParts,
    trust: Trust,
    *,
    stop: asyncio.Event,
    tick: Callable[[], None],
    fraction: Callable[[], float],
    status: UplinkStatus,
) -> None:
    """Fetch a token for every seal that has none, oldest first, until `stop`. Returns at once without an authority.

    `trust` holds the authority above the time-stamping authority. The authority may be away for days: the queue is
    the store itself, and the wait between attempts grows to ``time.tsa_retry_max_s``. Arguments as for `run_uplink`.
    """
    if not config.time.tsa_url:
        return
    status.stamping_state = "starting"
    link = HttpsLink(
        config.time.tsa_url,
        tls_of_authority(config),
        timeout_s=config.uplink.timeout_s,
        peer="time-stamping authority",
    )
    stamping = Stamping(STAMP_RETRY_MIN_S, config.time.tsa_retry_max_s)
    async with link:
        stamper = Stamper(parts, trust, StampClient(link), stamping, fraction, status)
        try:
            async with asyncio.TaskGroup() as group:
                stopping = group.create_task(stop.wait())
                while not stop.is_set():
                    tick()
                    row, wait_s = stamper.next()
                    if row is None:
                        await asyncio.wait({stopping}, timeout=min(wait_s, TICK_S))
                    else:
                        await attend(group.create_task(stamper.stamp(row)), stopping, tick)
        except BaseExceptionGroup as group_error:
            raise gravest(group_error) from None


class Stamper:
    """Fetches, verifies and stores one token at a time."""

    def __init__(
        self,
        parts: UplinkParts,
        trust: Trust,
        client: StampClient,
        stamping: Stamping,
        fraction: Callable[[], float],
        status: UplinkStatus,
    ) -> None:
        self._parts = parts
        self._trust = trust
        self._client = client
        self._stamping = stamping
        self._fraction = fraction
        self._status = status
        self._notices = Notices(parts.sink, parts.alarms)

    def next(self) -> tuple[BatchRow | None, float]:
        """The seal to stamp now, or None and how long to wait."""
        now_s = asyncio.get_running_loop().time()
        row, wake_s = self._stamping.next(now_s, self._parts.outbox.unstamped(self._stamping.look_ahead))
        return row, max(0.0, wake_s - now_s)

    async def stamp(self, row: BatchRow) -> None:
        """One attempt at one seal; what the authority does wrong ends here."""
        query, nonce = stamp.request(row.seal_p7s)
        try:
            tsr = await self._client.ask(query)
            await asyncio.to_thread(stamp.accept, tsr, row.seal_p7s, nonce, self._trust)
            await self._parts.outbox.store_stamp(row.n, tsr)
        except Unavailable as error:
            self._away(str(error), error.failure.retry_after_s)
            return
        except StoreFull as error:
            self._away(str(error), None)
            return
        except (Refused, EvidenceError) as error:
            await self._refused(row.n, foreign(str(error)))
            return
        self._stamping.stamped(row.n)
        metrics.STAMPS.labels("stored").inc()
        self._status.stamping_state = "ok"
        self._status.last_stamp_utc_ns = self._parts.clock.now().utc_ns
        await self._notices.clear_alarm(codes.ALARM_STAMP, "the time-stamping authority's tokens verify again")

    def _away(self, reason: str, retry_after_s: float | None) -> None:
        now_s = asyncio.get_running_loop().time()
        self._stamping.unreachable(now_s, self._fraction(), retry_after_s)
        metrics.STAMPS.labels("unreachable").inc()
        self._status.stamping_state = "unreachable"
        self._status.stamping_reason = reason

    async def _refused(self, n: int, reason: str) -> None:
        self._stamping.refused(n, asyncio.get_running_loop().time(), self._fraction())
        metrics.STAMPS.labels("refused").inc()
        self._status.stamping_state = "refused"
        self._status.stamping_reason = reason
        if self._stamping.refusals >= REFUSED_COUNT:
            text = f"token for batch {n} refused: {reason}; check time.tsa_url and time.tsa_ca_file"
            await self._notices.raise_alarm(codes.ALARM_STAMP, text)
