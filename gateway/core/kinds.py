"""The kinds of records that the gateway and its sources write.

Every kind is listed here once, with what its `data` holds; FORMAT.md repeats the table for third parties.
"""

from __future__ import annotations

from typing import Final

GATEWAY_START: Final = "gateway.start"  # version, config_sha256, certificate_sha256, recovered_from (seq)
GATEWAY_STOP: Final = "gateway.stop"  # reason
CLOCK_STATE: Final = "clock.state"
CLOCK_STEP: Final = "clock.step"
CLOCK_MAP: Final = "clock.map"
BEACON: Final = "beacon"  # nonce, receipt_sha256, size
ALARM: Final = "alarm"  # code, state raised|cleared, text
OPERATOR_ACTION: Final = "operator.action"  # action, actor, parameters
INGEST_REFUSED: Final = "ingest.refused"  # reason, kind; raw holds what was refused
RETENTION_EXPIRE: Final = "retention.expire"  # artifacts [sha256], or records first/end, and the receipt's nonce
SCRUB_DAMAGE: Final = "scrub.damage"  # sha256, found_sha256 or error
UPLINK_QUARANTINE: Final = "uplink.quarantine"  # item, ref, reason
UPLINK_FORK: Final = "uplink.fork"  # ours, theirs

STATION_STATE: Final = "station.state"  # state up|down|…, reason
STATION_FILE: Final = "station.file"  # a file taken: name, path, size, mtime, fields of the name, stable/unstable
STATION_SIGHTING: Final = "station.sighting"  # the same content seen again: sha256, path
STATION_GAP: Final = "station.gap"  # an entry that could not be taken, and why
STATION_OFFSET: Final = "station.clock_offset"  # device clock minus ours, and how it was got
POSITION: Final = "position"  # fixes of a tracker (core.fixes), or of a track file: lat_e7, lon_e7, datum, …

READING: Final = "reading"  # values of a sensor (core.readings)

DEVICE_STATE: Final = "device.state"  # state online|offline|registered|refused|duplicate|logged-off|…, reason, address
DEVICE_MESSAGE: Final = "device.message"  # what a device said beside positions: message, and its fields by name
DEVICE_MEDIA: Final = "device.media"  # a photo or recording that a device sent: artifact, media_id, event, channel, fix
DEVICE_GAP: Final = "device.gap"  # what could not be read, joined or taken: reason, count, first raw bytes
DEVICE_REPLY: Final = "device.reply"  # what came of an operator's order: action, order (seq), outcome, result

RULES_BOOK: Final = "rules.book"  # a set of rules, permits and places came into force: sha256, files; raw = the files
FINDING: Final = "finding"  # core.finding: what the rules found, citing its inputs by seq

HOUSEKEEPING: Final = frozenset({CLOCK_STATE, CLOCK_MAP, BEACON})
"""Kinds that never close a batch by age: a beacon per receipt would otherwise make a receipt per beacon."""

URGENT: Final = frozenset({ALARM, CLOCK_STEP, SCRUB_DAMAGE, UPLINK_QUARANTINE, UPLINK_FORK})
"""Kinds that close a batch at once."""
