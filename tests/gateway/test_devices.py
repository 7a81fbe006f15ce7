"""The devices file: classes, identities, every mistake with its line, and changes while the gateway runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway import devices
from gateway.core.errors import ConfigError
from gateway.devices import Watched, load

SOUND = """format = "devices/v1"

[[class]]
id = "muck-truck"
title = "渣土车"
profile = "muck-egs701"

[[class]]
id = "officer"
title = "对讲型执法记录仪"
privacy = "process"
profile = "intercom"
judged = false

[[class]]
id = "new-truck"
enrolment = "open"
profile = "auto"
open_to = ["FGSIM/*"]

[[device]]
id = "13857300417"
class = "muck-truck"
plate = "浙F12345"
firm = "平湖渣土运输有限公司"
code = "secret"
interval_s = 30

[[device]]
id = "13857300418"
class = "muck-truck"
profile = "jt808"

[[device]]
id = "860012345678903"
class = "officer"
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "devices.toml"
    path.write_text(SOUND, "utf-8")
    return path


def problems(path: Path, text: str) -> list[str]:
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [f"{problem.line}: {problem.key}: {problem.message}" for problem in caught.value.problems]


def test_a_whole_file(file):
    found = load(file)
    truck = found.find("13857300417")
    assert truck is not None
    assert (truck.plate, truck.firm, truck.interval_s) == ("浙F12345", "平湖渣土运输有限公司", 30)
    assert truck.code == "secret"
    assert "secret" not in repr(found)
    kind = found.class_of(truck.device_class)
    assert (kind.privacy, kind.judged, found.profile_of(truck, kind)) == ("open", True, "muck-egs701")
    other = found.find("13857300418")
    assert other is not None
    assert found.profile_of(other, kind) == "jt808"
    officer = found.find("860012345678903")
    assert officer is not None
    assert found.class_of(officer.device_class).privacy == "process"
    assert not found.class_of(officer.device_class).judged
    assert found.find("13857300419") is None
    assert len(found.sha256) == 64


def test_profiles_come_loaded_and_auto_brings_all_of_them(file):
    found = load(file)
    assert {"jt808", "muck-egs701", "muck-cmsv6", "intercom"} <= set(found.profiles)
    assert "nmea" not in found.profiles
    assert found.profiles["muck-egs701"].ref.id == "muck-egs701"
    file.write_text(SOUND.replace('profile = "auto"', 'profile = "muck-hik"'), "utf-8")
    assert set(load(file).profiles) == {"jt808", "muck-egs701", "muck-hik", "intercom"}


def test_open_classes_take_by_maker_and_model_in_the_order_of_the_file(file):
    found = load(file)
    taken = found.open_class("FGSIM", "EGS701-MUCK")
    assert taken is not None
    assert taken.id == "new-truck"
    assert found.profile_of(None, taken) == "auto"
    assert found.open_class("OTHER", "X1") is None
    file.write_text(SOUND + '\n[[class]]\nid = "rest"\nenrolment = "open"\n', "utf-8")
    rest = load(file).open_class("OTHER", "X1")
    assert rest is not None
    assert rest.id == "rest"


