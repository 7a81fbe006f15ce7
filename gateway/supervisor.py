"""Runs the loops of the gateway: starts, restarts, watches and stops them. The only owner of tasks, and the only
place that catches every exception.

What a loop raises decides what happens (core.errors):

    IntegrityError, ForkError    everything stops, exit 70: evidence disagrees with itself, nothing repairs that
    DiskError                    everything stops, exit 74: only a new start knows what the disk holds
    ConfigError                  everything stops, exit 78; from a loop that has run, once all are ready (a file was
                                 changed under it), it is tried again instead
    RejectedError                this loop ends for good, e.g. a source whose profile is unusable
    anything else                this loop is started again, after 1, 2, 4 … 60 s; the others do not notice

A loop is a coroutine function that gets `tick` and calls it in every round. systemd's watchdog is fed only while
every running loop has ticked within its limit; READY=1 is sent once every essential loop has ticked for the first time.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from gateway import log, metrics
from gateway.core.errors import (
    ConfigError,
    DiskError,
    FieldgateError,
    IntegrityError,
    ProtocolMisuse,
    RejectedError,
    StoreFull,
)
from gateway.notify import notify, watchdog_interval_s

EXIT_OK: Final = 0
EXIT_INTEGRITY: Final = 70
EXIT_DISK: Final = 74
EXIT_CONFIG: Final = 78
FATAL: Final[tuple[tuple[type[Exception], int], ...]] = (
    (IntegrityError, EXIT_INTEGRITY),
    (DiskError, EXIT_DISK),
    (ConfigError, EXIT_CONFIG),
)
BACK_OFF_MIN_S: Final = 1.0
BACK_OFF_MAX_S: Final = 60.0
STEADY_S: Final = 60.0
"""A loop that ran so long before it failed begins again with the shortest back-off."""
STOP_LIMIT_S: Final = 20.0
WATCH_INTERVAL_S: Final = 10.0

Tick = Callable[[], None]
Run = Callable[[Tick], Awaitable[None]]


@dataclass(slots=True)
class Loop:
    """One supervised loop and how it is doing."""

    name: str
    run: Run
    limit_s: float
    """Longest time between two ticks before it counts as hung."""
    essential: bool
    state: Literal["starting", "running", "waiting", "ended"] = "starting"
    started: bool = False
    """It has ticked at least once, whatever came later."""
    ticked_s: float = 0.0
    restarts: int = 0
    error: str = ""
    """The last one, "" where there was none."""

    def late(self, now_s: float) -> bool:
        """Whether it should have ticked by now. A loop in its back-off is in the supervisor's hands, not hung."""
        return self.state in {"starting", "running"} and now_s - self.ticked_s > self.limit_s


