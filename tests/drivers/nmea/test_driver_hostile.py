"""A session and whatever comes: any events in any order, any chunks, bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drivers.nmea.drafts import Author
from drivers.nmea.driver import Closed, Dropped, Ended, Limits, Opened, Received, Session, Timer
from tests.drivers.nmea.lines import line
from tests.drivers.nmea.session import Rig, at_noon, gga, gst, rmc, txt

PIECES = st.sampled_from(
    [
        rmc(1),
        rmc(2),
        gga(2),
        rmc(3, "V"),
        gst(3),
        txt("ANTSTATUS=OPEN"),
        txt("ANTSTATUS=OK"),
        b"$GP",
        b"\xff" * 300,
        b"*00",
    ]
)
EVENTS = st.one_of(
    st.builds(Received, st.one_of(st.binary(max_size=400), PIECES)),
    st.builds(Opened, st.just("a")),
    st.builds(Closed, st.just("b")),
    st.builds(Dropped, st.integers(1, 10**9)),
    st.just(Timer()),
    st.just(Ended()),
    st.integers(0, 100),
)


@given(st.lists(EVENTS, max_size=60), st.booleans(), st.booleans())
def test_any_events_in_any_order_give_records_that_can_be_stored(
    events: list[object], listens: bool, datagrams: bool
) -> None:
    rig = Rig(Limits(listens=listens, datagrams=datagrams, mark_uncertainty_ns=1))
    for event in events:
        if isinstance(event, int):
            rig.wait(event)
        else:
            rig.handle(event)  # type: ignore[arg-type]
    assert all(draft.raw is None or len(draft.raw) < 40_000 for draft in rig.drafts)


@given(st.integers(1, 200), st.integers(1, 200))
def test_records_do_not_depend_on_the_chunks(one: int, other: int) -> None:
    stream = b"".join(rmc(n) + gga(n) + b"\x00noise" for n in range(1, 20))

    def read(size: int) -> list[object]:
        rig = Rig(Limits(interval_s=0)).opened()
        for at in range(0, len(stream), size):
            rig.handle(Received(stream[at : at + size]))
        rig.end()
        return [(draft.kind, draft.raw, dict(draft.data)) for draft in rig.drafts if draft.kind == "position"]

    assert read(one) == read(other)


def test_a_session_holds_little_whatever_comes() -> None:
    session = Session(Author("s", "d", "receiver"), Limits())
    rig = Rig()
    rig.session = session
    rig.opened()
    for n in range(200):
        rig.send(b"$" * 1000 + line(f"X{n % 90:02d}RMC".replace("X", "P") + ",1") + bytes([n]) * 5000, after_s=0)
    assert session._decoder.pending_bytes <= 1100
    assert len(session._times) <= 8
    assert at_noon(3661.5) == "130101.50"
