"""Every metric of the gateway, in one place; METRICS.md has a line for each.

Names are ``gateway_<noun>_<unit>_total`` for counters and ``gateway_<noun>_<unit>`` for gauges. Labels take values
from the configuration or from closed sets only, never from a device, so that their number is bounded.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY: Final = CollectorRegistry(auto_describe=True)
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, labels, registry=REGISTRY)


# taking in
RECORDS: Final = _counter("gateway_records_total", "Records stored, after fsync", "source")
RECORDS_REFUSED: Final = _counter("gateway_records_refused_total", "Records outside the format", "source")
COMMITS: Final = _counter("gateway_commits_total", "Transactions of the journal, each one fsync")
STORE_FULL: Final = _counter("gateway_store_full_total", "Appends refused because the store was full")

# artifacts
ARTIFACTS: Final = _counter("gateway_artifacts_total", "Files taken into the spool", "source")
ARTIFACT_BYTES: Final = _counter("gateway_artifact_bytes_total", "Bytes of the files taken", "source")
SIGHTINGS: Final = _counter("gateway_sightings_total", "Known content seen again", "source")
GAPS: Final = _counter("gateway_gaps_total", "Entries that could not be taken", "source")
SPOOL_BYTES: Final = _gauge("gateway_spool_bytes", "Bytes of artifacts in the spool")
DISK_FREE_BYTES: Final = _gauge("gateway_disk_free_bytes", "Free bytes of the disk of the state folder")

# devices that call in
FRAMES: Final = _counter("gateway_frames_total", "Frames of trackers", "source", "result")
LINKS: Final = _gauge("gateway_links", "Trackers connected and let in", "source")

# sealing
SEALS: Final = _counter("gateway_seals_total", "Batches sealed")
SEALED_RECORDS: Final = _counter("gateway_sealed_records_total", "Records sealed")
STAMPS: Final = _counter("gateway_stamps_total", "Answers of the time-stamping authority", "result")

# judging
ORDERS: Final = _counter("gateway_orders_total", "Orders to devices that were answered", "outcome")
ORDERS_UNRECORDED: Final = _counter("gateway_orders_unrecorded_total", "Outcomes that a full store did not take")
LIVE_CLIENTS: Final = _gauge("gateway_live_clients", "WebSocket clients of the live channel")
LIVE_CLIENTS_CUT: Final = _counter(
    "gateway_live_clients_cut_total", "WebSocket clients closed because they did not read"
)
JUDGE_BACKLOG_RECORDS: Final = _gauge("gateway_judge_backlog_records", "Records stored and not judged yet")
JUDGE_LEFT_OUT_RECORDS: Final = _gauge(
    "gateway_judge_left_out_records", "Records of devices beyond what a judge remembers, not judged; since the start"
)
FINDINGS: Final = _counter("gateway_findings_total", "Records of findings stored", "state")

# uplink
UPLINK_BYTES: Final = _counter("gateway_uplink_bytes_total", "Bytes sent to the platform, repeats included")
UPLINK_RESENT_BYTES: Final = _counter("gateway_uplink_resent_bytes_total", "Bytes sent again after a cut")
UPLINK_ATTEMPTS: Final = _counter("gateway_uplink_attempts_total", "Deliveries begun", "kind")
UPLINK_ERRORS: Final = _counter("gateway_uplink_errors_total", "Deliveries that failed", "kind")
RECEIPTS: Final = _counter("gateway_receipts_total", "Receipts verified and stored")
RECEIPTS_REFUSED: Final = _counter("gateway_receipts_refused_total", "Receipts that prove nothing, never stored")
QUARANTINED_ITEMS: Final = _counter("gateway_quarantined_items_total", "Items that the platform refused for good")
BACKLOG_ITEMS: Final = _gauge("gateway_backlog_items", "Items waiting for delivery")
BACKLOG_BYTES: Final = _gauge("gateway_backlog_bytes", "Bytes waiting for delivery")
BACKLOG_AGE_SECONDS: Final = _gauge("gateway_backlog_age_seconds", "Age of the oldest item waiting")

# the box
CLOCK_EPOCH: Final = _gauge("gateway_clock_epoch", "Epoch of the clock: starts, boots and steps")
CLOCK_STEPS: Final = _counter("gateway_clock_steps_total", "Clock steps found")
CLOCK_SYNCHRONISED: Final = _gauge("gateway_clock_synchronised", "1 where the kernel's clock is synchronised")
RESTARTS: Final = _counter("gateway_restarts_total", "Supervised loops started again after an error", "loop")
ALARMS_OPEN: Final = _gauge("gateway_alarms_open", "Alarms raised and not cleared")
API_REQUESTS: Final = _counter("gateway_api_requests_total", "HTTP requests answered", "method", "status")


def exposition() -> bytes:
    """All metrics in the Prometheus text format; serve it as CONTENT_TYPE."""
    return generate_latest(REGISTRY)
