"""The figure of readings: lines, limit, states; whatever a record holds, it is drawn or left out."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from gateway.report import Facts, page
from gateway.report_fume import TITLES, chart, row_text
from gateway.rules.fume_telling import TELLERS
from tests.rules.fume_days import MIDNIGHT, H, judged, mean, number, reading, readings, rules, wobble

FROM = 11 * H


def records(items: list[dict[str, Any]]) -> list[tuple[int, int, dict[str, Any]]]:
    return [(n, (one["taken_utc_s"] + 1) * 10**9, one) for n, one in enumerate(items)]


def figure(items: list[dict[str, Any]], judgement: dict[str, Any]) -> ElementTree.Element:
    found = chart(records(items), judgement)
    svg = re.search(r"<svg.*?</svg>", found)
    assert svg is not None
    return ElementTree.fromstring(svg[0])


def test_concentration_with_its_limit() -> None:
    items = readings(FROM, FROM + H + 60, 60, lambda t: wobble(t, 2.4))
    (one,) = judged(items, rules("fume_limit"))
    drawn = figure(items, one.to_json())
    (line,) = [path for path in drawn.iter("path") if path.get("class") == "speed"]
    assert line.get("d", "").count("L") == 60
    assert [path.get("class") for path in drawn.iter("path")].count("limit") == 1
    assert "限值 limit 2" in [text.text for text in drawn.iter("text")]


def test_states_and_currents_with_their_band() -> None:
    items = readings(FROM, FROM + 1200, 10, current=0.3)
    (one,) = judged(
        items, rules("purifier_current"), '[[kitchen]]\nid="k"\nname="n"\ndevices=["M1"]\npurifier_band_a=[0.8,2.0]'
    )
    drawn = figure(items, one.to_json())
    texts = [text.text for text in drawn.iter("text")]
    assert {"下限 low 0.8", "上限 high 2", "运行 on"} <= set(texts)
    assert [path.get("class") for path in drawn.iter("path")].count("limit") == 2


def test_a_hole_breaks_the_line() -> None:
    items = readings(FROM, FROM + 600, 60) + readings(FROM + 3000, FROM + 3600, 60)
    (line,) = [path for path in figure(items, {}).iter("path") if path.get("class") == "speed"]
    assert line.get("d", "").count("M") == 2


def test_the_page_shows_it_in_place_of_a_map() -> None:
    items = readings(FROM, FROM + H + 60, 60, lambda t: wobble(t, 2.4))
    (one,) = judged(items, rules("fume_limit"))
    shape = one.to_json()
    text = page(
        Facts("gw", one.id, one.rule, "open", "fume-monitor", shape, [], [], [], readings=chart(records(items), shape))
    ).decode()
    assert "油烟均值超过限值" in text
    assert "2.4 mg/m³" in text or "2.402" in text
    assert "No position that could be drawn" not in text
    assert text.count("<svg") == 1


def test_nothing_to_draw() -> None:
    assert chart([], {}) == ""
    assert chart(records([reading(FROM)]), {}) == ""
    assert chart(records([mean(FROM, 2.0)]), {}) == ""


def test_what_a_record_says_in_a_line() -> None:
    one = reading(FROM, 0.77, current=1.2, flags="clock-off", backfill=True)
    one["values"][0]["quality"] = "suspect"
    said = row_text(1, 0, one)
    assert said == (
        "fume 0.77 (!) · fan_state on · purifier_state on · purifier_current 1.2 · 补传 back-filled · [clock-off]"
    )
    two = {**mean(FROM, 2.0), "values": [{**number("fume", 2.0, channel="1"), "statistic": "avg"}]}
    assert row_text(1, 0, two) == "fume[1] avg 2 · / 3600 s"


def test_every_rule_has_a_title() -> None:
    assert {*TELLERS, "monitor-offline"} == set(TITLES)


def test_foreign_text_stays_text() -> None:
    items = readings(FROM, FROM + 600, 60, purifier="<script>&")
    assert "<script>" not in chart(records(items), {"start_utc_s": MIDNIGHT + FROM})
