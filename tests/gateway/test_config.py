"""Loading a configuration: every problem at once, each with its line; and CONFIG.md says what the structs say."""

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from gateway import config, toml_check
from gateway.config_sources import StationFolderConfig, StationHttpConfig
from gateway.core.errors import ConfigError, Problem
from tests.conftest import ROOT

GOOD = """\
profile_dirs = ["profiles"]
[gateway]
id = "box-1"
[storage]
state_dir = "state"
[keys]
key_file = "/etc/keys/../keys/k.pem"
ca_file = "ca.pem"
[[source]]
type = "station-folder"
name = "station-1"
path = "mnt"
poll_s = 3
[[source]]
type = "station-http"
name = "station-2"
url = "http://192.0.2.1:8080/list"
profile = "own/x.toml"
station = "S2"
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "fieldgate.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(path: Path, known: config.KnownProfiles | None = None) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigError) as error:
        config.load(path, known)
    assert all(problem.file == str(path) for problem in error.value.problems)
    assert all("\n" not in str(problem) for problem in error.value.problems)
    return [(problem.line, problem.key, problem.message) for problem in error.value.problems]


def test_a_good_file_with_paths_and_defaults_filled_in(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, GOOD))
    assert loaded.storage.state_dir == str(tmp_path / "state")
    assert loaded.storage.spool_dir == str(tmp_path / "state" / "spool")
    assert loaded.keys.key_file == "/etc/keys/k.pem"
    assert loaded.uplink.receipt_ca_file == loaded.keys.ca_file == str(tmp_path / "ca.pem")
    assert loaded.uplink.ca_file == ""
    assert loaded.profile_dirs == [str(tmp_path / "profiles")]
    folder, http = loaded.source
    assert isinstance(folder, StationFolderConfig)
    assert (folder.path, folder.station, folder.poll_s) == (str(tmp_path / "mnt"), "station-1", 3)
    assert isinstance(http, StationHttpConfig)
    assert (http.profile, http.station) == (str(tmp_path / "own" / "x.toml"), "S2")


def test_relative_paths_do_not_depend_on_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    write(tmp_path / "etc", GOOD)
    monkeypatch.chdir(tmp_path)
    assert config.load("etc/fieldgate.toml").storage.state_dir == str(tmp_path / "etc" / "state")


EVERYTHING_WRONG = """\
gatway = 1
[gateway]
id = "Box 1"
[storage]
state_dir = 5
high_water_percent = 100
spool_quota_bytes = "20 GB"
[keys]
certificate_file = "c.pem"
[seal]
max_records = true
idle_age_s = 1
bogus = { a = 1 }
scrub_interval_h = 1
[uplink]
url = "htp://x"
retry_mx_s = 3
artifacts = "pull"
client_certificate = "yes"
[api]
listen = "8443"
[[source]]
type = "station-foldr"
name = "x"
[[source]]
type = "station-folder"
name = "a"
path = "/mnt"
profile = "dsk"
[[source]]
type = "station-folder"
name = "a"
poll_s = inf
[[source]]
name = "b"
[[source]]
type = "station-http"
name = "gateway"
url = "https://user:secret@192.0.2.1/"
"""


def test_every_problem_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    found = problems(write(tmp_path, EVERYTHING_WRONG), lambda dirs: {"dsj", "generic", "generic-http"})
    expected = [
        (1, "gatway", "did you mean gateway?"),
        (3, "gateway.id", "expected 1 to 63 of a-z"),
        (5, "storage.state_dir", "expected a path, found 5"),
        (6, "storage.high_water_percent", "expected a whole number of percent from 1 to 99, found 100"),
        (7, "storage.spool_quota_bytes", "expected a whole number of bytes from 0 to"),
        (8, "keys.key_file", "missing; expected a path"),
        (11, "seal.max_records", "found true"),
        (12, "seal.idle_age_s", "must not be below max_age_s, 60"),
        (13, "seal.bogus", "unknown key; known here: max_records"),
        (14, "seal.scrub_interval_h", "it belongs in [retention]"),
        (15, "uplink.receipt_ca_file", "no receipt can be verified"),
        (16, "uplink.url", "expected an address"),
        (17, "uplink.retry_mx_s", "did you mean retry_max_s?"),
        (18, "uplink.artifacts", 'expected "on-request" or "push", found \'pull\''),
        (19, "uplink.client_certificate", "expected true or false"),
        (20, "api.certificate_file", "TLS only"),
        (20, "api.client_ca_file", "or token_file"),
        (20, "api.key_file", "TLS only"),
        (21, "api.listen", "expected address:port"),
        (23, "source[0].type", "did you mean station-folder?"),
        (29, "source[1].profile", "no profile 'dsk'; did you mean dsj?"),
        (30, "source[2].path", "missing; expected a path"),
        (32, "source[2].name", "already the name of source[1]"),
        (33, "source[2].poll_s", "expected a number of seconds from 0.1 to 86400, found inf"),
        (34, "source[3].type", "missing; expected station-folder or station-http"),
        (38, "source[4].name", "names the gateway itself"),
        (39, "source[4].url", "must not hold a user name or password"),
    ]
    assert [(line, key) for line, key, _ in sorted(found)] == [(line, key) for line, key, _ in expected]
    for (_, key, message), (_, _, wanted) in zip(sorted(found), expected, strict=True):
        assert wanted in message, key


LISTENER = '[api]\nlisten = "::1:8443"\ncertificate_file = "c"\nkey_file = "k"\ntoken_file = "t"\n'
CERTIFIED = 'certificate_file = "c.pem"\n[uplink]\nurl = "https://x/"'


@pytest.mark.parametrize(
    ("old", "new", "key", "at", "message"),
    [
        ('"box-1"', '"a..b"', "gateway.id", "id =", "'..'"),
        ('[gateway]\nid = "box-1"\n', "", "gateway.id", None, "missing; expected 1 to 63"),
        ('id = "box-1"\n', "", "gateway.id", "[gateway]", "missing; expected 1 to 63"),
        ("[[source]]", "[[gateway.source]]", "gateway.source", "[[gateway.source]]", "unknown key; known here: id"),
        ('"profiles"]', '"profiles", 3]', "profile_dirs[1]", "profile_dirs", "expected text on one line, found 3"),
        ('["profiles"]', '"profiles"', "profile_dirs", "profile_dirs", "expected a list, found 'profiles'"),
        ("poll_s = 3", "poll_s = 0.05", "source[0].poll_s", "poll_s", "found 0.05"),
        ('"mnt"', '"a\\nb"', "source[0].path", "path =", "expected a path, found 'a"),
        ('"own/x.toml"', '"./y.toml"', "source[1].profile", "profile =", "no such file"),
        ('ca_file = "ca.pem"', CERTIFIED, "uplink.receipt_ca_file", "[uplink]", "no receipt can be verified"),
        (
            'state_dir = "state"',
            "state_dir = 's'\nreserve_bytes = 20_000_000_000",
            "storage.reserve_bytes",
            "reserve",
            "half",
        ),
        ("[keys]", LISTENER + "[keys]", "api.listen", "listen", "IPv6 in brackets"),
        (
            "[keys]",
            "[retention]\nartifact_days_when_full = 31\n[keys]",
            "retention.artifact_days_when_full",
            "full",
            "30",
        ),
        ("[keys]", "[uplink]\nretry_min_s = 400\n[keys]", "uplink.retry_max_s", "[uplink]", "retry_min_s, 400"),
        ("[keys]", '[uplink]\nurl = "https://x/?a=1"\n[keys]', "uplink.url", "url", "query"),
        ("[keys]", '[uplink]\nurl = "https://x:99999/"\n[keys]', "uplink.url", "url", "expected an address"),
        ("[keys]", '[time]\ntsa_url = "tsa"\n[keys]', "time.tsa_url", "tsa_url", "expected an address"),
        ('"mnt"', '"state/spool/in"', "source[0].path", "path =", "its own files"),
        ('"mnt"', '"."', "source[0].path", "path =", "its own files"),
        ('"mnt"', '"/"', "source[0].path", "path =", "its own files"),
        (
            "poll_s = 3",
            'poll_s = 3\n[[source]]\ntype = "station-folder"\nname = "again"\npath = "./mnt"\nprofile = "dsj"',
            "source[1].path",
            'path = "./mnt"',
            "'station-1' reads it already",
        ),
    ],
)
def test_single_problems(tmp_path: Path, old: str, new: str, key: str, at: str | None, message: str) -> None:
    """`at` is on the line that is to be named; None where no line says it."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "x.toml").write_text("")
    text = GOOD.replace(old, new)
    line = 0 if at is None else next(n for n, one in enumerate(text.splitlines(), 1) if at in one)
    found = {where: (found_line, what) for found_line, where, what in problems(write(tmp_path, text), known)}
    assert found[key][0] == line
    assert message in found[key][1]


