"""Everything that belongs to a finding, and the page that is drawn of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import case, drawing, findings, report
from gateway.core import kinds
from gateway.core.errors import RejectedError
from gateway.core.record import Draft
from gateway.drawing import Mark, Point
from gateway.rules.vehicle import TELLERS
from tests.api.box import Box
from tests.gateway.truck_case import DEVICE, ROUTE, START_S, finding, judgement, position, truck_case


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = truck_case(tmp_path)
    yield made
    made.close()


class Strict(HTMLParser):
    """Collects tags and attributes; fails on anything that loads or runs something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link", "iframe", "object", "embed", "form", "base", "a"}
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in {"src", "href", "xlink:href", "action"}:
                assert (value or "").startswith("data:image/")
        if tag not in {"meta", "br", "img", "path", "rect", "circle"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        if tag in {"path", "rect", "circle"}:
            return
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: bytes) -> str:
    """The text of a page that is well-formed and loads nothing."""
    parser = Strict()
    parser.feed(page.decode())
    parser.close()
    assert parser.open == []
    assert b"url(http" not in page
    assert b"@import" not in page
    return parser.text


def shown(box: Box, name: str = "34", **changes: Any) -> report.Facts:
    found = case.gather(box.reader, name)
    return replace(case.facts(found, box.gateway, box.spool.path, None, box.reader.tail().size), **changes)


# ---------------------------------------------------------------- gathering


def test_a_case_holds_the_finding_what_it_cites_and_what_surrounds_it(box: Box) -> None:
    by_id = case.gather(box.reader, judgement(True, (12,)).id)
    assert by_id == case.gather(box.reader, "33") == case.gather(box.reader, "34")
    assert [one.seq for one in by_id.revisions] == [33, 34]
    assert [record.seq for record in by_id.inputs] == list(range(12, 23))
    assert [record.seq for record in by_id.books] == [0]
    assert [record.seq for record in by_id.media] == [32]
    assert [record.seq for record in by_id.context] == [*range(2, 12), *range(23, 32)]
    assert [record.seq for record in by_id.clock] == [1]
    assert by_id.seqs == list(range(35)), "and nothing of the other truck"
    assert by_id.unsealed(box.reader.tail().size) == []


def test_of_an_officer_only_what_is_cited_is_disclosed(tmp_path: Path) -> None:
    box = truck_case(tmp_path, privacy="process")
    assert case.gather(box.reader, "34").context == []
    box.close()


def test_records_that_have_expired_are_named_and_no_obstacle(box: Box) -> None:
    box.change("DELETE FROM record WHERE seq = 14")
    found = case.gather(box.reader, "34")
    assert found.expired == [14]
    assert 14 not in found.seqs
    assert "1 cited records have expired" in read(report.page(shown(box)))


@pytest.mark.parametrize("name", ["99", "3", "f" * 32, "x", "", "-1", "9" * 40])
def test_an_unknown_finding_is_one_line(box: Box, name: str) -> None:
    with pytest.raises(RejectedError, match="there is no finding"):
        case.gather(box.reader, name)


def test_a_list_shows_the_newest_revision_of_each(box: Box) -> None:
    (only,) = findings.current(box.reader)
    assert (only.seq, only.revision, only.state) == (34, 2, "closed")
    assert findings.current(box.reader, device="other") == []
    assert findings.current(box.reader, after=34) == []
    other = judgement(True, (5,), start_utc_s=START_S)
    box.records(finding(other, 1), finding(judgement(True, (12,)), 3, state="withdrawn"))
    assert [(one.id, one.seq) for one in findings.current(box.reader)] == [(other.id, 36), (only.id, 37)]
    assert findings.of_leaf(b'{"kind":"finding","data":{}}') is None


# ---------------------------------------------------------------- the page


