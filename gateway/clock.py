"""The only reader of clocks. It never corrects a time and never refuses for a bad one: it says how good each was.

A reading is CLOCK_BOOTTIME (counts through suspend) and CLOCK_REALTIME, read between two boottime reads. Their
difference may drift by slewing (the kernel slews at most 500 ppm); a larger change is a *step* and starts a new epoch:

    |change of (utc - mono)| > 50 ms + 600 ppm x elapsed     since the last reading, or since the epoch began

The second comparison catches a clock that is walked away in steps too small for the first one. Epochs also begin
at every start of the gateway, so that an epoch never spans a boot. Within an epoch `utc_ns` never jumps.

Records (EVIDENCE.md, Time): `clock.step` for each step; `clock.state` at start, at every change of source or state
and at least every `state_interval_s`; `clock.map` once, when an epoch of this boot that was never synchronised can be
mapped because a later one is: true utc of its records = mono_ns + offset_ns, give or take uncertainty_ms.

A receiver of satellites (port TimeMarks) sets no clock. Where nobody else keeps it, what the satellites say decides:
a clock that they show to be right counts as synchronised, by source "gnss"; one that they show to be
wrong does not, and its epochs are mapped by their word, `clock.map` with source "gnss".
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from gateway import metrics
from gateway.core import kinds
from gateway.core.errors import StoreFull
from gateway.core.instant import Instant
from gateway.core.marks import GNSS_FRESH_NS, GNSS_SHOWN_NS, Gnss, Marks
from gateway.core.ports import Sink
from gateway.core.record import Draft, Record

STEP_MIN_NS: Final = 50_000_000
STEP_PPM: Final = 600
SLEW_MAX_PPM: Final = 110_000
"""Above the fastest slew that a daemon can ask of the kernel (chrony: 83,333 ppm by default, at most 100,000)."""
DRIFT_PPM: Final = 500
WINDOW_GOOD_NS: Final = 100_000
READ_ATTEMPTS: Final = 4
PENDING_STEPS_MAX: Final = 1000
POLL_S: Final = 10.0
CHRONYC_TIMEOUT_S: Final = 2.0
CHRONYC_ANSWER_MAX: Final = 4096
BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")
BOOT_ID_VARIABLE: Final = "FIELDGATE_BOOT_ID"
"""The unit sets it to %b: under ProcSubset=pid the file above cannot be read."""
CHRONY_RUN: Final = Path("/run/chrony")
TIMESYNC_FLAG: Final = Path("/run/systemd/timesync/synchronized")
RTC_CLASS: Final = Path("/sys/class/rtc")

Source = Literal["none", "ntp", "gnss", "manual"]


# ------------------------------------------------------------------------------- who keeps the clock


@dataclass(frozen=True, slots=True)
class Timex:
    """What adjtimex(2) says; asked with modes 0, which needs no privilege and changes nothing."""

    state: int
    """0 TIME_OK … 5 TIME_ERROR."""
    status: int
    maxerror_us: int
    esterror_us: int
    frequency_ppm_65536: int
    """Frequency correction, units of 2^-16 ppm."""
    tai_s: int

    @property
    def synchronised(self) -> bool:
        """As systemd judges it: the maximum error is known and below 16 s."""
        return self.state != _TIME_ERROR and not self.status & _STA_UNSYNC and self.maxerror_us < _ERROR_MAX_US


_TIME_ERROR: Final = 5
_STA_UNSYNC: Final = 0x40
_ERROR_MAX_US: Final = 16_000_000


@dataclass(frozen=True, slots=True)
class Chrony:
    """`chronyc -c tracking`; fractions stay the text that chronyc wrote."""

    refid: str
    refname: str
    stratum: int
    last_offset_s: str
    skew_ppm: str
    root_delay_s: str
    root_dispersion_s: str
    leap: str

    @property
    def synchronised(self) -> bool:
        """Whether chronyd follows something."""
        return self.leap != "Not synchronised"


@dataclass(frozen=True, slots=True)
class Discipline:
    """Who keeps the clock of the box, and how well."""

    timex: Timex | None = None
    """None where the kernel or a sandbox does not let us ask."""
    chrony: Chrony | None = None
    timesyncd: bool = False
    """systemd-timesyncd has set the clock since boot."""
    rtc: bool = False

    @property
    def synchronised(self) -> bool:
        """The kernel's word; where it cannot be asked, that of the daemon that keeps the clock."""
        if self.timex is not None:
            return self.timex.synchronised
        return self.timesyncd or (self.chrony is not None and self.chrony.synchronised)

    @property
    def source(self) -> Source:
        """Where the time comes from; "manual" is chrony's local reference, set by a person."""
        if self.chrony is not None and self.chrony.synchronised:
            if self.chrony.refid == "7F7F0101":
                return "manual"
            receiver = self.chrony.refname.upper().startswith(("GPS", "PPS", "GNSS", "NMEA", "BDS"))
            return "gnss" if receiver else "ntp"
        return "ntp" if self.synchronised else "none"


