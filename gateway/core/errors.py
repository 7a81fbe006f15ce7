"""Errors, classed by what the caller must do about them (DESIGN.md, "Errors, logs, metrics").

    FieldgateError
    ├── ConfigError        report every problem at once, exit 78
    ├── TransientError     try again later, with back-off
    │   ├── LinkError              a device, share or station is unreachable
    │   └── UplinkUnavailable      the platform or the time-stamping authority is unreachable
    ├── RejectedError      the same input will be refused again: do not retry
    │   ├── UplinkRejected         goes to quarantine with an alarm record
    │   └── ProfileError           the source that uses the profile is disabled
    ├── StoreFull          back-pressure: stop reading, keep sealing and sending
    ├── DiskError          the disk failed a read, write or fsync: stop, start again from what it holds (exit 74)
    ├── IntegrityError     stop; never repair by itself (exit 70)
    │   └── ForkError              the platform holds another history of this gateway
    └── ProtocolMisuse     our own bug

Foreign exceptions are mapped to one of these once, at the seam where they enter.
"""

from __future__ import annotations

from dataclasses import dataclass


class FieldgateError(Exception):
    """Root of all errors that Fieldgate raises on purpose; ``str(error)`` is one line for a person."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a file that a person wrote: where, and what was expected."""

    file: str
    line: int
    """1-based; 0 where the problem belongs to the file as a whole."""
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


class ConfigError(FieldgateError):
    """The configuration cannot be used; ``problems`` holds every reason, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(str(problem) for problem in problems))


class TransientError(FieldgateError):
    """May work later: retry with back-off."""


class LinkError(TransientError):
    """A device, share or station cannot be reached or read just now."""


class UplinkUnavailable(TransientError):
    """The platform or the time-stamping authority cannot be reached or is failing."""


class RejectedError(FieldgateError):
    """Refused for good: the same input will be refused again."""


class UplinkRejected(RejectedError):
    """The platform refused an item for good; it goes to quarantine and an alarm record says so."""


class ProfileError(RejectedError):
    """A device profile is unusable; ``problems`` holds every reason."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(str(problem) for problem in problems))


class StoreFull(FieldgateError):
    """No room: stop taking in, keep sealing and sending; nothing was written."""


class DiskError(FieldgateError):
    """The disk failed a read, a write or an fsync. What it now holds is unknown until it is read again, so the process
    must stop; nothing that failed was acknowledged."""


class IntegrityError(FieldgateError):
    """Stored evidence disagrees with itself; the process must stop and must not repair it."""


class ForkError(IntegrityError):
    """The platform holds another history of this gateway (restored snapshot or cloned key)."""


class ProtocolMisuse(FieldgateError):
    """Our own code called something in the wrong order."""