class Supervisor:
    """Made inside a running event loop or before it; `run` returns the exit code of the process."""

    def __init__(
        self,
        *,
        at_stop: Callable[[], Awaitable[None]] | None = None,
        notifier: Callable[[str], object] = notify,
        watchdog_s: float | None = None,
        back_off_s: tuple[float, float] = (BACK_OFF_MIN_S, BACK_OFF_MAX_S),
        stop_limit_s: float = STOP_LIMIT_S,
    ) -> None:
        """`at_stop` runs at a clean stop when all loops have ended: the last records and seals."""
        self._at_stop = at_stop
        self._notify = notifier
        self._watch_s = watchdog_s or watchdog_interval_s() or WATCH_INTERVAL_S
        self._back_off_s = back_off_s
        self._stop_limit_s = stop_limit_s
        self._loops: dict[str, Loop] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._ready = False
        self._log = log.get("supervisor")
        self.exit_code = EXIT_OK
        self.reason = ""
        """Why it stopped, one line."""

    def add(self, name: str, run: Run, *, limit_s: float = 60.0, essential: bool = True) -> None:
        """Register a loop before `run`."""
        if name in self._loops:
            raise ProtocolMisuse(f"two supervised loops named {name}")
        self._loops[name] = Loop(name, run, limit_s, essential)

    @property
    def loops(self) -> list[Loop]:
        """All loops, in the order of `add`."""
        return list(self._loops.values())

    def stop(self, reason: str, exit_code: int = EXIT_OK) -> None:
        """Ask everything to stop; the first reason and the first exit code other than 0 stay."""
        self.reason = self.reason or reason
        self.exit_code = self.exit_code or exit_code
        self._stopping.set()

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something once beside the loops; its task is kept until it ends and its error is not lost."""
        return self._keep(self._once(name, work), name)

    async def run(self) -> int:
        """Run all loops until `stop`, SIGTERM, SIGINT or a fatal error."""
        running = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(number, self.stop, number.name)
        try:
            for loop in self._loops.values():
                self._keep(self._supervise(loop), loop.name)
            self._keep(self._watch(), "watch")
            await self._stopping.wait()
            await self._wind_up()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                running.remove_signal_handler(number)
        return self.exit_code

    def _keep(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _supervise(self, loop: Loop) -> None:
        running = asyncio.get_running_loop()
        pause_s = self._back_off_s[0]
        while True:
            loop.state = "starting"
            loop.ticked_s = began_s = running.time()
            try:
                await loop.run(lambda: self._tick(loop))
                loop.state = "ended"
                self._log.info("loop_ended", key=loop.name, loop=loop.name)
                return
            except Exception as error:
                if not self._survives(loop.name, error, has_run=self._ready and loop.started):
                    loop.state, loop.error = "ended", one_line(error)
                    return
                if running.time() - began_s > STEADY_S:
                    pause_s = self._back_off_s[0]
                loop.state, loop.error = "waiting", one_line(error)
            loop.restarts += 1
            metrics.RESTARTS.labels(loop.name).inc()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, self._back_off_s[1])

    async def _once(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._survives(name, error)

    def _survives(self, name: str, error: Exception, *, has_run: bool = False) -> bool:
        """Log an error and act on its class: True where the loop is to be started again."""
        causes = list(_leaves(error))
        for fatal, code in FATAL:
            if fatal is ConfigError and has_run:
                continue  # taking evidence does not end because a file of the uplink's was changed
            if found := next((cause for cause in causes if isinstance(cause, fatal)), None):
                self._log.critical("stopping_for_good", loop=name, error=one_line(found))
                self.stop(f"{name}: {one_line(found)}", code)
                return False
        if all(isinstance(cause, RejectedError) for cause in causes):
            self._log.error("loop_disabled", key=name, loop=name, error=one_line(error))
            return False
        ours = all(isinstance(cause, FieldgateError) for cause in causes)  # it says all; foreign ones need a traceback
        self._log.error("loop_failed", key=name, loop=name, error=one_line(error), exc_info=None if ours else error)
        return True

    def _tick(self, loop: Loop) -> None:
        loop.ticked_s = asyncio.get_running_loop().time()
        if loop.state == "starting":
            loop.state, loop.started = "running", True
            if not self._ready and self._all_started():
                self._ready = True
                self._notify("READY=1")
                self._log.info("ready", loops=len(self._loops))

    def _all_started(self) -> bool:
        return all(loop.started for loop in self._loops.values() if loop.essential)

    async def _watch(self) -> None:
        """Feed the watchdog while nothing hangs."""
        while True:
            late = self.late(asyncio.get_running_loop().time())
            for name in late:
                self._log.error("loop_hangs", key=name, loop=name)
            if not late:
                self._notify("WATCHDOG=1")
            await asyncio.sleep(self._watch_s)

    def late(self, now_s: float) -> list[str]:
        """Names of the loops that hang at this time of the event loop's clock."""
        return [loop.name for loop in self._loops.values() if loop.late(now_s)]

    async def _wind_up(self) -> None:
        """End all loops, then the last work of a clean stop; neither may take longer than the limit."""
        self._notify("STOPPING=1")
        self._log.info("stopping", reason=self.reason)
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        _, stuck = await asyncio.wait(tasks, timeout=self._stop_limit_s) if tasks else (set(), set())
        for task in stuck:
            self._log.error("loop_does_not_stop", key=task.get_name(), loop=task.get_name())
        if self._at_stop is None or self.exit_code != EXIT_OK:
            return
        try:
            async with asyncio.timeout(self._stop_limit_s):
                await self._at_stop()
        except StoreFull as full:
            self._log.error("stop_not_recorded", error=one_line(full))
            self.exit_code = EXIT_DISK
        except Exception as error:
            self._survives("stop", error)
            self.exit_code = self.exit_code or 1


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside groups of errors."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def one_line(error: BaseException) -> str:
    """An error for a person: ours as they are, foreign ones with their class."""
    first = next(_leaves(error), error)
    text = log.quoted(first)
    return text if type(first).__module__.startswith("gateway.core") else f"{type(first).__name__}: {text}"
