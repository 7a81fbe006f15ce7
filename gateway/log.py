"""Log lines: structlog over stdlib logging, one JSON object per line to stderr for journald, readable on a terminal.

    log = log.get("sealer")
    log.info("batch_sealed", n=4, records=118)

Event names are fixed words (lower snake case), never sentences with values inside. Text from outside is quoted and
cut to 255 bytes. There is no line per record: an event that repeats (same event, level and `key`) is written once
per 30 s with the number of lines left out in `repeats`; pass ``key=…`` where several subjects share an event.
journald adds the time; lines carry none, because the wall clock of the box is evidence and is read in one place only.
"""

from __future__ import annotations

import logging
import sys
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from typing import Any, Final, TextIO, cast

import structlog

TEXT_MAX_BYTES: Final = 255
REPEAT_INTERVAL_S: Final = 30.0
SUBJECTS_MAX: Final = 1024

Event = MutableMapping[str, Any]


def get(component: str) -> structlog.stdlib.BoundLogger:
    """The logger of one part of the gateway; it may be asked for before `configure`."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(component, component=component))


def configure(
    monotonic_s: Callable[[], float],
    *,
    level: str = "INFO",
    stream: TextIO | None = None,
    pretty: bool | None = None,
) -> None:
    """Set up logging of the process, ours and foreign libraries' alike.

    `monotonic_s` is read for the limit on repeats only; `stream` is stderr unless given; `pretty` is chosen by
    whether the stream is a terminal unless given.
    """
    out = sys.stderr if stream is None else stream
    readable = out.isatty() if pretty is None else pretty
    shared: list[Any] = [structlog.stdlib.add_log_level, structlog.processors.format_exc_info, quote_foreign]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=readable and out.isatty())
        if readable
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[name_foreign, *shared],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for chatty in ("httpx", "httpcore", "uvicorn.access", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared[:1],
            RepeatLimit(monotonic_s),
            *shared[1:],
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


class RepeatLimit:
    """Structlog processor: an event of the same subject passes once per interval, with the count of those dropped."""

    def __init__(self, monotonic_s: Callable[[], float], interval_s: float = REPEAT_INTERVAL_S) -> None:
        self._monotonic_s = monotonic_s
        self._interval_s = interval_s
        self._seen: OrderedDict[tuple[object, ...], tuple[float, int]] = OrderedDict()

    def __call__(self, _logger: Any, _method: str, event: Event) -> Event:
        """Raise structlog.DropEvent for a repeat inside the interval."""
        subject = (event.get("component"), event.get("event"), event.get("level"), str(event.get("key", "")))
        now = self._monotonic_s()
        since, dropped = self._seen.get(subject, (None, 0))
        if since is not None and now - since < self._interval_s:
            self._seen[subject] = (since, dropped + 1)
            raise structlog.DropEvent
        self._seen[subject] = (now, 0)
        self._seen.move_to_end(subject)
        if len(self._seen) > SUBJECTS_MAX:
            self._seen.popitem(last=False)
        if dropped:
            event["repeats"] = dropped
        return event


def name_foreign(_logger: Any, _method: str, event: Event) -> Event:
    """Structlog processor for lines of other libraries: their sentence becomes `text` of one fixed event."""
    record = event.get("_record")
    event["text"] = event.get("event")
    event["event"] = "library_message"
    event["component"] = getattr(record, "name", "")
    return event


def quote_foreign(_logger: Any, _method: str, event: Event) -> Event:
    """Structlog processor: quote and cut every text value but the fixed words."""
    for name, value in event.items():
        if name in {"event", "level", "component", "exception"} or name.startswith("_"):
            continue
        if isinstance(value, bytes | str | BaseException):
            event[name] = quoted(value)
    return event


def quoted(value: bytes | str | BaseException) -> str:
    """Text from outside as one printable line of at most 255 bytes of UTF-8: control characters, line ends,
    direction marks and lone surrogates are escaped, a cut is marked with an ellipsis."""
    if isinstance(value, bytes):
        text = value[: TEXT_MAX_BYTES + 1].decode("utf-8", "backslashreplace")
    else:
        text = str(value)[: TEXT_MAX_BYTES + 1]
    safe = "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )
    raw = safe.encode()
    if len(raw) <= TEXT_MAX_BYTES:
        return safe
    return raw[: TEXT_MAX_BYTES - 3].decode("utf-8", "ignore") + "…"


structlog.configure(  # until `configure`: warnings as plain lines on stderr, nothing ever on stdout
    processors=[
        structlog.stdlib.filter_by_level,
        quote_foreign,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["component", "event"]),
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=False,
)