def read_discipline() -> Discipline:
    """Ask kernel, chrony and timesyncd. May block for CHRONYC_TIMEOUT_S."""
    return Discipline(
        timex=read_timex(),
        chrony=read_chrony() if CHRONY_RUN.exists() else None,
        timesyncd=TIMESYNC_FLAG.exists(),
        rtc=RTC_CLASS.is_dir() and any(RTC_CLASS.iterdir()),
    )


class _TimexStruct(ctypes.Structure):
    """struct timex of linux/timex.h with 64-bit longs."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", ctypes.c_long * 2),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long),
        ("stbcnt", ctypes.c_long),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


def read_timex() -> Timex | None:
    """None where the system call is refused (EPERM under ProtectClock= or a seccomp filter, ENOSYS)."""
    answer = _TimexStruct()
    state = int(ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(answer)))
    if state < 0:
        return None
    return Timex(state, answer.status, answer.maxerror, answer.esterror, answer.freq, answer.tai)


def read_chrony() -> Chrony | None:
    """None where chronyc is missing, chronyd does not answer, or answers something else."""
    program = shutil.which("chronyc")
    if program is None:
        return None
    try:
        answer = subprocess.run(
            [program, "-c", "tracking"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CHRONYC_TIMEOUT_S,
            check=False,
            env={"LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_chrony(answer.stdout) if answer.returncode == 0 else None


def parse_chrony(answer: bytes) -> Chrony | None:
    """One line of 14 comma-separated fields (chronyc(1), tracking); None for anything else."""
    fields = answer[:CHRONYC_ANSWER_MAX].decode("ascii", "replace").strip().split(",")
    if len(fields) != 14 or not fields[2].isdecimal() or not all(field.isprintable() for field in fields):
        return None
    return Chrony(
        refid=fields[0],
        refname=fields[1],
        stratum=int(fields[2]),
        last_offset_s=fields[5],
        skew_ppm=fields[9],
        root_delay_s=fields[10],
        root_dispersion_s=fields[11],
        leap=fields[13],
    )


def read_boot_id() -> tuple[str, str]:
    """(32 lower-case hex digits, origin). Without /proc and without the unit's variable every start of the process
    counts as a boot of its own ("process"): nothing wrong is claimed, only less can be mapped later."""
    for origin in ("kernel", "unit"):
        try:
            text = BOOT_ID_FILE.read_text() if origin == "kernel" else os.environ.get(BOOT_ID_VARIABLE, "")
        except OSError:
            continue
        digits = text.strip().replace("-", "").lower()
        if len(digits) == 32 and set(digits) <= set("0123456789abcdef"):
            return digits, origin
    return secrets.token_hex(16), "process"


@dataclass(frozen=True, slots=True)
class Readers:
    """The outside world of the clock; tests give lists of readings instead."""

    boottime_ns: Callable[[], int]
    monotonic_ns: Callable[[], int]
    """CLOCK_MONOTONIC, which stands still in suspend."""
    realtime_ns: Callable[[], int]
    boot_id: Callable[[], tuple[str, str]]
    discipline: Callable[[], Discipline]


SYSTEM: Final = Readers(
    boottime_ns=lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    monotonic_ns=time.monotonic_ns,
    realtime_ns=time.time_ns,
    boot_id=read_boot_id,
    discipline=read_discipline,
)


# ------------------------------------------------------------------------------------------- the clock


@dataclass(slots=True)
class _Epoch:
    number: int
    began: Instant | None
    """None for an epoch of this boot that an earlier start of the gateway stored."""
    synchronised: bool = False
    by_gnss: bool = False
    """A `clock.map` by satellites is stored; another follows where somebody who keeps the clock can say it."""


@dataclass(frozen=True, slots=True)
class _Offered:
    """What the last poll gave to be stored."""

    key: tuple[object, ...]
    mono_ns: int
    mapped: list[_Epoch]
    for_good: bool
    """Not by satellites alone."""


class SystemClock:
    """The gateway's clock (ports `Clock`, `TimeMarks`). May be read in any thread; a lock keeps the order."""

    def __init__(
        self,
        first_epoch: int,
        *,
        unmapped: Sequence[int] = (),
        state_interval_s: int = 600,
        readers: Readers = SYSTEM,
        boot: tuple[str, str] | None = None,
    ) -> None:
        """`first_epoch` is the last stored epoch + 1; `unmapped` comes from `unmapped_epochs`; `boot` is what
        `read_boot_id` said, where the caller has asked already."""
        self.boot, self._boot_origin = boot or readers.boot_id()
        self._readers = readers
        self._state_interval_ns = state_interval_s * 1_000_000_000
        self._lock = threading.Lock()
        self._window_ns = 0
        mono_ns, utc_ns = self._read()
        self._last = Instant(self.boot, first_epoch, mono_ns, utc_ns)
        self._epoch = _Epoch(first_epoch, self._last)
        self._unmapped = [_Epoch(number, None) for number in unmapped]
        self._steps: list[tuple[Draft, Instant]] = []
        self._suspended_ns = mono_ns - readers.monotonic_ns()
        self._marks = Marks()
        self._verdict: tuple[bool, Source] = (False, "none")
        self._last_good: Instant | None = None
        self._stated: tuple[object, ...] | None = None
        self._stated_mono_ns = 0
        self._offered: _Offered | None = None
        metrics.CLOCK_EPOCH.set(first_epoch)

    # ------------------------------------------------------------ readings

    def now(self) -> Instant:
        """Read the clocks. A step since the last reading starts a new epoch and leaves a draft for `take_steps`."""
        with self._lock:
            return self._now()

    def monotonic_s(self) -> float:
        """Seconds that never jump, for time limits; not for records."""
        return self._readers.monotonic_ns() / 1e9

    @property
    def synchronised(self) -> bool:
        """Whether the clock was synchronised when it was last polled."""
        return self._verdict[0]

    @property
    def source(self) -> Source:
        """Where the time came from when the clock was last polled."""
        return self._verdict[1]

    def mark(self, source: str, utc_ns: int, mono_ns: int, uncertainty_ns: int) -> None:
        """Port `TimeMarks`: a receiver tells the time."""
        with self._lock:
            self._marks.mark(source, utc_ns, mono_ns, uncertainty_ns)

    @property
    def gnss(self) -> Gnss | None:
        """What satellites said last; None where they have not said anything within an hour."""
        with self._lock:
            now = self._now()
            return self._marks.against_clock(now, GNSS_SHOWN_NS)

    def take_steps(self) -> list[tuple[Draft, Instant]]:
        """Steps found and not yet stored, in order: to be stored before any record of the epoch that they began."""
        if not self._steps:
            return []
        with self._lock:
            steps, self._steps = self._steps, []
            return steps

    def put_back_steps(self, steps: list[tuple[Draft, Instant]]) -> None:
        """Return what could not be stored."""
        with self._lock:
            self._steps = steps + self._steps

    def _now(self) -> Instant:
        mono_ns, utc_ns = self._read()
        began = self._epoch.began
        if _stepped(self._last, mono_ns, utc_ns) or (began is not None and _stepped(began, mono_ns, utc_ns)):
            return self._begin_epoch(mono_ns, utc_ns)
        self._last = Instant(self.boot, self._epoch.number, mono_ns, utc_ns)
        return self._last

    def _read(self) -> tuple[int, int]:
        """(mono_ns, utc_ns) from the narrowest window of a few attempts."""
        boottime_ns, best = self._readers.boottime_ns, (1 << 62, 0, 0)
        for _ in range(READ_ATTEMPTS):
            before = boottime_ns()
            utc_ns = self._readers.realtime_ns()
            window_ns = boottime_ns() - before
            best = min(best, (window_ns, before + window_ns // 2, utc_ns))
            if window_ns <= WINDOW_GOOD_NS:
                break
        self._window_ns = best[0]
        return best[1], best[2]

    def _begin_epoch(self, mono_ns: int, utc_ns: int) -> Instant:
        before = self._last
        now = Instant(self.boot, before.epoch + 1, mono_ns, utc_ns)
        if not self._epoch.synchronised:
            self._unmapped.append(self._epoch)
        self._epoch = _Epoch(now.epoch, now)
        self._last = now
        self._verdict = (False, "none")  # what was known about the clock is not known about this epoch
        self._stated = None
        step = _step_draft(before, now, self._cause(before, now))
        if len(self._steps) < PENDING_STEPS_MAX:
            self._steps.append((step, now))
        else:
            self._steps[-1] = (_merged(self._steps[-1][0], step), now)
        metrics.CLOCK_STEPS.inc()
        metrics.CLOCK_EPOCH.set(now.epoch)
        return now

    def _cause(self, before: Instant, now: Instant) -> str:
        """suspend: the box slept; slew: the rate is one that daemons ask for; set: somebody set the clock."""
        slept_ns = now.mono_ns - self._readers.monotonic_ns() - self._suspended_ns
        if slept_ns > STEP_MIN_NS:
            self._suspended_ns += slept_ns
            return "suspend"
        elapsed_ns = max(now.mono_ns - before.mono_ns, 0)
        return "slew" if abs(_delta_ns(before, now)) * 1_000_000 <= elapsed_ns * SLEW_MAX_PPM else "set"

    # ------------------------------------------------------------ what is told about the clock

    def poll(self) -> list[Draft]:
        """Ask who keeps the clock (may block for CHRONYC_TIMEOUT_S: call it in a thread); return what is to be
        stored: `clock.state` when due, `clock.map` when it has become possible. Until `confirm` they come again."""
        discipline = self._readers.discipline()
        with self._lock:
            now = self._now()
            self._suspended_ns = now.mono_ns - self._readers.monotonic_ns()
            gnss = self._marks.against_clock(now, GNSS_FRESH_NS)
            kept = discipline.synchronised
            synchronised = kept or (gnss is not None and gnss.good)
            source: Source = discipline.source if kept or not synchronised else "gnss"
            self._verdict = (synchronised, source)
            metrics.CLOCK_SYNCHRONISED.set(int(synchronised))
            if synchronised:
                self._epoch.synchronised = True
                self._last_good = now
            mapped = self._to_map(gnss, kept=kept)
            drafts = []
            key = _state_key(discipline, self._verdict, gnss, now.epoch)
            if key != self._stated or now.mono_ns - self._stated_mono_ns >= self._state_interval_ns:
                drafts.append(self._state(discipline, gnss))
            if mapped:
                drafts.append(_map_draft(self.boot, now, discipline, None if kept else gnss, mapped))
            self._offered = _Offered(key, now.mono_ns, mapped, kept) if drafts else None
            return drafts

    def _to_map(self, gnss: Gnss | None, *, kept: bool) -> list[_Epoch]:
        """Epochs whose true time can be told now and was not yet: also the present one, where satellites show that it
        is wrong."""
        if kept:
            return list(self._unmapped)
        if gnss is None or not gnss.believed:
            return []
        present = [] if self._epoch.synchronised else [self._epoch]
        return [epoch for epoch in (*self._unmapped, *present) if not epoch.by_gnss]

    def confirm(self) -> None:
        """What the last `poll` returned is stored."""
        with self._lock:
            offered, self._offered = self._offered, None
            if offered is None:
                return
            if offered.key[0] == self._epoch.number:
                self._stated, self._stated_mono_ns = offered.key, offered.mono_ns
            if offered.for_good:
                self._unmapped = [epoch for epoch in self._unmapped if epoch not in offered.mapped]
            else:
                for epoch in offered.mapped:
                    epoch.by_gnss = True

    async def run(self, sink: Sink, tick: Callable[[], None], poll_s: float = POLL_S) -> None:
        """Store the state of the clock for ever. A full store is tried again at the next poll."""
        while True:
            drafts = await asyncio.to_thread(self.poll)
            if drafts:
                try:
                    await sink.append(drafts)
                    self.confirm()
                except StoreFull:
                    self._offered = None
            tick()
            await asyncio.sleep(poll_s)

    def _state(self, discipline: Discipline, gnss: Gnss | None) -> Draft:
        timex, chrony, good = discipline.timex, discipline.chrony, self._last_good
        kernel: dict[str, Any] | None = None
        if timex is not None:
            kernel = {
                "state": timex.state,
                "status": timex.status,
                "maxerror_us": timex.maxerror_us,
                "esterror_us": timex.esterror_us,
                "frequency_ppm_65536": timex.frequency_ppm_65536,
                "tai_s": timex.tai_s,
            }
        tracking: dict[str, Any] | None = None
        if chrony is not None:
            tracking = {name: getattr(chrony, name) for name in Chrony.__slots__}
        return Draft(
            kinds.CLOCK_STATE,
            "gateway",
            "",
            {
                "synchronised": self._verdict[0],
                "source": self._verdict[1],
                "gnss": None if gnss is None else gnss.shown(),
                "kernel": kernel,
                "chrony": tracking,
                "timesyncd": discipline.timesyncd,
                "rtc": discipline.rtc,
                "window_ns": self._window_ns,
                "boot_id_origin": self._boot_origin,
                "last_good": None
                if good is None
                else {"epoch": good.epoch, "mono_ns": str(good.mono_ns), "utc_ns": str(good.utc_ns)},
            },
        )


def unmapped_epochs(records: Iterable[Record], boot: str) -> list[int]:
    """Epochs of this boot that earlier starts of the gateway left unsynchronised and unmapped.

    `records` are the stored `clock.state` and `clock.map` records, in any order.
    """
    seen: set[int] = set()
    known: set[int] = set()
    for record in records:
        if record.instant.boot != boot:
            continue
        if record.kind == kinds.CLOCK_STATE:
            seen.add(record.instant.epoch)
            if record.data.get("synchronised") is True:
                known.add(record.instant.epoch)
        elif record.kind == kinds.CLOCK_MAP:
            known.update(epoch for epoch in record.data.get("epochs", ()) if isinstance(epoch, int))
    return sorted(seen - known)


def _delta_ns(before: Instant, after: Instant) -> int:
    return (after.utc_ns - after.mono_ns) - (before.utc_ns - before.mono_ns)


def _stepped(since: Instant, mono_ns: int, utc_ns: int) -> bool:
    delta_ns = abs((utc_ns - mono_ns) - (since.utc_ns - since.mono_ns))
    return delta_ns > STEP_MIN_NS + max(mono_ns - since.mono_ns, 0) * STEP_PPM // 1_000_000


def _step_draft(before: Instant, after: Instant, cause: str) -> Draft:
    data = {
        "before": {"epoch": before.epoch, "mono_ns": str(before.mono_ns), "utc_ns": str(before.utc_ns)},
        "after": {"epoch": after.epoch, "mono_ns": str(after.mono_ns), "utc_ns": str(after.utc_ns)},
        "delta_ns": str(_delta_ns(before, after)),
        "cause": cause,
        "merged": 0,
    }
    return Draft(kinds.CLOCK_STEP, "gateway", "", data)


def _merged(first: Draft, second: Draft) -> Draft:
    """One draft for two steps: how the bound on pending steps is kept without losing one silently."""
    data = {
        **first.data,
        "after": second.data["after"],
        "delta_ns": str(int(first.data["delta_ns"]) + int(second.data["delta_ns"])),
        "merged": first.data["merged"] + 1,
    }
    return Draft(kinds.CLOCK_STEP, "gateway", "", data)


def _state_key(
    discipline: Discipline, verdict: tuple[bool, Source], gnss: Gnss | None, epoch: int
) -> tuple[object, ...]:
    timex, chrony = discipline.timex, discipline.chrony
    return (
        epoch,
        *verdict,
        None if gnss is None else (gnss.source, gnss.against, gnss.good),
        None if timex is None else timex.state,
        None if chrony is None else (chrony.refid, chrony.leap),
        discipline.rtc,
    )


def _map_draft(boot: str, now: Instant, discipline: Discipline, gnss: Gnss | None, epochs: Sequence[_Epoch]) -> Draft:
    """One offset for all epochs of a boot: mono_ns runs through them. Uncertainty: the error now, plus 500 ppm of the
    time since the oldest of them began (since boot where that is not known). `gnss`: where only satellites can say."""
    oldest_ns = min(0 if epoch.began is None else epoch.began.mono_ns for epoch in epochs)
    error_us = _ERROR_MAX_US if discipline.timex is None else discipline.timex.maxerror_us
    if gnss is not None:
        error_us = gnss.uncertainty_ns // 1000
    uncertainty_us = error_us + (now.mono_ns - oldest_ns) * DRIFT_PPM // 1_000_000_000
    data = {
        "epochs": [epoch.number for epoch in epochs],
        "offset_ns": str(now.utc_ns - now.mono_ns + (0 if gnss is None else gnss.offset_ns)),
        "uncertainty_ms": -(-uncertainty_us // 1000),
        "mapped_boot": boot,
        "source": discipline.source if gnss is None else "gnss",
    }
    return Draft(kinds.CLOCK_MAP, "gateway", "", data)