def test_without_a_file_everything_is_unlisted():
    found = load("")
    kind = found.open_class("any", "thing")
    assert kind is not None
    assert (kind.id, kind.privacy, kind.profile, kind.judged) == ("unlisted", "open", "jt808", True)
    assert found.find("13857300417") is None
    assert set(found.profiles) == {"jt808"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('privacy = "process"', 'privacy = "proces"', '11: class[1].privacy: expected "open" or "process"'),
        ('profile = "intercom"', 'profile = "intercm"', "12: class[1].profile: no tracker profile 'intercm'; did you"),
        ('profile = "intercom"', 'profile = "dsj"', "12: class[1].profile: no tracker profile 'dsj'; known: "),
        ('profile = "intercom"', 'profile = "nmea"', "12: class[1].profile: 'nmea' is for nmea receivers"),
        ("open_to = [", "open_too = [", "19: class[2].open_too: unknown key; did you mean open_to?"),
        ('["FGSIM/*"]', '["FGSIM"]', "19: class[2].open_to[0]: 'FGSIM' is not maker/model; write such as 'FGSIM/*'"),
        ('enrolment = "open"\n', "", "18: class[2].open_to: has no effect; add enrolment"),
        ('id = "officer"', 'id = "muck-truck"', "9: class[1].id: 'muck-truck' is already the id of class[0]"),
        ('id = "officer"', 'id = "Officer"', "9: class[1].id: expected 1 to 32 of a-z"),
        ('"13857300418"', '"13857300417"', "30: device[1].id: '13857300417' is already listed as device[0]"),
        ('"13857300418"', "13857300418", "30: device[1].id: expected an identity in quotes"),
        ('"13857300418"', '"013857300418"', "30: device[1].id: leading zeros only fill the phone field; write '138573"),
        ('class = "officer"', 'class = "oficer"', "36: device[2].class: no class 'oficer' in this file; did you mean"),
        ("interval_s = 30", "interval_s = 0", "27: device[0].interval_s: expected a whole number of seconds from 1"),
        ("interval_s = 30", "intervall_s = 30", "27: device[0].intervall_s: unknown key; did you mean interval_s?"),
        ('"devices/v1"', '"devices/v2"', '1: format: expected "devices/v1"'),
        ('plate = "浙F12345"', f'plate = "{"x" * 65}"', "24: device[0].plate: expected text of at most 64 characters"),
    ],
)
def test_a_mistake_is_named_with_its_line(file, old, new, expected):
    assert old in SOUND
    found = problems(file, SOUND.replace(old, new, 1))
    assert any(line.startswith(expected) for line in found), found


def test_every_mistake_at_once_in_the_order_of_the_file(file):
    text = SOUND.replace('"process"', '"x"').replace('class = "officer"', 'class = "y"').replace("v1", "v0")
    found = problems(file, text)
    assert [int(line.partition(":")[0]) for line in found] == [1, 11, 36]


def test_an_open_class_behind_one_that_takes_all_is_never_reached(file):
    text = SOUND.replace('open_to = ["FGSIM/*"]\n', "") + '\n[[class]]\nid = "late"\nenrolment = "open"\n'
    assert "class 'new-truck' above takes every terminal" in problems(file, text)[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", 'format: missing; expected "devices/v1"'),
        (b'format = "devices/v1"', "class: missing; at least one"),
        (b"\xff", "not UTF-8"),
        (b"a = = 1", "not TOML"),
        (b"a = " + b"9" * 5000, "not TOML"),
        (b"a = " + b"[" * 5000, "nested too deeply"),
        (b"#" * 2_000_000, "larger than"),
    ],
)
def test_what_is_no_devices_file(file, content, message):
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load(file)


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"/nowhere/devices\.toml: no such file; DEVICES\.md"):
        load("/nowhere/devices.toml")


def test_a_profile_with_mistakes_is_named_with_its_own_line(file, tmp_path):
    (tmp_path / "mine.toml").write_text('format = "tracker/v1"\nid = "mine"\ntitle = 7\nsource = "x"\n')
    file.write_text(SOUND.replace('"intercom"', '"mine"'), "utf-8")
    with pytest.raises(ConfigError, match=r"mine\.toml:3: title: expected"):
        load(file, [tmp_path])


def test_texts_come_in_normal_form_c(file):
    file.write_text(SOUND.replace("浙F12345", "A\u0308 1"), "utf-8")
    truck = load(file).find("13857300417")
    assert truck is not None
    assert truck.plate == "Ä 1"


def test_a_changed_file_comes_into_force_and_a_wrong_one_does_not(file):
    watched = Watched(file)
    first = watched.current
    assert not watched.refresh()
    file.write_text(SOUND.replace("interval_s = 30", "interval_s = 60"), "utf-8")
    assert watched.refresh()
    second = watched.current
    assert second.devices["13857300417"].interval_s == 60
    assert second.sha256 != first.sha256

    file.write_text(SOUND.replace('class = "officer"', 'class = "oficer"'), "utf-8")
    assert not watched.refresh()
    assert watched.current is second
    assert "device[2].class: no class 'oficer'" in watched.error
    assert not watched.refresh()  # said once, not read again

    file.write_text(SOUND, "utf-8")
    assert watched.refresh()
    assert watched.error == ""
    assert watched.current.sha256 == first.sha256


