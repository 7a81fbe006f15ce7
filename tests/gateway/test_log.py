"""Log lines: one JSON object each, fixed events, quoted text, repeats counted."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway import log


class Ticker:
    """Seconds that a test moves."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def lines() -> Iterator[tuple[io.StringIO, Ticker]]:
    root = logging.getLogger()
    before, level, settings = list(root.handlers), root.level, structlog.get_config()
    stream, ticker = io.StringIO(), Ticker()
    log.configure(ticker, stream=stream)
    yield stream, ticker
    root.handlers[:] = before
    root.setLevel(level)
    structlog.configure(**settings)


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object(lines: tuple[io.StringIO, Ticker]) -> None:
    log.get("sealer").info("batch_sealed", n=4, records=118)
    assert read(lines[0]) == [{"event": "batch_sealed", "component": "sealer", "level": "info", "n": 4, "records": 118}]


def test_a_logger_made_before_configure_follows_it(lines: tuple[io.StringIO, Ticker]) -> None:
    early = log.get("early")
    other = io.StringIO()
    log.configure(Ticker(), stream=other)
    early.info("hello")
    assert read(other)[0]["event"] == "hello"
    assert lines[0].getvalue() == ""


def test_debug_is_left_out(lines: tuple[io.StringIO, Ticker]) -> None:
    log.get("x").debug("detail")
    assert read(lines[0]) == []


def test_repeats_are_counted(lines: tuple[io.StringIO, Ticker]) -> None:
    stream, ticker = lines
    logger = log.get("station")
    for second in range(65):
        ticker.now_s = 1000.0 + second
        logger.warning("link_down", key="station-1")
        if second == 3:
            logger.warning("link_down", key="station-2")
    found = [(line["key"], line.get("repeats")) for line in read(stream)]
    assert found == [("station-1", None), ("station-2", None), ("station-1", 29), ("station-1", 29)]


def test_the_number_of_subjects_is_bounded() -> None:
    limit = log.RepeatLimit(lambda: 0.0)
    for number in range(3 * log.SUBJECTS_MAX):
        limit(None, "", {"event": "e", "key": str(number)})
    assert len(limit._seen) == log.SUBJECTS_MAX


def test_foreign_text_is_quoted_and_cut(lines: tuple[io.StringIO, Ticker]) -> None:
    log.get("x").error("refused", name="a\nb\x1b[31m\u202e\ud800", raw=b"\xff" * 1000, why=ValueError("x" * 999))
    (line,) = read(lines[0])
    assert line["name"] == "a\\nb\\x1b[31m\\u202e\\ud800"
    assert all(len(str(line[key]).encode()) <= log.TEXT_MAX_BYTES for key in ("raw", "why"))
    assert line["why"].endswith("…")


def test_errors_carry_their_trace(lines: tuple[io.StringIO, Ticker]) -> None:
    try:
        raise RuntimeError("broken")
    except RuntimeError as error:
        log.get("x").error("failed", exc_info=error)
    (line,) = read(lines[0])
    assert "RuntimeError: broken" in line["exception"]


def test_lines_of_libraries_have_the_same_form(lines: tuple[io.StringIO, Ticker]) -> None:
    logging.getLogger("some.library").warning("odd %s", "thing\n")
    logging.getLogger("httpx").info("GET …")
    (line,) = read(lines[0])
    assert line == {
        "event": "library_message",
        "component": "some.library",
        "level": "warning",
        "text": "odd thing\\n",
    }


def test_on_a_terminal_lines_are_readable() -> None:
    root = logging.getLogger()
    before, level, settings = list(root.handlers), root.level, structlog.get_config()
    stream = io.StringIO()
    try:
        log.configure(Ticker(), stream=stream, pretty=True)
        log.get("sealer").info("batch_sealed", n=4)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        structlog.configure(**settings)
    assert "batch_sealed" in stream.getvalue()
    assert "n=4" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_before_configure_nothing_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    log.get("x").info("hello")
    log.get("x").warning("careful", n=1)
    assert capsys.readouterr().out == ""


@given(st.one_of(st.text(max_size=400), st.binary(max_size=400)))
def test_any_text_becomes_one_short_printable_line(value: str | bytes) -> None:
    text = log.quoted(value)
    assert text.isprintable()
    assert len(text.encode()) <= log.TEXT_MAX_BYTES
