"""The platform fetches: bundles come from a gateway's API, go through the same intake, and their receipts go back."""

from __future__ import annotations

import asyncio
import base64
from typing import Final

from gateway import log
from gateway.core.errors import UplinkRejected
from uplink.platform.evidence import StoredReceipt
from uplink.platform.platform import Platform
from uplink.platform.problems import Refusal
from uplink.pull_client import Access, post_receipt, pull

BATCHES_MAX: Final = 1_000_000

_log = log.get("platform")


async def pull_gateway(platform: Platform, gateway_id: str, access: Access, limit: int = BATCHES_MAX) -> int:
    """Fetch up to `limit` batches that are not held, one after the other; return how many came.

    Each is received and receipted before the next is fetched. A receipt that a crash kept from going back is sent by
    the next call: only that of the last batch can be missing. Raises Refusal where the intake refuses a bundle
    (a fork among them), and what `pull_client.pull` raises.
    """
    index = platform.intake.index
    held = index.held(gateway_id)
    after = held.batches
    if after:
        try:
            await _hand_back(access, after, platform.shelf.newest_receipt(gateway_id, held.size))
        except UplinkRejected as error:
            _log.warning("receipt_refused", gateway=gateway_id, n=after, reason=str(error))
            after -= 1  # fetch that batch: if it is of another history, the intake keeps it as proof and says so
    folder = platform.config.folder / "pulled" / gateway_id
    count = 0
    while count < limit:
        found = await pull(access, folder, now=platform.now(), after=after, limit=1)
        if not found:
            break
        path, n = found[0].path, found[0].n
        try:
            async with platform.gateway_lock(gateway_id), platform.intakes:
                receipt = await asyncio.to_thread(platform.take_bundle, gateway_id, path)
        except Refusal as refusal:
            if refusal.code != "no-room":  # refused for good; a fork has been kept as proof elsewhere
                path.unlink(missing_ok=True)
            raise
        path.unlink()
        await _hand_back(access, n, receipt)
        _log.info("batch_pulled", gateway=gateway_id, n=n, end=receipt.end, key=gateway_id)
        after = n
        count += 1
    return count


async def _hand_back(access: Access, n: int, receipt: StoredReceipt) -> None:
    signature = base64.b64decode(receipt.signature)
    await post_receipt(access, n, receipt.receipt.encode(), signature, receipt.artifacts.encode())
