"""Runs the worked examples of a receiver's profile: the fixes that its sentences give, with place and time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drivers.nmea.codec import parse
from drivers.nmea.drafts import fix_keys
from drivers.nmea.epochs import Epochs, Fix
from drivers.nmea.framing import Decoder, Malformed, Sentence
from firmware_profiles.tracker_model import TrackerExample, TrackerProfile
from firmware_profiles.worked import Result, compare


def check_examples(profile: TrackerProfile, path: Path) -> list[Result]:
    """Run every example of a profile; `path` names its file in the results."""
    return [_run(path, number, one, profile.datum) for number, one in enumerate(profile.example, 1)]


def _run(path: Path, number: int, example: TrackerExample, datum: str) -> Result:
    name = f"example {number}: {example.note or 'no note'}"
    decoder = Decoder()
    pieces = decoder.feed(example.sentence.strip().replace("\n", "\r\n").encode()) + decoder.close()
    bad = [piece for piece in pieces if isinstance(piece, Malformed)]
    if bad:
        return Result(path, name, False, f"not a sentence: {bad[0].reason}, {bad[0].detail}")
    fixes = list(_fixes([piece for piece in pieces if isinstance(piece, Sentence)]))
    if len(fixes) != 1:
        return Result(path, name, False, f"{len(fixes)} fixes; the sentences of an example are those of one moment")
    found: dict[str, Any] = fix_keys(fixes[0], datum, None)
    return compare(path, name, found, example.expect)


def _fixes(sentences: list[Sentence]) -> Iterator[Fix]:
    epochs = Epochs()
    for sentence in sentences:
        message = parse(sentence)
        if not isinstance(message, Malformed):
            fix = epochs.push(sentence, message)
            if fix is not None:
                yield fix
    last = epochs.flush()
    if last is not None:
        yield last