def test_the_page_says_who_what_when_by_which_rule_and_how_to_check(box: Box) -> None:
    facts = shown(box)
    page = report.page(facts)
    assert page == report.page(shown(box)), "equal facts, equal bytes"
    text = read(page)
    for wanted in (
        "浙F12345", "平湖市宏达渣土运输有限公司", "偏离核准路线", "off the permitted route", "平渣准2026-0117",
        "《城市建筑垃圾管理规定》第十四条", "2026-11-24 14:00:10", "10 s", "655 m", "73.1 %", "off the route by <655>",
        "本身不是证据", "not altered since they were sealed", "1 进行中（33） → 2 已结束（34）", "当湖—新仓",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert not re.search(r"\btrue\b", text.lower()), "it never says that anything is true"
    assert text.count("km/h · load full") == 11, "one row for each cited record"


def test_the_page_repeats_the_rules_word_for_word(box: Box) -> None:
    permit, rule = shown(box).excerpts
    assert (permit.file, permit.first_line, permit.lines[0]) == ("permits.toml", 11, "[[permit]]")
    assert permit.lines[-1] == "valid_to = 2026-12-31"
    assert '  ["20:00", "04:00"],' in permit.lines
    assert (rule.first_line, list(rule.lines)) == (7, ["[off_route]", 'source = "《城市建筑垃圾管理规定》第十四条"'])
    text = read(report.page(shown(box)))
    assert "另一公司" not in text


def test_the_page_names_its_bundle(box: Box) -> None:
    seqs = case.gather(box.reader, "34").seqs
    bundle = case.bundle_facts(box.reader, seqs, "case.tar", "ab" * 32, 4711)
    text = read(report.page(shown(box, bundle=bundle)))
    assert "sha256sum case.tar" in text
    assert "ab" * 32 in text
    assert "0 – 35" in text
    assert "no time stamp" in text


def test_a_page_before_the_seal_says_so(tmp_path: Path) -> None:
    box = truck_case(tmp_path, seal=False)
    text = read(report.page(shown(box)))
    assert "尚未封存" in text
    assert "fieldgate verify" not in text
    box.close()


def test_a_photo_is_on_the_page_unless_its_bytes_are_not_those_of_its_hash(box: Box) -> None:
    assert b"data:image/jpeg;base64,/9j/" in report.page(shown(box))
    (photo,) = shown(box).photos
    path = box.spool.path(photo.sha256)
    path.chmod(0o600)
    path.write_bytes(b"another photo")
    page = report.page(shown(box))
    assert b"data:image" not in page.replace(b"img-src data:", b"")
    assert photo.sha256 in read(page)


def test_a_withdrawn_finding_says_so_first(box: Box) -> None:
    box.records(finding(judgement(True, (12, 13)), 3, state="withdrawn"))
    text = read(report.page(shown(box, "36")))
    assert text.index("已撤回") < text.index("车牌")
    assert "there was no such event" in text


def test_every_rule_of_trucks_has_a_title_in_both_languages() -> None:
    told_otherwise = {"dumping-lead", "clock-back", "offline", "power-cut"}
    assert {*TELLERS, *told_otherwise} <= report.RULES.keys()
    assert all(zh and en for zh, en in report.RULES.values())


def test_the_chart_shows_the_limit_that_was_applied() -> None:
    speeding = {"limit_kmh": 60, "limit_at_peak_kmh": 40, "above_kmh_e1": 430, "disagree_kmh": 15, "margin_kmh": 3}
    assert report._limit_lines(speeding) == [("限值 limit", 400), ("判定 applied", 430)]
    assert report._limit_lines({"limit_kmh": 0, "loaded_limit_kmh": 60}) == [("loaded limit", 600)]
    assert report._limit_lines({"speed_kmh": 10, "persist_s": 30}) == [("阈值 threshold", 100)]
    assert report._limit_lines({"width_m": 50, "flag": True}) == []


def test_a_long_event_lists_the_first_the_worst_and_the_last_records(box: Box) -> None:
    first = box.records(*(Draft(kinds.POSITION, "trucks", DEVICE, position(40 + n)) for n in range(500)))
    seqs = tuple(range(first, first + 500))
    made = judgement(True, seqs, start_utc_s=START_S + 40, end_utc_s=START_S + 540)
    made = replace(made, peak={**made.peak, "seq": first + 200}, inputs_left_out=77)
    seq = box.records(finding(made, 1))
    page = report.page(shown(box, str(seq)))
    text = read(page)
    rows = [int(found) for found in re.findall(rb"<tr><td>(\d+)</td>", page)]
    assert len(rows) == report.ROWS_SHOWN
    assert {first, first + 200, first + 499} <= set(rows)
    assert page.count(b'class="cut"') == 2
    assert "60 of 500" in text
    assert "77 more inputs" in text


def test_nothing_from_outside_is_ever_markup(box: Box) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e\x07"
    made = judgement(
        True, (12,), plate=evil, firm=evil, permit=evil, legal_source=evil, rule_set=evil, text={"zh": evil},
        limits={evil: evil, "a_kmh": 5}, measured={evil: [evil, [evil]]}, geometry={**ROUTE, "name": evil, "id": evil},
    )  # fmt: skip
    seq = box.records(
        Draft(kinds.POSITION, "trucks", DEVICE, position(15, load=evil, cover=evil, flags=evil, alarms=evil)),
        finding(replace(made, inputs=(36,)), 1),
    )
    page = report.page(shown(box, str(seq + 1), gateway=evil, clock=evil))
    assert "alert(1)" in read(page)
    assert "\u202e" not in page.decode()
    assert b"\x07" not in page


words = st.text(max_size=12)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=6,
)
places = st.one_of(st.none(), st.integers(-(10**9) * 2, 10**9 * 2))
points = st.builds(
    Point,
    time_utc_s=st.integers(-(2**40), 2**40),
    lat_e7=st.one_of(st.none(), st.integers(-899_999_999, 899_999_999)),
    lon_e7=st.one_of(st.none(), st.integers(-1_800_000_000, 1_800_000_000)),
    speed_kmh_e1=st.one_of(st.none(), st.integers(0, 65_535)),
    recorder_kmh_e1=st.one_of(st.none(), st.integers(0, 65_535)),
    in_event=st.booleans(),
    state=st.dictionaries(st.sampled_from(["load", "cover", "lift"]), words, max_size=3),
)


