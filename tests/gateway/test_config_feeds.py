"""JSON feeds and meters in the configuration: what they need, and what is wrong with files that they name."""

from pathlib import Path

import pytest

from firmware_profiles.loader import list_profiles
from gateway import config, offline
from gateway.config_sources import JsonHttpConfig, JsonMqttConfig, ModbusTcpConfig
from gateway.core.errors import ConfigError

HEAD = """[gateway]
id = "box-1"
[storage]
state_dir = "state"
[keys]
key_file = "k.pem"
[[source]]
name = "feed"
"""
MQTT = """type = "json-mqtt"
url = "mqtts://broker.example:8883"
profile = "smart-bin"
topics = ["bins/+/report", "a/#"]
"""
HTTP = 'type = "json-http"\nlisten = "127.0.0.1:8090"\nprofile = "fume-cloud"\ntoken_file = "token"\n'
BUS = """type = "modbus-tcp"
address = "192.0.2.7:502"
devices = [{ unit = 1, profile = "pzem-004t", meters = "purifier" }]
"""


def load(folder: Path, text: str) -> config.Config:
    path = folder / "fieldgate.toml"
    path.write_text(HEAD + text)
    return config.load(path, lambda dirs: {row.id for row in list_profiles(dirs)})


def test_good_ones_with_whole_paths(tmp_path: Path) -> None:
    (mqtt,) = load(tmp_path, MQTT + 'ca_file = "ca.pem"\n').source
    assert isinstance(mqtt, JsonMqttConfig)
    assert mqtt.ca_file == str(tmp_path / "ca.pem")
    (http,) = load(tmp_path, HTTP).source
    assert isinstance(http, JsonHttpConfig)
    assert http.token_file == str(tmp_path / "token")
    (bus,) = load(tmp_path, BUS).source
    assert isinstance(bus, ModbusTcpConfig)
    assert bus.devices[0].meters == "purifier"


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (MQTT.replace("mqtts:", "https:"), "url", "expected mqtts://broker.example:8883"),
        (MQTT.replace("broker", "me:secret@broker"), "url", "must not hold a user name or password"),
        (MQTT.replace("mqtts:", "mqtt:") + 'ca_file = "ca.pem"\n', "url", "uses no certificates"),
        (MQTT.replace('["bins/+/report", "a/#"]', "[]"), "topics", 'such as ["bins/+/report"]'),
        (MQTT.replace("bins/+/report", "bins+/x"), "topics[0]", "+ stands for one whole level"),
        (MQTT.replace("a/#", "a/#/b"), "topics[1]", "# for the rest"),
        (MQTT.replace("bins/+/report", ""), "topics[0]", "is no topic filter"),
        (MQTT + 'password_file = "p"\n', "username", "a password goes with a user name"),
        (MQTT + 'certificate_file = "c.pem"\n', "key_file", "go together"),
        (MQTT + 'protocol = "3.1"\n', "protocol", '"3.1.1" or "5"'),
        (MQTT.replace("smart-bin", "smart-bim"), "profile", "did you mean smart-bin?"),
        (HTTP.replace('"token"', '""'), "token_file", "without it everybody could post readings"),
        (HTTP.replace("127.0.0.1:8090", "8090"), "listen", "expected address:port"),
        (HTTP + "body_max_bytes = 10\n", "body_max_bytes", "256 to 131072"),
        (HTTP + 'key_file = "k"\n', "key_file", "go together"),
        (BUS.replace('"purifier"', '"oven"'), "devices[0].meters", '"fan" or "purifier"'),
    ],
)
def test_mistakes(tmp_path: Path, text: str, key: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    assert [problem.key for problem in error.value.problems] == [f"source[0].{key}"]
    assert message in error.value.problems[0].message
    assert error.value.problems[0].line > 0


def test_ways_that_everybody_can_read_are_warned_of(tmp_path: Path) -> None:
    def warned(text: str) -> str:
        return "\n".join(str(problem) for problem in config.file_warnings(load(tmp_path, text)))

    assert "use mqtts" in warned(MQTT.replace("mqtts:", "mqtt:"))
    assert "use mqtts" not in warned(MQTT.replace("mqtts://broker.example", "mqtt://127.0.0.1"))
    assert "set certificate_file" in warned(HTTP.replace("127.0.0.1", "0.0.0.0"))
    assert "set certificate_file" not in warned(HTTP)
    (tmp_path / "token").write_text("x" * 32)
    (tmp_path / "token").chmod(0o644)
    assert "token: token_file: readable by others" in warned(HTTP)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MQTT.replace("smart-bin", "jt808"), "is of a tracker; a feed's profile is needed"),
        (BUS.replace("pzem-004t", "smart-bin"), "is of a feed; a sensor's profile is needed"),
    ],
)
def test_profiles_of_another_kind_are_found_by_the_check(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        offline.check_files(load(tmp_path, text))
