"""Chinese or English for people at a terminal; log lines, records and error codes stay English."""

from __future__ import annotations

import os

_VARIABLES = ("FIELDGATE_LANG", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


def chinese() -> bool:
    """Whether the first language variable that is set asks for Chinese."""
    for name in _VARIABLES:
        value = os.environ.get(name, "")
        if value:
            return value.lower().startswith("zh")
    return False


def say(english: str, chinese_text: str) -> str:
    """The text in the reader's language."""
    return chinese_text if chinese() else english