def known(dirs: Sequence[str]) -> set[str]:
    return {"generic", "generic-http"}


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"a = \n", 1, "not TOML: Invalid value"),
        (b"[gateway]\nid = 'x\n", 2, "not TOML"),
        (b"[gateway]\nid = '''x\n\n", 3, "at the end"),
        (b"[a]\n[a]\n", 2, "not TOML"),
        (b"[gateway]\nname = '\xff'\n", 2, "not UTF-8"),
        (b"\xef\xbb\xbf[gateway]\n", 1, "not TOML"),
        (b"x" * 2_000_000, 0, "larger than"),
        (b"a = " + b"[" * 100_000, 0, "nested too deeply"),
    ],
)
def test_files_that_are_no_toml(tmp_path: Path, content: bytes, line: int, message: str) -> None:
    ((found_line, _, found),) = problems(write(tmp_path, content))
    assert found_line == line
    assert message in found


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    ((_, _, message),) = problems(tmp_path / "none.toml")
    assert "fieldgate init" in message
    ((_, _, message),) = problems(tmp_path)
    assert "cannot be read: Is a directory" in message


_atoms = st.sampled_from(["1", "-1", "1.5", "nan", "true", '"x"', '""', "[]", "{}", "[1]", "[{}]", "1979-05-27"])


