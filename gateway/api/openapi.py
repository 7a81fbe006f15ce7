"""The OpenAPI 3.1 document of the API, written by hand as data and served at /v1/openapi.json.

API.md says the same for people; tests hold the running application against this document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.api.problem import KINDS, MEDIA_TYPE, PREFIX
from gateway.api.query import INT64_MAX, LIMIT_DEFAULT, LIMIT_MAX, NUMBER_MAX, SEQS_MAX, TEXT_MAX

Json = dict[str, Any]

_SHA256: Final = "^[0-9a-f]{64}$"
_BASE64_SHA256: Final = "^[A-Za-z0-9+/]{43}=$"
_BASE64: Final = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_ASCII_LINES: Final = "^([ -~]*\\n)*$"
_NANOSECONDS: Final = "^(0|[1-9][0-9]{0,18})$"


def document() -> Json:
    """The whole document, ready for a JSON encoder."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fieldgate gateway API",
            "version": "1",
            "description": "Sealed evidence of one gateway: batches, records, artifacts and proofs. See API.md.",
        },
        "security": [{"token": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "On the TLS listener where a token is configured; the Unix socket needs none.",
                }
            },
            "schemas": _schemas(),
        },
    }


def _paths() -> Json:
    return {
        "/v1/checkpoint": {"get": _get("Where the sealed log ends", "Checkpoint")},
        "/v1/batches": {
            "get": _get("Sealed batches, oldest first", "BatchPage", [_AFTER_BATCH, _LIMIT], errors=(400,))
        },
        "/v1/batches/{n}": {
            "parameters": [_N],
            "get": _get("One batch with its proofs", "Batch", errors=(400, 404)),
        },
        "/v1/batches/{n}/bundle": {
            "parameters": [_N],
            "get": _download("The batch as a BagIt tar", "application/x-tar", [_ARTIFACTS]),
            "head": _download("Size and entity tag of the tar", None, [_ARTIFACTS]),
        },
        "/v1/batches/{n}/receipt": {"parameters": [_N], "post": _post_receipt()},
        "/v1/artifacts/{sha256}": {
            "parameters": [_path("sha256", {"type": "string", "pattern": _SHA256}, "SHA-256 of the file")],
            "get": _download("A file that a record names", "*/*", []),
            "head": _download("Size of a file", None, []),
        },
        "/v1/records": {"get": _get("Stored records, oldest first", "RecordPage", _RECORD_FILTERS, errors=(400,))},
        "/v1/records/{seq}": {
            "parameters": [_SEQ],
            "get": _get("The stored bytes of one record", "Record", errors=(400, 404, 410)),
        },
        "/v1/records/{seq}/proof": {
            "parameters": [_SEQ],
            "get": _get_text("Inclusion proof (C2SP tlog-proof)", "text/plain", errors=(400, 404, 409, 410)),
        },
        "/v1/export": {
            "get": _download(
                "Single records with their proofs as a tar", "application/x-tar", [_SEQS, _ARTIFACTS], sealed_only=True
            )
        },
        **_finding_paths(),
        **_device_paths(),
        "/v1/sources": {"get": _get("State of the configured sources", "Sources", errors=(400,))},
        "/v1/health": {
            "get": _get("Health of the gateway", "Health", errors=(400,), failing="Health"),
        },
        "/v1/openapi.json": {"get": _get("This document", "Document", errors=(400,))},
        "/metrics": {"get": _get_text("Prometheus metrics", "text/plain", errors=(400,))},
    }


def _device_paths() -> Json:
    return {
        "/v1/devices": {"get": _get("Devices as the live board shows them", "DevicePage", [_AFTER_DEVICE, _LIMIT])},
        "/v1/devices/{source}/{device}/orders": {"parameters": [_SOURCE, _DEVICE], "post": _post_order()},
    }


def _finding_paths() -> Json:
    return {
        "/v1/findings": {
            "get": _get("What the rules found, newest revisions", "FindingPage", _FINDING_FILTERS, errors=(400,))
        },
        "/v1/findings/{id}": {
            "parameters": [_FINDING],
            "get": _get("One finding with its history", "Finding", errors=(400, 404)),
        },
        "/v1/findings/{id}/export": {
            "parameters": [_FINDING],
            "get": _download(
                "The finding and all that it cites, with proofs, as a tar", "application/x-tar", [_ARTIFACTS],
                sealed_only=True,
            ),
        },
        "/v1/findings/{id}/report.html": {
            "parameters": [_FINDING],
            "get": _get_text("One page about the finding, for people", "text/html", errors=(400, 404, 410, 429)),
        },
    }  # fmt: skip


