"""The supervisor: restarts, fatal errors, readiness, the watchdog, clean stops."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.core.errors import (
    ConfigError,
    DiskError,
    ForkError,
    IntegrityError,
    LinkError,
    ProfileError,
    ProtocolMisuse,
    StoreFull,
)
from gateway.supervisor import Loop, Supervisor, Tick

FAST = (0.001, 0.004)


class Notes(list[str]):
    """What systemd was told."""

    def __call__(self, state: str) -> None:
        self.append(state)


def supervisor(notes: Notes | None = None, **more: Any) -> Supervisor:
    return Supervisor(notifier=notes if notes is not None else Notes(), watchdog_s=0.001, back_off_s=FAST, **more)


async def for_ever(tick: Tick) -> None:
    while True:
        tick()
        await asyncio.sleep(0)


def failing(errors: list[BaseException], then: Callable[[], None]) -> Callable[[Tick], Awaitable[None]]:
    """A loop that raises these errors one after another, calls `then`, and runs on."""

    async def run(tick: Tick) -> None:
        tick()
        if errors:
            raise errors.pop(0)
        then()
        await for_ever(tick)

    return run


def test_a_loop_that_fails_is_started_again_and_the_others_do_not_notice() -> None:
    both = supervisor()
    steady_starts = 0

    async def steady(tick: Tick) -> None:
        nonlocal steady_starts
        steady_starts += 1
        await for_ever(tick)

    errors: list[BaseException] = [
        LinkError("gone"),
        ValueError("our bug"),
        StoreFull("full"),
        ExceptionGroup("inner", [OSError("odd")]),
    ]
    both.add("station-1", failing(errors, lambda: both.stop("enough")))
    both.add("steady", steady)
    assert asyncio.run(both.run()) == 0
    assert both.reason == "enough"
    assert steady_starts == 1
    assert [loop.restarts for loop in both.loops] == [4, 0]
    assert both.loops[0].error == "OSError: odd"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (IntegrityError("root differs"), 70),
        (ForkError("another history"), 70),
        (DiskError("bad sector"), 74),
        (ConfigError([]), 78),
        (ExceptionGroup("g", [LinkError("x"), ExceptionGroup("h", [ForkError("fork")])]), 70),
    ],
)
def test_fatal_errors_stop_everything(error: Exception, code: int) -> None:
    stopped = False

    async def at_stop() -> None:
        nonlocal stopped
        stopped = True

    notes = Notes()
    one = supervisor(notes, at_stop=at_stop)
    one.add("sealer", failing([error], lambda: one.stop("not reached")))
    one.add("other", for_ever)
    assert asyncio.run(one.run()) == code
    assert one.reason.startswith("sealer: ")
    assert "STOPPING=1" in notes
    assert not stopped  # nothing more is written into a log that disagrees with itself


def test_a_rejected_source_is_disabled_and_the_rest_goes_on() -> None:
    one = supervisor()
    one.add("station-1", failing([ProfileError([])], lambda: None), essential=False)

    async def until_disabled(tick: Tick) -> None:
        while one.loops[0].state != "ended":
            tick()
            await asyncio.sleep(0)
        one.stop("seen")

    one.add("other", until_disabled)
    assert asyncio.run(one.run()) == 0
    assert one.loops[0].restarts == 0


def test_a_loop_that_returns_has_ended() -> None:
    one = supervisor()

    async def short(tick: Tick) -> None:
        tick()

    async def until_ended(tick: Tick) -> None:
        while one.loops[0].state != "ended":
            await asyncio.sleep(0)
        one.stop("seen")

    one.add("short", short)
    one.add("other", until_ended)
    assert asyncio.run(one.run()) == 0


def test_ready_is_told_once_when_every_essential_loop_has_ticked() -> None:
    notes, gate = Notes(), asyncio.Event()
    one = supervisor(notes)

    async def slow(tick: Tick) -> None:
        await gate.wait()
        assert "READY=1" not in notes
        tick()
        one.stop("ready")

    async def never(tick: Tick) -> None:
        await asyncio.Event().wait()

    async def quick(tick: Tick) -> None:
        tick()
        gate.set()
        await for_ever(tick)

    one.add("slow", slow)
    one.add("uplink", never, essential=False)
    one.add("quick", quick)
    asyncio.run(one.run())
    assert notes.count("READY=1") == 1
    assert notes.index("READY=1") < notes.index("STOPPING=1")


def test_a_failed_start_of_another_essential_loop_does_not_take_readiness_back() -> None:
    notes = Notes()
    one = supervisor(notes)

    async def watches(tick: Tick) -> None:
        tick()
        while one.loops[0].restarts < 3:
            await asyncio.sleep(0)
        tick()
        one.stop("seen")

    one.add("flaps", failing([LinkError("x")] * 10, lambda: None))
    one.add("watches", watches)
    asyncio.run(one.run())
    assert notes.count("READY=1") == 1


@pytest.mark.parametrize(
    ("state", "ticked_s", "now_s", "late"),
    [
        ("running", 100.0, 160.0, False),
        ("running", 100.0, 160.1, True),
        ("starting", 100.0, 160.1, True),
        ("waiting", 100.0, 10_000.0, False),  # in the supervisor's hands
        ("ended", 100.0, 10_000.0, False),
    ],
)
def test_what_hangs(state: Any, ticked_s: float, now_s: float, late: bool) -> None:
    assert Loop("x", for_ever, 60.0, essential=True, state=state, ticked_s=ticked_s).late(now_s) == late


def test_the_watchdog_is_fed_only_while_nothing_hangs() -> None:
    notes = Notes()
    one = supervisor(notes)

    async def hangs(tick: Tick) -> None:
        tick()
        await asyncio.Event().wait()

    async def observes(tick: Tick) -> None:
        while not one.late(asyncio.get_running_loop().time()):
            tick()
            await asyncio.sleep(0)
        notes.append("late")
        for _ in range(20):
            tick()
            await asyncio.sleep(0.001)
        one.stop("seen")

    one.add("hangs", hangs, limit_s=0.05)
    one.add("observes", observes)
    asyncio.run(one.run())
    at = notes.index("late")
    assert "WATCHDOG=1" in notes[:at]
    assert "WATCHDOG=1" not in notes[at:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_cleanly_and_the_last_work_is_done(number: signal.Signals) -> None:
    seen: list[str] = []

    async def at_stop() -> None:
        seen.append("last seal")

    one = supervisor(at_stop=at_stop)

    async def loop(tick: Tick) -> None:
        tick()
        os.kill(os.getpid(), number)
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("loop ended")

    one.add("loop", loop)
    assert asyncio.run(one.run()) == 0
    assert seen == ["loop ended", "last seal"]
    assert one.reason == number.name


def test_a_loop_that_does_not_stop_does_not_hold_up_the_rest() -> None:
    one = supervisor(stop_limit_s=0.01)
    release = asyncio.Event()
    done: list[str] = []

    async def stubborn(tick: Tick) -> None:
        tick()
        one.stop("asked")
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                done.append("refused")

    async def at_stop() -> None:
        done.append("last work")
        release.set()

    one._at_stop = at_stop
    one.add("stubborn", stubborn)
    assert asyncio.run(one.run()) == 0
    assert done == ["refused", "last work"]


def test_a_file_changed_under_a_running_loop_does_not_end_the_taking_of_evidence() -> None:
    notes = Notes()
    one = supervisor(notes)
    runs = 0

    async def uplink(tick: Tick) -> None:
        nonlocal runs
        tick()
        runs += 1
        if runs == 2:
            one.stop("enough")
        while "READY=1" not in notes:
            await asyncio.sleep(0)
        raise ConfigError([])

    one.add("source", for_ever)
    one.add("uplink", uplink, essential=False)
    assert asyncio.run(one.run()) == 0
    assert one.reason == "enough"


@pytest.mark.parametrize(
    ("error", "code"), [(OSError("disk"), 1), (IntegrityError("root"), 70), (StoreFull("no room"), 74)]
)
def test_an_error_in_the_last_work_is_told(error: Exception, code: int) -> None:
    async def at_stop() -> None:
        raise error

    one = supervisor(at_stop=at_stop)
    one.add("loop", failing([], lambda: one.stop("asked")))
    assert asyncio.run(one.run()) == code


def test_work_beside_the_loops_is_kept_and_its_errors_count() -> None:
    one = supervisor()
    done: list[str] = []

    async def work(error: Exception | None) -> None:
        await asyncio.sleep(0)
        done.append("done")
        if error is not None:
            raise error

    async def loop(tick: Tick) -> None:
        tick()
        one.spawn("plain", work(None))
        one.spawn("fails", work(OSError("odd")))
        while len(done) < 2:
            await asyncio.sleep(0)
        one.spawn("fatal", work(ForkError("fork")))
        await for_ever(tick)

    one.add("loop", loop)
    assert asyncio.run(one.run()) == 70
    assert one.reason == "fatal: fork"


def test_two_loops_of_one_name_are_our_mistake() -> None:
    one = supervisor()
    one.add("x", for_ever)
    with pytest.raises(ProtocolMisuse):
        one.add("x", for_ever)


@pytest.mark.parametrize(("error", "traced"), [(LinkError("share gone"), False), (ValueError("our bug"), True)])
def test_only_foreign_errors_have_a_traceback(error: Exception, traced: bool, caplog: pytest.LogCaptureFixture) -> None:
    one = supervisor()
    one.add("station", failing([error], lambda: one.stop("enough")))
    assert asyncio.run(one.run()) == 0
    (line,) = [record.getMessage() for record in caplog.records if "loop_failed" in record.getMessage()]
    assert ("Traceback" in line) == traced