@given(st.data())
@settings(max_examples=60)
def test_any_values_in_any_keys_load_or_are_reported(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    lines = {}
    for table, key in toml_check.every_key(config.SCHEMA):
        if table and "station" not in table and data.draw(st.booleans()):
            lines[table, key] = data.draw(_atoms)
    text = "".join(f"{table}.{key} = {value}\n" for (table, key), value in lines.items())
    if data.draw(st.booleans()):
        text += "[[source]]\n" + "".join(
            f"{key} = {data.draw(_atoms)}\n" for key in data.draw(st.sets(st.sampled_from(["type", "name", "path"])))
        )
    path.write_text(text)
    for problem in found_in(path):
        if problem.line:  # that of the key, or of the table that lacks it
            words = re.findall(r"[a-z_]+", problem.key)
            shown = text.splitlines()[problem.line - 1]
            assert words[0] in shown or words[-1] in shown


def found_in(path: Path) -> list[Problem]:
    try:
        config.load(path, lambda dirs: [])
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("0.0.0.0:8443", ("0.0.0.0", 8443)),
        ("[::]:1", ("::", 1)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("::1:80", None),
        ("localhost:80", None),
        ("1.2.3.4", None),
        ("1.2.3.4:65536", None),
        ("1.2.3.4:-1", None),
        ("1.2.3.4:٣", None),
        ("", None),
    ],
)
def test_listen_addresses(listen: str, expected: tuple[str, int] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="expected"):
            config.listen_address(listen)
    else:
        assert config.listen_address(listen) == expected


def test_files_that_are_missing_or_open_to_others_are_warned_of(tmp_path: Path) -> None:
    text = GOOD.replace("/etc/keys/../keys/k.pem", "k.pem").replace("profile =", 'token_file = "t"\nprofile =')
    text += '[uplink]\nurl = "http://192.0.2.1/"\n'
    (tmp_path / "k.pem").write_text("")
    (tmp_path / "k.pem").chmod(0o640)
    (tmp_path / "ca.pem").write_text("")
    (tmp_path / "t").write_text("")
    (tmp_path / "t").chmod(0o600)
    found = {problem.key: str(problem) for problem in config.file_warnings(config.load(write(tmp_path, text)))}
    assert sorted(found) == ["key_file", "path", "url"]
    assert "chmod 600" in found["key_file"]
    assert "down until the folder is mounted" in found["path"]
    assert "not encrypted" in found["url"]


