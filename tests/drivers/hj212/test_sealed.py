"""SM4 of 2025: the example of the standard, the way it is written, keys that rotate and stay secret."""

import base64

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from hypothesis import given
from hypothesis import strategies as st

from drivers.hj212 import keys, sm4
from drivers.hj212.codec import Decoder, Frame, Message, encode, opened, parse_frame
from drivers.hj212.keys import Key, KeyRing, WatchedKeys
from gateway.core.errors import ConfigError
from tests.drivers.hj212.talk import Talk, devices_file, messages_of

KEY = b"msbE74gsiSHSEh5e"
MN = "0A10000000000000FD010001"
CP = "DataTime=20260302183000;a34041-Rtd=0.77,a34041-Flag=N;SB7-RS=1"


def message(cp: str = CP, flag: int = 9) -> Message:
    return Message("20260302183000123", "31", "2011", "123456", MN, flag, cp=cp)


def frame_of(raw: bytes) -> Frame:
    (found,) = [*Decoder().feed(raw)]
    assert isinstance(found, Frame)
    return found


def test_the_example_of_appendix_h():
    """H.1.2: user and password of the media interface, PKCS#7, base64."""
    sealed = sm4.padded(b"testuser:AezF0nZRs4kypuGO", KEY)
    assert base64.b64encode(sealed) == b"LG/m7lsFU/taig+vbQsDJXy4NGAaE2j2lplPwhZM7iM="


def test_whole_groups_are_written_as_bytes_and_the_rest_stays():
    written = sm4.encrypt(b"0123456789abcdefXYZ", KEY)
    assert written.startswith(b"{0x")
    assert written.endswith(b"}XYZ")
    assert written.count(b"0x") == 16
    assert sm4.decrypt(written.decode(), KEY) == b"0123456789abcdefXYZ"
    assert sm4.encrypt(b"short", KEY) == b"short"


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="&{}"), max_size=900))
def test_what_is_encrypted_is_decrypted(text):
    written = sm4.encrypt(text.encode(), KEY).decode()
    assert (sm4.decrypt(written, KEY) if len(text) > 15 else written.encode()) == text.encode()


@pytest.mark.parametrize("text", ["", "{0x}", "{0xE4}", "{0xE4,0x3E}tail", "{0xE4", "DataTime=1", "{0xG4}"])
def test_what_is_not_written_so_is_none(text):
    assert sm4.decrypt(text, KEY) is None


def test_the_crc_is_that_of_the_plain_text_and_the_length_that_of_the_written_one():
    plain, sealed = encode(message()), encode(message(), key=KEY)
    assert sealed[-6:] == plain[-6:]
    assert int(sealed[2:6]) == len(sealed) - 12
    frame = frame_of(sealed)
    assert frame.crc == "plain"
    found = parse_frame(frame)
    assert found.is_encrypted
    assert (found.mn, found.params, found.factors) == (MN, {}, [])
    result = opened(frame, found, KEY)
    assert result == (plain[6:-6], True)


def test_a_wrong_key_gives_nothing():
    frame = frame_of(encode(message(), key=KEY))
    assert opened(frame, parse_frame(frame), b"0123456789abcdef") is None


def test_a_damaged_text_is_told_from_a_wrong_key():
    sealed = encode(message(), key=KEY)
    frame = frame_of(sealed[:-6] + (b"0000" if sealed[-6:-2] != b"0000" else b"0001"))
    result = opened(frame, parse_frame(frame), KEY)
    assert result is not None
    assert result[1] is False


def ring(*rows: tuple[str, str, str]) -> KeyRing:
    found = []
    for secret, start, end in rows:
        found.append((MN, Key(secret.encode(), keys._start(start, 0) or 0, keys._start(end, 2**62) or 0)))
    return KeyRing(found)


def test_the_key_in_force_is_tried_first_then_the_nearest():
    found = ring(("old", "2026-01-01", "2026-04-01"), ("now", "2026-04-01", "2026-07-01"), ("new", "2026-07-01", ""))
    day = 86_400
    april = keys._start("2026-04-01", 0) or 0
    assert found.tried(MN, april) == [b"now", b"old", b"new"]
    assert found.tried(MN, april - 1) == [b"old", b"now", b"new"]
    assert found.tried(MN, april + 100 * day) == [b"new", b"now", b"old"]
    assert found.tried("other", april) == []
    assert len(found) == 3


