"""The encrypted CP of HJ 212-2025 (appendix H): SM4 in ECB over whole groups of 16 bytes, the rest stays plain.

Written as `{0xE4,0x3E,…}rest` between `CP=&&` and `&&`. The CRC of the frame is that of the plain segment, the length
that of the written one. ECB shows which groups are equal and proves nothing: what comes out is no more trusted.
"""

from __future__ import annotations

import re
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

KEY_BYTES: Final = 16
GROUP_BYTES: Final = 16
_BYTES: Final = re.compile(r"\{(0x[0-9A-Fa-f]{2}(?:, ?0x[0-9A-Fa-f]{2})*),?\}([^&]*)", re.ASCII)


class CipherMissing(RuntimeError):
    """The OpenSSL of this machine has no SM4."""


def _cipher(key: bytes) -> Cipher[modes.ECB]:
    return Cipher(algorithms.SM4(key), modes.ECB())  # noqa: S305  the standard says so


def decrypt(cp: str, key: bytes) -> bytes | None:
    """The plain CP of a written one; None where it is not written so. Raises CipherMissing."""
    found = _BYTES.fullmatch(cp)
    if found is None:
        return None
    sealed = bytes(int(one, 16) for one in found[1].split(","))
    if len(sealed) % GROUP_BYTES:
        return None
    try:
        decryptor = _cipher(key).decryptor()
        plain = decryptor.update(sealed) + decryptor.finalize()
    except UnsupportedAlgorithm as error:
        raise CipherMissing("this machine's OpenSSL has no SM4; encrypted content stays as it is") from error
    return plain + found[2].encode("utf-8", "backslashreplace")


def encrypt(cp: bytes, key: bytes) -> bytes:
    """A CP as it is written under a key. Shorter ones than a group stay plain. Raises CipherMissing."""
    whole = len(cp) // GROUP_BYTES * GROUP_BYTES
    if not whole:
        return cp
    sealed = _sealed(cp[:whole], key)
    return b"{%b}%b" % (b",".join(b"0x%02X" % byte for byte in sealed), cp[whole:])


def padded(text: bytes, key: bytes) -> bytes:
    """SM4-ECB with PKCS#7, as appendix H.1.2 has it for the log-in of the media interface."""
    padder = PKCS7(8 * GROUP_BYTES).padder()
    return _sealed(padder.update(text) + padder.finalize(), key)


def _sealed(plain: bytes, key: bytes) -> bytes:
    try:
        encryptor = _cipher(key).encryptor()
        return encryptor.update(plain) + encryptor.finalize()
    except UnsupportedAlgorithm as error:
        raise CipherMissing("this machine's OpenSSL has no SM4") from error