@pytest.mark.parametrize(
    ("url", "warned"),
    [("http://127.0.0.1:1/", False), ("http://localhost/", False), ("http://[::1]/", False), ("http://a/", True)],
)
def test_plain_http_is_for_this_box_only(tmp_path: Path, url: str, warned: bool) -> None:
    loaded = config.load(write(tmp_path, GOOD + f'[uplink]\nurl = "{url}"\n'))
    assert any(problem.key == "url" for problem in config.file_warnings(loaded)) == warned


def test_config_md_gives_every_default_of_the_structs() -> None:
    document = (ROOT / "gateway" / "CONFIG.md").read_text()
    parts = dict(zip(*[iter(re.split(r"^## (.*)$", document, flags=re.MULTILINE)[1:])] * 2, strict=True))

    def rows(table: str) -> dict[str, str]:
        heading = next(name for name in parts if re.search(rf"(^|: ){re.escape(table)}$", name))
        return dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", parts[heading], re.MULTILINE))

    structs = {name: field.type for name, field in _fields(config.Config).items()}
    tables: dict[str, type[msgspec.Struct]] = {
        name: kind.cls for name, kind in structs.items() if isinstance(kind, inspect.StructType)
    }
    tables |= {"station-folder": StationFolderConfig, "station-http": StationHttpConfig}
    for table, struct in tables.items():
        documented = rows(table)
        assert set(documented) == set(_fields(struct)), table
        for name, field in _fields(struct).items():
            default = "–" if field.required else f"`{msgspec.json.encode(field.default).decode()}`"
            assert documented[name] == default, f"{table}.{name}"


def _fields(struct: type[msgspec.Struct]) -> dict[str, inspect.Field]:
    kind = inspect.type_info(struct)
    assert isinstance(kind, inspect.StructType)
    return {field.encode_name: field for field in kind.fields}


ALIKE = """type = "modbus-tcp"
address = "192.0.2.7:502"
devices = [{ unit = 1, profile = "a", device = "d" }, { unit = 2, profile = "b", device = "d" }]"""


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ('type = "nmea-tcp"\naddress = "192.0.2.7:4001"', None),
        ('type = "nmea-tcp"\naddress = "[::1]:4001"', None),
        ('type = "nmea-tcp"\naddress = "192.0.2.7"', "address"),
        ('type = "nmea-tcp"\naddress = ":4001"', "address"),
        ('type = "nmea-tcp"\naddress = "x:0"', "address"),
        ('type = "hj212"', None),
        ('type = "hj212"\nlisten = "[::]:8212"\ncrc = "modbus_low_byte_first"', None),
        ('type = "hj212"\nlisten = "8212"', "listen"),
        ('type = "hj212"\ncrc = "modbus"', "crc"),
        ('type = "hj212-serial"\nport = "/dev/x"\nparity = "E"\nstop_bits = 2', None),
        ('type = "hj212-serial"', "port"),
        ('type = "nmea-listen"\nlisten_udp = "0.0.0.0:10110"', None),
        ('type = "nmea-listen"\nlisten = "[::]:10110"\npeers = {"192.0.2.7" = "truck-7", "::1" = "x"}', None),
        ('type = "nmea-listen"', "listen"),
        ('type = "nmea-listen"\nlisten = "10110"', "listen"),
        ('type = "nmea-listen"\nlisten_udp = "host:1"', "listen_udp"),
        ('type = "nmea-listen"\nlisten = "0.0.0.0:1"\npeers = {"192.0.2.7:1" = "truck-7"}', "peers"),
        ('type = "nmea-listen"\nlisten = "0.0.0.0:1"\npeers = {"192.0.2.7" = 7}', "192.0.2.7"),
        ('type = "nmea-listen"\nlisten = "0.0.0.0:1"\npeers = "192.0.2.7"', "peers"),
        ('type = "jt808"\nlisten = ""', "listen"),
        ('type = "modbus-serial"\nport = "/dev/x"\ndevices = [{unit = 1, profile = "pzem-004t"}]', None),
        ('type = "modbus-tcp"\naddress = "x:502"\ndevices = [{unit = 255, profile = "a", class = "fume"}]', None),
        ('type = "modbus-tcp"\naddress = "x"\ndevices = [{unit = 1, profile = "a"}]', "address"),
        ('type = "modbus-serial"\nport = "/dev/x"', "devices"),
        ('type = "modbus-serial"\nport = "/dev/x"\ndevices = [{profile = "a"}]', "unit"),
        ('type = "modbus-serial"\nport = "/dev/x"\ndevices = [{unit = 0, profile = "a"}]', "unit"),
        (
            'type = "modbus-serial"\nport = "x"\ndevices = [{unit = 1, profile = "a"}, {unit = 1, profile = "b"}]',
            "unit",
        ),
        (ALIKE, "device"),
        ('type = "modbus-serial"\nport = "/dev/x"\nstop_bits = 3\ndevices = [{unit = 1, profile = "a"}]', "stop_bits"),
    ],
)
def test_addresses_of_sources(tmp_path: Path, source: str, key: str | None) -> None:
    path = write(tmp_path, GOOD + f'[[source]]\nname = "s"\n{source}\n')
    if key is None:
        config.load(path)
    else:
        assert [problem[1].endswith(key) for problem in problems(path)] == [True]