def _parameter(name: str, schema: Json, text: str, *, required: bool = False) -> Json:
    return {"name": name, "in": "query", "required": required, "description": text, "schema": schema}


def _path(name: str, schema: Json, text: str, example: object = None) -> Json:
    parameter: Json = {"name": name, "in": "path", "required": True, "description": text, "schema": schema}
    return parameter if example is None else {**parameter, "example": example}


def _header(name: str, text: str) -> Json:
    return {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}


_NUMBER: Final[Json] = {"type": "integer", "minimum": 0, "maximum": NUMBER_MAX}
_N: Final = _path("n", {"type": "integer", "minimum": 1, "maximum": NUMBER_MAX}, "Number of the batch, from 1", 1)
_SEQ: Final = _path("seq", _NUMBER, "Index of the record in the log", 0)
_AFTER_BATCH: Final = _parameter("after", _NUMBER, "Only batches with a larger number")
_LIMIT: Final = _parameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
    "Entries in one answer; `next` leads on",
)
_ARTIFACTS: Final = _parameter(
    "artifacts",
    {"type": "string", "enum": ["include", "omit"], "default": "include"},
    "omit: artifact files are listed as pending instead",
)
_SEQS: Final[Json] = {
    **_parameter(
        "seq",
        {"type": "array", "items": _NUMBER, "minItems": 1, "maxItems": SEQS_MAX},
        "Records to export",
        required=True,
    ),
    "style": "form",
    "explode": True,
}
_MOMENT: Final[Json] = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "integer", "minimum": 0, "maximum": INT64_MAX}],
    "examples": ["2026-11-21T08:00:00+08:00", 1795564800000000000],
}
_RECORD_FILTERS: Final[list[Json]] = [
    _parameter("kind", {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$"}, "Only this kind"),
    _parameter("device", {"type": "string", "maxLength": TEXT_MAX}, "Only this device"),
    _parameter("from", _MOMENT, "Arrival not before; RFC 3339 with offset, or nanoseconds since 1970"),
    _parameter("to", _MOMENT, "Arrival before"),
    _parameter("after", _NUMBER, "Only records with a larger seq"),
    _LIMIT,
]
_SOURCE: Final = _path(
    "source", {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$"}, "Name of the source", "trucks"
)
_DEVICE: Final = _path("device", {"type": "string", "minLength": 1, "maxLength": TEXT_MAX}, "Identity", "13800000017")
_AFTER_DEVICE: Final = _parameter("after", {"type": "string", "maxLength": TEXT_MAX}, "Only after `<source>/<device>`")
_FINDING: Final = _path(
    "id",
    {"type": "string", "pattern": "^([0-9a-f]{32}|0|[1-9][0-9]{0,15})$"},
    "Id of the finding, or the seq of one of its records",
    "0",
)
_FINDING_FILTERS: Final[list[Json]] = [
    _parameter("device", {"type": "string", "maxLength": TEXT_MAX}, "Only of this device"),
    _parameter("rule", {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$"}, "Only of this rule"),
    _parameter("state", {"type": "string", "enum": ["open", "closed", "withdrawn"]}, "Only in this state"),
    _parameter("from", _MOMENT, "Events that begin then or later, by the device's time"),
    _parameter("to", _MOMENT, "Events that begin before"),
    _parameter("after", _NUMBER, "Only findings whose newest record has a larger seq"),
    _LIMIT,
]
_CONDITIONS: Final[list[Json]] = [
    _header("If-None-Match", "304 where the entity tag is unchanged"),
    _header("If-Match", "412 where the entity tag is another"),
]
_RANGES: Final[list[Json]] = [
    _header("Range", "One byte range"),
    _header("If-Range", "The whole content where the entity tag is another"),
]


def _operation(summary: str, responses: Mapping[int, Json], parameters: list[Json], errors: tuple[int, ...]) -> Json:
    answers: Json = {str(status): answer for status, answer in responses.items()}
    for status in sorted({401, 403, 503, *errors} - set(responses)):
        answers[str(status)] = _problem(status)
    return {"summary": summary, "parameters": parameters, "responses": answers}


def _problem(status: int) -> Json:
    titles = [title for kind_status, title in KINDS.values() if kind_status == status]
    return {
        "description": "; ".join(titles),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _json(schema: str, description: str = "OK") -> Json:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _get(
    summary: str,
    schema: str,
    parameters: list[Json] | None = None,
    errors: tuple[int, ...] = (400,),
    failing: str | None = None,
) -> Json:
    answers = {200: _json(schema), 304: {"description": "Not modified"}}
    if failing is not None:
        answers[503] = _json(failing, "Evidence is not being taken or kept as it should")
    return _operation(summary, answers, [*(parameters or []), *_CONDITIONS], (*errors, 412))


def _get_text(summary: str, media_type: str, errors: tuple[int, ...]) -> Json:
    answers: dict[int, Json] = {
        200: {"description": "OK", "content": {media_type: {"schema": {"type": "string"}}}},
        304: {"description": "Not modified"},
    }
    return _operation(summary, answers, [*_CONDITIONS], (*errors, 412))


def _download(summary: str, media_type: str | None, parameters: list[Json], *, sealed_only: bool = False) -> Json:
    """GET of bytes, or HEAD where `media_type` is None."""
    body: Json = {} if media_type is None else {"content": {media_type: {}}}
    headers: Json = {
        "ETag": {"schema": {"type": "string"}},
        "Accept-Ranges": {"schema": {"type": "string"}},
        "Content-Disposition": {"schema": {"type": "string"}},
    }
    answers: dict[int, Json] = {
        200: {"description": "The whole content", "headers": headers, **body},
        304: {"description": "Not modified"},
    }
    errors = {400, 404, 410, 412, 429}
    if sealed_only:
        errors.add(409)
    if media_type is not None:
        answers[206] = {
            "description": "The range asked for",
            "headers": {**headers, "Content-Range": {"schema": {"type": "string"}}},
            **body,
        }
        errors.add(416)
    ranges = _RANGES if media_type is not None else []
    return _operation(summary, answers, [*parameters, *_CONDITIONS, *ranges], tuple(errors))


def _post_receipt() -> Json:
    operation = _operation(
        "Hand in the receipt of a platform that pulled the batch; may be repeated",
        {200: _json("BatchSummary", "Verified and kept")},
        [],
        (400, 404, 408, 413, 415, 422, 507),
    )
    operation["requestBody"] = {"required": True, **_json("Receipt", "")}
    del operation["requestBody"]["description"]
    return operation


def _post_order() -> Json:
    operation = _operation(
        "Order something of a device; the same key again does nothing and gives the first outcome",
        {200: _json("Outcome", "What came of it")},
        [],
        (400, 403, 404, 408, 413, 415, 422, 507),
    )
    operation["requestBody"] = {"required": True, **_json("Order", "")}
    del operation["requestBody"]["description"]
    return operation


def _object(properties: Mapping[str, Json], *, more: bool = False, optional: tuple[str, ...] = ()) -> Json:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": more,
    }


def _nullable(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _schemas() -> Json:
    text: Json = {"type": "string"}
    flag: Json = {"type": "boolean"}
    count: Json = {"type": "integer", "minimum": 0}
    root: Json = {"type": "string", "pattern": _BASE64_SHA256}
    sha256: Json = {"type": "string", "pattern": _SHA256}
    nanoseconds: Json = {"type": "string", "pattern": _NANOSECONDS}
    lines: Json = {"type": "string", "pattern": _ASCII_LINES}
    base64: Json = {"type": "string", "contentEncoding": "base64", "pattern": _BASE64}
    receipt = _object({"receipt": lines, "signature": base64, "artifacts": lines})
    following = _nullable({"type": "string", "format": "uri-reference"})
    summary = _batch_summary(text, flag, count, root, sha256, nanoseconds)
    artifact = _object(
        {
            "sha256": sha256,
            "size_bytes": count,
            "media_type": text,
            "state": {"enum": ["present", "expired", "damaged"]},
        }
    )
    return {
        "Problem": _object(
            {
                "type": {"enum": [PREFIX + kind for kind in KINDS]},
                "title": text,
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "detail": text,
            }
        ),
        "Checkpoint": _object(
            {"gateway": text, "origin": text, "size": count, "root": root, "batch": count, "next_seq": count}
        ),
        "BatchSummary": _object(summary),
        "BatchPage": _object(
            {"batches": {"type": "array", "items": {"$ref": "#/components/schemas/BatchSummary"}}, "next": following}
        ),
        "Batch": _object(
            {
                **summary,
                "seal": text,
                "signature": base64,
                "stamp": _nullable(base64),
                "receipt": _nullable({"$ref": "#/components/schemas/Receipt"}),
                "artifacts": {"type": "array", "items": artifact},
            }
        ),
        "Receipt": receipt,
        "Record": _object({"v": {"const": 1}, "seq": count, "kind": text}, more=True),
        "RecordPage": _object(
            {"records": {"type": "array", "items": {"$ref": "#/components/schemas/Record"}}, "next": following}
        ),
        "FindingPage": _object(
            {"findings": {"type": "array", "items": {"$ref": "#/components/schemas/FindingSummary"}}, "next": following}
        ),
        "FindingSummary": _object(_finding(text, count)),
        "Finding": _object(
            {
                **_finding(text, count),
                "judgement": _object({}, more=True),
                "revisions": {
                    "type": "array",
                    "items": _object({"seq": count, "revision": count, "state": text, "arrival_utc_ns": nanoseconds}),
                },
            }
        ),
        **_device_schemas(text, nullable_count=_nullable(count)),
        "Sources": _object({"sources": {"type": "array", "items": _source(text, nanoseconds)}}),
        "Health": _object({"status": {"enum": ["ok", "degraded", "failing"]}}, more=True),
        "Document": _object({"openapi": {"const": "3.1.0"}}, more=True),
    }


def _batch_summary(text: Json, flag: Json, count: Json, root: Json, sha256: Json, nanoseconds: Json) -> Json:
    return {
        "n": {"type": "integer", "minimum": 1},
        "first": count,
        "end": count,
        "prev_root": root,
        "root": root,
        "records_sha256": sha256,
        "records_bytes": count,
        "artifact_count": count,
        "artifact_bytes": count,
        "utc_min_ns": nanoseconds,
        "utc_max_ns": nanoseconds,
        "sealed_utc_ns": nanoseconds,
        "sealed_utc": {"type": "string", "format": "date-time"},
        "stamped": flag,
        "receipted": flag,
        "complete": flag,
        "quarantined": _nullable(text),
    }


def _device_schemas(text: Json, nullable_count: Json) -> Json:
    anything = _object({}, more=True)
    word: Json = {"type": "string", "pattern": "^[a-z][a-z0-9-]{0,31}$"}
    key: Json = {"type": "string", "pattern": "^[!-~]{1,128}$"}
    device = _object(
        {
            "source": text,
            "device": text,
            "class": text,
            "plate": text,
            "position": _nullable(anything),
            "state": _nullable(anything),
        }
    )
    following = _nullable({"type": "string", "format": "uri-reference"})
    order = {"action": word, "key": key, "parameters": anything, "actor": {"type": "string", "maxLength": 128}}
    outcomes = ["done", "refused", "offline", "timeout", "unknown"]
    return {
        "DevicePage": _object({"devices": {"type": "array", "items": device}, "next": following}),
        "Order": _object(order, optional=("parameters", "actor")),
        "Outcome": _object({"outcome": {"enum": outcomes}, "detail": text, "result": anything, "seq": nullable_count}),
    }


def _finding(text: Json, count: Json) -> Json:
    return {
        "id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "seq": count,
        "revision": {"type": "integer", "minimum": 1},
        "state": {"enum": ["open", "closed", "withdrawn"]},
        "rule": text,
        "severity": text,
        "source": text,
        "device": text,
        "class": text,
        "privacy": text,
        "plate": text,
        "firm": text,
        "start_utc_s": {"type": "integer"},
        "end_utc_s": _nullable({"type": "integer"}),
        "text": {"type": "object", "additionalProperties": text},
    }


def _source(text: Json, nanoseconds: Json) -> Json:
    return _object(
        {
            "name": text,
            "type": text,
            "state": {"enum": ["starting", "ok", "degraded", "down", "disabled"]},
            "reason": text,
            "since_utc_ns": nanoseconds,
            "last_seen_utc_ns": _nullable(nanoseconds),
            "counters": {"type": "object", "additionalProperties": {"type": "integer"}},
        }
    )
