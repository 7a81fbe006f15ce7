"""Calls into a share or disk that may never return, kept away from the rest of the process.

A dead network share blocks a thread in the kernel, and nothing can wake it. Such calls run in threads of their
own (daemons: they cannot hold up the exit), the loop watches their steps, and a thread without a step for
`hang_s` is given up: it may come back, but the lock makes sure that it then touches nothing of ours.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from gateway.core.errors import LinkError

T = TypeVar("T")

STUCK_MAX: Final = 3
"""Given-up threads of one source that may be alive; until one returns the source stays down."""
LOOK_S: Final = 0.25


class InterruptedCall(Exception):
    """Raised inside the thread: the gateway stops, or the thread was given up."""

    def __init__(self, *, given_up: bool) -> None:
        self.given_up = given_up
        super().__init__("given up" if given_up else "stopping")


class Watch:
    """What a thread and the loop share. `outside()` wraps calls to the station, `inside()` those to the spool."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ending = ""
        self.steps = 0
        self.is_outside = False

    @contextmanager
    def outside(self) -> Iterator[None]:
        """A call that may never return."""
        self.step()
        self.is_outside = True
        try:
            yield
        finally:
            self.is_outside = False

    @contextmanager
    def inside(self) -> Iterator[None]:
        """A call to our own disk: never given up in the middle. Raises InterruptedCall instead of starting."""
        with self._lock:
            self.check()
            yield

    def step(self) -> None:
        """One more sign of life."""
        self.check()
        self.steps += 1

    def check(self) -> None:
        """Raise InterruptedCall once the thread shall end."""
        if self._ending:
            raise InterruptedCall(given_up=self.is_given_up)

    @property
    def is_given_up(self) -> bool:
        """The loop no longer waits for this thread."""
        return self._ending == "given up"

    def stop(self) -> None:
        """Ask the thread to end at its next step."""
        self._ending = self._ending or "stopping"

    def give_up(self) -> bool:
        """Cut the thread off; False where it is inside just now, so not stuck."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self.is_outside:
                self._ending = "given up"
            return self.is_outside
        finally:
            self._lock.release()


class StationCalls:
    """Runs the calls of one source, one at a time."""

    def __init__(self, place: str, *, hang_s: float, stop: asyncio.Event, tick: Callable[[], None]) -> None:
        self.place = place
        self.hang_s = hang_s
        self.stop = stop
        self.tick = tick
        self.stuck = 0
        """Given-up threads that have not returned."""

    async def run(self, work: Callable[[Watch], T]) -> T:
        """The result of `work(watch)`, or its exception. LinkError when it hangs; InterruptedCall on stop."""
        if self.stuck >= STUCK_MAX:
            text = f"{self.place}: {self.stuck} calls have not returned; is the share dead? unmount it with umount -f"
            raise LinkError(text)
        loop = asyncio.get_running_loop()
        watch = Watch()
        future: asyncio.Future[T] = loop.create_future()

        def deliver(result: T | None, error: BaseException | None) -> None:
            if watch.is_given_up:
                self.stuck -= 1
            elif future.done():
                return
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def body() -> None:
            result, error = None, None
            try:
                result = work(watch)
            except BaseException as caught:  # noqa: BLE001  carried over to the caller
                error = caught
            try:
                loop.call_soon_threadsafe(deliver, result, error)
            except RuntimeError:
                return  # the loop is closed: the process is ending and nobody waits

        threading.Thread(target=body, name=f"station {self.place}", daemon=True).start()
        try:
            await self._observe(future, watch)
        except asyncio.CancelledError:
            watch.stop()
            future.cancel()
            raise
        return future.result()

    async def _observe(self, future: asyncio.Future[T], watch: Watch) -> None:
        loop = asyncio.get_running_loop()
        since, steps = loop.time(), -1
        while not future.done():
            await asyncio.wait({future}, timeout=min(LOOK_S, self.hang_s / 4))
            self.tick()
            if self.stop.is_set():
                watch.stop()
            if watch.steps != steps or not watch.is_outside:
                since, steps = loop.time(), watch.steps
            elif not future.done() and loop.time() - since >= self.hang_s and watch.give_up():
                self.stuck += 1
                raise LinkError(f"{self.place}: no answer for {self.hang_s:g} s; is the share or disk still there?")