def test_a_file_that_is_gone_or_replaced(file, tmp_path):
    watched = Watched(file)
    file.rename(tmp_path / "away")
    assert not watched.refresh()
    assert "no such file" in watched.error
    assert watched.current.find("13857300417")
    other = tmp_path / "new"
    other.write_text(SOUND.replace("13857300417", "13857300410"), "utf-8")
    stamp = (tmp_path / "away").stat()
    os.utime(other, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as `cp -p` would: only the inode differs
    other.rename(file)
    assert watched.refresh()
    assert watched.current.find("13857300410")


def test_touching_changes_nothing_in_force(file):
    watched = Watched(file)
    os.utime(file, ns=(1, 1))
    assert not watched.refresh()
    assert watched.error == ""


def test_watching_no_file():
    watched = Watched("")
    assert not watched.refresh()
    assert watched.current.open_class("", "")


def test_a_file_that_is_wrong_at_the_start_is_refused(file):
    file.write_text("x")
    with pytest.raises(ConfigError):
        Watched(file)


def test_a_thousand_devices_keep_their_lines(file):
    rows = "".join(f'\n[[device]]\nid = "{13900000000 + n}"\nclass = "muck-truck"\n' for n in range(1000))
    file.write_text(SOUND + rows, "utf-8")
    assert len(load(file).devices) == 1003
    found = problems(file, SOUND + rows + '\n[[device]]\nid = "13900000500"\nclass = "muck-truck"\n')
    line = SOUND.count("\n") + 4 * 1000 + 3
    assert found == [f"{line}: device[1003].id: '13900000500' is already listed as device[503]; keep one"]


def test_the_default_class_is_what_the_document_says():
    text = (Path(devices.__file__).parent / "DEVICES.md").read_text("utf-8")
    for word in ("`unlisted`", "`auto`", "120", "process", "渣土车", "对讲型执法记录仪"):
        assert word in text, word


def test_the_examples_in_the_document_are_sound(tmp_path):
    text = (Path(devices.__file__).parent / "DEVICES.md").read_text("utf-8")
    block = text.partition("```toml\n")[2].partition("```")[0]
    path = tmp_path / "devices.toml"
    path.write_text(block, "utf-8")
    found = load(path)
    assert set(found.classes) == {"muck-truck", "works-vehicle", "officer", "new-truck"}


def test_every_key_is_in_the_document():
    text = (Path(devices.__file__).parent / "DEVICES.md").read_text("utf-8")
    from gateway.toml_check import every_key

    assert not [key for _, key in every_key(devices.SCHEMA) if f"`{key}`" not in text]


MONITORS = """format = "devices/v1"
[[class]]
id = "fume-monitor"
profile = "fume-d1"
[[class]]
id = "plain"
[[class]]
id = "new"
enrolment = "open"
open_to = ["*/YD8*"]
[[device]]
id = "01234567890123"
class = "fume-monitor"
site = "kitchen-1"
crc = "modbus_low_byte_first"
"""


def test_a_file_of_monitors(tmp_path):
    path = tmp_path / "monitors.toml"
    path.write_text(MONITORS)
    found = load(path, (), "hj212")
    device = found.find("01234567890123")
    assert device is not None
    assert (device.site, device.crc) == ("kitchen-1", "modbus_low_byte_first")
    assert found.classes["plain"].profile == "hj212"
    assert set(found.monitors) == {"hj212", "fume-d1"}
    assert found.profiles == {}
    opened = found.open_class("", "YD80001")
    assert opened is not None
    assert opened.id == "new"
    assert found.open_class("", "XX80001") is None
    path.write_text(MONITORS + "\n")
    watched = Watched(path, (), "hj212")
    path.write_text(MONITORS.replace("kitchen-1", "kitchen-2"))
    assert watched.refresh()


def test_without_a_file_monitors_have_the_plain_profile():
    found = load("", (), "hj212")
    assert found.classes["unlisted"].profile == "hj212"
    assert set(found.monitors) == {"hj212"}


@pytest.mark.parametrize(
    ("protocol", "text", "said"),
    [
        ("hj212", MONITORS.replace("fume-d1", "jt808"), "no monitor profile 'jt808'"),
        ("hj212", MONITORS.replace("fume-d1", "auto"), "no monitor profile 'auto'"),
        ("jt808", MONITORS.replace("fume-d1", "jt808"), "device[0].crc: is for monitors of HJ 212; take it out"),
        ("jt808", MONITORS.replace("fume-d1", "jt808"), "device[0].id: leading zeros only fill the phone field"),
    ],
)
def test_each_protocol_has_its_own(tmp_path, protocol, text, said):
    path = tmp_path / "devices.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, (), protocol)
    assert said in str(caught.value)
