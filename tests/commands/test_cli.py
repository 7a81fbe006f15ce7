"""The command line as people use it: output, JSON, one line per error, exit codes."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.cli import main
from gateway.commands import output, status_view
from gateway.core import errors
from tests.api.box import Box
from tests.conftest import ROOT
from tests.ledger.bureau import SEALED, Bureau

VECTORS = ROOT / "tests" / "vectors" / "ledger"
TRUST = ["--ca", str(VECTORS / "ca.pem"), "--tsa-ca", str(VECTORS / "tsa-ca.pem")]


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDGATE_LANG", "en")


def run(*words: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


# ------------------------------------------------------------------------------------------ setting up


def test_init_makes_everything_once_and_check_accepts_it(tmp_path: Path) -> None:
    config = tmp_path / "etc" / "fieldgate.toml"
    words = ["init", "--id", "gw-0001.yuhang", "--config", config, "--dir", tmp_path / "state", "--json"]
    first = json.loads(run(*words).stdout)
    assert all(step["made"] for step in first["steps"])
    key = tmp_path / "state" / "keys" / "fieldgate.gateway.key"
    before = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    again = json.loads(run(*words).stdout)
    assert not any(step["made"] for step in again["steps"])
    assert key.read_bytes() == before
    checked = run("check", config)
    assert checked.exit_code == 0
    assert "ok:" in checked.stdout


def test_check_reports_every_mistake_with_its_line(tmp_path: Path) -> None:
    config = tmp_path / "bad.toml"
    config.write_text('[gateway]\nid = "GW 1"\n[storage]\nstate_dirr = "x"\n[seal]\nmax_records = "many"\n')
    result = run("check", config, "--json")
    assert result.exit_code == output.CONFIG
    problems = json.loads(result.stdout)["problems"]
    assert {problem["line"] for problem in problems} >= {2, 4, 6}
    assert any("state_dir" in problem["message"] for problem in problems)
    plain = run("check", config)
    assert plain.exit_code == output.CONFIG
    assert len(plain.stderr.splitlines()) == len(problems)


def test_check_reads_the_files_as_the_daemon_would(tmp_path: Path) -> None:
    config = tmp_path / "fieldgate.toml"
    run("init", "--id", "gw-0001.yuhang", "--config", config, "--dir", tmp_path / "state")
    keys = tmp_path / "state" / "keys"
    (keys / "ca.pem").write_text("junk")
    (keys / "platform.token").write_text("two words")
    (keys / "fieldgate.gateway.key").chmod(0o644)
    (tmp_path / "broken.toml").write_text("nothing = 1\n")
    source = '[[source]]\ntype = "station-folder"\nname = "s1"\npath = "/nowhere"\nprofile = "broken.toml"\n'
    config.write_text(config.read_text() + source)
    checked = run("check", config)
    assert checked.exit_code == output.CONFIG
    for name in ("ca.pem", "platform.token", "fieldgate.gateway.key", "broken.toml"):
        assert any(str(name) in line for line in checked.stderr.splitlines()), name


def test_a_missing_configuration_is_one_line(tmp_path: Path) -> None:
    result = run("status", tmp_path / "none.toml")
    assert result.exit_code == output.CONFIG
    assert len(result.stderr.splitlines()) == 1


def test_enrol_says_what_the_configuration_lacks(tmp_path: Path) -> None:
    config = tmp_path / "fieldgate.toml"
    run("init", "--id", "gw-1", "--config", config)
    result = run("enrol", config, "--token", "x")
    assert result.exit_code == output.CONFIG
    assert "uplink.url" in result.stderr


# -------------------------------------------------------------------------------------------- verify


def test_verify_prints_one_line_per_check_and_says_not_altered() -> None:
    result = run("verify", VECTORS / "batch.tar", *TRUST)
    assert result.exit_code == 0, result.stdout
    assert "not altered since" in result.stdout.splitlines()[-1]
    assert "true" not in result.stdout.lower()
    report = json.loads(run("verify", VECTORS / "export.tar", *TRUST, "--json").stdout)
    assert report["ok"] is True
    assert report["bundle"] == "export"


def test_verify_speaks_chinese_to_a_clerk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FIELDGATE_LANG", "zh")
    text = run("verify", VECTORS / "batch.tar", *TRUST).stdout
    assert "封存签名" in text
    assert "未被改动" in text.splitlines()[-1]
    short = tmp_path / "short.tar"
    short.write_bytes((VECTORS / "batch.tar").read_bytes()[:-512])
    assert "校验未通过" in run("verify", short, *TRUST).stdout.splitlines()[-1]


def test_verify_of_a_changed_bundle_exits_1(tmp_path: Path) -> None:
    changed = bytearray((VECTORS / "batch.tar").read_bytes())
    changed[changed.index(b'"seq":') + 6] ^= 1
    path = tmp_path / "changed.tar"
    path.write_bytes(changed)
    result = run("verify", path, *TRUST, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False


def test_verify_without_trust_is_a_usage_error() -> None:
    result = run("verify", VECTORS / "batch.tar")
    assert result.exit_code == 2
    assert "cannot vouch for itself" in result.stderr


def test_verify_by_fingerprint_and_with_a_bad_one() -> None:
    from gateway.ledger.trust import fingerprint, load_certificate

    prints = [fingerprint(load_certificate((VECTORS / name).read_bytes())) for name in ("ca.pem", "tsa-ca.pem")]
    words = ["--ca-sha256", prints[0], "--ca-sha256", prints[1]]
    assert run("verify", VECTORS / "batch.tar", *words).exit_code == 0
    assert run("verify", VECTORS / "batch.tar", "--ca-sha256", "00").exit_code == 1


def test_a_bundle_is_no_authority_even_with_certificates_inside() -> None:
    """PEM is found inside a tar: given as --ca the bundle would vouch for itself."""
    result = run("verify", VECTORS / "batch.tar", "--ca", VECTORS / "batch.tar")
    assert result.exit_code == 1
    assert "batch.tar: certificate: not a PEM text file" in result.stderr


def test_verify_says_whose_word_the_time_is(monkeypatch: pytest.MonkeyPatch) -> None:
    report = json.loads(run("verify", VECTORS / "batch.tar", *TRUST, "--json").stdout)
    assert report["vouched_by"] == "platform"
    assert report["not_later_than"] == "2024-11-21T22:29:10Z"
    assert report["conclusion"].endswith("by the platform's receipt")
    monkeypatch.setenv("FIELDGATE_LANG", "zh")
    assert run("verify", VECTORS / "batch.tar", *TRUST).stdout.splitlines()[-1].endswith("（时间依据：平台回执）")


def test_verify_takes_the_revocation_list_of_today(tmp_path: Path) -> None:
    bureau = Bureau.make()
    crl = tmp_path / "crl.pem"
    crl.write_bytes(bureau.crl())
    assert run("verify", VECTORS / "batch.tar", *TRUST, "--crl", crl).exit_code == 0
    crl.write_bytes(bureau.crl([(bureau.gateway, SEALED)]))
    result = run("verify", VECTORS / "batch.tar", *TRUST, "--crl", crl)
    assert result.exit_code == 1
    assert "revoked since 2024-11-21T22:28:10Z" in result.stdout
    crl.write_bytes(b"x")
    wrong = run("verify", VECTORS / "batch.tar", *TRUST, "--crl", crl)
    assert (wrong.exit_code, len(wrong.stderr.splitlines())) == (1, 1)
    assert "crl.pem: CRL" in wrong.stderr


def test_the_recipe_is_a_script_for_both_kinds() -> None:
    script = run("verify", "--recipe").stdout
    assert script.startswith("#!/bin/sh")
    assert "openssl ts -verify" in script


# ------------------------------------------------------------------------------------- bundles, export


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[tuple[Path, Box]]:
    """A box with two sealed batches, and a configuration that tools can open."""
    folder = tmp_path / "box"
    folder.mkdir()
    box = Box(folder)
    box.record("station.file", "rec-7", box.put(b"video" * 100))
    box.seal()
    box.record("station.file", "rec-8", box.put(b"photo" * 100, "P.JPG", "image/jpeg"))
    box.seal()
    key, certificate = folder / "gateway.key", folder / "gateway.pem"
    pem = box.signer._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key.touch(0o600)
    key.write_bytes(pem)
    certificate.write_bytes(box.signer.certificate_pem)
    config = tmp_path / "fieldgate.toml"
    config.write_text(
        f'[gateway]\nid = "{box.gateway}"\n[storage]\nstate_dir = "{box.state_dir}"\nspool_dir = "{folder}/spool"\n'
        f'[keys]\nkey_file = "{key}"\ncertificate_file = "{certificate}"\nca_file = "{box.ca_file}"\n'
    )
    yield config, box
    box.close()


def test_bundles_lists_and_writes(stored: tuple[Path, Box], tmp_path: Path) -> None:
    config, box = stored
    listed = json.loads(run("bundles", config, "--json").stdout)["batches"]
    assert [row["n"] for row in listed] == [1, 2]
    assert run("bundles", config).stdout.count("\n") == 3
    out = tmp_path / "one.tar"
    assert run("bundles", config, "--write", "1", "--out", out).exit_code == 0
    assert run("verify", out, "--ca", box.ca_file).exit_code == 0
    assert run("bundles", config, "--write", "9", "--out", out).exit_code == 1
    assert run("bundles", config, "--write", "1").exit_code == 2


def test_export_discloses_one_record_and_nothing_else(stored: tuple[Path, Box], tmp_path: Path) -> None:
    config, box = stored
    out = tmp_path / "case.tar"
    assert run("export", config, "--seq", "1", "--out", out, "--json").exit_code == 0
    assert run("verify", out, "--ca", box.ca_file).exit_code == 0
    with tarfile.open(out) as tar:
        names = [Path(name).name for name in tar.getnames()]
    assert "record-1.json" in names
    assert "records.jsonl" not in names
    assert run("export", config, "--seq", "99", "--out", out).exit_code == 1


# ------------------------------------------------------------------------------------------ elsewhere


def test_status_and_pull_without_a_gateway_exit_69(stored: tuple[Path, Box], tmp_path: Path) -> None:
    config, _ = stored
    result = run("status", config)
    assert result.exit_code == output.UNAVAILABLE
    assert "fieldgate run" in result.stderr
    assert run("pull", f"unix:{tmp_path}/none.sock", "--out", tmp_path).exit_code == output.UNAVAILABLE


def test_profiles_are_listed_checked_and_tried(tmp_path: Path) -> None:
    rows = json.loads(run("profile", "list", "--json").stdout)["profiles"]
    assert {"generic", "dsj"} <= {row["id"] for row in rows}
    assert not any(row["problems"] for row in rows)
    good = run("profile", "check", *[row["path"] for row in rows], "--json")
    assert good.exit_code == 0, good.stdout
    bad = tmp_path / "bad.toml"
    bad.write_text("nonsense = 1\n")
    assert run("profile", "check", bad).exit_code == 1
    (tmp_path / "DSJ_0001234_001122_20261121142231.MP4").write_bytes(b"x")
    (tmp_path / "holiday.mov").write_bytes(b"x")
    read = json.loads(run("profile", "poll", "dsj", tmp_path, "--json").stdout)["files"]
    by_name = {row["name"]: row for row in read}
    assert by_name["DSJ_0001234_001122_20261121142231.MP4"]["fields"]["device"] == "0001234"
    assert by_name["holiday.mov"]["grammar"] is None
    assert "still evidence" in run("profile", "poll", "dsj", tmp_path).stdout


def test_platform_init_and_token(tmp_path: Path) -> None:
    folder = tmp_path / "platform"
    assert run("platform", "token", "--dir", folder, "gw-1").exit_code == output.CONFIG
    assert run("platform", "init", "--dir", folder).exit_code == 0
    assert run("platform", "init", "--dir", folder).exit_code == output.CONFIG  # never overwrites
    assert json.loads(run("platform", "token", "--dir", folder, "gw-1", "--json").stdout)["token"]
    assert run("platform", "token", "--dir", folder, "GW 1").exit_code == output.CONFIG


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError([]), 78),
        (errors.IntegrityError("x"), 70),
        (errors.ForkError("x"), 70),
        (errors.UplinkUnavailable("x"), 69),
        (errors.UplinkRejected("x"), 1),
        (errors.StoreFull("x"), 74),
    ],
)
def test_every_class_of_error_has_its_exit_code(error: errors.FieldgateError, code: int) -> None:
    assert output.exit_code(error) == code


# --------------------------------------------------------------------------------------------- output


def test_tables_count_chinese_signs_as_two_columns() -> None:
    lines = output.table(["名称", "n"], [["站点一", "1"], ["a", "22"]], right=(1,))
    assert [output.columns_of(line) for line in lines] == [10, 10, 10]


def test_sizes_and_ages_are_short() -> None:
    assert [output.size_text(n) for n in (0, 999, 1500, 123_456_789, 2 * 10**13)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "123 MB",
        "20.0 TB",
    ]
    assert [output.age_text(s) for s in (5, 600, 7200, 864_000)] == ["5 s", "10 min", "2 h", "10 d"]


SNAPSHOT = {
    "gateway": "gw-1",
    "name": "box",
    "status": "degraded",
    "now_utc_ns": str(int(datetime(2026, 11, 22, tzinfo=UTC).timestamp()) * 10**9),
    "checkpoint": {"next_seq": 12, "size": 10, "batch": 2},
    "sealing": {"unsealed_records": 2, "unsealed_age_s": 5},
    "backlog": {"items": 3, "bytes": 5_000_000, "age_s": 60, "unstamped": 1, "quarantined": 0},
    "uplink": {"state": "ok", "last_receipt_utc_ns": None},
    "clock": {"synchronised": False, "source": "none", "epoch": 3},
    "disks": [{"name": "state", "free_bytes": 5 * 10**9, "total_bytes": 10**10}],
    "spool": {"bytes": 1000, "quota_bytes": 10**9},
    "sources": [
        {
            "name": "s1",
            "state": "down",
            "last_seen_utc_ns": None,
            "counters": {"files_taken": 7, "bytes_taken": 1500, "listings": 3},
        },
    ],
    "problems": [{"level": "degraded", "text": "source s1 is down", "to_do": "check the device"}],
}


@pytest.mark.parametrize(("language", "word"), [("en", "degraded"), ("zh_CN.UTF-8", "降级")])
def test_status_at_a_glance_in_both_languages(monkeypatch: pytest.MonkeyPatch, language: str, word: str) -> None:
    monkeypatch.setenv("FIELDGATE_LANG", language)
    text = "\n".join(status_view.lines(SNAPSHOT))
    for part in (word, "gw-1", "s1", "7 ", "1.5 kB", "5.0 MB", "→ check the device"):
        assert part in text
    assert max(output.columns_of(line) for line in text.splitlines()) <= 100


def test_status_tells_how_the_live_channel_is_doing_where_there_is_one() -> None:
    live = {"state": "ok", "reason": "", "since_utc_ns": "0", "published": 12, "dropped": 3}
    text = "\n".join(status_view.lines({**SNAPSHOT, "live": live}))
    assert "ok, 12 published, 3 findings dropped" in text
    assert "published" not in "\n".join(status_view.lines({**SNAPSHOT, "live": {**live, "state": "off"}}))
