"""Calls that hang, end, or are stopped, with real threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from drivers.io.watched import STUCK_MAX, InterruptedCall, StationCalls, Watch
from gateway.core.errors import LinkError
from tests.drivers.stack import drive


def calls(stop: asyncio.Event | None = None, ticks: list[int] | None = None, hang_s: float = 0.05) -> StationCalls:
    counted = ticks if ticks is not None else []
    return StationCalls("share", hang_s=hang_s, stop=stop or asyncio.Event(), tick=lambda: counted.append(1))


def test_results_and_errors_come_back():
    async def scenario():
        assert await calls().run(lambda _: 7) == 7
        with pytest.raises(OSError, match="no such"):
            await calls().run(_raise)

    drive(scenario)


def _raise(_watch: Watch) -> None:
    raise OSError("no such thing")


def test_a_hanging_call_is_given_up_counted_and_locked_out():
    release, touched = threading.Event(), []

    def hang(watch: Watch) -> None:
        with watch.outside():
            release.wait()
        with watch.inside():
            touched.append("ours")

    async def scenario():
        ticks: list[int] = []
        station = calls(ticks=ticks)
        for number in range(1, STUCK_MAX + 1):
            with pytest.raises(LinkError, match="no answer for 0.05 s"):
                await station.run(hang)
            assert station.stuck == number
        assert ticks
        with pytest.raises(LinkError, match="3 calls have not returned"):
            await station.run(lambda _: 7)
        release.set()
        async with asyncio.timeout(10):
            while station.stuck:
                await asyncio.sleep(0.01)
        assert await station.run(lambda _: 7) == 7
        assert touched == []

    drive(scenario)


def test_slow_but_living_calls_are_left_alone():
    def slow(watch: Watch) -> int:
        for _ in range(24):
            with watch.outside():
                threading.Event().wait(0.05)
        return 7

    async def scenario():
        assert await calls(hang_s=1.0).run(slow) == 7

    drive(scenario)


def test_long_work_inside_is_never_given_up():
    def fsync(watch: Watch) -> int:
        with watch.outside():
            pass
        with watch.inside():
            threading.Event().wait(0.3)
        return 7

    async def scenario():
        assert await calls(hang_s=0.05).run(fsync) == 7

    drive(scenario)


def test_stop_ends_a_call_at_its_next_step():
    def endless(watch: Watch) -> None:
        while True:
            watch.step()

    async def scenario():
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, stop.set)
        with pytest.raises(InterruptedCall) as caught:
            await calls(stop, hang_s=60).run(endless)
        assert not caught.value.given_up

    drive(scenario)


def test_a_cancelled_call_ends_its_thread():
    ended = threading.Event()

    def endless(watch: Watch) -> None:
        try:
            while True:
                watch.step()
        finally:
            ended.set()

    async def scenario():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await calls(hang_s=60).run(endless)
        assert await asyncio.to_thread(ended.wait, 10)

    drive(scenario)
