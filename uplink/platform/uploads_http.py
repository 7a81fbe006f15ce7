"""HTTP of uploads, and what turns a complete upload into a batch or an artifact. WIRE.md sections 4 and 5."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator, Mapping
from email.utils import format_datetime
from typing import Final

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from uplink.platform import access, tus
from uplink.platform.access import platform_of
from uplink.platform.bodies import UploadRef, path_sha256, read_json
from uplink.platform.platform import Platform
from uplink.platform.problems import Refusal
from uplink.platform.tus import Upload

BASE_HEADERS: Final[Mapping[str, str]] = {"tus-resumable": tus.VERSION, "cache-control": "no-store"}
PATCH_TYPE: Final = "application/offset+octet-stream"
PATH: Final = "/v1/uploads/"

_sha256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


async def options(request: Request) -> Response:
    """What this server speaks."""
    config = platform_of(request).config
    headers = {
        **BASE_HEADERS,
        "tus-version": tus.VERSION,
        "tus-extension": tus.EXTENSIONS,
        "tus-max-size": str(max(config.artifact_max_bytes, config.bundle_max_bytes)),
    }
    return Response(status_code=204, headers=headers)


async def create(request: Request) -> Response:
    """POST /v1/uploads: idempotent creation."""
    _check_version(request)
    gateway_id = access.caller_gateway(request)
    platform = platform_of(request)
    size_bytes = tus.parse_size(request.headers.get("upload-length"), "Upload-Length")
    metadata = tus.parse_metadata(request.headers.get("upload-metadata", ""))
    kind, sha256 = metadata.get("kind"), metadata.get("sha256", "")
    if metadata.get("gateway") != gateway_id:
        raise Refusal("not-yours", "Upload-Metadata names another gateway than the credentials")
    if kind not in {"bundle", "artifact"} or not _sha256.fullmatch(sha256) or size_bytes < 0:
        raise Refusal("malformed", "Upload-Metadata: expected gateway, kind (bundle or artifact) and sha256")
    limit = platform.config.bundle_max_bytes if kind == "bundle" else platform.config.artifact_max_bytes
    if size_bytes > limit:
        raise Refusal("too-large", f"a {kind} has at most {limit} bytes", members={"limit": limit})
    identity = tus.upload_id(gateway_id, str(kind), sha256, size_bytes)
    headers = {**BASE_HEADERS, "location": PATH + identity}
    if _is_done(platform, gateway_id, str(kind), sha256, size_bytes):
        return Response(status_code=201, headers={**headers, "upload-offset": str(size_bytes)})
    found = platform.uploads.create(gateway_id, "bundle" if kind == "bundle" else "artifact", sha256, size_bytes)
    headers |= _progress(platform, found)
    return Response(status_code=201, headers=headers)


def _is_done(platform: Platform, gateway_id: str, kind: str, sha256: str, size_bytes: int) -> bool:
    """Whether the content is held already. Refusal for an artifact that no batch names."""
    index = platform.intake.index
    identity = tus.upload_id(gateway_id, kind, sha256, size_bytes)
    if kind == "bundle":
        return index.finished(identity, gateway_id) is not None
    entry = index.artifact(gateway_id, sha256)
    if entry is None:
        raise Refusal("not-named", f"no received batch of {gateway_id} names {sha256}; send its batch first")
    if entry.size_bytes != size_bytes:
        raise Refusal("hash-differs", f"{sha256} has {entry.size_bytes} bytes by its record, not {size_bytes}")
    if entry.held:
        index.finish(identity, gateway_id, sha256, size_bytes)
    return entry.held


async def upload(request: Request) -> Response:
    """HEAD, PATCH and DELETE of one upload."""
    _check_version(request)
    gateway_id = access.caller_gateway(request)
    platform = platform_of(request)
    identity = request.path_params["upload"]
    if request.method == "HEAD":
        done = platform.intake.index.finished(identity, gateway_id)
        if done is not None and platform.uploads.find(identity) is None:
            size = str(done.size_bytes)
            return Response(headers={**BASE_HEADERS, "upload-offset": size, "upload-length": size})
    found = _find(platform, gateway_id, identity)
    with platform.uploads.lock(found):
        if request.method == "HEAD":
            length = {"upload-length": str(found.size_bytes), "upload-metadata": tus.metadata_of(found)}
            return Response(headers={**BASE_HEADERS, **_progress(platform, found), **length})
        if request.method == "DELETE":
            platform.uploads.remove(found)
            return Response(status_code=204, headers=BASE_HEADERS)
        return await _patch(request, platform, found)


async def _patch(request: Request, platform: Platform, found: Upload) -> Response:
    if request.headers.get("content-type") != PATCH_TYPE:
        raise Refusal("media-type", f"expected {PATCH_TYPE}")
    offset = tus.parse_size(request.headers.get("upload-offset"), "Upload-Offset")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and offset + int(declared) > found.size_bytes:
        detail = f"more bytes than the Upload-Length of {found.size_bytes}"
        raise Refusal("too-large", detail, members={"limit": found.size_bytes})
    platform.uploads.check_room(int(declared) if declared.isdigit() else 0)
    try:
        await platform.uploads.append(found, offset, request.stream())
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it; what came is on disk
    return Response(status_code=204, headers={**BASE_HEADERS, **_progress(platform, found)})


async def post_batch(request: Request) -> Response:
    """POST …/batches: a complete upload becomes a batch; the answer is its newest receipt."""
    gateway_id = request.path_params["id"]
    access.require_gateway(request, gateway_id)
    platform = platform_of(request)
    identity = _identity(await read_json(request, UploadRef))
    intake = platform.intake
    async with platform.gateway_lock(gateway_id):
        found = None if identity is None else platform.uploads.find(identity)
        done = None if identity is None else intake.index.finished(identity, gateway_id)
        if found is None and done is not None and done.end is not None:
            stored = await asyncio.to_thread(intake.newest_receipt, gateway_id, done.end)
            return JSONResponse(msgspec.to_builtins(stored))
        found = _complete(platform, gateway_id, identity, "bundle")
        with platform.uploads.lock(found), _discarding(platform, found):
            async with platform.intakes:
                path = platform.uploads.path(found)
                stored = await asyncio.to_thread(intake.take_bundle, gateway_id, path, found)
            platform.uploads.remove(found)
    return JSONResponse(msgspec.to_builtins(stored))


async def post_artifact(request: Request) -> Response:
    """POST …/artifacts/{sha256}: a complete upload becomes an artifact; the answer is the newest receipts."""
    gateway_id, sha256 = request.path_params["id"], path_sha256(request)
    access.require_gateway(request, gateway_id)
    platform = platform_of(request)
    identity = _identity(await read_json(request, UploadRef))
    intake = platform.intake
    async with platform.gateway_lock(gateway_id):
        entry = intake.index.artifact(gateway_id, sha256)
        if entry is None:
            raise Refusal("not-named", f"no received batch of {gateway_id} names {sha256}; send its batch first")
        if identity is None or platform.uploads.find(identity) is None:
            if not entry.held:
                raise Refusal("not-found", f"artifact {sha256} is not held and the upload is gone; create it again")
            await asyncio.to_thread(intake.refresh_receipts, gateway_id, sha256)
        else:
            found = _complete(platform, gateway_id, identity, "artifact")
            if found.sha256 != sha256:
                raise Refusal("malformed", f"the upload is of {found.sha256}")
            with platform.uploads.lock(found), _discarding(platform, found):
                async with platform.intakes:
                    path = platform.uploads.path(found)
                    await asyncio.to_thread(intake.take_artifact, gateway_id, sha256, path)
                intake.index.finish(found.id, gateway_id, sha256, found.size_bytes)
                platform.uploads.remove(found)
        receipts = await asyncio.to_thread(intake.receipts_of, gateway_id, sha256)
    return JSONResponse({"receipts": [msgspec.to_builtins(item) for item in receipts]})


@contextlib.contextmanager
def _discarding(platform: Platform, found: Upload) -> Iterator[None]:
    """Throw the upload away where what it holds was refused for good."""
    try:
        yield
    except Refusal as refusal:
        if refusal.code in {"bundle-refused", "hash-differs", "fork"}:
            platform.uploads.remove(found)
        raise


def _complete(platform: Platform, gateway_id: str, identity: str | None, kind: str) -> Upload:
    """The upload, whole and of the right kind. Refusal otherwise."""
    if identity is None:
        raise Refusal("malformed", "upload: expected the path, address or id of an upload")
    found = _find(platform, gateway_id, identity)
    if found.kind != kind:
        raise Refusal("malformed", f"the upload is of kind {found.kind}")
    offset = platform.uploads.offset(found)
    if offset != found.size_bytes:
        detail = f"the upload holds {offset} of {found.size_bytes} bytes"
        raise Refusal("incomplete", detail, members={"offset": offset})
    return found


def _find(platform: Platform, gateway_id: str, identity: str) -> Upload:
    """An unfinished upload of this gateway. Refusal: 404, or 410 where it has expired."""
    found = platform.uploads.find(identity)
    if found is None or found.gateway != gateway_id:
        raise Refusal("not-found", "no such upload; create it again")
    if platform.uploads.expires(found) < platform.now():
        platform.uploads.remove(found)
        raise Refusal("upload-expired", "the upload has expired; create it again")
    return found


def _identity(body: UploadRef) -> str | None:
    """The upload id in a path, an address or a bare id."""
    return None if body.upload is None else body.upload.rpartition("/")[2]


def _progress(platform: Platform, found: Upload) -> dict[str, str]:
    return {
        "upload-offset": str(platform.uploads.offset(found)),
        "upload-expires": format_datetime(platform.uploads.expires(found), usegmt=True),
    }


def _check_version(request: Request) -> None:
    if request.headers.get("tus-resumable") != tus.VERSION:
        detail = f"expected the header Tus-Resumable: {tus.VERSION}"
        raise Refusal("tus-version", detail, headers={"tus-version": tus.VERSION})
