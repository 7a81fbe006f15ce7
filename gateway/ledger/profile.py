"""The bundle profile: which files may be in a bundle, under which names, in which order, how large.

A bundle is a valid BagIt 1.0 bag (RFC 8493) of a narrower kind (FORMAT.md, "Bundle").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal, Self

from gateway.ledger import grammar
from gateway.ledger.grammar import FormatError

FORMAT_VERSION: Final = "evidence/v1"
BundleType = Literal["batch", "export"]

BAGIT_TXT: Final = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"

BAGIT: Final = "bagit.txt"
BAG_INFO: Final = "bag-info.txt"
MANIFEST: Final = "manifest-sha256.txt"
TAGMANIFEST: Final = "tagmanifest-sha256.txt"
TAGMANIFEST_P7S: Final = "tagmanifest-sha256.txt.p7s"
RECORDS: Final = "data/records.jsonl"
ARTIFACTS: Final = "data/artifacts/"
CERTS: Final = "proof/certs/"
CRL: Final = "proof/crl.pem"
CHECKPOINT: Final = "proof/checkpoint"
FRONTIER: Final = "proof/frontier"
LEAVES: Final = "proof/leaves"

FOLDERS: Final = frozenset({"data", "data/artifacts", "proof", "proof/certs"})
MEMBERS_MAX: Final = 100_000
TAGS_MAX_BYTES: Final = 134_217_728
"""All tag files but proof/leaves together: they are held in memory."""
TAG_SIZE_MAX_BYTES: Final = 33_554_432
"""Largest tag file; proof/leaves, which is streamed, may be larger."""

EXTENSION: Final = r"(?:\.[a-z0-9]{1,8})?"
_HEAD: Final = (BAGIT, BAG_INFO, MANIFEST, TAGMANIFEST, TAGMANIFEST_P7S)
_COMMON: Final = rf"proof/crl\.pem|proof/certs/[a-z0-9-]{{1,40}}\.pem|data/artifacts/{grammar.HEX_SHA256}{EXTENSION}"
_NAMES: Final[Mapping[BundleType, re.Pattern[str]]] = {
    "batch": re.compile(
        r"data/records\.jsonl|proof/(?:checkpoint|frontier|leaves)|proof/seal\.txt(?:\.p7s(?:\.tsr)?)?"
        rf"|proof/receipt\.txt(?:\.p7s)?|proof/receipt-artifacts\.txt|{_COMMON}"
    ),
    "export": re.compile(
        rf"data/record-{grammar.NUMBER}\.json|proof/record-{grammar.NUMBER}\.tlog-proof"
        rf"|proof/seal-{grammar.NUMBER}\.txt(?:\.p7s(?:\.tsr)?)?|proof/receipt-{grammar.NUMBER}\.txt(?:\.p7s)?"
        rf"|proof/receipt-{grammar.NUMBER}-artifacts\.txt|{_COMMON}"
    ),
}
_REQUIRED: Final[Mapping[BundleType, frozenset[str]]] = {
    "batch": frozenset((*_HEAD, RECORDS, CHECKPOINT, FRONTIER, LEAVES, "proof/seal.txt", "proof/seal.txt.p7s")),
    "export": frozenset(_HEAD),
}
BAG_NAME: Final = rf"{grammar.GATEWAY_ID}_(?:batch|records)_{grammar.NUMBER}-{grammar.NUMBER}(?:_{grammar.NUMBER})?"
_BAG_INFO: Final = re.compile(
    rf"Bundle-Type: (batch|export)\n"
    rf"Fieldgate-Format: (evidence/v[0-9]+)\n"
    rf"External-Identifier: ({BAG_NAME})\n"
    rf"Bagging-Date: ([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})\n"
    rf"Payload-Oxum: ({grammar.NUMBER})\.({grammar.NUMBER})\n"
    rf"((?:Pending-Artifact: {grammar.HEX_SHA256} {grammar.NUMBER}\n)*)"
)
_MANIFEST: Final = re.compile(rf"(?:{grammar.HEX_SHA256}  [a-z0-9._/-]{{1,200}}\n)*")
_extension = re.compile(r"\.[a-z0-9]{1,8}")


def member_order(name: str) -> tuple[int, str]:
    """Sort key of the fixed order: the five bag files, proof, records, artifacts."""
    if name in _HEAD:
        return _HEAD.index(name), ""
    if not name.startswith("data/"):
        return 5, name
    return (7 if name.startswith(ARTIFACTS) else 6), name


def is_known_name(name: str) -> bool:
    """Whether any bundle type allows a file of this name."""
    return name in _HEAD or any(pattern.fullmatch(name) for pattern in _NAMES.values())


def check_names(names: Iterable[str], bundle: BundleType) -> None:
    """Raise FormatError for a file that the type of bundle does not allow, or one that is missing."""
    present = set(names)
    for name in sorted(_REQUIRED[bundle] - present):
        raise FormatError(f"{name} is missing")
    for name in sorted(present - set(_HEAD)):
        if not _NAMES[bundle].fullmatch(name):
            raise FormatError(f"{name} does not belong into a {bundle} bundle")


def extension_of(name: str) -> str:
    """Extension to keep from an original file name: lower case, '' where it is outside the profile."""
    dot = name.rfind(".")
    suffix = name[dot:].lower() if dot > 0 else ""
    return suffix if _extension.fullmatch(suffix) else ""


def artifact_of(name: str) -> str:
    """The sha256 in the name of an artifact file."""
    return name[len(ARTIFACTS) : len(ARTIFACTS) + 64]


@dataclass(frozen=True, slots=True)
class BagInfo:
    """bag-info.txt. `pending` maps sha256 to size of the artifacts that are not inside."""

    bundle: BundleType
    name: str
    """External-Identifier; also the top folder inside a tar."""
    bagging_date: date
    payload_bytes: int
    payload_files: int
    pending: Mapping[str, int]

    def encode(self) -> bytes:
        """The bytes of bag-info.txt."""
        lines = [
            f"Bundle-Type: {self.bundle}\n",
            f"Fieldgate-Format: {FORMAT_VERSION}\n",
            f"External-Identifier: {self.name}\n",
            f"Bagging-Date: {self.bagging_date.isoformat()}\n",
            f"Payload-Oxum: {self.payload_bytes}.{self.payload_files}\n",
        ]
        lines += [f"Pending-Artifact: {digest} {self.pending[digest]}\n" for digest in sorted(self.pending)]
        return "".join(lines).encode("ascii")

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Accepts exactly what `encode` writes. Raises FormatError for anything else."""
        match = _BAG_INFO.fullmatch(grammar.text_of(content, BAG_INFO, TAG_SIZE_MAX_BYTES))
        if match is None:
            raise FormatError(f"{BAG_INFO}: not the tags of a Fieldgate bundle")
        bundle, version, name, bagging_date, payload_bytes, payload_files, pending = match.groups()
        if version != FORMAT_VERSION:
            raise FormatError(f"{BAG_INFO}: format {version} is not known here; use a newer Fieldgate")
        rows = [line.split(" ")[1:] for line in pending.splitlines()]
        try:
            day = date.fromisoformat(bagging_date)
        except ValueError:
            raise FormatError(f"{BAG_INFO}: {bagging_date} is not a date") from None
        result = cls(
            bundle="batch" if bundle == "batch" else "export",
            name=name,
            bagging_date=day,
            payload_bytes=grammar.number(payload_bytes),
            payload_files=grammar.number(payload_files),
            pending={digest: grammar.number(size) for digest, size in rows},
        )
        if result.encode() != content:
            raise FormatError(f"{BAG_INFO}: pending artifacts are not sorted, or one is named twice")
        return result


def encode_manifest(digests: Mapping[str, str]) -> bytes:
    """``<sha256>  <name>`` per line, sorted by name."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode("ascii")


def parse_manifest(content: bytes, what: str) -> dict[str, str]:
    """sha256 by name; accepts exactly what `encode_manifest` writes. Raises FormatError for anything else."""
    text = grammar.text_of(content, what, TAG_SIZE_MAX_BYTES)
    if not _MANIFEST.fullmatch(text):
        raise FormatError(f"{what}: expected lines of '<sha256>  <name>'")
    digests = {line[66:]: line[:64] for line in text.splitlines()}
    if encode_manifest(digests) != content:
        raise FormatError(f"{what}: not sorted by name, or a file is named twice")
    return digests
