"""What receivers say the time is: how many marks agree, how far apart, and whom to believe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.instant import NOT_BEFORE_NS
from gateway.core.marks import GNSS_FRESH_NS, MARKS_KEPT, SECOND_NS, SOURCES_MAX, Agreed, Marks

UTC_NS = NOT_BEFORE_NS + 86_400 * SECOND_NS


def marked(*late_ms: float, source: str = "gps-1", marks: Marks | None = None, uncertainty_ms: int = 500) -> Marks:
    """A mark per second, each so many milliseconds late."""
    marks = marks or Marks()
    for second, ms in enumerate(late_ms):
        mono_ns = second * SECOND_NS + int(ms * 1e6)
        marks.mark(source, UTC_NS + second * SECOND_NS, mono_ns, uncertainty_ms * 1_000_000)
    return marks


def agreed(marks: Marks) -> Agreed | None:
    return marks.agreed(20 * SECOND_NS, GNSS_FRESH_NS)


def test_the_median_counts_and_the_spread_is_added() -> None:
    found = agreed(marked(100, 150, 120, 110, 130))
    assert found is not None
    assert (found.source, found.marks) == ("gps-1", 5)
    assert found.ahead_ns == UTC_NS - 120_000_000
    assert found.uncertainty_ns == 520_000_000  # between 110 and 130


@pytest.mark.parametrize("late_ms", [(), (100,), (100,) * 4, (0, 600, 1200, 1800, 2400), (0, 0, 0, 5000, 5000)])
def test_too_few_or_too_far_apart_is_no_time(late_ms: tuple[float, ...]) -> None:
    assert agreed(marked(*late_ms)) is None


def test_one_late_answer_spoils_nothing() -> None:
    found = agreed(marked(100, 100, 100, 100, 9000, 100))
    assert found is not None
    assert found.ahead_ns == UTC_NS - 100_000_000


def test_only_the_newest_count() -> None:
    found = agreed(marked(*[90_000] * 5, *[100] * MARKS_KEPT))
    assert found is not None
    assert (found.ahead_ns, found.marks) == (UTC_NS - 100_000_000, MARKS_KEPT)


def test_a_time_that_cannot_be_is_refused() -> None:
    marks = Marks()
    for second in range(10):
        marks.mark("gps-1", second * SECOND_NS, second * SECOND_NS, 1)
        marks.mark("gps-1", UTC_NS, second * SECOND_NS, -1)
    assert agreed(marks) is None
    assert marks.refused == 20


def test_receivers_are_bounded() -> None:
    marks = Marks()
    for number in range(SOURCES_MAX + 5):
        marks.mark(f"gps-{number}", UTC_NS, 0, 1)
    assert marks.refused == 5


def test_the_surest_of_those_that_agree_is_taken() -> None:
    marks = marked(*[100] * 5, source="a", uncertainty_ms=1000)
    found = agreed(marked(*[300] * 5, source="b", uncertainty_ms=500, marks=marks))
    assert found is not None
    assert (found.source, found.against) == ("b", "")


def test_those_that_contradict_are_named() -> None:
    marks = marked(*[100] * 5, source="a")
    found = agreed(marked(*[8000] * 5, source="b", marks=marks))
    assert found is not None
    assert {found.source, found.against} == {"a", "b"}


@given(
    st.lists(st.tuples(st.integers(-(10**19), 10**19), st.integers(0, 10**18), st.integers(-5, 10**12)), max_size=40)
)
def test_no_marks_break_it(given_marks: list[tuple[int, int, int]]) -> None:
    marks = Marks()
    for utc_ns, mono_ns, uncertainty_ns in given_marks:
        marks.mark("gps-1", utc_ns, mono_ns, uncertainty_ns)
    found = marks.agreed(10**18, 10**19)
    assert found is None or found.marks >= 5
