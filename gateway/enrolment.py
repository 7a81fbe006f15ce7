"""Keeps what the platform gave at enrolment in the files that the configuration names. Renewal replaces them whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, Protocol

from gateway.config import Config
from gateway.core.errors import ConfigError, Problem

PUBLIC_FILE: Final = 0o644
PRIVATE_FILE: Final = 0o600


def request_of(config: Config) -> bytes:
    """The certificate signing request that `fieldgate init` made beside the key. Raises ConfigError."""
    path = Path(config.keys.key_file).parent / "gateway.csr"
    try:
        return path.read_bytes()
    except OSError as error:
        text = f"cannot be read: {error.strerror}; make it with: fieldgate init"
        raise ConfigError([Problem(str(path), 0, "", text)]) from None


def files_of(config: Config) -> dict[str, Path]:
    """Which file takes which part. Raises ConfigError where the configuration names none for what is needed."""
    named = {
        "keys.certificate_file": config.keys.certificate_file,
        "keys.ca_file": config.keys.ca_file,
    }
    missing = [key for key, value in named.items() if not value]
    if missing:
        raise ConfigError(
            [
                Problem("configuration", 0, key, "missing: enrolment writes the platform's answer there")
                for key in missing
            ]
        )
    optional = {
        "keys.crl_file": config.keys.crl_file,
        "time.tsa_ca_file": config.time.tsa_ca_file,
        "uplink.token_file": config.uplink.token_file,
    }
    return {key: Path(value) for key, value in {**named, **optional}.items() if value}


class Given(Protocol):
    """What the platform gave (uplink.enrol_client.Enrolment), as PEM; "" or b"" where there is nothing."""

    @property
    def certificate(self) -> bytes: ...
    @property
    def ca(self) -> bytes: ...
    @property
    def tsa_ca(self) -> bytes: ...
    @property
    def crl(self) -> bytes: ...
    @property
    def token(self) -> str: ...


def keep_all(config: Config, given: Given) -> list[Path]:
    """Write everything that came; the files written. Raises ConfigError, OSError."""
    files = files_of(config)
    contents = {
        "keys.ca_file": (given.ca, PUBLIC_FILE),
        "keys.crl_file": (given.crl, PUBLIC_FILE),
        "time.tsa_ca_file": (given.tsa_ca, PUBLIC_FILE),
        "uplink.token_file": (given.token.encode() + b"\n" if given.token else b"", PRIVATE_FILE),
        # last: where the certificate stands, everything that belongs to it does
        "keys.certificate_file": (given.certificate, PUBLIC_FILE),
    }
    written = []
    for key, (content, mode) in contents.items():
        if key in files and content:
            keep(files[key], content, mode)
            written.append(files[key])
    return written


class FilesAtStart:
    """The files of enrolment that a gateway reads at start only, to notice that it runs on older ones."""

    def __init__(self, config: Config) -> None:
        keys = config.keys
        named = (keys.certificate_file, keys.ca_file, config.uplink.receipt_ca_file, config.time.tsa_ca_file)
        self._read = {name: _digest(name) for name in named if name}

    def changed(self) -> list[str]:
        """Those that hold something else now."""
        now = {name: _digest(name) for name in self._read}
        return [name for name, digest in now.items() if digest and digest != self._read[name]]


def _digest(name: str) -> str:
    """ "" where there is no such file."""
    try:
        return hashlib.sha256(Path(name).read_bytes()).hexdigest()
    except OSError:
        return ""


def keep(path: Path, content: bytes, mode: int) -> None:
    """Replace a file durably: whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