@settings(max_examples=60)
@given(
    track=st.lists(points, max_size=8).map(lambda some: sorted(some, key=lambda point: point.time_utc_s)),
    limits=st.dictionaries(words, values, max_size=4),
    peak=st.dictionaries(st.sampled_from(["time_utc_s", "seq", "measured"]), st.integers(-(2**40), 2**40)),
    start=st.integers(-(2**40), 2**40),
)
def test_any_facts_give_a_sound_page(
    track: list[Point], limits: dict[str, Any], peak: dict[str, int], start: int
) -> None:
    made = {
        "rule": "r",
        "start_utc_s": start,
        "end_utc_s": start + 5,
        "limits": limits,
        "measured": limits,
        "peak": peak,
    }
    facts = report.Facts("gw", "0" * 32, "r", "closed", "c", made, [], track, [])
    read(report.page(facts))


# ---------------------------------------------------------------- drawings


def track(count: int = 20, step_s: int = 10) -> list[Point]:
    return [
        Point(START_S + n * step_s, 306995000 + n * 1500, 1210315000 + n * 700, 400, None, 5 <= n < 10)
        for n in range(count)
    ]


def test_the_corridor_is_drawn_to_scale() -> None:
    svg = drawing.map_svg(track(), ROUTE, [Mark(306995000, 1210315000, "S", "begin")])
    root = ElementTree.fromstring(svg)
    (bar,) = [item for item in root.iter() if item.get("class") == "bar"]
    (length,) = [
        item.text or "" for item in root.iter() if item.get("class") == "bar-text" and " m" in (item.text or "")
    ]
    (left, right) = re.findall(r"M([\d.]+) .*H([\d.]+)V", bar.get("d") or "")[0]
    metres_per_px = int(length.split()[0]) / (float(right) - float(left))
    (band,) = [item for item in root.iter() if item.get("class") == "band"]
    width_px = float(re.findall(r"stroke-width:([\d.]+)px", band.get("style") or "")[0])
    assert width_px * metres_per_px == pytest.approx(2 * 50, rel=0.02)


def test_a_gap_is_drawn_as_a_gap() -> None:
    points = track(10) + [replace(point, time_utc_s=point.time_utc_s + 400) for point in track(10)]
    assert drawing.gap_s(points) == 90
    svg = drawing.map_svg(points, {}, [])
    assert svg.count("unknown") == 1
    chart = drawing.chart_svg(points, [("limit", 500)], (START_S, START_S + 490), START_S + 20)
    assert chart.count('class="gap"') == 1
    assert chart.count("M") > 2


@pytest.mark.parametrize(
    "geometry",
    [
        {},
        {"type": "Point", "coordinates": [1, 2]},
        {
            "type": "Polygon",
            "coordinates": [[[1210315000, 306995000], [1210325000, 306995000], [1210325000, 307000000]]],
        },
        {"type": "MultiPolygon", "coordinates": [[[[1210315000, 306995000], [1210325000, 306995000]]]]},
        {"type": "MultiLineString", "coordinates": [[[1210315000, 306995000], [1210325000, 306995000]], []]},
        {"type": "GeometryCollection", "geometries": [ROUTE, {"type": "Polygon", "coordinates": []}]},
        {"type": "Sphere"},
    ],
)
def test_every_geometry_gives_a_sound_drawing(geometry: dict[str, Any]) -> None:
    ElementTree.fromstring(drawing.map_svg(track(), geometry, []))
    without = drawing.map_svg([], geometry, [])
    assert without == "" or ElementTree.fromstring(without) is not None


def test_without_a_place_there_is_no_map_and_with_one_fix_no_chart() -> None:
    assert drawing.map_svg([Point(1, None, None)], {}, []) == ""
    assert drawing.chart_svg(track(1), [], (START_S, START_S), None) == ""
    assert ElementTree.fromstring(drawing.map_svg(track(1), {}, [])) is not None


def test_states_are_strips_that_end_at_gaps() -> None:
    def at(second: int, load: str) -> Point:
        return Point(START_S + second, 1, 1, 10, None, True, {"load": load})

    points = [at(0, "full"), at(10, "full"), at(20, "empty"), at(30, "empty"), at(500, "empty")]
    spans = drawing._spans(points, "load")
    assert [(value, start - START_S, end - START_S) for value, start, end in spans] == [
        ("full", 0, 20), ("empty", 20, 31), ("empty", 500, 500),
    ]  # fmt: skip
