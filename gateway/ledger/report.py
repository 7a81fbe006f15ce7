"""What a verification found: one line per check, in a fixed order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeVar

from gateway.ledger.grammar import EvidenceError, utc_text

T = TypeVar("T")
Voucher = Literal["time stamp", "platform"]
"""Who says when: an outside authority, or the platform's own clock in its receipt."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a report."""

    name: str
    ok: bool
    text: str
    """One sentence for a person."""
    seq: int | None = None
    """The first wrong record, where the check can name one."""
    warning: bool = False
    """Passed, but the reader should know: not stamped, not receipted, a clock ahead."""

    @property
    def state(self) -> Literal["ok", "warning", "failed"]:
        """The one word for it."""
        if not self.ok:
            return "failed"
        return "warning" if self.warning else "ok"


class WrongRecord(EvidenceError):
    """A check failed at one record."""

    def __init__(self, seq: int, text: str) -> None:
        self.seq = seq
        super().__init__(text)


@dataclass(slots=True)
class Report:
    """All checks of one bundle."""

    path: str
    checks: list[Check] = field(default_factory=list)
    bundle: str | None = None
    """"batch" or "export"; None where not even that could be read."""
    origin: str | None = None
    first: int | None = None
    end: int | None = None
    records: int = 0
    size_bytes: int = 0
    not_later_than: datetime | None = None
    """The earlier of a verified token's upper bound and a verified receipt's receiving time."""
    vouched_by: Voucher | None = None
    """Who says `not_later_than`."""

    @property
    def ok(self) -> bool:
        """Whether every check passed; warnings pass."""
        return bool(self.checks) and all(item.ok for item in self.checks)

    @property
    def warnings(self) -> list[Check]:
        """Checks that passed with a remark."""
        return [item for item in self.checks if item.ok and item.warning]

    @property
    def first_wrong_seq(self) -> int | None:
        """The lowest record that a failed check names."""
        return min((item.seq for item in self.checks if not item.ok and item.seq is not None), default=None)

    @property
    def conclusion(self) -> str:
        """The one sentence that this evidence supports; it never says that content is true."""
        if not self.ok:
            seq = self.first_wrong_seq
            where = "" if seq is None else f"; the first wrong record is {seq}"
            count = sum(not item.ok for item in self.checks)
            return f"NOT VERIFIED: {count} check{'s' * (count != 1)} failed{where}"
        if self.not_later_than is None:
            return "verified: not altered since it was sealed; no outside party vouches for when that was"
        source = "by a time stamp" if self.vouched_by == "time stamp" else "by the platform's receipt"
        return f"verified: not altered since {utc_text(self.not_later_than)}, {source}"

    def lines(self) -> list[str]:
        """The report for a terminal, one check per line and the conclusion last."""
        width = max((len(item.name) for item in self.checks), default=0)
        rows = [f"{item.state:<7}  {item.name:<{width}}  {item.text}" for item in self.checks]
        return [*rows, self.conclusion]

    def to_json(self) -> dict[str, object]:
        """A dict of plain values for json.dumps."""
        return {
            "path": self.path,
            "ok": self.ok,
            "conclusion": self.conclusion,
            "bundle": self.bundle,
            "origin": self.origin,
            "first": self.first,
            "end": self.end,
            "records": self.records,
            "size_bytes": self.size_bytes,
            "not_later_than": None if self.not_later_than is None else utc_text(self.not_later_than),
            "vouched_by": self.vouched_by,
            "first_wrong_seq": self.first_wrong_seq,
            "warnings": len(self.warnings),
            "checks": [
                {"name": item.name, "state": item.state, "text": item.text, "seq": item.seq} for item in self.checks
            ],
        }

    def passed(self, name: str, text: str, *, warning: bool = False) -> None:
        """Note a check that passed."""
        self.checks.append(Check(name, ok=True, text=text, warning=warning))

    def failed(self, name: str, error: EvidenceError) -> None:
        """Note a check that failed."""
        seq = error.seq if isinstance(error, WrongRecord) else None
        self.checks.append(Check(name, ok=False, text=str(error), seq=seq))

    def attempt(self, name: str, step: Callable[[], tuple[str, T]]) -> T | None:
        """Run a step that returns (text, result) or raises EvidenceError; None where it failed."""
        try:
            text, result = step()
        except EvidenceError as error:
            self.failed(name, error)
            return None
        self.passed(name, text)
        return result