def test_a_keys_file_is_read_and_read_again(tmp_path):
    path = tmp_path / "keys.toml"
    text = f'format = "hj212-keys/v1"\n[[key]]\nmn = "{MN}"\nkey = "{KEY.decode()}"\nto = "2026-04-01"\n'
    path.write_text(text)
    watched = WatchedKeys(path)
    assert watched.current.tried(MN, 0) == [KEY]
    assert not watched.refresh()
    path.write_text(text + f'[[key]]\nmn = "{MN}"\nkey = "{KEY.hex()}"\nfrom = "2026-04-01"\n')
    assert watched.refresh()
    assert watched.current.tried(MN, 0) == [KEY, KEY]
    path.write_text("format = 1")
    assert not watched.refresh()
    assert "format" in watched.error
    assert len(watched.current) == 2
    path.write_text(text)
    assert watched.refresh()
    assert watched.error == ""


def test_no_keys_file_gives_no_keys():
    assert len(WatchedKeys("").current) == 0
    assert not WatchedKeys("").refresh()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('key = "short"', "key[0].key: is neither 16 characters nor 32 hex digits"),
        ('key = "msbE74gsiSHSEh5e"\nfrom = "2026-02-30"', "key[0].from: is no day of the calendar"),
        ('key = "msbE74gsiSHSEh5e"\nfrom = "2026-02-03"\nto = "2026-02-03"', "key[0].to: is not after from"),
        ('key = "msbE74gsiSHSEh5e"\ntill = ""', "till"),
    ],
)
def test_mistakes_in_a_keys_file_are_named_without_its_keys(tmp_path, lines, said):
    path = tmp_path / "keys.toml"
    path.write_text(f'format = "hj212-keys/v1"\n[[key]]\nmn = "{MN}"\n{lines}\n')
    with pytest.raises(ConfigError) as caught:
        keys.load(path)
    assert said in str(caught.value)
    assert "short" not in str(caught.value)
    assert "msbE" not in str(caught.value)


def test_a_key_is_not_in_what_is_printed():
    assert "secret" not in repr(Key(b"secret-secret-se", 0, 1)).replace("Key(", "")


def test_what_is_too_long_once_encrypted_is_refused():
    with pytest.raises(ValueError, match="divide it"):
        encode(message("x" * 2000), key=KEY)


def test_a_crc_over_the_written_text_is_taken_and_labelled(tmp_path):
    talk = Talk(devices_file(tmp_path), keys=KeyRing([(MN, Key(KEY, 0, 2**62))]))
    device = talk.monitor(flag=9)
    device.send("2011", sm4.encrypt(CP.encode(), KEY).decode())
    (data,) = talk.data()
    assert data["deviations"] == "crc-of-cipher"
    assert data["values"][0]["value_e6"] == 770_000


@pytest.mark.parametrize("cp", ["{0xZZ}", "{0xE4,0x3E}tail", "{0x"])
def test_what_only_looks_encrypted_is_kept(tmp_path, cp):
    talk = Talk(devices_file(tmp_path), keys=KeyRing([(MN, Key(KEY, 0, 2**62))]))
    assert len(messages_of(talk.monitor(flag=9).send("2011", cp))) == 1
    (data,) = talk.data()
    assert data["problem"] == "no key fits"


def test_a_machine_without_sm4_keeps_what_it_cannot_open(tmp_path, monkeypatch):
    def missing(_key: bytes) -> None:
        raise UnsupportedAlgorithm("no SM4")

    talk = Talk(devices_file(tmp_path), keys=KeyRing([(MN, Key(KEY, 0, 2**62))]))
    device = talk.monitor(flag=9, key=KEY)
    frame = device.frame("2011", CP)
    monkeypatch.setattr(sm4, "_cipher", missing)
    assert len(messages_of(device.raw(frame))) == 1
    (data,) = talk.data()
    assert data["problem"] == "this machine's OpenSSL has no SM4; encrypted content stays as it is"
    with pytest.raises(sm4.CipherMissing):
        sm4.padded(b"x", KEY)