@pytest.mark.parametrize("name", sorted(config.OWN_NAMES))
def test_no_source_may_have_a_name_of_the_gateways_own_memory(name: str, tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    own = f'[[source]]\ntype = "nmea-tcp"\nname = "{name}"\naddress = "127.0.0.1:1"\n'
    file.write_text(f'[gateway]\nid = "gw-1"\n[storage]\nstate_dir = "s"\n[keys]\nkey_file = "k"\n{own}')
    with pytest.raises(ConfigError, match="names the gateway itself"):
        config.load(file)


@pytest.mark.parametrize(
    ("live", "key", "text"),
    [
        ('url = "http://broker"', "live.url", "mqtts://broker.example:8883"),
        ('url = "mqtts://broker/path"', "live.url", "mqtts://"),
        ('url = "mqtts://:8883"', "live.url", "mqtts://"),
        ('url = "mqtts://u:p@broker"', "live.url", "password_file"),
        ('url = "mqtts://broker"\npassword_file = "p"', "live.username", "user name"),
        ('url = "mqtts://broker"\ncertificate_file = "c"', "live.key_file", "go together"),
        ('url = "mqtt://broker"\nca_file = "c"', "live.url", "not encrypted"),
        ('url = "mqtts://broker"\ntopic_prefix = "a/#"', "live.topic_prefix", "without"),
        ('url = "mqtts://broker"\ntopic_prefix = "$SYS"', "live.topic_prefix", "no $ first"),
        ('url = "mqtts://broker"\ntopic_prefix = "a/"', "live.topic_prefix", "no / at an end"),
    ],
)
def test_the_live_channel_is_checked(tmp_path: Path, live: str, key: str, text: str) -> None:
    path = tmp_path / "fieldgate.toml"
    path.write_text(f'[gateway]\nid = "gw"\n[storage]\nstate_dir = "s"\n[keys]\nkey_file = "k"\n[live]\n{live}\n')
    with pytest.raises(ConfigError) as raised:
        config.load(path)
    assert [problem.key for problem in raised.value.problems] == [key]
    assert text in str(raised.value)


def test_tokens_for_viewers_need_one_for_the_platform(tmp_path: Path) -> None:
    path = tmp_path / "fieldgate.toml"
    api = '[api]\nlisten = "0.0.0.0:8443"\ncertificate_file = "c"\nkey_file = "k"\nclient_ca_file = "a"\n'
    base = f'[gateway]\nid = "gw"\n[storage]\nstate_dir = "s"\n[keys]\nkey_file = "k"\n{api}viewer_token_file = "v"\n'
    path.write_text(base)
    with pytest.raises(ConfigError, match="platform needs its own"):
        config.load(path)
    path.write_text(base + 'token_file = "t"\n')
    assert config.load(path).api.viewer_token_file == str(tmp_path / "v")
