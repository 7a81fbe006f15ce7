"""Driving loaded with the cover not closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.rules.cases import Case
from gateway.rules.telling import Told, kmh, lasting
from gateway.rules.terms import Terms
from gateway.rules.track import COVER_MASK, NOT_COVERED, cover_of

if TYPE_CHECKING:
    from gateway.rules.vehicle import Fold, Step

SLOT: Final = "uncovered"
BACK_FIXES: Final = 2
_SAID: Final = {"open": "未密闭", "opening": "未关严（开启中）", "closing": "未关严（关闭中）"}


def look(fold: Fold, step: Step, terms: Terms) -> None:
    """One step. Slow driving does not end it: the box is as open as before."""
    rule = terms.rules.uncovered
    if rule is None:
        return
    case = fold.state.cases.get(SLOT)
    open_box = bool(step.loaded) and step.this.bits & COVER_MASK in NOT_COVERED
    if open_box and step.speed_e1 > rule.speed_kmh * 10:
        case = fold.breaks(SLOT, "uncovered", step.speed_e1)
        if case.last_s - case.start_s >= rule.persist_s:
            fold.certain(case)
    elif case is not None:
        if not open_box:
            fold.back(SLOT, BACK_FIXES)
        elif not case.told or fold.state.still:
            fold.end(SLOT)


def told(_fold: Fold, case: Case, terms: Terms, over: bool) -> Told:
    """The finding."""
    cover = cover_of(case.worst.bits)
    en, zh = lasting(case.last_s - case.start_s)
    so_far = ("", "") if over else (" so far", "至今")
    return Told(
        terms.rules.uncovered,
        "violation",
        f"Driving loaded with the cover {'open' if cover == 'open' else f'not closed ({cover})'}: "
        f"up to {kmh(case.worst_value)} km/h, {round(case.metres)} m in {en}{so_far[0]}",
        f"载货行驶时顶盖{_SAID.get(cover, cover)}：最高{kmh(case.worst_value)}公里/小时，"
        f"{so_far[1]}行驶{round(case.metres)}米，历时{zh}",
        measured={"speed_max_kmh_e1": case.worst_value, "speed_mean_kmh_e1": case.total // case.fixes},
        peak={"speed_kmh_e1": case.worst_value, "cover": cover},
    )
