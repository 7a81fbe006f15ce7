"""WIRE.md and the application name the same paths and the same errors."""

import re
from pathlib import Path

from starlette.routing import Route

from tests.conftest import ROOT
from tests.uplink.platform.wire import opened
from uplink.platform import tus
from uplink.platform.app import make_app
from uplink.platform.problems import TITLES

PAGE = (ROOT / "uplink/WIRE.md").read_text()


def test_every_path_is_on_the_page_and_the_other_way_round(tmp_path: Path) -> None:
    table = PAGE.partition("## 3. Endpoints")[2].partition("### Enrolment")[0]
    written = set()
    for cell in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE):
        methods = re.findall(r"\b(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)\b", cell)
        path = re.search(r"(/[^`?\s]*)", cell)
        assert path is not None
        written |= {(method, path.group(1)) for method in methods}
    with opened(tmp_path) as platform:
        routes = [route for route in make_app(platform).routes if isinstance(route, Route)]
    served = {(method, route.path) for route in routes for method in route.methods or ()}
    assert written - served == set()
    assert {(method, path) for method, path in served - written if method != "HEAD"} == set()


def test_every_error_is_on_the_page_with_its_status() -> None:
    rows = PAGE.partition("## 6. Every error")[2].partition("## 7.")[0]
    for code, (status, _) in TITLES.items():
        assert re.search(rf"^\| [0-9, ]*\b{status}\b[0-9, ]*\|[^|]*`{code}`", rows, re.MULTILINE), (status, code)


def test_the_example_upload_is_the_id_that_the_platform_derives() -> None:
    (sha256,) = {tus.parse_metadata(line)["sha256"] for line in re.findall(r"Upload-Metadata: (gateway Z\S+.*)", PAGE)}
    assert f"/v1/uploads/{tus.upload_id('gw-0001', 'bundle', sha256, 18432)}" in PAGE
