"""The page for a person: what it says, and that nothing from outside gets into it as markup."""

import base64
import hashlib
import re
from pathlib import Path

from gateway.core.instant import Instant
from gateway.core.record import Draft, encode_leaf
from tests.uplink.platform.fieldbox import FieldBox, video
from tests.uplink.platform.wire import Wire, enrolled, opened, over_wire
from uplink.platform import page
from uplink.platform.platform import Platform


def test_empty_platform(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        html = page.render(platform)
        assert "还没有网关注册" in html
        assert "No gateway is enrolled yet" in html


def test_page_lists_what_is_held_and_its_links_work(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        await wire.batch(box.tar(box.seal(1234, [video(b"x" * 5000)])))
        enrolled(platform, "gw-2")
        answer = await wire.client.get("/", headers={"authorization": f"Bearer {platform.authority.operator_token}"})
        html = answer.text
        for text in ("gw-1", "1,234", "0–1,233", "0 / 1", "+1 待传", "还没有收到批次", "测试", "TEST authority"):
            assert text in html, text
        for path in re.findall(r"href='([^']+)'", html):
            found = await wire.client.get(path)
            assert found.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        style = re.search(r"<style>(.*)</style>", html, re.DOTALL)
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
        assert f"style-src 'sha256-{digest}'" in policy
        assert "default-src 'none'" in policy
        assert "<script" not in html
        assert "style=" not in html

    over_wire(tmp_path, scenario, tsa=True)


def test_alarms_forks_and_revocation_are_shown_and_escaped(tmp_path: Path) -> None:
    with opened(tmp_path, name="<b>Bureau</b> & Co") as platform:
        box = enrolled(platform)
        path = tmp_path / "bundle.tar"
        for bundle in (box.clone(), box):
            path.write_bytes(bundle.tar(bundle.seal(2, note=str(id(bundle)))))
            if bundle is box:
                platform.intake.evidence.keep_fork(path, "gw-1", 2, "0" * 64, {})
            else:
                platform.take_bundle("gw-1", path)
        data = {"code": "<script>alert(1)</script>", "state": "raised", "text": "盘已满 & '"}
        leaf = encode_leaf(Draft("alarm", "gateway", "", data), Instant("0" * 32, 1, 1, 1), 9, bytes(16))
        platform.intake.take_alarm("gw-1", leaf)
        platform.revoke("gw-1")
        html = page.render(platform)
        assert "<script" not in html
        assert "&lt;script&gt;alert(1)" in html
        assert "<b>" not in html
        for text in ("盘已满", "分叉", "Fork", "已吊销", "Revoked"):
            assert text in html, text


def test_sizes_for_people() -> None:
    shown = [page.size_text(value) for value in (0, 999, 1000, 1_500_000, 2_000_000_000, 3_200_000_000_000_000)]
    assert shown == ["0 B", "999 B", "1.0 kB", "1.5 MB", "2.0 GB", "3200.0 TB"]
